"""Whatever people do in whatever order: the labels are what a simple model of them says, and so are the prompts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from fakes import PATIENCE, FakePredictor, disk
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from napari.components import ViewerModel

import napari_sam
from napari_sam.journal import read_journal
from napari_sam.prompt_rows import LOOSE
from napari_sam.reopening import REOPENED
from napari_sam.worker import ModelChoice

SHAPE = (2, 30, 44)
PLACES = st.tuples(st.integers(0, SHAPE[1] - 1), st.integers(0, SHAPE[2] - 1))
Row = tuple[int, int, int, Any]
"""Slice, row, column, and the object that it is about: LOOSE, or the id of one that is re-opened."""


@dataclass
class Done:
    """One step, each part as (before, after)."""

    rows: dict[int, tuple[Row | None, Row | None]] = field(default_factory=dict)
    pixels: list[tuple[Any, Any, Any]] = field(default_factory=list)  # (where, before, after) in the whole stack
    classes: dict[int, tuple[str, str]] = field(default_factory=dict)
    prompts: dict[tuple[int, int], tuple[list[Row], list[Row]]] = field(default_factory=dict)
    opened: tuple[int, int] | None = None
    is_deletion: bool = False

    @property
    def is_of_prompts(self) -> bool:
        return not (self.pixels or self.classes or self.prompts)


class Model:
    """What should be, without any thought of speed."""

    def __init__(self) -> None:
        self.labels = np.zeros(SHAPE, int)
        self.rows: dict[int, Row] = {}
        self.classes: dict[int, str] = {}
        self.prompts: dict[tuple[int, int], list[Row]] = {}
        self.opened: list[tuple[int, int]] = []
        self.touched: list[int] = []
        self.selected: int | None = None
        self.extended: set[int] = set()
        self.done: list[Done] = []
        self.undone: list[Done] = []
        self.z = 0
        self.count = 0

    def pending(self) -> set[Any]:
        """The objects that a commit would write: owners of rows here, and what is re-opened here."""
        owners = {row[3] for row in self.rows.values() if row[0] == self.z}
        return owners | {one for z, one in self.opened if z == self.z}

    def active(self) -> Any:
        return next((one for one in reversed(self.touched) if one in self.pending()), LOOSE)

    def settle(self) -> None:
        """An object with prompts here and pixels here is open here."""
        for row in self.rows.values():
            place = row[0], row[3]
            if row[0] == self.z and row[3] != LOOSE and place not in self.opened and self.has(*place):
                self.opened.append(place)

    def extends(self) -> int | None:
        """The id under which loose points are committed now, None for a new one."""
        if self.selected is None or self.active() != LOOSE or self.z in self.extended:
            return None
        return self.selected if (self.labels == self.selected).any() else None

    def note_selected(self, step: Done, *, back: bool) -> None:
        """Take in that pixels or classes have changed."""
        places = {z for object_id, z in step.prompts if object_id == self.selected and not step.is_deletion}
        self.extended = self.extended - places if back else self.extended | places
        if self.selected is not None and not (self.labels == self.selected).any():
            self.selected = None

    def has(self, z: int, object_id: int) -> bool:
        return bool((self.labels[z] == object_id).any())

    def edit(self, rows: dict[int, Row | None], **parts: Any) -> None:
        """Do something to the rows, as a step."""
        changes = {i: (self.rows.get(i), row) for i, row in rows.items() if self.rows.get(i) != row}
        if changes or parts:
            self.push(Done(changes, **parts))

    def push(self, step: Done) -> None:
        self.done.append(step)
        self.undone.clear()
        self.turn(step, back=False)

    def turn(self, step: Done, *, back: bool) -> None:
        for where, before, after in step.pixels:
            old, new = (after, before) if back else (before, after)
            at = where & (self.labels == old)
            self.labels[at] = new[at]
        for parts, there in ((step.rows, self.rows), (step.classes, self.classes), (step.prompts, self.prompts)):
            for key, (before, after) in parts.items():
                there.pop(key, None)  # type: ignore[attr-defined]
                if (value := before if back else after) is not None:
                    there[key] = value  # type: ignore[index]
        self.rows = dict(sorted(self.rows.items()))
        if not step.is_of_prompts:
            self.note_selected(step, back=back)
        if step.opened is not None and step.opened in self.opened:
            self.opened.remove(step.opened)
        if step.opened is not None and not back and step.opened[0] == self.z and self.has(*step.opened):
            self.opened.append(step.opened)

    def fold(self, gone: set[int]) -> None:
        for step in self.done:
            step.rows = {i: change for i, change in step.rows.items() if i not in gone and i in self.rows}
        self.done = [step for step in self.done if step.rows or not step.is_of_prompts]
        self.undone.clear()

    def reopen(self, object_id: int) -> None:
        place = self.z, object_id
        if place not in self.opened:
            known = self.prompts.get((object_id, self.z), {})
            rows = {i: (None, (*row[:3], object_id)) for i, row in known.items() if i not in self.rows}
            self.push(Done(rows, opened=place))  # type: ignore[arg-type]
        self.touched = [one for one in self.touched if one != object_id] + [object_id]

    def commit(self, masks: dict[Any, tuple[Any, bool]], *, takes: bool, ids: list[int]) -> None:
        """`masks` are the pending objects' (pixels, whether nobody changed it), `ids` the new ids that may be given."""
        pixels, prompts, gone, is_written = [], {}, set(), False
        before = self.labels.copy()
        for key, (mask, is_as_it_was) in masks.items():
            rows = {i: row for i, row in self.rows.items() if row[0] == self.z and row[3] == key}
            after = before.copy()
            object_id = ids[0] if key == LOOSE else key
            plane = after[self.z]
            plane[plane == object_id] = 0
            plane[mask if takes else mask & (plane == 0)] = object_id
            if is_as_it_was or (after != before).any():
                gone, is_written = gone | set(rows), True
                self.opened = [place for place in self.opened if place != (self.z, key)]
            if not is_as_it_was and (after != before).any():
                pixels.append((after != before, before, after))
                prompts[object_id, self.z] = (self.prompts.get((object_id, self.z)), rows)
                before = after
        if is_written:
            self.fold(gone)
            self.touched = []
        if pixels:
            self.push(Done(pixels=pixels, prompts=prompts))  # type: ignore[arg-type]
        self.rows = {i: row for i, row in self.rows.items() if i not in gone}

    def begin_again(self) -> None:
        """Keep what is written down: everything but the prompts, and what was undone."""
        self.done = [replace(step, rows={}) for step in self.done if not step.is_of_prompts]
        self.rows, self.opened, self.touched, self.undone = {}, [], [], []
        self.selected, self.extended, self.count = None, set(), 0

    def delete(self, object_id: int) -> None:
        where = self.labels == object_id
        rows = {i: (row, None) for i, row in self.rows.items() if row[3] == object_id}
        known = {key: (rows_, None) for key, rows_ in self.prompts.items() if key[0] == object_id}
        named = {object_id: (self.classes[object_id], None)} if object_id in self.classes else {}
        pixels = [(where, self.labels.copy(), np.where(where, 0, self.labels))]
        self.opened = [place for place in self.opened if place[1] != object_id]
        self.push(Done(rows, pixels, named, known, is_deletion=True))  # type: ignore[arg-type]


class Annotating(RuleBasedStateMachine):
    """Does the same to an annotation and to the model."""

    @initialize()
    def begin(self) -> None:
        self.load = ModelChoice.load
        ModelChoice.load = lambda *_: FakePredictor()  # type: ignore[assignment,method-assign,return-value]
        viewer = ViewerModel()
        viewer.add_image(np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE))
        viewer.dims.set_current_step(0, 0)
        self.annotator = napari_sam.annotate(viewer)
        self.model = Model()

    def teardown(self) -> None:
        if not hasattr(self, "annotator"):
            return
        path = self.annotator.journal.path
        if path is not None:
            assert (read_journal(path).labels() == self.model.labels).all()
            path.unlink()
        self.annotator.close()
        ModelChoice.load = self.load  # type: ignore[method-assign]

    # Prompts

    @rule(place=PLACES)
    def place(self, place: tuple[int, int]) -> None:
        row = (self.model.z, *place)
        if any(other[:3] == row for other in self.model.rows.values()):
            return  # which of two at one place is meant later, nobody could tell
        self.annotator.points.add([row])
        self.model.count += 1
        self.model.edit({self.model.count: (*row, self.model.active())})

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data(), place=PLACES)
    def move(self, data: Any, place: tuple[int, int]) -> None:
        i, row = data.draw(st.sampled_from(list(self.model.rows.items())))
        moved = (row[0], *place, row[3])
        if any(other[:3] == moved[:3] for other in self.model.rows.values()):
            return
        self.model.edit({i: moved})
        self.annotator.points.data = [row[:3] for row in self.model.rows.values()]

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data())
    def remove(self, data: Any) -> None:
        i = data.draw(st.sampled_from(list(self.model.rows)))
        self.annotator.points.selected_data = {list(self.model.rows).index(i)}
        self.annotator.points.remove_selected()
        self.model.edit({i: None})

    @rule()
    def clear(self) -> None:
        self.annotator.clear()
        z = self.model.z
        self.model.opened = [place for place in self.model.opened if place[0] != z]
        self.model.edit({i: None for i, row in self.model.rows.items() if row[0] == z})

    @rule(index=st.integers(0, 2))
    def choose(self, index: int) -> None:
        self.annotator.wait(PATIENCE)
        if index < len(self.annotator.candidates):
            self.annotator.choose(index)

    # Objects

    @rule(takes=st.booleans())
    def commit(self, takes: bool) -> None:
        self.annotator.wait(PATIENCE)
        masks = self.pending_masks()
        given: list[int] = []
        answer = self.annotator.events.committed.connect(lambda ids: given.extend(ids))
        self.annotator.commit("replace" if takes else "keep")
        self.annotator.events.committed.disconnect(answer)
        new = [one for one in given if one not in masks]
        if (extended := self.model.extends()) is not None:
            assert new in ([], [extended])
            new = [extended]
        else:
            assert not set(new) & set(np.unique(self.model.labels))
        self.model.commit(masks, takes=takes, ids=[*new, 10**6])

    def pending_masks(self) -> dict[Any, tuple[Any, bool]]:
        shown = self.annotator._annotator.slices.shown
        assert shown is not None
        masks = {}
        for key, record in shown.objects.items():
            owner = LOOSE if key == LOOSE else key[1]  # type: ignore[index]
            assert record.answer is not None
            pixels = np.asarray(record.answer.mask)
            masks[owner] = pixels, record.is_as_it_was
            points = np.array(
                [row[1:3] for row in self.model.rows.values() if (row[0], row[3]) == (self.model.z, owner)]
            )
            if not record.is_as_it_was and record.asked is not None:
                assert any((pixels == disk(SHAPE[1:], points, radius)).all() for radius in (4, 8, 16))
        return masks

    @precondition(lambda self: self.model.labels[self.model.z].any())
    @rule(data=st.data())
    def reopen(self, data: Any) -> None:
        object_id = data.draw(self.ids(self.model.labels[self.model.z]))
        self.annotator.reopen(object_id)
        self.model.reopen(object_id)

    @precondition(lambda self: self.model.labels.any())
    @rule(data=st.data())
    def select(self, data: Any) -> None:
        object_id = data.draw(st.one_of(st.none(), self.ids(self.model.labels)))
        self.annotator.objects.select(object_id)
        if object_id != self.model.selected:
            self.model.selected, self.model.extended = object_id, set()

    @precondition(lambda self: self.model.labels.any())
    @rule(data=st.data())
    def delete(self, data: Any) -> None:
        object_id = data.draw(self.ids(self.model.labels))
        self.annotator.objects.delete(object_id)
        self.model.delete(object_id)

    @precondition(lambda self: self.model.labels.any())
    @rule(data=st.data(), name=st.sampled_from(["cell", "gap", ""]))
    def classify(self, data: Any, name: str) -> None:
        object_id = data.draw(self.ids(self.model.labels))
        before = self.model.classes.get(object_id, "")
        self.annotator.objects.set_class(object_id, name)
        if name != before:
            self.model.push(Done(classes={object_id: (before, name)}))

    @rule(place=PLACES, data=st.data())
    def brush(self, place: tuple[int, int], data: Any) -> None:
        object_id = data.draw(st.one_of(st.sampled_from([0, 50]), self.ids(self.model.labels)))
        rows, cols = (slice(max(0, at - 3), at + 3) for at in place)
        self.annotator.labels.brush_size = 1
        at = np.ix_([self.model.z], np.arange(SHAPE[1])[rows], np.arange(SHAPE[2])[cols])
        self.annotator.labels.data_setitem(tuple(map(np.ravel, np.broadcast_arrays(*at))), object_id)
        self.model.labels[self.model.z, rows, cols] = object_id

    @staticmethod
    def ids(labels: Any) -> st.SearchStrategy[int]:
        return st.sampled_from([int(one) for one in np.unique(labels) if one] or [0])

    # History and place

    @rule()
    def undo(self) -> None:
        self.annotator.undo()
        if self.model.done:
            step = self.model.done.pop()
            self.model.undone.append(step)
            self.model.turn(step, back=True)

    @rule()
    def redo(self) -> None:
        self.annotator.redo()
        if self.model.undone:
            step = self.model.undone.pop()
            self.model.done.append(step)
            self.model.turn(step, back=False)

    @precondition(lambda self: self.annotator.journal.path is not None)
    @rule()
    def begin_again(self) -> None:
        """End the annotation, prompts and all, and go on from its journal."""
        viewer, path, former = self.annotator.viewer, self.annotator.journal.path, self.annotator.labels
        self.annotator.close()
        image = viewer.layers[0]
        self.annotator = napari_sam.annotate(viewer, image, restore=path)
        assert self.annotator.labels is not former
        self.model.begin_again()

    @rule(z=st.integers(0, SHAPE[0] - 1))
    def go(self, z: int) -> None:
        self.annotator.viewer.dims.set_current_step(0, z)
        self.model.z = z

    # What holds at any time

    @invariant()
    def labels_are_as_they_should_be(self) -> None:
        if not hasattr(self, "annotator"):
            return
        self.model.settle()
        annotator, model = self.annotator, self.model
        assert (annotator.labels.data == model.labels).all()
        assert [tuple(map(int, row)) for row in annotator.points.data] == [row[:3] for row in model.rows.values()]
        shown = annotator._annotator.slices.shown
        assert shown is not None
        names = {LOOSE: LOOSE, **{(REOPENED, one): one for one in model.pending() if one != LOOSE}}
        assert {names.get(key) for key in shown.objects} == model.pending()
        ids, areas = np.unique(model.labels[model.labels > 0], return_counts=True)
        classes = [model.classes.get(int(one), "") for one in ids]
        found = [(one.id, one.area, one.class_name) for one in annotator.objects]
        assert found == list(zip(ids.tolist(), areas.tolist(), classes, strict=True))
        assert annotator.objects.selected == model.selected
        assert (annotator.can_undo, annotator.can_redo) == (bool(model.done), bool(model.undone))


TestAnnotating = pytest.mark.timeout(400)(Annotating.TestCase)
TestAnnotating.settings = settings(
    max_examples=10,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
