"""Masks: low-resolution logits, and the pixels that they mean, evaluated only where something is positive."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from .geometry import LOW_RESOLUTION_STRIDE, Box, Frame, linear_taps

if TYPE_CHECKING:
    from numpy.typing import NDArray

CERTAIN = 10.0
"""The logit of a pixel that a given mask names as inside; outside is its negative."""


@dataclass(frozen=True, eq=False)
class Mask:
    """One candidate: logits in the frame of the region that was asked, and its pixels in the whole image.

    `np.asarray(mask)` is the full bool picture (height, width). `logits` is (h, w) float32 at low resolution, the
    padding of the encoder's input included; a pixel belongs to the mask where the interpolated logit is above 0. One
    that `is_given` was made of pixels, which are what it means.
    """

    logits: NDArray[np.float32] = field(repr=False)
    frame: Frame
    is_given: bool = False

    @classmethod
    def of_pixels(cls, picture: NDArray[np.bool_], frame: Frame) -> Mask:
        """Return exactly these pixels (height, width) of the whole image as a mask whose logits can be fed back."""
        return cls.of_crop((0, 0, *frame.image_shape), picture, frame)

    @classmethod
    def of_crop(cls, box: Box, crop: NDArray[np.bool_], frame: Frame) -> Mask:
        """Return exactly the pixels `crop` (h, w) inside `box` of the whole image, half-open, as `of_pixels` does."""
        inner, crop = _trim(crop)
        bbox = (box[0] + inner[0], box[1] + inner[1], box[0] + inner[2], box[1] + inner[3]) if crop.size else inner
        mask = cls(_logits_of_crop(bbox, crop, frame), frame, is_given=True)
        mask.__dict__["_pixels"] = bbox, _read_only(crop.copy())
        return mask

    @property
    def region(self) -> Box:
        """The part of the image that was asked, half-open (row0, col0, row1, col1)."""
        return self.frame.region

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the whole image."""
        return self.frame.image_shape

    @property
    def bbox(self) -> Box:
        """The box of the mask's pixels, half-open (row0, col0, row1, col1) in the image; all 0 if it is empty."""
        return self._pixels[0]

    @property
    def crop(self) -> NDArray[np.bool_]:
        """The pixels inside `bbox`, read-only."""
        return self._pixels[1]

    @cached_property
    def area(self) -> int:
        """Number of pixels."""
        return int(self.crop.sum())

    @cached_property
    def _pixels(self) -> tuple[Box, NDArray[np.bool_]]:
        box, crop = _evaluate(self.logits, self.frame)
        return box, _read_only(crop)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("the picture of a Mask is made when it is asked for: it cannot be had without a copy")
        full = np.zeros(self.shape, bool)
        row0, col0, row1, col1 = self.bbox
        full[row0:row1, col0:col1] = self.crop
        return full if dtype is None else full.astype(dtype, copy=False)

    def logits_at(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the logit (n,) at each image point (n, 2); what the mask's region does not hold is surely outside."""
        return np.where(self.frame.holds(points), self._between_cells(self.logits, points), np.float32(-CERTAIN))

    def centrality(self, point: NDArray[np.floating]) -> float:
        """Return how deep in the mask an image point (2,) lies: 1 where the mask is thickest, 0 outside."""
        depth = distance_transform_edt(np.pad(self.cells, 1))[1:-1, 1:-1]
        deepest = float(depth.max())
        if not deepest or not self.frame.holds(point[None]):
            return 0.0
        return float(self._between_cells(depth, point[None])[0]) / deepest

    def is_cut_off(self) -> bool:
        """Whether the mask runs into a border of its region that is not a border of the image."""
        inside = self.cells
        edges = inside[0], inside[:, 0], inside[-1], inside[:, -1]
        return any(cut and edge.any() for cut, edge in zip(self.frame.inner_borders(), edges, strict=True))

    @property
    def cells(self) -> NDArray[np.bool_]:
        """The low-resolution cells (h, w) that are inside, without the padding."""
        height, width = (-(-side // LOW_RESOLUTION_STRIDE) for side in self.frame.resized)
        return np.asarray(self.logits[:height, :width] > 0)

    def _between_cells(self, values: NDArray[Any], points: NDArray[np.floating]) -> NDArray[Any]:
        """Return values of low-resolution cells (h, w), interpolated at image points (n, 2)."""
        rows, cols = (
            linear_taps(self.frame.low_coordinates(points[:, axis], axis), size)
            for axis, size in enumerate(values.shape)
        )
        cells = values[rows.indices[:, :, None], cols.indices[:, None, :]]
        return np.asarray(np.einsum("nr,nrc,nc->n", rows.weights, cells, cols.weights))

    def logits_in(self, frame: Frame) -> NDArray[np.float32]:
        """Return the logits (h, w) as a prompt for the region of `frame`: unchanged in the mask's own, else resampled.

        What this mask's region did not see is taken to be outside of the object.
        """
        if frame == self.frame:
            return self.logits
        if self.is_given:
            return _logits_of_crop(self.bbox, self.crop, frame)
        matrices, seen = [], []
        for axis in (0, 1):
            cells = self.frame.low_coordinates(frame.low_positions(axis), axis)
            seen.append((cells >= -0.5) & (cells <= self.frame.resized[axis] / LOW_RESOLUTION_STRIDE - 0.5))
            last = self.frame.low_size - 1
            matrices.append(linear_taps(cells, last + 1).matrix(slice(None), 0, last))
        resampled = matrices[0] @ self.logits @ matrices[1].T
        return np.where(np.outer(*seen), resampled, np.float32(-CERTAIN))


@dataclass(frozen=True, eq=False)
class MaskResult:
    """The answer to one object's prompts: its candidates in the decoder's order.

    `scores` is (n,) float32: the predicted IoU; where several regions were asked, lowered for a mask that an inner
    border of its region cuts off or that contradicts points.
    """

    masks: tuple[Mask, ...]
    scores: NDArray[np.float32]

    @property
    def logits(self) -> NDArray[np.float32]:
        """The low-resolution logits (n, h, w), each in the frame of its mask's region."""
        return np.stack([mask.logits for mask in self.masks])

    @property
    def best(self) -> int:
        """Index of the candidate with the highest score."""
        return int(np.argmax(self.scores))


def logits_of(picture: NDArray[np.bool_], frame: Frame) -> NDArray[np.float32]:
    """Return a bool picture (height, width) of the image as low-resolution logits (h, w) for the region of `frame`.

    A cell is inside where at least half of it is; of something smaller than that, the cells that hold most stay.
    """
    return _logits_of_crop(*_trim(picture), frame)


def _logits_of_crop(box: Box, crop: NDArray[np.bool_], frame: Frame) -> NDArray[np.float32]:
    """Return the pixels `crop` inside a half-open `box` of the image as logits (h, w), as `logits_of` does."""
    row0, col0, row1, col1 = frame.region
    low = np.clip(box[:2], (row0, col0), (row1, col1))
    high = np.clip(box[2:], low, (row1, col1))
    seen = crop[low[0] - box[0] : high[0] - box[0], low[1] - box[1] : high[1] - box[1]].astype(np.float32)
    rows = frame.cell_overlap(0, low[0] - row0, high[0] - row0)
    share = rows @ seen @ frame.cell_overlap(1, low[1] - col0, high[1] - col0).T
    inside = (share > 0) & (share >= min(0.5, float(share.max())))
    return np.where(inside, np.float32(CERTAIN), np.float32(-CERTAIN))


def _evaluate(logits: NDArray[np.float32], frame: Frame) -> tuple[Box, NDArray[np.bool_]]:
    """Return the box of what is positive in the image, and its pixels: the published interpolations, there alone."""
    (row0, col0, row1, col1), positive = _trim(logits > 0)
    if not positive.any():
        return (0, 0, 0, 0), np.zeros((0, 0), bool)
    slices, matrices = [], []
    for axis, first, last in ((0, row0, row1 - 1), (1, col0, col1 - 1)):
        taps = frame.taps(axis)
        slices.append(taps.outputs_of(first, last))
        # Two cells more on each side, as far as the two interpolations reach: negative neighbours pull the border in.
        matrices.append((taps, max(0, first - 2), min(frame.low_size - 1, last + 2)))
    (row_taps, row0, row1), (col_taps, col0, col1) = matrices
    cells = logits[row0 : row1 + 1, col0 : col1 + 1]
    if frame.square:  # there the published way interpolates probabilities; this is one, doubled, less 1
        cells = np.tanh(cells / 2)
    values = row_taps.matrix(slices[0], row0, row1) @ cells
    box, crop = _trim(values @ col_taps.matrix(slices[1], col0, col1).T > 0)
    offset = np.array([frame.region[axis] + slices[axis].start for axis in (0, 1)] * 2)
    if not crop.any():
        return (0, 0, 0, 0), np.zeros((0, 0), bool)
    row0, col0, row1, col1 = (int(value) for value in offset + box)
    return (row0, col0, row1, col1), crop.copy()


def _read_only(crop: NDArray[np.bool_]) -> NDArray[np.bool_]:
    crop.setflags(write=False)
    return crop


def _trim(picture: NDArray[np.bool_]) -> tuple[Box, NDArray[np.bool_]]:
    """Return the half-open box of what is true in `picture` (height, width), and the picture inside it."""
    rows, cols = (np.flatnonzero(picture.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return (0, 0, 0, 0), picture[:0, :0]
    box = int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1
    return box, picture[box[0] : box[2], box[1] : box[3]]
