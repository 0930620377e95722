"""New pictures from real ones: objects cut out and pasted elsewhere, drawn outlines filled with real texture.

The outlines stay exact, while every object is seen before many backgrounds, at many sizes, beside strangers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter
from scipy import ndimage as ndi

from napari_sam.training.crops import Picture, as_picture
from napari_sam.training.synthetic.canvas import SIZE, between

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_sam.training.synthetic import Drawing

    Source = Callable[[np.random.Generator], Picture]

SCENE = 320  # side of a scene that objects are pasted onto, px
MOST_ENLARGED = 3.0  # how much larger a pasted object may become: beyond that it is a blur
LEAST_CUT = 64  # px of an object worth cutting out
TRIES = 12

Colours = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def pasted(rng: np.random.Generator, source: Source) -> Picture:
    """Return part of a real picture with one to eight objects of this or another one pasted onto it.

    Parameters
    ----------
    source
        Gives a random real picture.
    """
    scene = source(rng)
    image, labels = _scene(rng, scene)
    donor = scene if rng.random() < 0.5 else source(rng)
    wanted, done = round(between(rng, 1, 8)), 0
    number = int(labels.max())
    for _ in range(TRIES):
        cut = _cut_out(rng, donor)
        if cut is not None:
            done += _paste(rng, image, labels, *cut, number + done + 1)
        if done == wanted:
            break
        if rng.random() < 0.3:
            donor = source(rng)
    if not labels.any():
        return scene
    return as_picture(np.clip(image, 0, 255).astype(np.uint8), labels[None], scene.complete)


def textured(rng: np.random.Generator, drawing: Drawing, source: Source) -> Picture:
    """Return a drawing whose objects and background are filled with texture of real pictures.

    All objects share a texture, or each has one of three; their brightness differs a little, so that those that touch
    can be told apart, and they may be shaded like solid bodies.
    """
    layer = drawing.layers[int(rng.integers(len(drawing.layers)))]
    count = int(layer.max()) + 1
    kinds = rng.integers(1, 1 + int(rng.integers(1, 4)), count)
    kinds[0] = 0
    gain = np.clip(rng.normal(1, 0.15, count), 0.5, 1.5)
    gain[0] = 1.0
    light = gain.astype(np.float32)[layer]
    if rng.random() < 0.5:
        depth = ndi.distance_transform_edt(layer > 0).astype(np.float32)
        deepest = np.maximum(ndi.maximum(depth, layer, np.arange(count)), 1).astype(np.float32)
        light = light * (1 + np.float32(rng.uniform(-0.5, 0.5)) * (depth / deepest[layer] - 0.5) * (layer > 0))
    image = _texture(rng, source)
    for kind in range(1, int(kinds.max()) + 1):
        alpha = _softened(rng, (kinds[layer] == kind) & (layer > 0))
        image += alpha[..., None] * (_texture(rng, source) - image)
    image *= light[..., None]
    return as_picture(np.clip(image, 0, 255).astype(np.uint8), drawing.layers)


def _scene(rng: np.random.Generator, picture: Picture) -> tuple[Floats, npt.NDArray[np.int32]]:
    """Return a square part of a picture (SCENE, SCENE, 3), 0 to 255, and the ids in it."""
    height, width = picture.image.shape[:2]
    side = max(32, int(min(height, width) * rng.uniform(0.4, 1)))
    row, col = (int(rng.integers(0, max(1, length - side + 1))) for length in (height, width))
    part = Image.fromarray(np.ascontiguousarray(picture.image[row : row + side, col : col + side]))
    labels = picture.layers[0, row : row + side, col : col + side]
    rows, cols = ((np.arange(SCENE) * length // SCENE) for length in labels.shape)
    image = np.array(part.resize((SCENE, SCENE), Image.Resampling.BILINEAR), np.float32)
    return image, np.array(labels[rows[:, None], cols[None, :]])


def _cut_out(rng: np.random.Generator, picture: Picture) -> tuple[Image.Image, Image.Image] | None:
    """Return a random object's surroundings and its mask, scaled, turned and perhaps mirrored; None if it is tiny."""
    index = int(rng.integers(len(picture.boxes)))
    if picture.areas[index] < LEAST_CUT:
        return None
    layer, number, row0, col0, row1, col1 = (int(v) for v in picture.boxes[index])
    row0, col0 = max(0, row0 - 2), max(0, col0 - 2)
    row1, col1 = row1 + 2, col1 + 2
    image = Image.fromarray(np.ascontiguousarray(picture.image[row0:row1, col0:col1]))
    mask = Image.fromarray(((picture.layers[layer, row0:row1, col0:col1] == number) * 255).astype(np.uint8))
    scale = min(MOST_ENLARGED, SCENE * between(rng, 0.06, 0.6) / max(image.size))
    size = (max(4, round(image.width * scale)), max(4, round(image.height * scale)))
    image, mask = (part.resize(size, Image.Resampling.BILINEAR) for part in (image, mask))
    if rng.random() < 0.5:
        image, mask = (part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for part in (image, mask))
    angle = float(rng.uniform(0, 360))
    turned = (part.rotate(angle, Image.Resampling.BILINEAR, expand=True) for part in (image, mask))
    return next(turned), next(turned)


def _paste(
    rng: np.random.Generator,
    image: Floats,
    labels: npt.NDArray[np.int32],
    cut: Image.Image,
    mask: Image.Image,
    number: int,
) -> bool:
    """Paint an object into a scene, in place; False if too little of it would be seen."""
    shape = np.array([mask.height, mask.width])
    corner = (rng.uniform(0, 1, 2) * SCENE - shape / 2).astype(int)
    low, high = np.maximum(corner, 0), np.minimum(corner + shape, SCENE)
    there = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    here = tuple(slice(a, b) for a, b in zip(low - corner, high - corner, strict=True))
    inside = np.asarray(mask)[here] > 127
    if inside.sum() < LEAST_CUT:
        return False
    colours = np.asarray(cut, np.float32)[here]
    if rng.random() < 0.5:
        colours = colours * np.float32(between(rng, 0.6, 1.5)) + np.float32(rng.normal(0, 15))
    alpha = _softened(rng, inside)[..., None]
    image[there] += alpha * (colours - image[there])
    labels[there][inside] = number
    return True


def _texture(rng: np.random.Generator, source: Source) -> Floats:
    """Return (SIZE, SIZE, 3) of a real picture, 0 to 255, brighter or darker and perhaps grey."""
    picture = source(rng).image
    side = max(24, int(between(rng, 0.12, 0.8) * min(picture.shape[:2])))
    row, col = (int(rng.integers(0, max(1, length - side + 1))) for length in picture.shape[:2])
    part = Image.fromarray(np.ascontiguousarray(picture[row : row + side, col : col + side]))
    texture = np.array(part.resize((SIZE, SIZE), Image.Resampling.BILINEAR), np.float32)
    if rng.random() < 0.3:
        texture[:] = texture.mean(axis=2, keepdims=True)
    texture *= between(rng, 0.5, 1.6)
    texture += rng.normal(0, 25)
    return texture


def _softened(rng: np.random.Generator, mask: npt.NDArray[np.bool_]) -> Floats:
    """Return a mask as 0 to 1 with a border as soft as a lens leaves it."""
    blurred = Image.fromarray((mask * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(between(rng, 0.4, 1.5)))
    return np.asarray(blurred, np.float32) / np.float32(255)
