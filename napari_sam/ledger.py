"""The labels, what is known of their objects, and the history of both.

Whatever changes pixels or classes goes through here, each time whole or not at all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .errors import LabelsError
from .history import Change, History, LabelCanvas, Patch, Step, all_or_nothing
from .objects import (
    CLASS_COLOURS,
    LabelledObject,
    Mode,
    ObjectClass,
    ObjectRecord,
    Overlap,
    OverlapQuestion,
    Piece,
    Wanted,
    class_of,
    tabulate,
)
from .planes import count

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from .prompt_rows import PromptRow, Rows

    RowChanges = Mapping[int, tuple[PromptRow | None, PromptRow | None]]
    Listener = Callable[[str, Step, list[Change]], None]


class Ledger:
    """What has been written, and how to take it back.

    Parameters
    ----------
    canvas
        Where objects are written.
    on_step
        Called after pixels or classes have changed: with what was done ("commit", "delete", "class", "undo", "redo"),
        the step that did it or that was turned round, and the pixels that did change.
    """

    def __init__(self, canvas: LabelCanvas, on_step: Listener) -> None:
        self.canvas, self._on_step = canvas, on_step
        self.history = History()
        self.records: dict[int, ObjectRecord] = {}
        self.classes: tuple[ObjectClass, ...] = ()
        self.mode = Mode.INSTANCE
        self._current = ""
        self._values = 0
        self._is_closed = False

    # What there is

    @property
    def current_class(self) -> str:
        """The class of what is committed next, "" for none."""
        return self._current if self.find_class(self._current) else ""

    @current_class.setter
    def current_class(self, name: str) -> None:
        self._current = name

    def find_class(self, name: str) -> ObjectClass | None:
        """Return the class of that name, None if there is none."""
        return next((one for one in self.classes if one.name == name), None)

    def class_of(self, object_id: int) -> str:
        """Return the name of an object's class, "" for none."""
        return class_of(object_id, self.records, self.classes, self.mode)

    def piece(self, object_id: int, key: Hashable) -> Piece:
        """Return how an object came to be in a slice."""
        return self.records.get(object_id, ObjectRecord()).pieces.get(key, Piece())

    def objects(self) -> dict[int, LabelledObject]:
        """Return every object that has a pixel, by id in rising order."""
        return tabulate(self.canvas.areas(), self.records, self.classes, self.mode)

    def question(self, key: Hashable, wanted: Iterable[Wanted]) -> OverlapQuestion | None:
        """Return which earlier objects masks in the slice `key` would meet, None if none."""
        met: dict[int, int] = {}
        for one in wanted:
            ids = self.canvas.read(key, one.mask.bbox)
            for object_id, pixels in count(ids[one.mask.crop & (ids != (self._id_of(one) or 0))]).items():
                met[object_id] = met.get(object_id, 0) + pixels
        return OverlapQuestion(tuple(sorted(met)), sum(met.values())) if met else None

    # What can be done

    def note_prompts(self, rows: RowChanges, opened: tuple[int, Hashable] | None = None) -> None:
        """Note an edit of prompts as a step, perhaps one that re-opened an object in a slice."""
        self.history.push(Step("prompts", rows, opened=opened))

    def commit(
        self, key: Hashable, wanted: Mapping[Hashable, Wanted], overlap: Overlap, rows: Rows
    ) -> dict[Hashable, int]:
        """Write masks into the slice `key` as one step, and return the ids of those that were written, by name.

        What would change no pixel is not written, but one that was re-opened and is as it was counts as written. `rows`
        are all prompts there are: the edits of those that were written are folded into this step.
        """
        written: dict[Hashable, int] = {}
        with all_or_nothing(self.canvas) as writing:
            for name, one in wanted.items():
                object_id = self._id_of(one) or self.canvas.next_id()
                if one.is_as_it_was:  # and what a brush did to it since stays, too
                    written[name] = object_id
                    continue
                patch = self._patch(key, object_id, one, overlap)
                if not patch.is_empty:
                    writing.turn(patch)
                    written[name] = object_id
        if written:
            self.history.fold(rows.keys() - {row_id for name in written for row_id in wanted[name].rows})
        if writing.patches:
            records = self._records_with(key, {name: (object_id, wanted[name]) for name, object_id in written.items()})
            self._note(Step("commit", {}, tuple(writing.patches), records), writing.changes)
        return written

    def _patch(self, key: Hashable, object_id: int, one: Wanted, overlap: Overlap) -> Patch:
        takes_others = overlap is Overlap.REPLACE
        return Patch.of_mask(self.canvas, key, object_id, one.mask, is_whole=one.is_whole, takes_others=takes_others)

    def delete(self, object_id: int, rows: RowChanges) -> None:
        """Make an object's pixels background, in all slices; `rows` are prompts that go with it."""
        self.perform(Step("delete", rows, self._patches_to(object_id, 0), self._record_change(object_id, None)))

    def set_class(self, object_id: int, name: str, classes: tuple[ObjectClass, ...]) -> None:
        """Give an object a class out of `classes`, which are all there are from now on; "" is none.

        In semantic labels all its pixels take the value of that class.
        """
        change = (self.classes, classes)
        if self.mode is Mode.INSTANCE:
            record = replace(self.records.get(object_id, ObjectRecord()), class_name=name)
            return self.perform(Step("class", {}, (), self._record_change(object_id, record), change))
        value = next(one.value for one in classes if one.name == name)
        return self.perform(Step("class", {}, self._patches_to(object_id, value), {}, change))

    def set_classes(self, classes: tuple[ObjectClass, ...], renamed: Mapping[str, str]) -> None:
        """Put other classes in the place of those there are; objects of the `renamed` go with their class."""
        records = {
            object_id: (record, replace(record, class_name=renamed[record.class_name]))
            for object_id, record in self.records.items()
            if record.class_name in renamed
        }
        self.perform(Step("class", {}, (), records, (self.classes, classes)))

    def new_class(self, name: str, colour: str | None, value: int | None = None) -> ObjectClass:
        """Return a class with a value that no other class has had; it is not among `classes` yet."""
        self._values = max([self._values, *(one.value for one in self.classes)])
        if value is None:
            value = self._values = self._values + 1
        return ObjectClass(name, colour or CLASS_COLOURS[(value - 1) % len(CLASS_COLOURS)], value)

    def perform(self, step: Step) -> None:
        """Do a step for the first time; `LabelsError` if the annotation is closed."""
        if self._is_closed:
            raise LabelsError("this annotation is closed: annotate the image again to change its objects")
        changes = self._turn(step, back=False)
        self._note(step, changes, is_done=True)

    def undo(self) -> Step | None:
        """Take the last step back and return it, None if there is none."""
        if (step := self.history.last) is None:
            return None
        changes = self._turn(step, back=True)
        self.history.undo()
        if not step.is_of_prompts:
            self._on_step("undo", step, changes)
        return step

    def redo(self) -> Step | None:
        """Do the step again that was undone last, and return it, None if there is none."""
        if (step := self.history.next) is None:
            return None
        changes = self._turn(step, back=False)
        self.history.redo()
        if not step.is_of_prompts:
            self._on_step("redo", step, changes)
        return step

    def turn_to(self, canvas: LabelCanvas) -> None:
        """Write elsewhere from now on: what was written can no longer be taken back."""
        self.canvas, self.records = canvas, {}
        self.history.forget_objects()

    def restore(
        self, records: dict[int, ObjectRecord], classes: tuple[ObjectClass, ...], mode: Mode, steps: list[Step]
    ) -> None:
        """Take over what was known of the objects that the labels hold now, and the `steps` that led there."""
        self.records, self.classes, self.mode = records, classes, mode
        self.history.go_on_from(steps)
        if mode is Mode.SEMANTIC and not self.current_class and classes:
            self.current_class = classes[0].name

    def close(self) -> None:
        """Leave the labels as they are from now on."""
        self._is_closed = True
        self.history = History()

    # How it is done

    def _id_of(self, one: Wanted) -> int | None:
        if one.object_id is None and self.mode is Mode.SEMANTIC and (found := self.find_class(self.current_class)):
            return found.value
        return one.object_id

    def _turn(self, step: Step, *, back: bool) -> list[Change]:
        """Put pixels, records and classes as they were before or after a step; all or nothing."""
        with all_or_nothing(self.canvas) as writing:
            for patch in reversed(step.patches) if back else step.patches:
                writing.turn(patch, back=back)
        self._put(step, back=back)
        return writing.changes

    def _put(self, step: Step, *, back: bool) -> None:
        for object_id, (before, after) in step.records.items():
            if (record := before if back else after) is None:
                self.records.pop(object_id, None)
            else:
                self.records[object_id] = record
        if step.classes is not None:
            self.classes = step.classes[0 if back else 1]

    def _note(self, step: Step, changes: list[Change], *, is_done: bool = False) -> None:
        if not is_done:
            self._put(step, back=False)
        self.history.push(step)
        self._on_step(step.kind, step, changes)

    def _patches_to(self, object_id: int, new_id: int) -> tuple[Patch, ...]:
        places = self.canvas.places(object_id)
        return tuple(Patch.of_id(self.canvas, key, box, object_id, new_id) for key, box in places)

    def _record_change(
        self, object_id: int, after: ObjectRecord | None
    ) -> dict[int, tuple[ObjectRecord | None, ObjectRecord | None]]:
        before = self.records.get(object_id)
        return {} if before is after is None else {object_id: (before, after)}

    def _records_with(
        self, key: Hashable, written: Mapping[Hashable, tuple[int, Wanted]]
    ) -> dict[int, tuple[ObjectRecord | None, ObjectRecord | None]]:
        """Return how the records change when objects were written into the slice `key`."""
        after: dict[int, ObjectRecord] = {}
        for object_id, one in written.values():
            if one.is_as_it_was:
                continue
            record = after.get(object_id) or self.records.get(object_id)
            if record is None:
                record = ObjectRecord(self.current_class if one.object_id is None else "")
            after[object_id] = record.with_piece(key, one.piece)
        return {object_id: (self.records.get(object_id), record) for object_id, record in after.items()}
