"""Which parts of an image are worth encoding for an object's prompts.

A small network sees small objects only when the crop has the right scale. A box tells the scale, so does an earlier
mask; a first click does not, so crops of several sides round it are offered, and what they say is weighed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .geometry import Box, square_around
from .masks import Mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .prompts import MaskPrompt, Prompts

MARGINS = (1.3, 1.9)
"""Sides of the crops over the side of the object expected in them: what two see apart, their average sees better."""
SPREAD = 1.5
"""Least side of a crop round several clicks over what they span."""
ALIKE = 1.12
"""Ratio up to which the side of an encoded region serves as well as the one wanted."""
SMALLEST_SIDE = 32


def helpful_regions(
    prompts: Prompts, shape: tuple[int, int], known: Sequence[Box], crop_sides: Sequence[int]
) -> dict[Box, bool]:
    """Return the regions, half-open and inside an image of `shape`, that would help with `prompts` besides the `known`.

    Of each it says whether to look at it with rows and columns exchanged, as at every other one, whatever is known: who
    looks from another side errs elsewhere. `crop_sides` are the sides in pixels to try round a click whose object's
    size is not known.
    """
    expected = expected_extent(prompts)
    if expected is None:
        wanted = _crops_round_click(prompts.positive, shape, crop_sides)
        missing = [True] * len(wanted)
    else:
        wanted = [_crop(expected, margin, shape) for margin in MARGINS]
        missing = [not any(_shows(box, expected, margin) for box in known) for margin in MARGINS]
    helpful: dict[Box, bool] = {}
    for place, (box, is_missing) in enumerate(zip(wanted, missing, strict=True)):
        if is_missing and box not in known and not _is_nearly_whole(box, shape):
            helpful.setdefault(box, place % 2 == 0)
    return helpful


def tiles_round(centre: NDArray[np.floating], side: int, overlap: int, shape: tuple[int, int]) -> list[Box]:
    """Return square regions of `side` pixels that cover an image of `shape`, the nearest to `centre` first.

    One has `centre` (row, column) in its middle; neighbours share `overlap` pixels, at the image's border more.
    """
    starts = []
    for middle, size in zip(centre, shape, strict=True):
        first, step = float(middle) - (side - 1) / 2, max(1, side - overlap)
        steps = np.arange(-np.ceil(first / step) - 1, np.ceil((size - first) / step) + 1)
        starts.append(np.unique(np.clip(np.round(first + steps * step), 0, max(0, size - side)).astype(int)))
    boxes = [
        (int(r), int(c), min(int(r) + side, shape[0]), min(int(c) + side, shape[1]))
        for r in starts[0]
        for c in starts[1]
    ]
    return sorted(boxes, key=lambda box: np.hypot((box[0] + box[2]) / 2 - centre[0], (box[1] + box[3]) / 2 - centre[1]))


def mask_corners(mask: MaskPrompt) -> NDArray[np.float64]:
    """Return the lowest and the highest (row, column) of a mask prompt's pixels (2, 2); (0, 2) if it has none."""
    if isinstance(mask, Mask) and mask.area:
        row0, col0, row1, col1 = mask.bbox
        return np.array([(row0, col0), (row1 - 1, col1 - 1)], float)
    if isinstance(mask, np.ndarray) and mask.any():
        inside = np.argwhere(mask)
        return np.array([inside.min(0), inside.max(0)], float)
    return np.zeros((0, 2))


def expected_extent(prompts: Prompts) -> NDArray[np.float64] | None:
    """Return the box (2, 2) of lowest and highest (row, column) where the object lies, or None if only clicks tell."""
    corners = np.concatenate([prompts.boxes.reshape(-1, 2), mask_corners(prompts.mask)])
    if not len(corners):
        return None
    every = np.concatenate([corners, prompts.positive])
    return np.stack([every.min(0), every.max(0)])


def _crops_round_click(points: NDArray[np.float64], shape: tuple[int, int], crop_sides: Sequence[int]) -> list[Box]:
    if not len(points):
        return []
    low, high = points.min(0), points.max(0)
    spread = SPREAD * (high - low).max()
    return [square_around((low + high) / 2, side, shape) for side in crop_sides if side >= spread]


def _crop(extent: NDArray[np.float64], margin: float, shape: tuple[int, int]) -> Box:
    return square_around(extent.mean(0), int(np.ceil(_wanted_side(extent, margin))), shape)


def _shows(box: Box, extent: NDArray[np.float64], margin: float) -> bool:
    """Whether a known region shows the expected object whole and at about the scale of that margin."""
    low, high = np.array(box[:2]), np.array(box[2:])
    ratio = (high - low).max() / _wanted_side(extent, margin)
    return bool((extent[0] >= low).all() and (extent[1] < high).all() and 1 / ALIKE <= ratio <= ALIKE)


def _wanted_side(extent: NDArray[np.float64], margin: float) -> float:
    return max(float(SMALLEST_SIDE), margin * float((extent[1] - extent[0]).max() + 1))


def _is_nearly_whole(box: Box, shape: tuple[int, int]) -> bool:
    """Whether the whole image shows the same at nearly the same scale."""
    return max(box[2] - box[0], box[3] - box[1]) > 0.8 * max(shape)
