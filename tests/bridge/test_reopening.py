"""Objects that are committed become pending again, and keep their ids."""

from __future__ import annotations

import numpy as np
import pytest
from annotating import click, ids, pixels, put
from fakes import PATIENCE, FakePredictor

from napari_sam.bridge.controller import Controller
from napari_sam.errors import LabelsError
from napari_sam.worker import ModelChoice


def test_a_reopened_object_is_replaced_under_its_id(annotator: Controller, predictor: FakePredictor) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    before = annotator.labels.data.copy()
    annotator.reopen(1)
    assert (pixels(annotator.preview) == (before == 1)).all()
    click(annotator, 20, 40)
    assert np.asarray(predictor.asked[-1].mask).sum() == (before == 1).sum()
    annotator.choose(0)
    annotator.commit()
    assert ids(annotator) == {1}
    assert (annotator.labels.data != before).any()
    annotator.undo()
    assert (annotator.labels.data == before).all()


def test_reopening_and_committing_at_once_changes_nothing(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    before = annotator.labels.data.copy()
    annotator.reopen(1)
    annotator.commit()
    assert (annotator.labels.data == before).all()
    assert annotator.candidates == ()


def test_undoing_a_click_on_a_reopened_object_shows_it_as_it_was(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    annotator.reopen(1)
    shown = pixels(annotator.preview)
    click(annotator, 20, 40)
    annotator.undo()
    assert (pixels(annotator.preview) == shown).all()


def test_reopening_what_is_not_there_is_an_error(annotator: Controller) -> None:
    with pytest.raises(LabelsError, match="object 5 has no pixel"):
        annotator.reopen(5)


def test_clearing_and_undoing_on_a_reopened_object_keeps_its_id(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    annotator.reopen(1)
    click(annotator, 40, 60)
    annotator.clear()
    annotator.undo()
    annotator.wait(PATIENCE)
    annotator.commit()
    assert ids(annotator) == {1}


def test_a_reopened_object_that_a_commit_would_not_change_keeps_its_prompts(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.choose(1)
    annotator.commit()
    annotator.reopen(1)
    click(annotator, 20, 30)
    annotator.commit()
    assert len(annotator.points.data) == 2
    assert "no pixel" in annotator.status.message


def test_another_model_leaves_a_reopened_object_as_it_was(annotator: Controller, predictor: FakePredictor) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    annotator.labels.data_setitem((np.array([0]), np.array([0])), 1)
    annotator.reopen(1)
    annotator.set_model(ModelChoice("mobile_sam"))
    annotator.wait(PATIENCE)
    assert len(predictor.asked) == 1
    assert pixels(annotator.preview)[0, 0]


def test_pointing_at_no_object_is_an_error(annotator: Controller) -> None:
    put(annotator, 20, 20)
    annotator.viewer.cursor.position = annotator.image_layer.data_to_world((50, 80))
    with pytest.raises(LabelsError, match="no committed object under the cursor"):
        annotator.reopen_under_cursor()
    annotator.viewer.cursor.position = annotator.image_layer.data_to_world((20, 20))
    annotator.reopen_under_cursor()
    assert len(annotator.points.data) == 1
