"""A journal gone through again: the labels that it leads to, and the steps that led there, to be taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .history import Patch, Step
from .journal_format import base_painted, change_painted, classes_of_json, put_objects, slice_of_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .journal import Recorded
    from .journal_format import Json
    from .objects import ObjectClass, ObjectRecord

    RecordChanges = dict[int, tuple[ObjectRecord | None, ObjectRecord | None]]


class Replay:
    """What an earlier annotation did, once it is painted.

    `steps` are those that could be undone at its end, the first one first; what had been undone is not among them.
    `records` are what is known of the objects, `classes` all classes.

    Parameters
    ----------
    recorded
        The journal, which was checked.
    with_base
        Whether to write what the labels held before the annotation began, too.
    """

    def __init__(self, recorded: Recorded, *, with_base: bool) -> None:
        self._recorded, self._with_base = recorded, with_base
        self.steps: list[Step] = []
        self.records: dict[int, ObjectRecord] = {}
        self.classes: tuple[ObjectClass, ...] = classes_of_json(recorded.header["classes"])
        self._undone: list[Step] = []

    def paint(self, data: NDArray[np.integer]) -> None:
        """Write all that was committed into `data`, of the labels' shape and with room for every id."""
        mode = self._recorded.header["mode"]
        for entry in self._recorded.entries:
            if entry.get("mode", mode) != mode:  # for what was done before, there was no way back
                mode = entry["mode"]
                self.steps.clear()
            if self._with_base:
                base_painted(entry, data)
            patches = tuple(_painted_patch(change, data) for change in entry.get("changes", ()))
            self._note(Step(entry["kind"], {}, patches, self._put_objects(entry), self._put_classes(entry)))

    def _note(self, step: Step) -> None:
        if step.kind == "undo":
            self._undone += self.steps[-1:]
            del self.steps[-1:]
        elif step.kind == "redo" and self._undone:
            self.steps.append(self._undone.pop())
        elif step.kind not in ("edit", "end"):  # napari takes back what a brush did
            self.steps.append(step)
            self._undone.clear()

    def _put_objects(self, entry: Json) -> RecordChanges:
        before = {one["id"]: self.records.get(one["id"]) for one in entry.get("objects", ())}
        put_objects(entry, self.records)
        return {object_id: (record, self.records.get(object_id)) for object_id, record in before.items()}

    def _put_classes(self, entry: Json) -> tuple[tuple[ObjectClass, ...], tuple[ObjectClass, ...]] | None:
        if "classes" not in entry:
            return None
        before, self.classes = self.classes, classes_of_json(entry["classes"])
        return before, self.classes


def _painted_patch(change: Json, data: NDArray[Any]) -> Patch:
    row0, col0, row1, col1 = change["box"]
    key = slice_of_json(change["slice"])
    plane = key.plane_of(data)[row0:row1, col0:col1]
    before = plane.copy()
    change_painted(change, data)
    return Patch(key, (row0, col0, row1, col1), before, plane.copy())
