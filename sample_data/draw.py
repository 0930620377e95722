"""Draw the sample pictures of this folder: `python sample_data/draw.py [FOLDER]`.

Everything is made up here from seeded random numbers, so the pictures are free to use like the rest of the repository.
They imitate what users bring: crowded nuclei, a CT slice, stained tissue, a stack of blobs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from skimage.filters import gaussian
from skimage.io import imsave
from skimage.transform import resize

Floats = NDArray[np.float64]


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> Floats:
    """Return blurred noise of mean 0 and standard deviation 1."""
    coarse = max(1.0, sigma / 3)
    small = tuple(max(2, round(side / coarse)) for side in shape)
    noise = gaussian(rng.standard_normal(small), sigma / coarse, mode="reflect")
    grown = resize(noise, shape, order=1, mode="reflect")
    return np.asarray((grown - grown.mean()) / grown.std())


def wavy_ellipse(
    shape: tuple[int, int],
    centre: tuple[float, float],
    radii: tuple[float, float],
    angle: float = 0.0,
    waves: tuple[tuple[int, float, float], ...] = (),
) -> Floats:
    """Return the relative radius of every pixel: below 1 inside an ellipse whose outline `waves` bend.

    Each wave is (number of lobes, height as a share of the radius, phase). `centre` and `radii` are
    (row, column) in pixels.
    """
    rows, cols = np.indices(shape, dtype=float)
    rows, cols = rows - centre[0], cols - centre[1]
    across = (rows * np.cos(angle) + cols * np.sin(angle)) / radii[0]
    along = (cols * np.cos(angle) - rows * np.sin(angle)) / radii[1]
    direction = np.arctan2(across, along)
    outline = 1 + sum((height * np.cos(lobes * direction + phase) for lobes, height, phase in waves), np.zeros(shape))
    return np.asarray(np.hypot(across, along) / outline)


def soft(relative_radius: Floats, radius: float, edge: float = 1.0) -> Floats:
    """Return 1 inside and 0 outside, with a rim about `edge` pixels wide; `radius` in pixels gives the scale."""
    return np.clip((1 - relative_radius) * radius / edge + 0.5, 0, 1)


def random_waves(rng: np.random.Generator, height: float) -> tuple[tuple[int, float, float], ...]:
    """Return an irregular outline of two, three and five lobes."""
    return tuple((lobes, height * rng.normal() / lobes, rng.uniform(0, 2 * np.pi)) for lobes in (2, 3, 5))


def crowded_centres(rng: np.random.Generator, count: int, side: int, clusters: int) -> list[tuple[float, float, float]]:
    """Return (row, column, radius) of discs of which none covers another's centre, most of them in clusters."""
    homes = rng.uniform(0.1 * side, 0.9 * side, (clusters, 2))
    placed: list[tuple[float, float, float]] = []
    while len(placed) < count:
        spot = rng.normal(homes[rng.integers(clusters)], 0.1 * side) if rng.random() < 0.75 else rng.uniform(0, side, 2)
        radius = rng.uniform(11, 19)
        if all(np.hypot(*(spot - place[:2])) > 0.82 * (radius + place[2]) for place in placed):
            placed.append((float(spot[0]), float(spot[1]), radius))
    return placed


def nuclei(side: int = 512) -> NDArray[np.uint16]:
    """Draw crowded nuclei in fluorescence, hardly visible to nearly saturated, with haze and shot noise; 12 bit."""
    rng = np.random.default_rng(11)
    light = np.zeros((side, side))
    grain = smooth_noise(rng, light.shape, 2.5)
    for row, col, radius in crowded_centres(rng, 115, side, 7):
        radii = radius * rng.uniform(0.78, 1.0), radius * rng.uniform(1.0, 1.25)
        outline = wavy_ellipse(light.shape, (row, col), radii, rng.uniform(0, np.pi), random_waves(rng, 0.1))
        inside = soft(outline, radius, 2.5)
        bulge = np.sqrt(np.clip(1.25 - np.clip(outline, 0, 1) ** 2, 0, None))
        brightness = np.exp(rng.uniform(np.log(0.09), np.log(0.95)))
        nucleolus = wavy_ellipse(light.shape, (row + 0.3 * radius * rng.normal(), col), (3.0, 4.0))
        texture = 1 + 0.16 * grain - 0.4 * soft(nucleolus, 3, 3)
        light = np.maximum(light, 0.85 * light + brightness * inside * bulge * texture)
    haze = 0.25 * gaussian(light, 14) + 0.03 + 0.012 * smooth_noise(rng, light.shape, 90)
    photons = 900 * np.clip(gaussian(light, 1.1) + haze, 0, None)
    counts = rng.poisson(photons) * 2.6 + 180 + rng.normal(0, 5, light.shape)
    return np.asarray(np.clip(np.round(counts / 4) * 4, 0, 4095), np.uint16)


class CTSlice:
    """A slice in the making: every organ is painted over what lies there already. Places are (row, column) of 384."""

    def __init__(self, side: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape = (side, side)
        self.unit = side / 384
        self.hounsfield = np.full(self.shape, -1000.0)
        self.texture = 3 * smooth_noise(self.rng, self.shape, 4)

    def organ(
        self, row: float, col: float, height: float, width: float, angle: float = 0, bend: float = 0.05
    ) -> Floats:
        """Return where an organ of half axes `height` and `width` lies, 0 to 1; `bend` makes its outline irregular."""
        radii = height * self.unit, width * self.unit
        centre = row * self.unit, col * self.unit
        return soft(wavy_ellipse(self.shape, centre, radii, angle, random_waves(self.rng, bend)), min(radii), 1.4)

    def fill(self, where: Floats, value: float | Floats) -> None:
        """Give the part `where` (0 to 1) a density in Hounsfield units."""
        self.hounsfield = where * value + (1 - where) * self.hounsfield

    def paint_trunk(self) -> None:
        """Paint skin, fat, the wall of muscle and the ribs in it, cut slantwise."""
        bends = ((2, 0.02, 0.0), (4, 0.025, np.pi))
        for shrink, value in ((0, 20), (3, -100), (17, 55), (27, -85)):
            radii = (128 - shrink) * self.unit, (172 - shrink) * self.unit
            outline = wavy_ellipse(self.shape, (197 * self.unit, 192 * self.unit), radii, 0, bends)
            self.fill(soft(outline, radii[0], 1.4), value)
        for angle in np.linspace(0.15 * np.pi, 1.95 * np.pi, 13):
            row, col = 197 - 106 * np.sin(angle), 192 + 150 * np.cos(angle)
            self.fill(self.organ(row, col, 3.6, 9.5, np.pi / 2 - angle, 0.02), 620)
            self.fill(self.organ(row, col, 1.7, 6.5, np.pi / 2 - angle, 0.02), 220)
        for col in (146, 238):
            self.fill(self.organ(288, col, 19, 33, 0, 0.04), 58)

    def paint_liver(self) -> None:
        """Paint the liver with vessels, a lesion and a cyst, and the gall bladder below it."""
        right, left = self.organ(165, 122, 66, 86, -0.25, 0.08), self.organ(132, 196, 24, 46, 0.2)
        liver = np.clip(right + left, 0, 1)
        self.fill(liver, 108 + self.texture)
        for row, col, size, turn in (
            (150, 118, 3.5, 0.3),
            (178, 100, 4.5, 0.9),
            (140, 84, 3, -0.4),
            (190, 142, 3.2, 1.3),
        ):
            self.fill(liver * self.organ(row, col, size, 5 * size, turn, 0.15), 152)
        self.fill(liver * self.organ(197, 86, 9.5, 11), 42)
        self.fill(liver * self.organ(128, 128, 5.5, 5), 15)
        self.fill(self.organ(214, 168, 12, 16, 0.5), 12)

    def paint_stomach(self) -> None:
        """Paint the stomach: a wall, fluid, and gas above the fluid's level surface."""
        stomach = self.organ(148, 258, 36, 44, 0.5, 0.06)
        self.fill(stomach, 48)
        self.fill(self.organ(148, 258, 31, 39, 0.5, 0.06) * stomach, 22)
        above = np.clip((138 * self.unit - np.indices(self.shape)[0]) / 2, 0, 1)
        self.fill(stomach * above * self.organ(146, 258, 30, 38, 0.5, 0.02), -880)

    def paint_paired_organs(self) -> None:
        """Paint the spleen, the kidneys with their bright rims, and the pancreas."""
        self.fill(self.organ(212, 306, 42, 20, -0.35, 0.07), 118 + self.texture)
        for col, turn in ((126, -0.35), (262, 0.35)):
            kidney = self.organ(254, col, 31, 20, turn)
            self.fill(kidney, 175 + self.texture)
            self.fill(kidney * self.organ(254, col, 20, 11, turn, 0.15), 108)
            self.fill(kidney * self.organ(254, col + 6 * np.sign(192 - col), 9, 6, turn, 0.2), -60)
        self.fill(self.organ(216, 226, 10, 46, -0.25, 0.12), 88)

    def paint_spine(self) -> None:
        """Paint the great vessels, the vertebra with its processes, and the spinal canal."""
        self.fill(self.organ(246, 214, 12, 12, 0, 0.01), 205)
        self.fill(self.organ(240, 172, 11, 15, 0.2, 0.03), 138)
        for row, col, height, width in ((276, 192, 22, 27), (304, 192, 13, 7), (298, 166, 5, 22), (298, 218, 5, 22)):
            self.fill(self.organ(row, col, height, width, 0, 0.03), 620)
        self.fill(self.organ(276, 192, 18, 23, 0, 0.03), 240 + 25 * smooth_noise(self.rng, self.shape, 1.5))
        self.fill(self.organ(301, 192, 8, 8), 30)

    def scanned(self) -> NDArray[np.int16]:
        """Return the slice as a scanner would: a little blurred, with grainy noise, in steps of 2 Hounsfield units."""
        grain = 5 * smooth_noise(self.rng, self.shape, 1.3) + 6 * self.rng.standard_normal(self.shape)
        seen = gaussian(self.hounsfield, 0.8, preserve_range=True) + grain
        return np.asarray(2 * np.round(seen / 2), np.int16)


def ct_slice(side: int = 384) -> NDArray[np.int16]:
    """Draw a slice through an upper abdomen as a CT would show it, in Hounsfield units."""
    picture = CTSlice(side, seed=5)
    picture.paint_trunk()
    picture.paint_liver()
    picture.paint_stomach()
    picture.paint_paired_organs()
    picture.paint_spine()
    return picture.scanned()


class Tissue:
    """A stained section in the making: how much of each of the two dyes lies in every pixel."""

    ABSORPTION = np.array([[0.81, 0.97, 0.43], [0.08, 0.68, 0.21]])
    """What haematoxylin and eosin take out of red, green and blue light."""

    def __init__(self, side: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape = (side, side)
        fibres = smooth_noise(self.rng, (side, side // 4), 3).repeat(4, axis=1) + smooth_noise(self.rng, self.shape, 7)
        self.eosin = 0.30 + 0.05 * fibres + 0.05 * smooth_noise(self.rng, self.shape, 30)
        self.haematoxylin = 0.07 + 0.02 * smooth_noise(self.rng, self.shape, 12)
        self.chromatin = smooth_noise(self.rng, self.shape, 1.4)
        self.cytoplasm = smooth_noise(self.rng, self.shape, 4)
        self.taken: list[tuple[float, float, float]] = []

    def nucleus(self, row: float, col: float, radii: tuple[float, float], angle: float, depth: float) -> None:
        """Stain one nucleus of a dark rim and grainy inside, unless another lies there."""
        if any(np.hypot(row - r, col - c) < 0.8 * (radii[0] + other) for r, c, other in self.taken):
            return
        self.taken.append((row, col, radii[0]))
        outline = wavy_ellipse(self.shape, (row, col), radii, angle, random_waves(self.rng, 0.07))
        rim = np.exp(-(((outline - 0.9) / 0.2) ** 2))
        self.haematoxylin += soft(outline, radii[0], 1.6) * depth * (0.75 + 0.35 * rim + 0.12 * self.chromatin)

    def gland(self, row: float, col: float, height: float, width: float) -> None:
        """Stain a ring of tall cells round an empty lumen, one nucleus in each cell."""
        turn, waves = self.rng.uniform(0, np.pi), random_waves(self.rng, 0.09)
        outline = wavy_ellipse(self.shape, (row, col), (height, width), turn, waves)
        cells, lumen = soft(outline, height, 2), soft(outline / 0.42, 0.42 * height, 3)
        self.eosin = (self.eosin * (1 - cells) + cells * (0.42 + 0.04 * self.cytoplasm)) * (1 - 0.95 * lumen)
        self.haematoxylin *= 1 - 0.9 * lumen
        for direction in np.arange(0, 2 * np.pi, 13 / height):
            bent = 0.78 * (1 + sum(size * np.cos(lobes * direction + phase) for lobes, size, phase in waves))
            across, along = np.sin(direction) * height * bent, np.cos(direction) * width * bent
            spot_row = row + across * np.cos(turn) - along * np.sin(turn) + self.rng.normal(0, 1.5)
            spot_col = col + across * np.sin(turn) + along * np.cos(turn) + self.rng.normal(0, 1.5)
            heading = turn + np.arctan2(along / width, across / height) + np.pi / 2
            radii = self.rng.uniform(4.5, 6), self.rng.uniform(7, 9.5)
            self.nucleus(spot_row, spot_col, radii, heading, self.rng.uniform(0.6, 0.9))

    def ground(self, count: int, free: NDArray[np.bool_]) -> None:
        """Strew thin and round nuclei over what is `free`."""
        for row, col in self.rng.uniform(4, self.shape[0] - 4, (count, 2)):
            if free[int(row), int(col)]:
                radii = self.rng.uniform(2.6, 4.6), self.rng.uniform(5, 8)
                self.nucleus(row, col, radii, self.rng.normal(0, 0.5), self.rng.uniform(0.5, 1.0))

    def seen(self) -> NDArray[np.uint8]:
        """Return the section in transmitted light, RGB."""
        dyes = np.stack([self.haematoxylin, self.eosin], axis=-1).clip(0)
        light = gaussian(np.exp(-dyes @ self.ABSORPTION), 0.8, channel_axis=-1)
        light = 0.97 * light + self.rng.normal(0, 0.004, (*self.shape, 1))
        return np.asarray(np.clip(np.round(light * 255), 0, 255), np.uint8)


def tissue(side: int = 448) -> NDArray[np.uint8]:
    """Draw glands in stained tissue: pink ground, purple nuclei in rings, white lumina; RGB."""
    section = Tissue(side, seed=3)
    glands = ((95, 110, 74, 88), (140, 330, 92, 78), (318, 118, 86, 80), (345, 318, 78, 98))
    free = np.ones(section.shape, bool)
    for row, col, height, width in glands:
        section.gland(row, col, height, width)
        free &= wavy_ellipse(section.shape, (row, col), (1.08 * height, 1.08 * width)) > 1
    section.ground(260, free)
    return section.seen()


def blobs(shape: tuple[int, int, int] = (8, 256, 256)) -> NDArray[np.uint8]:
    """Draw a stack (z, y, x) of round cells that overlap; its slices lie four times as far apart as its pixels."""
    rng = np.random.default_rng(8)
    light = np.zeros(shape)
    depth, rows, cols = np.indices(shape, dtype=float)
    for row, col, radius in crowded_centres(rng, 34, shape[1], 5):
        z, height = rng.uniform(1.0, shape[0] - 2.0), radius * rng.uniform(0.9, 1.3) / 4
        distance = np.sqrt(
            ((depth - z) / height) ** 2 + ((rows - row) / radius) ** 2 + ((cols - col) / (1.2 * radius)) ** 2
        )
        light = np.maximum(
            light, rng.uniform(0.25, 0.95) * np.clip((1 - distance) * 4, 0, 1) * (1.15 - 0.35 * distance)
        )
    texture = np.stack([smooth_noise(rng, shape[1:], 3) for _ in range(shape[0])])
    seen = gaussian(light, (0.6, 1.2, 1.2)) * (1 + 0.1 * texture) + 0.06
    counts = np.round(rng.poisson(seen * 110) * 1.8 / 5) * 5  # in coarse steps, for a small file
    return np.asarray(np.clip(counts, 0, 255), np.uint8)


def main(folder: Path) -> None:
    """Write the four pictures into `folder`."""
    imsave(folder / "nuclei.png", nuclei(), check_contrast=False)
    tifffile.imwrite(folder / "ct_slice.tif", ct_slice(), compression="zlib", predictor=2)
    imsave(folder / "tissue.png", tissue(), check_contrast=False)
    tifffile.imwrite(folder / "blobs.tif", blobs(), compression="zlib", metadata={"axes": "ZYX"})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
