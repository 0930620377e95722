"""The preview: pending masks on the canvas, painted in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap

from ..planes import SliceKey
from .image_source import displayed_axes, full_resolution, placed_like

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from napari.components import Dims
    from napari.layers import Image
    from numpy.typing import NDArray

    from ..geometry import Box
    from ..masks import Mask

ACTIVE, OTHER, HOVER = 1, 2, 3
PREVIEW_COLOURS = {0: "transparent", ACTIVE: "#2aa8ff", OTHER: "#9a7bff", HOVER: "#8fe3ff", None: "transparent"}


class Preview:
    """The layer that shows pending masks: one plane, 8 bit, painted in place and uploaded only where it changed."""

    def __init__(self, image: Image, dims: Dims) -> None:
        self._image, self._dims = image, dims
        self._key: SliceKey | None = None
        self._painted: list[tuple[Mask, int]] = []
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
            # Not `np.zeros`: its memory comes when it is first written, 10 ms for a press on a large image.
            self.layer.data = np.full(sides, 0, np.uint8)
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

    def paint(self, masks: Sequence[tuple[Mask, bool]], hover: Mask | None = None) -> None:
        """Show these masks (mask, whether its object is the active one), below them `hover`, and nothing else."""
        if self._key is None:
            return
        plane = SliceKey(self._key.displayed, tuple(None if at is None else 0 for at in self._key.index)).plane_of(
            self.layer.data
        )
        layers = [(mask, ACTIVE if is_active else OTHER) for mask, is_active in masks]
        layers = sorted(layers, key=lambda pair: -pair[1])  # the active one on top
        if hover is not None:
            layers.insert(0, (hover, HOVER))
        old, self._painted = self._painted, layers
        # Of hundreds of objects each is answered by itself: to paint them all each time would hold up the event loop.
        boxes = {mask.bbox for mask, _ in set(old) ^ set(layers) if mask.area}
        for box in boxes:
            self._repaint(plane, box)
        self._upload(plane, boxes)

    def _repaint(self, plane: NDArray[np.uint8], box: Box) -> None:
        """Paint one box of the plane anew."""
        row0, col0, row1, col1 = box
        plane[row0:row1, col0:col1] = 0
        for mask, value in self._painted:
            top, left, bottom, right = mask.bbox
            first, last = (max(row0, top), max(col0, left)), (min(row1, bottom), min(col1, right))
            if first[0] < last[0] and first[1] < last[1]:
                crop = mask.crop[first[0] - top : last[0] - top, first[1] - left : last[1] - left]
                plane[first[0] : last[0], first[1] : last[1]][crop] = value

    def _upload(self, plane: NDArray[np.uint8], boxes: Collection[Box]) -> None:
        """Send some boxes of the plane to the canvas, in place of the whole plane.

        napari takes none in 3D, nor of a plane whose axes are those that it showed before.
        """
        if not (boxes and self.layer.visible and self.layer.loaded):
            return
        is_shown = self._key is not None and displayed_axes(self.layer, self._dims) == self._key.displayed
        if self._dims.ndisplay != 2 or not is_shown:
            self.layer.refresh()
            return
        for row0, col0, row1, col1 in boxes:
            self.layer.events.labels_update(data=plane[row0:row1, col0:col1].copy(), offset=[row0, col0])
