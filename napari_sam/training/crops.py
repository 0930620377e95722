"""From a picture of any size to a square training sample, cut and scaled as the predictor does it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage as ndi

from napari_sam.training.augment import recoloured, turned
from napari_sam.training.synthetic.canvas import between

_T = TypeVar("_T", bound=np.generic)
Box = tuple[int, int, int, int]
LEAST_SIDE = 32  # px; smaller crops show nothing
LEAST_AREA = 16  # px at the sample's size; smaller objects are not asked for


@dataclass(frozen=True)
class Picture:
    """A picture and its objects.

    Attributes
    ----------
    image
        (H, W, 3) uint8.
    layers
        (n, H, W) int32 ids, 0 is background.
    complete
        Whether what has no id is known to be background.
    boxes
        (n objects, 6) int: layer, id, then row0, col0, row1, col1, half-open.
    areas
        (n objects,) px.
    """

    image: npt.NDArray[np.uint8] = field(repr=False)
    layers: npt.NDArray[np.int32] = field(repr=False)
    complete: bool
    boxes: npt.NDArray[np.int64] = field(repr=False)
    areas: npt.NDArray[np.int64] = field(repr=False)


@dataclass(frozen=True)
class Sample:
    """What one image gives to a training step; S is the network's input size.

    Attributes
    ----------
    image
        (S, S, 3) uint8; what lies below and to the right of `extent` is padding.
    extent
        (height, width) of the picture in it.
    layer
        (S, S) int32 ids of one layer, for the dense head.
    complete
        Whether what has no id there is known to be background.
    masks
        (k, S, S) bool, the visible parts of k objects.
    outside
        (k,) float32, how many pixels of each, at this scale, the crop cuts off.
    """

    image: npt.NDArray[np.uint8] = field(repr=False)
    extent: tuple[int, int]
    layer: npt.NDArray[np.int32] = field(repr=False)
    complete: bool
    masks: npt.NDArray[np.bool_] = field(repr=False)
    outside: npt.NDArray[np.float32] = field(repr=False)


def as_picture(image: npt.NDArray[np.uint8], layers: npt.NDArray[np.int32], complete: bool = True) -> Picture:
    """Return a picture with its objects found; raises ValueError if there is none."""
    rows, areas = [], []
    for index, layer in enumerate(layers):
        counts = np.bincount(layer.ravel())
        for number, place in enumerate(ndi.find_objects(layer), start=1):
            if place is not None:
                rows.append([index, number, place[0].start, place[1].start, place[0].stop, place[1].stop])
                areas.append(counts[number])
    if not rows:
        raise ValueError("a picture without objects cannot be trained on")
    return Picture(image, layers, complete, np.array(rows), np.array(areas))


@dataclass(frozen=True)
class CropRule:
    """How crops are chosen; `ratio` is the crop's side over the object's."""

    size: int = 256
    objects: int = 5
    whole: float = 0.15  # share of samples that show the whole picture
    cut: float = 0.1  # share of those whose crop is smaller than the object
    nearest: float = 1.15
    farthest: float = 14.0
    nearer: tuple[float, ...] = (3.5, 2.2)  # in as many shares: the scale that is chosen in the end is a near one


def random_sample(rng: np.random.Generator, picture: Picture, rule: CropRule) -> Sample:
    """Cut a sample round a random object, augmented."""
    chosen = np.array([], np.intp)
    while not len(chosen):  # a small object may vanish between the pixels of a whole picture
        main = int(rng.integers(len(picture.boxes)))
        box = random_region(rng, picture, main, rule)
        image, layers = cut_out(picture, box, _extent(rng, box, rule.size))
        chosen = _visible_objects(rng, picture, layers, main, rule.objects)
    image, layers = turned(rng, image, layers)
    scale = image.shape[0] * image.shape[1] / ((box[2] - box[0]) * (box[3] - box[1]))
    masks = np.stack([layers[layer] == number for layer, number in picture.boxes[chosen, :2]])
    outside = np.maximum(0, picture.areas[chosen] * scale - masks.sum((1, 2)))
    outside[outside < 0.03 * picture.areas[chosen] * scale] = 0  # that is rounding, not a cut
    return Sample(
        image=_padded(recoloured(rng, image), rule.size),
        extent=(image.shape[0], image.shape[1]),
        layer=_padded(layers[int(rng.integers(len(layers)))], rule.size),
        complete=picture.complete,
        masks=np.stack([_padded(mask, rule.size) for mask in masks]),
        outside=outside.astype(np.float32),
    )


def random_region(rng: np.random.Generator, picture: Picture, main: int, rule: CropRule) -> Box:
    """Choose the part of a picture that a sample shows: half-open (row0, col0, row1, col1) inside the picture."""
    height, width = picture.image.shape[:2]
    row0, col0, row1, col1 = (int(v) for v in picture.boxes[main, 2:])
    longest = max(row1 - row0, col1 - col0)
    kind = rng.random()
    if kind < rule.whole and longest * 2.5 * rule.farthest > max(height, width):
        return 0, 0, height, width
    if kind > 1 - rule.cut:
        ratio = between(rng, 0.35, rule.nearest)
    else:
        ratio = between(rng, rule.nearest, float(rng.choice([rule.farthest, *rule.nearer])))
    side = max(LEAST_SIDE, int(longest * ratio))
    if rng.random() < 0.6:
        centre = _inner_point(rng, picture, main)
    else:
        middle = np.array([(row0 + row1) / 2, (col0 + col1) / 2])
        centre = middle + rng.uniform(-0.5, 0.5, 2) * max(side - longest, 0)
    return region_around(centre, side, (height, width), inside=rng.random() < 0.8)


def region_around(centre: npt.NDArray[np.floating], side: int, shape: tuple[int, int], inside: bool = True) -> Box:
    """Return a square round `centre` (row, column), clipped to the image; moved into it first if `inside`."""
    spans = []
    for middle, length in zip(centre, shape, strict=True):
        start = round(float(middle) - side / 2)
        if inside:
            start = min(max(start, 0), max(0, length - side))
        low, high = max(0, start), min(length, start + side)
        spans.append((low, max(high, low + 1)))
    return spans[0][0], spans[1][0], spans[0][1], spans[1][1]


def _inner_point(rng: np.random.Generator, picture: Picture, main: int) -> npt.NDArray[np.float64]:
    layer, number, row0, col0, row1, col1 = picture.boxes[main]
    inside = np.argwhere(picture.layers[layer, row0:row1, col0:col1] == number)
    point: npt.NDArray[np.float64] = inside[rng.integers(len(inside))] + np.array([row0, col0], np.float64)
    return point


def _extent(rng: np.random.Generator, box: Box, size: int) -> tuple[int, int]:
    """Size of a region brought to the input, now and then a little squeezed in one direction."""
    height, width = scaled_extent(box, size)
    if rng.random() < 0.3:
        squeeze = rng.uniform(0.75, 1)
        height, width = (round(height * squeeze), width) if rng.random() < 0.5 else (height, round(width * squeeze))
    return max(height, 16), max(width, 16)


def scaled_extent(box: Box, size: int) -> tuple[int, int]:
    """Return (height, width) of a region whose longer side is brought to `size`."""
    height, width = box[2] - box[0], box[3] - box[1]
    scale = size / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def cut_out(picture: Picture, box: Box, extent: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Return a region's image (h, w, 3), bilinear with area averaging as PIL does it, and layers (n, h, w), nearest."""
    row0, col0, row1, col1 = box
    crop = Image.fromarray(np.ascontiguousarray(picture.image[row0:row1, col0:col1]))
    image = np.asarray(crop.resize(extent[::-1], Image.Resampling.BILINEAR))
    rows = row0 + ((np.arange(extent[0]) + 0.5) * ((row1 - row0) / extent[0])).astype(np.intp)
    cols = col0 + ((np.arange(extent[1]) + 0.5) * ((col1 - col0) / extent[1])).astype(np.intp)
    return image, picture.layers[:, rows[:, None], cols[None, :]]


def _visible_objects(
    rng: np.random.Generator, picture: Picture, layers: npt.NDArray[np.int32], main: int, most: int
) -> npt.NDArray[np.intp]:
    """Return the indices of the main object and up to `most` - 1 others that can be seen well enough."""
    counts = [np.bincount(layer.ravel()) for layer in layers]
    seen = [
        index
        for index, (layer, number) in enumerate(picture.boxes[:, :2])
        if number < len(counts[layer]) and counts[layer][number] >= LEAST_AREA
    ]
    others = rng.permutation(np.array([index for index in seen if index != main], np.intp))
    return np.concatenate([np.array([main] if main in seen else [], np.intp), others])[:most]


def _padded(array: npt.NDArray[_T], size: int) -> npt.NDArray[_T]:
    margins = [(0, size - array.shape[0]), (0, size - array.shape[1])] + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, margins)
