"""Pixels of a labels layer that people change themselves, with napari's brush or with its undo."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..history import Change
from ..planes import plane_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.components import Dims
    from napari.layers import Labels
    from numpy.typing import NDArray

    from ..planes import SliceKey

REMEMBERED = 100
"""How many steps napari keeps of a layer's history."""
TRIED = 50
"""How many pixels of a step are looked at for one that it left with another id."""


@dataclass(frozen=True, eq=False)
class Edit:
    """One step of the layer's history, and a pixel that tells whether it is done: its place, and its id either way."""

    changes: list[Change]
    place: tuple[int | None, ...] | None = None
    former: int = 0
    now: int = 0

    @classmethod
    def of(cls, changes: list[Change]) -> Edit:
        """Find, in what was changed last, a pixel that has another id than before the first of the changes."""
        if not changes:
            return cls(changes)
        last = changes[-1]
        inside = np.flatnonzero(last.where)
        for at in inside[:: len(inside) // TRIED + 1]:
            row, col = divmod(int(at), last.where.shape[1])
            now = int(last.ids[row, col])
            row, col = row + last.box[0], col + last.box[1]
            former = next(old for change in changes if (old := _former_of(change, last.key, row, col)) is not None)
            if former != now:
                return cls(changes, (*last.key.index[:-2], row, col), former, now)
        return cls(changes)

    def turned(self) -> list[Change]:
        """Return the changes that take it back."""
        return [replace(change, ids=change.former, former=change.ids) for change in reversed(self.changes)]


class HandEdits:
    """Tells what is changed in a labels layer by others than us.

    napari tells of what is painted, but not of what its own undo and redo change. It has one history for all, ours as
    well, and the last step of it either still stands or does not: a look at one pixel shows that. Nor does it tell when
    a script writes into the array itself; but then the script has to refresh the layer.

    Parameters
    ----------
    layer
        The layer.
    dims
        What the viewer shows of it: that another slice is shown refreshes the layer, too.
    on_edited
        Called after pixels have changed, with what changed; None if nobody can tell.
    on_refreshed
        Called after the layer was refreshed for no reason that is known: pixels may have changed.
    """

    def __init__(
        self,
        layer: Labels,
        dims: Dims,
        on_edited: Callable[[list[Change] | None], None],
        on_refreshed: Callable[[], None],
    ) -> None:
        self._layer, self._dims, self._on_edited, self._tell_refreshed = layer, dims, on_edited, on_refreshed
        self._is_ours = False
        self._data, self._place = layer.data, self._shown_place()
        self._done: deque[Edit] = deque(maxlen=REMEMBERED)
        self._undone: list[Edit] = []
        for event, answer in self._connections():
            event.connect(answer)

    def stop(self) -> None:
        """Leave the layer alone."""
        for event, answer in self._connections():
            event.disconnect(answer)

    @contextmanager
    def ours(self) -> Iterator[None]:
        """Tell of nothing that is written inside."""
        before, self._is_ours = self._is_ours, True
        try:
            yield
        finally:
            self._is_ours = before

    def _connections(self) -> list[tuple[Any, Callable[..., None]]]:
        events = self._layer.events
        return [
            (events.paint, self._on_paint),
            (events.data, self._on_replaced),
            (events.set_data, self._on_refreshed),
            (events.visible, self._tell_refreshed),  # a hidden layer is not refreshed
        ]

    def _on_paint(self, event: Any) -> None:
        try:
            changes = [change for atom in event.value for change in _changes_of(atom)]
        except (AttributeError, IndexError, TypeError, ValueError):  # how napari notes them is its own affair
            self._on_replaced()
            return
        self._done.append(Edit.of(changes))
        self._undone.clear()
        if changes and not self._is_ours:
            self._on_edited(changes)

    def _on_replaced(self) -> None:
        self._data = self._layer.data
        self._done.clear()
        self._undone.clear()
        if not self._is_ours:
            self._on_edited(None)

    def _on_refreshed(self) -> None:
        """Find out why: another array, another slice, napari's own undo or redo, or nobody knows."""
        if self._layer.data is not self._data:
            return  # which napari tells next
        place, former = self._shown_place(), self._place
        self._place = place
        is_known = self._is_ours or place != former
        if not self.catch_up() and not is_known:
            self._tell_refreshed()

    def catch_up(self) -> bool:
        """Tell of what napari's own undo and redo have changed; False if nothing. Of a hidden layer nobody tells us."""
        if self._layer.data is not self._data:
            return False
        has_changed = False
        while self._done and self._holds(self._done[-1], self._done[-1].former):
            edit = self._done.pop()
            self._undone.append(edit)
            self._on_edited(edit.turned())
            has_changed = True
        while self._undone and self._holds(self._undone[-1], self._undone[-1].now):
            edit = self._undone.pop()
            self._done.append(edit)
            self._on_edited(edit.changes)
            has_changed = True
        return has_changed

    def _shown_place(self) -> tuple[Any, ...]:
        dims = self._dims
        return tuple(dims.point), tuple(dims.order), dims.ndisplay

    def _holds(self, edit: Edit, object_id: int) -> bool:
        return edit.place is not None and int(self._layer.data[edit.place]) == object_id


def _former_of(change: Change, key: SliceKey, row: int, col: int) -> int | None:
    """Return the id that a pixel had before a change, None if that did not change it."""
    row0, col0, row1, col1 = change.box
    if change.key != key or not (row0 <= row < row1 and col0 <= col < col1) or not change.where[row - row0, col - col0]:
        return None
    return int(change.former[row - row0, col - col0])


def _changes_of(atom: Any) -> Iterator[Change]:
    """Yield what one entry of napari's history changed, plane by plane of the last two axes.

    An entry is (slices, mask, old values, new value) for what was painted, and (indices, old values, new values) for
    what was set pixel by pixel.
    """
    if hasattr(atom, "slice_key"):
        shape = tuple(part.stop - part.start for part in atom.slice_key)
        where = np.ones(shape, bool) if atom.mask is None else atom.mask
        former = np.zeros(shape, np.asarray(atom.old_values).dtype)
        former[where] = np.ravel(atom.old_values)
        ids = np.full(shape, atom.new_value)
        start = tuple(part.start for part in atom.slice_key)
        yield from _by_plane(start, where, ids, former)
        return
    indices, old, new = atom
    places = np.array([np.ravel(index) for index in indices])
    is_one_plane = (places[:-2] == places[:-2, :1]).all()
    for position in (places[:-2, :1] if is_one_plane else np.unique(places[:-2], axis=1)).T:
        here = (places[:-2] == position[:, None]).all(axis=0)
        rows, cols = places[-2:, here]
        start = (*map(int, position), int(rows.min()), int(cols.min()))
        shape = (*(1 for _ in position), int(rows.max()) - start[-2] + 1, int(cols.max()) - start[-1] + 1)
        where, former = np.zeros(shape, bool), np.zeros(shape, np.asarray(old).dtype)
        ids = np.zeros(shape, np.asarray(new).dtype)
        at = (*(0 for _ in position), rows - start[-2], cols - start[-1])
        where[at], former[at] = True, np.broadcast_to(old, here.shape)[here]
        ids[at] = np.broadcast_to(new, here.shape)[here]
        yield from _by_plane(start, where, ids, former)


def _by_plane(
    start: tuple[int, ...], where: NDArray[np.bool_], ids: NDArray[Any], former: NDArray[Any]
) -> Iterator[Change]:
    row, col = start[-2:]
    box = row, col, row + where.shape[-2], col + where.shape[-1]
    for offset in np.ndindex(where.shape[:-2]):
        if where[offset].any():
            position = tuple(first + step for first, step in zip(start[:-2], offset, strict=True))
            yield Change(plane_at(position), box, where[offset], ids[offset], former[offset])
