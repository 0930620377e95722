"""The resize rule and every coordinate map between an image, its regions, the encoder's input and the decoder's output.

Three frames meet here. *Image*: (row, column), pixel centres at integers. *Encoder input*: a square of
`Profile.image_size` pixels into which a region's longest side is resized, zeros to the right and below; coordinates
there are (x, y), as the networks want them. *Low resolution*: the mask decoder's logits, a quarter of the input's side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Box = tuple[int, int, int, int]
"""(row0, col0, row1, col1), half-open."""

Stretch = Literal["robust", "minmax", "minmax_image"]
Resize = Literal["longest", "square"]
Interpolation = Literal["bilinear", "bicubic"]
Kind = Literal["points", "boxes", "masks"]
Decoder = Literal["own", "prototypes"]

LOW_RESOLUTION_STRIDE = 4


@dataclass(frozen=True)
class Profile:
    """What a checkpoint expects of the pictures it sees, and how its answers are read.

    `image_size` is the side of the encoder's input in pixels; `mean` and `std` (red, green, blue) normalise values of 0
    to 255; `crop_sides` are the sides, in image pixels, of the crops round a click that are worth encoding besides the
    whole image (none for networks that know one scale); what several regions say of an object is then averaged.
    `logit_offsets` are taken off the logits of the single mask and of the three candidates, by which they lie too high.
    `masks_within_boxes` keeps masks to the box of a prompt, and averages near its sides (see `box_prompts`).

    `stretch` says which values become 0 and 255: "robust" leaves a uint8 colour picture as it is and takes percentiles
    of each channel otherwise, "minmax" takes each channel's lowest and highest value, "minmax_image" those of all
    channels together. `resize` brings the longest side to `image_size` and pads with zeros, or makes a "square"
    whatever the aspect ratio. `prompts` are the kinds that the checkpoint was trained on. `decoder` says what answers
    prompts: the checkpoint's "own" mask decoder, or "prototypes", likeness to the patches under the prompts, for
    encoders that have none.
    """

    name: str
    image_size: int
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    crop_sides: tuple[int, ...] = ()
    logit_offsets: tuple[float, float] = (0.0, 0.0)
    masks_within_boxes: bool = False
    stretch: Stretch = "robust"
    resize: Resize = "longest"
    interpolation: Interpolation = "bilinear"
    prompts: tuple[Kind, ...] = ("points", "boxes", "masks")
    decoder: Decoder = "own"


@dataclass(frozen=True)
class Frame:
    """How one region of an image lies in the encoder's square input.

    Source of the rule: Segment Anything's `ResizeLongestSide` and `postprocess_masks`: coordinates are multiplied by
    the scale, without the half pixel that a resize would ask for. A `square` frame stretches the region to the whole
    input, as MedSAM's inference does.
    """

    image_shape: tuple[int, int]
    region: Box
    image_size: int
    square: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the region in image pixels."""
        row0, col0, row1, col1 = self.region
        return row1 - row0, col1 - col0

    @property
    def resized(self) -> tuple[int, int]:
        """(height, width) of the region in the encoder's input; the rest of the square is padding."""
        if self.square:
            return self.image_size, self.image_size
        scale = self.image_size / max(self.shape)
        height, width = (max(1, int(side * scale + 0.5)) for side in self.shape)
        return height, width

    @property
    def low_size(self) -> int:
        """Side of the low-resolution logits."""
        return self.image_size // LOW_RESOLUTION_STRIDE

    def to_input(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map image points (n, 2) as (row, column) to encoder-input points (n, 2) as (x, y)."""
        scale = np.divide(self.resized, self.shape)
        return ((points - self.region[:2]) * scale)[:, ::-1].astype(np.float32)

    def holds(self, points: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Tell for each image point (n, 2) whether it lies on one of the region's pixels."""
        low, high = np.array(self.region[:2]) - 0.5, np.array(self.region[2:]) - 0.5
        return np.asarray(((points >= low) & (points <= high)).all(axis=1))

    def taps(self, axis: int) -> Taps:
        """Return how each pixel along `axis` of the region draws on the low-resolution logits."""
        if self.square:
            return _direct_taps(self.low_size, self.shape[axis])
        return _published_taps(self.low_size, self.image_size, self.resized[axis], self.shape[axis])

    def low_positions(self, axis: int) -> NDArray[np.float64]:
        """Return the image coordinate, along `axis`, of every low-resolution cell's centre (n,)."""
        centres = (np.arange(self.low_size) + 0.5) * LOW_RESOLUTION_STRIDE
        return centres * self.shape[axis] / self.resized[axis] - 0.5 + self.region[axis]

    def low_coordinates(self, positions: NDArray[np.floating], axis: int) -> NDArray[np.float64]:
        """Return the fractional low-resolution index of image `positions` (n,) along `axis`; undoes `low_positions`."""
        centres = (positions - self.region[axis] + 0.5) * self.resized[axis] / self.shape[axis]
        return centres / LOW_RESOLUTION_STRIDE - 0.5

    def cell_overlap(self, axis: int, start: int, stop: int) -> NDArray[np.float32]:
        """Return the share of each low-resolution cell (rows) that region pixels `start` to `stop` (columns) cover."""
        size = LOW_RESOLUTION_STRIDE * self.shape[axis] / self.resized[axis]
        cells, pixels = np.arange(self.low_size)[:, None] * size, np.arange(start, stop)[None]
        overlap = np.minimum(cells + size, pixels + 1) - np.maximum(cells, pixels)
        return np.asarray(np.maximum(overlap, 0) / size, np.float32)

    def inner_borders(self) -> tuple[bool, bool, bool, bool]:
        """Tell which sides (top, left, bottom, right) of the region cut through the image."""
        row0, col0, row1, col1 = self.region
        return row0 > 0, col0 > 0, row1 < self.image_shape[0], col1 < self.image_shape[1]


@dataclass(frozen=True, eq=False)
class Taps:
    """A linear resampling of one axis: output i is the sum over t of `weights[i, t]` times input `indices[i, t]`.

    Both arrays are (outputs, taps); the first and the last column of `indices` are each row's lowest and highest.
    """

    indices: NDArray[np.intp]
    weights: NDArray[np.float32]

    def outputs_of(self, first: int, last: int) -> slice:
        """Return the run of outputs that draw on any input from `first` to `last`, both included."""
        start = np.searchsorted(self.indices[:, -1], first, "left")
        stop = np.searchsorted(self.indices[:, 0], last, "right")
        return slice(int(start), int(stop))

    def matrix(self, outputs: slice, first: int, last: int) -> NDArray[np.float32]:
        """Return the dense matrix (outputs, inputs `first` to `last`) of this resampling, taps outside left out."""
        indices, weights = self.indices[outputs] - first, self.weights[outputs]
        inside = (indices >= 0) & (indices <= last - first)
        dense = np.zeros((len(indices), last - first + 1), np.float32)
        rows = np.broadcast_to(np.arange(len(indices))[:, None], indices.shape)
        np.add.at(dense, (rows[inside], indices[inside]), weights[inside])
        return dense


def linear_taps(positions: NDArray[np.floating], size: int) -> Taps:
    """Return the taps of linear interpolation at fractional `positions` (n,), clamped to inputs 0 to `size` - 1."""
    positions = np.clip(positions, 0, size - 1)
    lower = np.floor(positions).astype(np.intp)
    upper = np.minimum(lower + 1, size - 1)
    fraction = (positions - lower).astype(np.float32)
    return Taps(np.stack([lower, upper], 1), np.stack([1 - fraction, fraction], 1))


def _resize_taps(source: int, target: int) -> Taps:
    """Return the taps of a bilinear resize from `source` to `target` samples, pixel edges aligned, as torch does it."""
    # Positions in float32, as torch has them: their rounding decides pixels where the logits are steep.
    places = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * np.float32(source / target) - np.float32(0.5)
    return linear_taps(places, source)


@lru_cache(maxsize=64)
def _published_taps(low: int, padded: int, resized: int, size: int) -> Taps:
    """Return the two published interpolations as one: low resolution to padded input, cut to `resized`, then to `size`.

    One direct interpolation would differ by up to 2 % of a mask's area.
    """
    first, second = _resize_taps(low, padded), _resize_taps(resized, size)
    indices = first.indices[second.indices].reshape(size, 4)
    weights = (first.weights[second.indices] * second.weights[:, :, None]).reshape(size, 4)
    return Taps(indices, weights)


@lru_cache(maxsize=64)
def _direct_taps(low: int, size: int) -> Taps:
    """Return the one interpolation of a square frame, low resolution to `size`."""
    return _resize_taps(low, size)


def whole(shape: tuple[int, int]) -> Box:
    """Return the region that is all of an image of `shape` (height, width)."""
    return 0, 0, shape[0], shape[1]


def square_around(centre: NDArray[np.floating], side: int, shape: tuple[int, int]) -> Box:
    """Return a square region of `side` pixels round `centre` (row, column), moved and cut to lie inside the image."""
    starts, stops = [], []
    for middle, size in zip(centre, shape, strict=True):
        start = int(np.clip(round(float(middle) - (side - 1) / 2), 0, max(0, size - side)))
        starts.append(start)
        stops.append(min(size, start + side))
    return starts[0], starts[1], stops[0], stops[1]
