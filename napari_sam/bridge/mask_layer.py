"""Masks on the canvas: the preview, painted in place, and the labels, written with the layer's own history."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap

from ..errors import LabelsError
from .image_source import SliceKey, full_resolution, placed_like

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari.layers import Image
    from numpy.typing import NDArray

    from ..geometry import Box
    from ..masks import Mask

ACTIVE, OTHER = 1, 2
PREVIEW_COLOURS = {0: "transparent", ACTIVE: "#2aa8ff", OTHER: "#9a7bff", None: "transparent"}


class Preview:
    """The layer that shows pending masks: one plane, 8 bit, painted in place and uploaded only where it changed."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._key: SliceKey | None = None
        self._painted: list[Box] = []
        self.layer = Labels(
            np.zeros((1,) * image.ndim, np.uint8),
            name=f"{image.name} preview",
            opacity=0.55,
            colormap=DirectLabelColormap(color_dict=PREVIEW_COLOURS),
            **placed_like(image),
        )
        self.layer.editable = False

    def move_to(self, key: SliceKey) -> None:
        """Cover another plane of the image, empty."""
        self.paint([])  # where it was painted, in the plane that is left
        shape = full_resolution(self._image).shape
        sides = tuple(shape[axis] if at is None else 1 for axis, at in enumerate(key.index))
        if sides != self.layer.data.shape:
            self.layer.data = np.zeros(sides, np.uint8)
        self._key = key
        self.place()

    def place(self) -> None:
        """Take the image's place in the world, moved to the plane that is shown."""
        for name, value in placed_like(self._image).items():
            setattr(self.layer, name, value)
        if self._key is not None:
            offset = np.array([0 if at is None else at for at in self._key.index], float)
            # Rotation and shear act on the data first, a layer's own affine comes after its translation.
            shift = np.subtract(self._image.data_to_world(offset), self._image.data_to_world(np.zeros(len(offset))))
            self.layer.translate = self._image.translate + np.linalg.solve(self._image.affine.linear_matrix, shift)

    def paint(self, masks: Sequence[tuple[Mask, bool]]) -> None:
        """Show these masks (mask, whether its object is the active one) and nothing else."""
        if self._key is None:
            return
        plane = SliceKey(self._key.displayed, tuple(None if at is None else 0 for at in self._key.index)).plane_of(
            self.layer.data
        )
        old, self._painted = self._painted, [mask.bbox for mask, _ in masks if mask.area]
        for row0, col0, row1, col1 in old:
            plane[row0:row1, col0:col1] = 0
        for mask, is_active in sorted(masks, key=lambda pair: pair[1]):
            row0, col0, row1, col1 = mask.bbox
            plane[row0:row1, col0:col1][mask.crop] = ACTIVE if is_active else OTHER
        for box in dict.fromkeys(old + self._painted):
            self._upload(plane, box)

    def _upload(self, plane: NDArray[np.uint8], box: Box) -> None:
        """Send one box of the plane to the canvas, in place of the whole plane."""
        row0, col0, row1, col1 = box
        if self.layer.visible and self.layer.loaded:
            self.layer.events.labels_update(data=plane[row0:row1, col0:col1].copy(), offset=[row0, col0])


class LayerCanvas:
    """A labels layer as the place where objects are written."""

    def __init__(self, layer: Labels, is_ours: bool) -> None:
        self.layer = layer
        self._is_ours = is_ours
        self._largest: int | None = None
        layer.events.paint.connect(self._on_pixels_changed)
        layer.events.data.connect(self._on_pixels_changed)

    def read(self, key: SliceKey, box: Box) -> NDArray[np.integer]:
        """Return the ids inside a half-open box of a plane."""
        row0, col0, row1, col1 = box
        ids = np.asarray(key.plane_of(self.layer.data)[row0:row1, col0:col1])
        if ids.shape != (row1 - row0, col1 - col0):
            raise LabelsError(
                f"labels layer {self.layer.name!r} no longer has the image's shape: choose another, or a new one"
            )
        return ids

    def write(self, key: SliceKey, box: Box, where: NDArray[np.bool_], object_id: int) -> None:
        """Give the pixels `where` inside a box of a plane an id, as an edit that napari can undo too."""
        self._make_room(object_id)
        rows, cols = np.nonzero(where)
        self.layer.data_setitem(key.coordinates(rows + box[0], cols + box[1]), object_id)
        self._largest = None if self._largest is None else max(self._largest, object_id)

    def next_id(self) -> int:
        """Return one more than the largest id in the layer, or that was written into it."""
        if self._largest is None:
            self._largest = int(np.max(self.layer.data, initial=0))
        return self._largest + 1

    @contextmanager
    def one_step(self) -> Iterator[None]:
        """Group writes into one step of the layer's own history; we know of the ids that we write ourselves."""
        with self.layer.events.paint.blocker(self._on_pixels_changed), self.layer.block_history():
            yield

    def release(self) -> None:
        """Stop listening to the layer."""
        self.layer.events.paint.disconnect(self._on_pixels_changed)
        self.layer.events.data.disconnect(self._on_pixels_changed)

    def _on_pixels_changed(self) -> None:
        self._largest = None

    def _make_room(self, object_id: int) -> None:
        """Widen our own layer when an id does not fit its type; a layer of the user's is not changed."""
        limit = np.iinfo(self.layer.data.dtype).max
        if object_id <= limit:
            return
        if not self._is_ours:
            raise LabelsError(
                f"labels layer {self.layer.name!r} holds ids up to {limit}, the next object is {object_id}: convert it "
                "to a wider type, for example `layer.data = layer.data.astype('uint32')`"
            )
        self.layer.data = self.layer.data.astype(np.uint32)


def new_labels(image: Image) -> Labels:
    """Return an empty labels layer of the image's shape, in its place."""
    shape = full_resolution(image).shape[: image.ndim]
    return Labels(np.zeros(shape, np.uint16), name=f"{image.name} objects", **placed_like(image))


def check_labels(layer: Any, image: Image) -> None:
    """Raise `LabelsError` unless masks of `image` can be written into `layer`."""
    if not isinstance(layer, Labels):
        raise LabelsError(f"{layer!r} is no labels layer: give one, or None for a new one")
    shape = tuple(full_resolution(image).shape[: image.ndim])
    if layer.multiscale or not isinstance(layer.data, np.ndarray):
        raise LabelsError(f"labels layer {layer.name!r} is a pyramid or not in memory: give one with a numpy array")
    if layer.data.shape != shape:
        raise LabelsError(
            f"labels layer {layer.name!r} has shape {layer.data.shape}, image {image.name!r} has {shape}: give one "
            "alike, or None for a new one"
        )
    corners = np.vstack([np.zeros(layer.ndim), np.eye(layer.ndim)])
    if not all(np.allclose(image.world_to_data(layer.data_to_world(corner)), corner) for corner in corners):
        raise LabelsError(
            f"labels layer {layer.name!r} lies elsewhere than image {image.name!r}: give both the same scale "
            "and translate"
        )
