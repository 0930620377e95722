"""What a crash cut off is offered, comes back, and goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
from annotating import SHAPE, Begin, crash, put, work
from fakes import PATIENCE, FakePredictor
from numpy.typing import NDArray

from napari_sam.bridge.controller import Controller
from napari_sam.errors import JournalError, LabelsError
from napari_sam.journal import dismiss, read_journal
from napari_sam.worker import ModelChoice


def test_after_a_crash_everything_comes_back(begin: Begin) -> None:
    first = begin()
    work(first)
    labels, objects = first.labels.data.copy(), list(first.objects)
    path = crash(first)
    plain = begin()
    assert not plain.labels.data.any()
    assert [one.path for one in plain.journal.unfinished()] == [path]
    plain.close()
    second = begin(restore=True)
    assert (second.labels.data == labels).all()
    assert list(second.objects) == objects
    assert [one.name for one in second.objects.classes] == ["nucleus"]
    assert "objects are back" in second.status.message
    second.reopen(2)
    second.wait(PATIENCE)
    assert second.points.data.tolist() == [[1, 20, 30]]
    second.commit()
    put(second, 1, 50, 10)
    crash(second)
    third = begin(restore=path)
    assert (third.labels.data == second.labels.data).all()
    assert not read_journal(path).is_partial


def test_what_was_done_before_a_crash_is_undone_step_by_step(begin: Begin) -> None:
    first = begin()
    work(first)
    former = undone_states(first)
    assert len(former) == 8
    assert not former[-1][1]
    while first.can_redo:
        first.redo()
    crash(first)
    second = begin(restore=True)
    assert undone_states(second) == former
    for labels, objects in reversed(former[:-1]):
        second.redo()
        assert (second.labels.data.tolist(), list(second.objects)) == (labels, objects)
    put(second, 2, 5, 5)
    second.undo()
    crash(second)
    third = begin(restore=True)
    assert not third.can_redo
    assert undone_states(third) == former


def undone_states(annotator: Controller) -> list[Any]:
    """Return labels and objects as they are, and after each step that is undone."""
    states = [(annotator.labels.data.tolist(), list(annotator.objects))]
    while annotator.can_undo:
        annotator.undo()
        states.append((annotator.labels.data.tolist(), list(annotator.objects)))
    return states


def test_strokes_made_before_restoring_are_journalled_where_work_goes_on(begin: Begin) -> None:
    first = begin()
    put(first, 1, 20, 20)
    path = crash(first)
    second = begin()
    second.labels.data_setitem((np.array([1]), np.array([59]), np.array([89])), 3)
    second.journal.restore(second.journal.unfinished()[0])
    put(second, 1, 40, 60)
    assert second.journal.path == path
    assert (read_journal(path).labels() == second.labels.data).all()
    assert {one.id for one in second.objects} == {1, 3, 4}


def test_an_open_journal_is_offered_to_nobody(begin: Begin) -> None:
    first = begin()
    put(first, 1, 20, 20)
    second = begin()
    assert second.journal.earlier() == []
    with pytest.raises(JournalError, match="another annotation is writing"):
        second.journal.restore(read_journal(first.journal.path))  # type: ignore[arg-type]
    first.close()
    assert len(second.journal.earlier()) == 1
    assert second.journal.unfinished() == []


def test_a_dismissed_journal_is_not_offered_again(begin: Begin) -> None:
    first = begin()
    put(first, 1, 20, 20)
    crash(first)
    second = begin()
    dismiss(second.journal.unfinished()[0])
    assert second.journal.unfinished() == []
    assert len(second.journal.earlier()) == 1


def test_another_image_is_refused(begin: Begin, pixels: NDArray[np.uint16], folder: Path) -> None:
    first = begin()
    put(first, 1, 20, 20)
    path = crash(first)
    assert begin(pixels + 1).journal.earlier() == []
    with pytest.raises(JournalError, match="about another image"):
        begin(pixels + 1, restore=path)
    with pytest.raises(JournalError, match="cannot read the journal"):
        begin(restore=folder / "none.jsonl")
    nothing = begin(pixels[:2], restore=True)
    assert not nothing.labels.data.any()


def test_a_lazy_image_is_the_same_image(begin: Begin, pixels: NDArray[np.uint16]) -> None:
    first = begin(dask.array.from_array(pixels, chunks=(1, 16, 16)))
    put(first, 1, 20, 20)
    crash(first)
    assert begin(restore=True).labels.data.any()


def test_what_bound_labels_held_is_rebuilt_too(begin: Begin) -> None:
    labels = np.zeros((4, *SHAPE), np.int32)
    labels[1, 20:40, 20:40] = 70000
    first = begin(labels=labels.copy())
    put(first, 1, 20, 25, overlap="replace")
    put(first, 1, 20, 70)
    path = crash(first)
    assert (read_journal(path).labels() == first.labels.data).all()
    assert read_journal(path).is_partial
    second = begin(labels=labels.copy(), restore=True)
    assert (second.labels.data == first.labels.data).all()
    narrow = np.zeros((4, *SHAPE), np.uint16)
    second.close()
    with pytest.raises(LabelsError, match="wider type"):
        begin(labels=narrow, restore=True)
    assert not narrow.any()


def test_a_journal_that_does_not_fit_stays_unfinished(begin: Begin) -> None:
    first = begin(labels=np.full((4, *SHAPE), 70000, np.int32))
    put(first, 1, 20, 25, overlap="replace")
    path = crash(first)
    with pytest.raises(LabelsError, match="wider type"):
        begin(labels=np.zeros((4, *SHAPE), np.uint16), restore=True)
    second = begin()
    assert [one.path for one in second.journal.unfinished()] == [path]


def test_what_bound_labels_held_finds_room(begin: Begin) -> None:
    labels = np.zeros((4, *SHAPE), np.int32)
    labels[1, 20:22, 20:22], labels[1, 50:, 80:] = 5, 70000
    first = begin(labels=labels)
    first.reopen(5)
    put(first, 1, 20, 20)
    crash(first)
    second = begin(restore=True)
    assert (second.labels.data == first.labels.data).all()


def test_restoring_over_commits_is_refused(begin: Begin) -> None:
    crash_of = begin()
    put(crash_of, 1, 20, 20)
    crash(crash_of)
    second = begin()
    put(second, 1, 40, 40)
    before = second.labels.data.copy()
    with pytest.raises(LabelsError, match="committed here already"):
        second.journal.restore(second.journal.unfinished()[0])
    assert (second.labels.data == before).all()


def test_going_on_with_other_weights_is_said(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    first = begin()
    put(first, 1, 20, 20)
    crash(first)
    second = begin(restore=True)
    said: list[str] = []
    second.events.warned.connect(said.append)
    put(second, 1, 40, 60)
    assert said == []
    other = FakePredictor()
    other.weights = "another"
    monkeypatch.setattr(ModelChoice, "load", lambda *_: other)
    second.set_model(ModelChoice("another"))
    put(second, 1, 50, 10)
    assert len(said) == 1
    assert "other weights" in said[0]
    assert read_journal(second.journal.path).models == {"fake": "default", "another": "another"}  # type: ignore[arg-type]


def test_classes_are_steps_after_restoring_too(begin: Begin) -> None:
    first = begin()
    put(first, 1, 20, 20)
    first.objects.set_class(1, "cell")
    crash(first)
    second = begin(restore=True)
    second.objects.set_class(1, "gap")
    second.undo()
    assert second.objects[1].class_name == "cell"
    second.undo()
    assert second.objects[1].class_name == ""
    second.redo()
    second.redo()
    path = crash(second)
    assert begin(restore=path).objects[1].class_name == "gap"
