"""Which plane of an image layer is shown, and how its pixels are reached without reading them here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from napari.layers import Image

from ..image_input import SharedLimits
from ..journal_format import Identified
from ..pending import ImageSource
from ..planes import SliceKey

if TYPE_CHECKING:
    from napari.components import Dims, ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray

TURNED = 1e-5
"""Pixels by which a pixel on the screen may lead out of a plane: less than rounding over any image."""

PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
"""What says where a layer lies in the world, and the events that tell of it."""

OURS = "napari-sam-live"
"""Key in the metadata of a picture that we show of an image, which nobody annotates."""


def images_of(viewer: ViewerModel) -> list[Image]:
    """Return the images of a viewer that may be annotated, in the order of its layers."""
    return [layer for layer in viewer.layers if is_image(layer)]


def is_image(layer: Layer) -> TypeGuard[Image]:
    """Whether a layer is an image that was opened, and not a picture that we show of one."""
    return isinstance(layer, Image) and OURS not in layer.metadata


class LazyPlane:
    """A plane of an array that is read only where and when it is sliced; looks like the plane itself, (h, w, ...)."""

    def __init__(self, data: Any, key: SliceKey) -> None:
        self._data, self._key = data, key
        channels = tuple(data.shape[len(key.index) :])
        self.shape = (data.shape[key.displayed[0]], data.shape[key.displayed[1]], *channels)
        self.dtype = np.dtype(data.dtype)
        self.ndim = len(self.shape)

    def __getitem__(self, window: tuple[slice, ...]) -> NDArray[Any]:
        """Read the rows, columns and, if given, channels of `window`."""
        key = self._key
        index = tuple(window[key.displayed.index(axis)] if at is None else at for axis, at in enumerate(key.index))
        plane = np.asarray(self._data[index + window[2:]])
        return plane.swapaxes(0, 1) if key.is_transposed else plane


def full_resolution(layer: Layer) -> Any:
    """Return a layer's data, its finest level if it is a pyramid; a numpy array where numpy does not know its type."""
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    try:
        np.dtype(data.dtype)
    except TypeError:
        return np.asarray(data)
    return data


def shown_slice(layer: Layer, dims: Dims) -> SliceKey | None:
    """Return which plane of `layer` the viewer shows; None in 3D, beside the layer, and where it is cut at an angle."""
    if dims.ndisplay != 2 or is_cut_at_an_angle(layer, dims):
        return None
    displayed = displayed_axes(layer, dims)
    position = np.round(layer.world_to_data(dims.point)).astype(int)
    index = tuple(None if axis in displayed else int(at) for axis, at in enumerate(position))
    shape = full_resolution(layer).shape
    is_beside = any(at is not None and not 0 <= at < shape[axis] for axis, at in enumerate(index))
    return None if is_beside else SliceKey(displayed, index)


def is_cut_at_an_angle(layer: Layer, dims: Dims) -> bool:
    """Whether what the viewer shows in 2D lies in no plane of `layer`, which is turned out of it.

    napari shows the plane that it would be without the turn, and takes the mouse for being where it is with it.
    """
    if dims.ndisplay != 2:
        return False
    hidden = [axis for axis in range(layer.ndim) if axis not in displayed_axes(layer, dims)]
    steps = np.eye(dims.ndim)[list(dims.displayed)]
    moved = np.array([layer.world_to_data(step) for step in steps]) - layer.world_to_data(np.zeros(dims.ndim))
    return bool((np.abs(moved[:, hidden]) > TURNED * np.abs(moved).max()).any())


def displayed_axes(layer: Layer, dims: Dims) -> tuple[int, int]:
    """Return the axes of `layer` that are (rows, columns) in 2D."""
    order = np.array(dims.order)
    order = order[order >= dims.ndim - layer.ndim] - (dims.ndim - layer.ndim)
    return int(order[-2]), int(order[-1])


def identified(layer: Image) -> Identified:
    """Return by what a journal will know the image again."""
    return Identified(full_resolution(layer), layer.ndim, layer.name, layer.source.path)


def image_source(layer: Image, key: SliceKey, limits: SharedLimits | None, identity: Identified) -> ImageSource:
    """Freeze what the worker needs to know of a plane of `layer`."""
    data = full_resolution(layer)
    pixels = key.plane_of(data) if isinstance(data, np.ndarray) else LazyPlane(data, key)
    return ImageSource(key, pixels, limits, identity)


def shared_limits(layer: Image) -> SharedLimits | None:
    """Return limits for all planes of a stack, so that they look alike; None for one plane, and for colour pictures."""
    return None if layer.ndim < 3 or layer.rgb else SharedLimits(full_resolution(layer))


def placed_like(layer: Layer) -> dict[str, Any]:
    """Return the arguments that give another layer of the same dimensions the place of `layer` in the world."""
    return {name: getattr(layer, name) for name in PLACE}


def unwrapped(thing: Any) -> Any:
    """Return what napari's proxy for plugins stands for: a proxied layer is never identical with itself."""
    return getattr(thing, "__wrapped__", thing)
