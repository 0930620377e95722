"""Objects that were committed and are open again: pending ones whose key says which they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from .errors import LabelsError
from .geometry import Frame, whole
from .masks import Mask, MaskResult
from .pending import Answer, PendingObject

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from .ledger import Ledger
    from .slices import Slices

REOPENED = "reopened"
LOGITS_SIDE = 256
"""Longest side of the low-resolution logits that stand for what was committed."""


def key_of(object_id: int) -> tuple[str, int]:
    """Return the key under which a committed object is pending again."""
    return REOPENED, int(object_id)


def is_reopened(key: Hashable) -> TypeGuard[tuple[str, int]]:
    """Whether the key of an object says that it was committed before, as (REOPENED, id)."""
    return isinstance(key, tuple) and key[0] == REOPENED


class Reopening:
    """Opens committed objects again, and closes them.

    Parameters
    ----------
    slices
        Where they are pending.
    ledger
        What was committed.
    forget
        Called with the key of an object that is closed, so that nothing is asked about it any more.
    change_rows
        Called with prompts to put, by their id, None for one that goes.
    """

    def __init__(
        self,
        slices: Slices,
        ledger: Ledger,
        forget: Callable[[Hashable], None],
        change_rows: Callable[[dict[int, Any]], None],
    ) -> None:
        self._slices, self._ledger, self._forget, self._change_rows = slices, ledger, forget, change_rows

    def open(self, object_id: int) -> None:
        """Open an object in the slice shown, and put back the prompts that it was committed with there, as one step.

        Raises
        ------
        LabelsError
            The slice shown has no pixel of it.
        """
        key, state = key_of(object_id), self._slices.shown
        if state is None or (record := self.as_it_is(key)) is None:
            raise LabelsError(f"object {object_id} has no pixel in the slice shown: go to a slice that shows it")
        self._slices.active = key
        if key in state.objects:
            return
        state.objects[key] = record
        known = self._ledger.piece(object_id, state.source.key).rows
        rows = {row_id: row.owned_by(key) for row_id, row in known.items() if row_id not in self._slices.rows}
        self._ledger.note_prompts({row_id: (None, row) for row_id, row in rows.items()}, (object_id, state.source.key))
        if rows:
            self._change_rows(dict(rows))

    def turn(self, object_id: int, slice_key: Hashable, *, close: bool) -> None:
        """Undo or redo the opening of an object in a slice; where there is a slice that still knows of it."""
        key = key_of(object_id)
        if (state := self._slices.get(slice_key)) is None:
            return
        if close:
            self._forget(key)
            state.objects.pop(key, None)
        elif state is self._slices.shown and key not in state.objects and (record := self.as_it_is(key)) is not None:
            state.objects[key] = record

    def close_all(self) -> None:
        """Close what is open, its prompts go too: the labels that it came from are others now."""
        for state in self._slices:
            state.objects = {key: record for key, record in state.objects.items() if record.object_id is None}
        gone = {row_id for row_id, row in self._slices.rows.items() if is_reopened(row.owner)}
        self._ledger.history.fold(self._slices.rows.keys() - gone)
        self._change_rows(dict.fromkeys(gone))

    def begin(self, key: Hashable) -> PendingObject:
        """Return what is to be pending under `key`: a committed object as it is now, or one that has no pixel here."""
        try:
            record = self.as_it_is(key)
        except LabelsError:  # the image has another shape by now, as a commit will say
            record = None
        return record or PendingObject(object_id=key[1] if is_reopened(key) else None)

    def as_it_is(self, key: Hashable) -> PendingObject | None:
        """Return the committed object that `key` names, as it is in the slice shown, edits by hand included.

        None if it is not there. Until something else is asked about it, it counts as answered.
        """
        state = self._slices.shown
        if state is None or not is_reopened(key) or key[1] < 1:
            return None
        _, object_id = key
        source = state.source
        box = whole(source.shape)
        pixels = self._ledger.canvas.read(source.key, box) == object_id
        if not pixels.any():
            return None
        mask = Mask.of_pixels(pixels, Frame(source.shape, box, 4 * LOGITS_SIDE))
        piece = self._ledger.piece(object_id, source.key)
        score = 1.0 if piece.score is None else piece.score
        shown = Answer(piece.prompts, MaskResult((mask,), np.array([score], np.float32)), 0)
        return PendingObject(answer=shown, object_id=object_id, opened=shown)
