"""Commits as values: what they write, what they take back, and what they leave alone."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import ArrayCanvas, disk

from napari_sam.geometry import Frame, whole
from napari_sam.history import CommitStep, History, PromptStep, Write
from napari_sam.masks import Mask
from napari_sam.prompt_rows import PromptRow

SHAPE = (40, 60)


def mask_at(row: int, col: int, radius: int = 6) -> Mask:
    return Mask.of_pixels(disk(SHAPE, np.array([(row, col)]), radius), Frame(SHAPE, whole(SHAPE), 256))


@pytest.fixture
def canvas() -> ArrayCanvas:
    return ArrayCanvas(SHAPE)


def test_a_write_keeps_earlier_objects(canvas: ArrayCanvas) -> None:
    Write.of(canvas, 0, 1, mask_at(20, 20), replacing=False).redo(canvas)
    before = canvas.plane(0).copy()
    Write.of(canvas, 0, 2, mask_at(20, 26), replacing=False).redo(canvas)
    assert (canvas.plane(0)[before == 1] == 1).all()
    assert (canvas.plane(0) == 2).any()


def test_undo_leaves_pixels_that_a_brush_has_changed_since(canvas: ArrayCanvas) -> None:
    write = Write.of(canvas, 0, 1, mask_at(20, 20), replacing=False)
    write.redo(canvas)
    canvas.plane(0)[20, 20] = 7
    write.undo(canvas)
    assert canvas.plane(0)[20, 20] == 7
    assert not (canvas.plane(0) == 1).any()


def test_redo_does_not_paint_over_what_came_meanwhile(canvas: ArrayCanvas) -> None:
    write = Write.of(canvas, 0, 1, mask_at(20, 20), replacing=False)
    write.redo(canvas)
    write.undo(canvas)
    canvas.plane(0)[18, :] = 9
    write.redo(canvas)
    assert (canvas.plane(0)[18] == 9).all()
    assert canvas.plane(0)[20, 20] == 1


def test_replacing_gives_up_old_pixels_and_undo_returns_them(canvas: ArrayCanvas) -> None:
    Write.of(canvas, 0, 1, mask_at(20, 20), replacing=False).redo(canvas)
    before = canvas.plane(0).copy()
    write = Write.of(canvas, 0, 1, mask_at(20, 24), replacing=True)
    write.redo(canvas)
    assert (canvas.plane(0) == 1).sum() == mask_at(20, 24).area
    assert canvas.plane(0)[20, 14] == 0
    write.undo(canvas)
    assert (canvas.plane(0) == before).all()


def test_a_write_under_another_object_is_empty(canvas: ArrayCanvas) -> None:
    Write.of(canvas, 0, 1, mask_at(20, 20, 8), replacing=False).redo(canvas)
    assert Write.of(canvas, 0, 2, mask_at(20, 20, 4), replacing=False).is_empty


def step(*row_ids: int) -> PromptStep:
    row = PromptRow("point", np.zeros(2))
    return PromptStep(dict.fromkeys(row_ids, (None, row)))


def test_a_commit_folds_the_edits_of_its_rows_alone() -> None:
    history = History()
    history.push(step(1))
    history.push(step(2, 3))
    history.fold({3})
    history.push(CommitStep(()))
    assert isinstance(history.undo(), CommitStep)
    left = history.undo()
    assert isinstance(left, PromptStep)
    assert set(left.changes) == {3}
    assert history.undo() is None


def test_a_new_step_drops_what_could_be_redone() -> None:
    history = History()
    history.push(step(1))
    history.undo()
    assert history.can_redo
    history.push(step(2))
    assert not history.can_redo
    assert history.redo() is None
