"""A labels layer as the place where objects are written, with the layer's own history."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels

from ..errors import LabelsError
from ..export import Grid
from ..history import NO_BOX, box_round
from ..planes import Census, plane_at
from .hand_edits import HandEdits
from .image_source import full_resolution, is_cut_at_an_angle, placed_like

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.components import Dims
    from napari.layers import Image
    from numpy.typing import NDArray

    from ..geometry import Box
    from ..history import Change
    from ..planes import Position, SliceKey


class LayerCanvas:
    """A labels layer as the place where objects are written.

    Parameters
    ----------
    layer
        The layer.
    image
        The image whose objects they are; once it has another shape, nothing is read or written any more.
    dims
        What the viewer shows of it.
    is_new
        Whether nothing has been written into it yet.
    may_widen
        Whether it may be given another type when the ids need one.
    """

    def __init__(self, layer: Labels, image: Image, dims: Dims, *, is_new: bool, may_widen: bool) -> None:
        self.layer, self._image, self._dims = layer, image, dims
        self._may_widen = may_widen
        self.was_empty = is_new or not np.any(layer.data)
        self._largest, self._is_largest_known = 0, is_new
        self._census = Census(is_empty=is_new)
        self._edits = HandEdits(layer, dims, self._on_edited, self._on_refreshed)
        self.on_edited: Callable[[list[Change] | None], None] = lambda _changes: None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the labels."""
        return tuple(self.layer.data.shape)

    @property
    def grid(self) -> Grid:
        """How the layer's axes lie in the world."""
        layer = self.layer
        return Grid(tuple(layer.axis_labels), tuple(map(float, layer.scale)), tuple(map(str, layer.units)))

    def box_of(self, key: SliceKey) -> Box:
        """Return the box of a whole plane."""
        rows, cols = key.displayed
        return 0, 0, int(self.layer.data.shape[rows]), int(self.layer.data.shape[cols])

    def restore(self, paint: Callable[[NDArray[np.integer]], object], largest: int) -> None:
        """Let `paint` change any ids of the layer in place, to such up to `largest`; napari cannot undo that."""
        was_empty = self.was_empty and not self.areas()
        self._make_room(largest)
        data = self.layer.data
        paint(data)
        self.layer.data = data  # tells everybody
        self._largest = max(self._largest, largest)
        self.was_empty = was_empty

    def read(self, key: SliceKey, box: Box) -> NDArray[np.integer]:
        """Return the ids inside a half-open box of a plane."""
        row0, col0, row1, col1 = box
        if self.layer.data.shape != labels_shape(self._image):
            raise LabelsError(
                f"labels layer {self.layer.name!r} no longer has the image's shape: choose another, or a new one"
            )
        return np.asarray(key.plane_of(self.layer.data)[row0:row1, col0:col1])

    def write(self, key: SliceKey, box: Box, where: NDArray[np.bool_], ids: NDArray[np.integer]) -> None:
        """Give the pixels `where` inside a box of a plane the `ids` there, as an edit that napari can undo too."""
        new = ids[where]
        largest = int(new.max(initial=0))
        _check_writable(self.layer)
        self._make_room(largest)
        rows, cols = np.nonzero(where)
        at = key.coordinates(rows + box[0], cols + box[1])
        former = self.layer.data[at]
        try:
            with self._kept_from_view():
                self.layer.data_setitem(at, largest if (new == largest).all() else new)
        except IndexError:  # written, but not in the slice shown: none is, from new units to the next move of a slider
            self.layer.refresh()
        finally:  # whatever those do who listen to the layer
            self._note(key, former, self.layer.data[at])
            self._largest = max(self._largest, largest)

    @contextmanager
    def _kept_from_view(self) -> Iterator[None]:
        """Keep napari from writing elsewhere as well: it writes into the slice that it shows, too, a view of the data.

        Of a hidden layer that is an old one, and at an angle another one than it takes it for; contours are no view.
        """
        needs_contours = self.layer.contour == 0 and is_cut_at_an_angle(self.layer, self._dims)
        if needs_contours:
            self.layer.contour = 1
        if not self.layer.visible:
            self.layer.set_view_slice()
        try:
            yield
        finally:
            if needs_contours:
                self.layer.contour = 0

    def areas(self) -> dict[int, dict[Position, int]]:
        """Return the number of pixels of each object in each plane of the last two axes where it has some."""
        if not self.layer.visible:
            self._census.forget()  # of a hidden layer napari does not tell what its own undo changes
        return self._census.areas(self.layer.data)

    def places(self, object_id: int) -> list[tuple[SliceKey, Box]]:
        """Return the planes of the last two axes that hold an object, and its half-open box there."""
        boxes = ((at, box_round(self.layer.data[at] == object_id)) for at in self.areas().get(object_id, {}))
        return [(plane_at(at), box) for at, box in boxes if box != NO_BOX]

    def next_id(self) -> int:
        """Return one more than the largest id in the layer, or that was written into it."""
        if not self._is_largest_known:
            _check_writable(self.layer)
            self._largest = max(self._largest, int(np.max(self.layer.data, initial=0)))
            self._is_largest_known = True
        return self._largest + 1

    @contextmanager
    def one_step(self) -> Iterator[None]:
        """Group writes into one step of the layer's own history; we know of the ids that we write ourselves."""
        self.catch_up()
        with self._edits.ours(), self.layer.block_history():
            yield

    def catch_up(self) -> None:
        """Tell of what others have changed until now, where the layer is hidden and did not tell it itself."""
        self._edits.catch_up()

    def release(self) -> None:
        """Stop listening to the layer."""
        self._edits.stop()

    def _on_edited(self, changes: list[Change] | None) -> None:
        """Keep count of what others change."""
        if changes is None:
            self.was_empty = False
            self._on_refreshed()
        for change in changes or ():
            ids = change.ids[change.where]
            self._note(change.key, change.former[change.where], ids)
            self._largest = max(self._largest, int(ids.max()))
        self.on_edited(changes)

    def _on_refreshed(self) -> None:
        """Count anew when asked next: the array may have been changed behind the layer's back."""
        self._is_largest_known = False
        self._census.forget()

    def _note(self, key: SliceKey, lost: NDArray[np.integer], gained: NDArray[np.integer]) -> None:
        """Keep count of the objects' pixels."""
        before = self.layer.ndim - 2
        if set(key.displayed) == {before, before + 1}:
            self._census.note(tuple(int(at or 0) for at in key.index[:before]), lost, gained)
        else:
            self._census.forget()

    def _make_room(self, object_id: int) -> None:
        """Widen our own layer when an id does not fit its type; a layer of the user's is not changed."""
        limit = np.iinfo(self.layer.data.dtype).max
        if object_id <= limit:
            return
        if not self._may_widen:
            raise LabelsError(
                f"labels layer {self.layer.name!r} holds ids up to {limit}, the next object is {object_id}: convert it "
                "to a wider type, for example `layer.data = layer.data.astype('uint32')`"
            )
        self.layer.data = self.layer.data.astype(np.promote_types(np.uint32, np.min_scalar_type(object_id)))


def new_labels(image: Image) -> Labels:
    """Return an empty labels layer of the image's shape, in its place."""
    data = np.zeros(labels_shape(image), np.uint16)
    return Labels(data, name=f"{image.name} objects", **placed_like(image))


def labels_shape(image: Image) -> tuple[int, ...]:
    """Return the shape of labels for an image: its own, without channels."""
    return tuple(full_resolution(image).shape[: image.ndim])


def check_labels(layer: Any, image: Image) -> None:
    """Raise `LabelsError` unless masks of `image` can be written into `layer`."""
    check_alike(layer, image)
    _check_writable(layer)


def check_alike(layer: Any, image: Image) -> None:
    """Raise `LabelsError` unless `layer` is a labels layer of the shape of `image`, in its place."""
    if not isinstance(layer, Labels):
        raise LabelsError(f"{layer!r} is no labels layer: give one, or None for a new one")
    shape, its_own = labels_shape(image), tuple(full_resolution(layer).shape)
    if its_own != shape:
        raise LabelsError(
            f"labels layer {layer.name!r} has shape {its_own}, image {image.name!r} has {shape}: give one alike, or "
            "None for a new one"
        )
    corners = np.vstack([np.zeros(layer.ndim), np.eye(layer.ndim)])
    if not all(np.allclose(image.world_to_data(layer.data_to_world(corner)), corner) for corner in corners):
        raise LabelsError(
            f"labels layer {layer.name!r} lies elsewhere than image {image.name!r}: give both the same scale "
            "and translate"
        )


def _check_writable(layer: Labels) -> None:
    """Raise `LabelsError` unless pixels of `layer` can be changed where they are."""
    if layer.multiscale or not isinstance(layer.data, np.ndarray):
        raise LabelsError(f"labels layer {layer.name!r} is a pyramid or not in memory: give one with a numpy array")
    if not layer.data.flags.writeable:
        raise LabelsError(
            f"the array of labels layer {layer.name!r} is read-only: give it a copy, `layer.data = layer.data.copy()`"
        )
