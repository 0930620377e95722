"""Any array a person may have, as the picture that an image encoder takes: which channels, which range, which part."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from .errors import ImageError
from .geometry import Box, Frame, Profile, Stretch, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Limits = tuple[float, float]

PERCENTILES = (0.1, 99.9)
SAMPLED_PIXELS = 1 << 20
SAMPLED_PLANES = 16
BLOCK_PIXELS = 1 << 22


@dataclass(frozen=True)
class PictureRule:
    """How an image's values become a uint8 picture of three channels; everything is resolved, nothing left to guess.

    `channels` are the channels that are used, one to three, empty for an image without a channel axis. `limits` are
    (low, high) for each of them, which become 0 and 255; None leaves a uint8 picture as it is. `note` says what was
    done that a person might not expect, or is empty.
    """

    shape: tuple[int, int]
    channels: tuple[int, ...]
    limits: tuple[Limits, ...] | None
    note: str = ""


class SharedLimits:
    """Limits shared by all slices of a stack, so that they look alike: found once, by whoever asks first.

    `stack` is any array; of each axis at most 16 planes are sampled where it is lazy, else a fixed share of the pixels.
    """

    def __init__(self, stack: Any) -> None:
        self._stack = stack

    @cached_property
    def resolved(self) -> Limits:
        """(low, high) for the whole stack."""
        shape = self._stack.shape
        steps = [max(1, size // SAMPLED_PLANES) for size in shape[:-2]]
        kept = np.prod([-(-size // step) for size, step in zip(shape, steps, strict=False)], initial=1)
        step = max(1, int(np.ceil(np.sqrt(kept * shape[-2] * shape[-1] / SAMPLED_PIXELS))))
        sample = self._stack[tuple(slice(None, None, s) for s in (*steps, step, step))]
        return robust_limits(np.asarray(sample))


def as_array(image: Any) -> Any:
    """Return `image` itself where it is an array of numpy's types, lazy or not, else a numpy array of it."""
    if isinstance(getattr(image, "dtype", None), np.dtype) and hasattr(image, "shape"):
        return image
    try:
        return np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ImageError(f"an image of type {type(image).__name__} is no array: {error}") from error


def resolve_rule(
    image: Any, channels: Sequence[int] | int | None = None, limits: Any = None, stretch: Stretch = "robust"
) -> PictureRule:
    """Decide how `image`, (height, width) or (height, width, channels) of any real dtype, is read.

    Parameters
    ----------
    image
        A numpy array or anything that slices like one; only a fixed sample of its pixels is read.
    channels
        One to three channels to use. None: one or three are taken as they are, the alpha of a uint8 image of four is
        left out, of more the first three, of two both.
    limits
        (low, high), or one such pair per used channel. None: as `stretch` says, NaN and infinities left out.
    stretch
        "robust": a uint8 picture of three channels stays as it is, everything else is stretched between robust
        percentiles of each channel. "minmax": between the lowest and the highest value of each channel.
        "minmax_image": between those of all channels together.

    Raises
    ------
    ImageError
        The array is no picture, a channel does not exist, limits are no range.
    """
    _check_picture(image)
    used, note = _resolve_channels(image, channels)
    if limits is not None:
        resolved: tuple[Limits, ...] | None = _given_limits(limits, max(1, len(used)))
    elif stretch == "robust" and image.dtype == np.uint8 and len(used) == 3:
        resolved = None
    elif stretch == "robust":
        resolved = tuple(robust_limits(sample) for sample in _samples(image, used))
    else:
        resolved = _extreme_limits(image, used, shared=stretch == "minmax_image")
    return PictureRule((int(image.shape[0]), int(image.shape[1])), used, resolved, note)


def check_fits(image: Any, rule: PictureRule) -> None:
    """Raise `ImageError` where `image` cannot be the one that `rule` was resolved for."""
    _check_picture(image)
    shape, count = tuple(image.shape[:2]), _channel_count(image)
    if shape != rule.shape:
        raise ImageError(f"an image of {shape} for an embedding of one of {rule.shape}: give the same image")
    if bool(rule.channels) != bool(count) or max(rule.channels, default=-1) >= count:
        raise ImageError(f"an image with {count} channels for an embedding of {rule.channels}: give the same image")
    if rule.limits is None and image.dtype != np.uint8:
        raise ImageError(f"an image of type {image.dtype} for an embedding of a uint8 one: give the same image")


def check_region(region: Sequence[int] | None, shape: tuple[int, int]) -> Box:
    """Return `region` as half-open (row0, col0, row1, col1), the whole image if None; `ImageError` if not inside it."""
    if region is None:
        return whole(shape)
    try:
        row0, col0, row1, col1 = (int(value) for value in region)
        inside = [row0, col0, row1, col1] == list(region)
    except (TypeError, ValueError, OverflowError):
        inside = False
    if not (inside and 0 <= row0 < row1 <= shape[0] and 0 <= col0 < col1 <= shape[1]):
        raise ImageError(
            f"region {region} of an image of {shape[0]} x {shape[1]}: give (row0, col0, row1, col1), whole numbers, "
            "half-open, inside the image"
        )
    return row0, col0, row1, col1


def read_picture(image: Any, rule: PictureRule, region: Box) -> NDArray[np.uint8]:
    """Return the uint8 picture (height, width, 3) of a region of `image` under `rule`."""
    row0, col0, row1, col1 = region
    planes = _planes(image, slice(row0, row1), slice(col0, col1), rule.channels)
    if rule.limits is not None:
        planes = [to_uint8(plane, limits) for plane, limits in zip(planes, rule.limits, strict=True)]
    if len(planes) == 1:
        planes *= 3
    elif len(planes) == 2:
        planes.append(np.zeros_like(planes[0]))
    return np.stack(planes, axis=-1).astype(np.uint8, copy=False)


def encoder_input(picture: NDArray[np.uint8], frame: Frame, profile: Profile) -> NDArray[np.float32]:
    """Return a region's `picture` as the network sees it: (3, size, size) float32, resized, normalised, padded."""
    height, width = frame.resized
    resampling = Image.Resampling[profile.interpolation.upper()]
    resized = np.asarray(Image.fromarray(picture).resize((width, height), resampling), np.float32)
    if profile.stretch == "minmax_image" and not any(frame.inner_borders()):
        # The published order: the whole image's range is taken after the resize, which flattens its peaks.
        low, high = float(resized.min()), float(resized.max())
        resized = (resized - low) * np.float32(255 / max(high - low, 1e-8))
    padded = np.zeros((3, profile.image_size, profile.image_size), np.float32)
    normalised = (resized - np.array(profile.mean, np.float32)) / np.array(profile.std, np.float32)
    padded[:, :height, :width] = normalised.transpose(2, 0, 1)
    return padded


def robust_limits(values: NDArray[Any]) -> Limits:
    """Return (low, high) of any real `values`, outliers, NaN and infinities left out; low < high whatever they are."""
    floats = values.astype(np.float64)
    finite = floats[np.isfinite(floats)]
    if not finite.size:
        return 0.0, 1.0
    # "nearest" returns values that occur: no interpolation to overflow at the ends of the range.
    low, high = (float(value) for value in np.percentile(finite, PERCENTILES, method="nearest"))
    if low == high:
        low, high = float(finite.min()), float(finite.max())
    return _as_range(low, high)


def _as_range(low: float, high: float) -> Limits:
    """Return limits that are a range, also where every value is the same."""
    if low < high:
        return low, high
    step = max(1.0, abs(low) / 2**20)  # towards 0, where there is room: a constant is white above it, else black
    return (low - step, low) if low > 0 else (low, low + step)


def to_uint8(plane: NDArray[Any], limits: Limits) -> NDArray[np.uint8]:
    """Bring one channel to 0 to 255, `limits` at the ends, clipped; NaN becomes 0."""
    low, high = limits
    out = np.empty(plane.shape, np.uint8)
    rows = max(1, BLOCK_PIXELS // max(1, plane.shape[1]))
    for start in range(0, len(plane), rows):
        block = plane[start : start + rows].astype(np.float64)
        # Halves, because high - low may overflow where low and high do not; limits may lie as close as numbers can.
        with np.errstate(invalid="ignore", divide="ignore"):
            share = (block / 2 - low / 2) / (high / 2 - low / 2)
        out[start : start + rows] = np.rint(255 * np.nan_to_num(np.clip(share, 0, 1), nan=0.0))
    return out


def _check_picture(image: Any) -> None:
    shape, dtype = getattr(image, "shape", None), getattr(image, "dtype", None)
    if shape is None or dtype is None:
        raise ImageError(
            f"an image of type {type(image).__name__}: give an array, (height, width) or (height, width, channels)"
        )
    if len(shape) not in (2, 3) or 0 in shape:
        raise ImageError(
            f"an image of shape {tuple(shape)}: give (height, width) or (height, width, channels), not empty"
        )
    if np.dtype(dtype).kind not in "buif":
        raise ImageError(f"an image of type {dtype}: give real numbers or bool, for example its magnitude")


def _resolve_channels(image: Any, channels: Sequence[int] | int | None) -> tuple[tuple[int, ...], str]:
    """Return the channels to use, and a note where that is not all of them as they are."""
    count = _channel_count(image)
    wanted = None if channels is None else _given_channels(channels, max(1, count))
    if not count:
        if wanted not in (None, (0,)):
            raise ImageError(f"channels {channels} of an image without a channel axis: leave them out")
        return (), ""
    if wanted is not None:
        return wanted, ""
    if count == 4 and image.dtype == np.uint8:
        return (0, 1, 2), ""
    if count > 3:
        return (0, 1, 2), f"The encoder sees the first three of {count} channels."
    return tuple(range(count)), "The encoder sees both channels as red and green." if count == 2 else ""


def _channel_count(image: Any) -> int:
    """Return the number of channels, 0 for an image without a channel axis."""
    return int(image.shape[2]) if len(image.shape) == 3 else 0


def _given_channels(channels: Any, count: int) -> tuple[int, ...]:
    try:
        named = np.atleast_1d(channels)
        wanted = () if named.dtype == bool else tuple(operator.index(index) for index in named.tolist())
    except (TypeError, ValueError):
        wanted = ()
    if not 1 <= len(wanted) <= 3 or any(not -count <= index < count for index in wanted):
        raise ImageError(f"channels {channels!r} of an image with {count}: name one to three of 0 to {count - 1}")
    return tuple(index % count for index in wanted)


def _given_limits(limits: Any, count: int) -> tuple[Limits, ...]:
    try:
        pairs = np.array(limits, dtype=float)
    except (TypeError, ValueError) as error:
        raise ImageError(f"limits {limits!r} are not numbers: give (low, high), or one pair per channel") from error
    if pairs.shape == (2,):
        pairs = np.broadcast_to(pairs, (count, 2))
    if pairs.shape != (count, 2):
        raise ImageError(
            f"limits of shape {pairs.shape} for {count} channels: give (low, high), or one pair per channel"
        )
    if not np.isfinite(pairs).all() or (pairs[:, 0] >= pairs[:, 1]).any():
        raise ImageError(f"limits {pairs.tolist()}: each low must be finite and below its high")
    return tuple((float(low), float(high)) for low, high in pairs)


def _extreme_limits(image: Any, channels: tuple[int, ...], *, shared: bool) -> tuple[Limits, ...]:
    """Return (lowest, highest) finite value of each used channel, or of all together; of a lazy image, of a sample."""
    every = slice(None)
    planes = _planes(image, every, every, channels) if isinstance(image, np.ndarray) else _samples(image, channels)
    found = [_extremes(plane) for plane in planes]
    if shared:
        found = [(min(low for low, _ in found), max(high for _, high in found))] * len(found)
    return tuple(_as_range(low, high) for low, high in found)


def _extremes(plane: NDArray[Any]) -> Limits:
    """Return the lowest and the highest finite value of a channel, 0 and 1 if it has none."""
    low, high = float(plane.min()), float(plane.max())
    if not np.isfinite([low, high]).all():
        finite = plane[np.isfinite(plane)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return low, high


def _samples(image: Any, channels: tuple[int, ...]) -> list[NDArray[Any]]:
    """Return a fixed sample of each used channel's pixels: every n-th row and column, whatever region is encoded."""
    step = int(np.ceil(np.sqrt(image.shape[0] * image.shape[1] / SAMPLED_PIXELS)))
    every = slice(None, None, step)
    return _planes(image, every, every, channels)


def _planes(image: Any, rows: slice, cols: slice, channels: tuple[int, ...]) -> list[NDArray[Any]]:
    """Return a part of each channel (height, width); of an image that is lazy, the channels between them at most."""
    if not channels:
        return [np.asarray(image[rows, cols])]
    first = min(channels)
    pixels = np.asarray(image[rows, cols, first : max(channels) + 1])
    return [pixels[..., index - first] for index in channels]
