"""What drawn images are made of: smooth noise, blobs with a wobbling outline, tilings, strokes; all of it seeded."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

SIZE = 256  # side of every drawn image, px
Floats = npt.NDArray[np.floating]
Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Scene:
    """A picture before a camera has seen it.

    Attributes
    ----------
    paint
        (H, W) or (H, W, 3) float32, about 0 to 1.
    layers
        (n, H, W) int32, 0 is background. Objects of different layers may overlap (a nucleus lies in its cell).
    """

    paint: Floats = field(repr=False)
    layers: Labels = field(repr=False)


@dataclass(frozen=True)
class Blobs:
    """Outlines of n objects: ellipses whose radius wobbles with the angle; all angles in radians, lengths in px."""

    centres: Floats = field(repr=False)  # (n, 2) row, column
    radii: Floats = field(repr=False)  # (n,)
    aspect: Floats = field(repr=False)  # (n,) long over short axis
    angle: Floats = field(repr=False)  # (n,)
    waves: Floats = field(repr=False)  # (n, 3) amplitude of 2, 3 and 5 periods round the outline
    phases: Floats = field(repr=False)  # (n, 3)
    bend: Floats = field(repr=False)  # (n,) how far the middle of the long axis is pushed aside, in radii
    roundness: float = 2.0  # 2 is an ellipse, above that a box with round corners

    def __len__(self) -> int:
        return len(self.radii)

    def scaled(self, factor: float, shift: Floats | None = None) -> Blobs:
        """Return the same outlines, larger or smaller round their centres, which `shift` (n, 2) moves."""
        centres = self.centres if shift is None else (self.centres + shift).astype(np.float32)
        radii = (self.radii * factor).astype(np.float32)
        return Blobs(centres, radii, self.aspect, self.angle, self.waves, self.phases, self.bend, self.roundness)


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """Return a number whose logarithm is uniform between two positive ones."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def smooth_noise(rng: np.random.Generator, cells: int) -> Floats:
    """Return (SIZE, SIZE) noise of about -1 to 1 with some `cells` bumps along a side."""
    grid = rng.standard_normal((cells + 1, cells + 1), dtype=np.float32) * 0.5
    picture = Image.fromarray(grid).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.asarray(picture, dtype=np.float32)


def texture(rng: np.random.Generator, finest: int = 128) -> Floats:
    """Return (SIZE, SIZE) noise of two scales, about -1 to 1."""
    coarse, fine = int(between(rng, 4, 16)), int(between(rng, 24, finest))
    share = float(rng.uniform(0.2, 0.8))
    return share * smooth_noise(rng, coarse) + (1 - share) * smooth_noise(rng, fine)


def random_blobs(
    rng: np.random.Generator,
    count: int,
    radius: float,
    *,
    spread: float = 0.2,
    aspect: float = 1.3,
    wobble: float = 0.08,
    bend: float = 0.0,
    roundness: float = 2.0,
) -> Blobs:
    """Return `count` outlines round random centres; `aspect` is the largest one, `wobble` and `spread` are relative."""
    radii = radius * np.exp(rng.normal(0, spread, count)).clip(0.4, 2.5)
    waves = rng.normal(0, 1, (count, 3)) * wobble * np.array([1.0, 0.7, 0.4])
    return Blobs(
        centres=rng.uniform(-0.02, 1.02, (count, 2)).astype(np.float32) * SIZE,
        radii=np.maximum(radii, 2.5).astype(np.float32),
        aspect=rng.uniform(1.0, aspect, count).astype(np.float32),
        angle=rng.uniform(0, 2 * np.pi, count).astype(np.float32),
        waves=waves.astype(np.float32),
        phases=rng.uniform(0, 2 * np.pi, (count, 3)).astype(np.float32),
        bend=rng.uniform(-bend, bend, count).astype(np.float32),
        roundness=roundness,
    )


def relative_distance(blobs: Blobs, index: int) -> tuple[tuple[slice, slice], Floats]:
    """Return a window round a blob, and in it the distance from its centre over that of its outline (< 1 is inside)."""
    radius, aspect = float(blobs.radii[index]), float(np.sqrt(blobs.aspect[index]))
    reach = radius * aspect * (1.1 + 2.5 * float(np.abs(blobs.waves[index]).sum())) + radius * abs(blobs.bend[index])
    row, col = (float(c) for c in blobs.centres[index])
    rows = slice(max(0, int(row - reach)), min(SIZE, int(row + reach) + 2))
    cols = slice(max(0, int(col - reach)), min(SIZE, int(col + reach) + 2))
    dy = np.arange(rows.start, max(rows.start, rows.stop), dtype=np.float32)[:, None] - row
    dx = np.arange(cols.start, max(cols.start, cols.stop), dtype=np.float32)[None, :] - col
    cos, sin = float(np.cos(blobs.angle[index])), float(np.sin(blobs.angle[index]))
    u, v = (dx * cos + dy * sin) / (radius * aspect), (dy * cos - dx * sin) * (aspect / radius)
    if blobs.bend[index]:
        v = v + blobs.bend[index] * aspect * (u * u - 0.5)
    if blobs.roundness == 2.0:
        distance = np.sqrt(u * u + v * v)
    else:
        distance = (np.abs(u) ** blobs.roundness + np.abs(v) ** blobs.roundness) ** (1 / blobs.roundness)
    return (rows, cols), distance / _outline(np.arctan2(v, u), blobs.waves[index], blobs.phases[index])


def _outline(theta: Floats, waves: Floats, phases: Floats) -> Floats:
    radius = np.ones_like(theta)
    for periods, wave, phase in zip((2, 3, 5), waves, phases, strict=True):
        if abs(wave) > 0.01:
            radius += wave * np.cos(periods * theta + phase)
    return np.maximum(radius, 0.3)


def paint_nearest(blobs: Blobs, apart: float = 0.0) -> tuple[Labels, Floats]:
    """Draw blobs that share a border where they meet.

    Parameters
    ----------
    apart
        Above 0, a blob that would come closer than this to one drawn before is left out.

    Returns
    -------
    (SIZE, SIZE) ids, 1 is the first blob, and (SIZE, SIZE) relative distance to the nearest centre, 1 where none is.
    """
    labels, nearest = np.zeros((SIZE, SIZE), np.int32), np.ones((SIZE, SIZE), np.float32)
    for index in range(len(blobs)):
        window, distance = relative_distance(blobs, index)
        if apart and labels[window][distance < 1 + apart].any():
            continue
        closer = distance < nearest[window]
        labels[window][closer] = index + 1
        nearest[window][closer] = distance[closer]
    return labels, nearest


def paint_over(blobs: Blobs) -> tuple[Labels, Floats]:
    """Draw blobs so that later ones hide earlier ones; returns as `paint_nearest` does."""
    labels, nearest = np.zeros((SIZE, SIZE), np.int32), np.ones((SIZE, SIZE), np.float32)
    for index in range(len(blobs)):
        window, distance = relative_distance(blobs, index)
        inside = distance < 1
        labels[window][inside] = index + 1
        nearest[window][inside] = distance[inside]
    return labels, nearest


def tiling(rng: np.random.Generator, count: int, warp: float, stretch: float = 1.0) -> tuple[Labels, Floats]:
    """Cut the picture into `count` cells.

    Drawn at half the size, for speed: the distances to all seeds at once are one matrix product.

    Returns
    -------
    (SIZE, SIZE) ids from 1, and (SIZE, SIZE) distance to the border with the next cell, about in px.
    """
    half = SIZE // 2
    seeds = _spread_seeds(rng, count).astype(np.float32)
    grid = np.mgrid[:half, :half].astype(np.float32) * (SIZE / half)
    grid[0] += warp * smooth_noise(rng, 8)[::2, ::2]
    grid[1] += warp * smooth_noise(rng, 8)[::2, ::2]
    scale = np.array([stretch, 1.0], np.float32)
    points, seeds = grid.reshape(2, -1).T * scale, seeds * scale
    squared = (seeds**2).sum(1)[None] - 2 * points @ seeds.T + (points**2).sum(1)[:, None]
    first = squared.argmin(1)
    rows = np.arange(len(first))
    nearest = squared[rows, first].copy()
    squared[rows, first] = np.inf
    second = squared.argmin(1)
    apart = np.sqrt(((seeds[first] - seeds[second]) ** 2).sum(1)) + 1e-3
    border = ((squared[rows, second] - nearest) / (2 * apart)).reshape(half, half)
    labels = np.repeat(np.repeat(first.reshape(half, half) + 1, 2, 0), 2, 1)
    return labels.astype(np.int32), enlarge(border)


def _spread_seeds(rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    """Points on a jittered grid that reaches a little beyond the picture."""
    per_side = max(2, round(np.sqrt(count)))
    step = SIZE * 1.1 / per_side
    grid = np.mgrid[:per_side, :per_side].reshape(2, -1).T * step - 0.05 * SIZE + step / 2
    seeds: npt.NDArray[np.float64] = grid + rng.normal(0, rng.uniform(0.15, 0.35), grid.shape) * step
    return seeds


def enlarge(field: npt.NDArray[np.floating]) -> Floats:
    """Return a small float field at (SIZE, SIZE), bilinear."""
    picture = Image.fromarray(field.astype(np.float32)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.float32)


def stroke(rng: np.random.Generator, canvas: ImageDraw.ImageDraw, value: int, width: float, wander: float) -> None:
    """Draw one winding line across a PIL picture, its width changing along it."""
    position = rng.uniform(0, SIZE, 2)
    heading, step = rng.uniform(0, 2 * np.pi), max(3.0, width * 0.5)
    for _ in range(int(rng.uniform(0.4, 1.6) * SIZE / step)):
        heading += rng.normal(0, wander)
        position = position + step * np.array([np.cos(heading), np.sin(heading)])
        width = float(np.clip(width * np.exp(rng.normal(0, 0.04)), 2, 60))
        corner = width / 2
        canvas.ellipse(
            [position[0] - corner, position[1] - corner, position[0] + corner, position[1] + corner], fill=value
        )


def per_object(rng: np.random.Generator, labels: Labels, mean: float, spread: float, outside: float) -> Floats:
    """Return (H, W): each object one random value round `mean`, the background `outside`."""
    values = rng.normal(mean, spread, int(labels.max()) + 1).astype(np.float32)
    values[0] = outside
    result: Floats = values[labels]
    return result


def without_specks(labels: Labels, least: int) -> Labels:
    """Return ids without the objects of fewer than `least` pixels."""
    areas = np.bincount(labels.ravel())
    keep = np.arange(len(areas), dtype=np.int32)
    keep[areas < least] = 0
    result: Labels = keep[labels]
    return result
