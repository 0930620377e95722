"""Undo and redo: prompts until their commit, then the commit."""

from __future__ import annotations

import numpy as np
from annotating import BOX, click, ids, pixels
from fakes import PATIENCE

from napari_sam.bridge.controller import Controller


def test_undo_and_redo_of_a_commit_keep_the_id(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    click(annotator, 45, 70)
    annotator.commit()
    after = annotator.labels.data.copy()
    annotator.undo()
    assert ids(annotator) == {1}
    assert len(annotator.points.data) == 0
    annotator.redo()
    assert (annotator.labels.data == after).all()


def test_edits_of_prompts_are_steps_until_their_commit(annotator: Controller) -> None:
    click(annotator, 20, 30)
    click(annotator, 22, 31, label=0)
    annotator.undo()
    assert annotator.points.data.tolist() == [[20, 30]]
    assert len(annotator.candidates) == 3
    annotator.redo()
    assert annotator.points.data.tolist() == [[20, 30], [22, 31]]
    assert annotator.points.features["label"].tolist() == [1, 0]
    annotator.undo()
    annotator.undo()
    assert len(annotator.points.data) == 0
    assert not annotator.can_undo


def test_a_new_edit_drops_what_could_be_redone(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.undo()
    click(annotator, 40, 60)
    assert not annotator.can_redo


def test_undo_brings_back_moved_and_deleted_prompts(annotator: Controller) -> None:
    click(annotator, 20, 30)
    click(annotator, 25, 35)
    annotator.points.data = [(20, 30), (50, 80)]
    annotator.points.selected_data = {0}
    annotator.points.remove_selected()
    annotator.undo()
    assert annotator.points.data.tolist() == [[20, 30], [50, 80]]
    annotator.undo()
    assert annotator.points.data.tolist() == [[20, 30], [25, 35]]


def test_edits_that_led_to_a_commit_are_no_steps_after_it(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    click(annotator, 40, 60)
    annotator.clear()
    click(annotator, 45, 70)
    annotator.commit()
    annotator.undo()
    annotator.undo()
    assert ids(annotator) == set()
    assert len(annotator.points.data) == 0
    assert not annotator.can_undo


def test_clear_is_a_step(annotator: Controller) -> None:
    annotator.shapes.add_rectangles(BOX)
    click(annotator, 20, 30)
    annotator.clear()
    assert len(annotator.points.data) == len(annotator.shapes.data) == 0
    annotator.undo()
    annotator.wait(PATIENCE)
    assert len(annotator.points.data) == len(annotator.shapes.data) == 1
    assert pixels(annotator.preview).any()


def test_napari_own_undo_on_the_labels_does_not_break_ours(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    annotator.labels.undo()
    assert ids(annotator) == set()
    annotator.undo()
    annotator.redo()
    assert ids(annotator) == {1}


def test_undo_across_a_new_column(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.points.data = np.zeros((0, 2))
    click(annotator, 40, 60)
    annotator.points.features = annotator.points.features.assign(object=[7])
    for _ in range(4):
        annotator.undo()
    assert len(annotator.points.data) == 0
    for _ in range(4):
        annotator.redo()
    assert annotator.points.data.tolist() == [[40, 60]]


def test_points_that_are_pasted_are_a_step(annotator: Controller) -> None:
    annotator.points.add([(20, 30)])
    annotator.points.selected_data = {0}
    annotator.points._copy_data()
    annotator.points._paste_data()
    known = list(annotator._annotator.slices.rows)
    annotator.undo()
    assert list(annotator._annotator.slices.rows) == known[:1]
    annotator.undo()
    assert len(annotator.points.data) == 0
