"""What the worker's thread does and fails to do, and what happens between a question and its answer."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from annotating import SHAPE, click, ids, pixels
from fakes import PATIENCE, FakePredictor
from napari.components import ViewerModel
from napari.layers import Image

import napari_sam
from napari_sam.bridge.controller import Controller
from napari_sam.errors import CheckpointError, PromptError
from napari_sam.pending import Phase
from napari_sam.worker import ModelChoice


def test_prompts_wait_while_the_image_is_encoded(viewer: ViewerModel, image: Image, predictor: FakePredictor) -> None:
    predictor.may_encode.clear()
    annotator = napari_sam.annotate(viewer, image)
    assert predictor.encoding.wait(PATIENCE)
    annotator.points.add([(20, 30)])
    annotator.mailbox.deliver()
    assert annotator.status.phase is Phase.ENCODING
    assert not pixels(annotator.preview).any()
    predictor.may_encode.set()
    annotator.wait(PATIENCE)
    assert annotator.status.phase is Phase.READY
    assert pixels(annotator.preview).any()


def test_the_network_runs_on_one_thread_that_is_not_ours(annotator: Controller, predictor: FakePredictor) -> None:
    click(annotator, 20, 30)
    assert len(predictor.threads) == 1
    assert threading.get_ident() not in predictor.threads


def test_only_the_newest_of_many_changes_is_answered(annotator: Controller, predictor: FakePredictor) -> None:
    annotator.wait(PATIENCE)
    predictor.may_decode.clear()
    annotator.points.add([(20, 30)])
    for col in range(31, 60):
        annotator.points.data = [(20, col)]
    predictor.may_decode.set()
    annotator.wait(PATIENCE)
    assert len(predictor.asked) <= 2
    assert predictor.asked[-1].points.tolist() == [[20, 59]]


def test_a_failure_reaches_wait_once_and_the_busy_state_ends(
    viewer: ViewerModel, image: Image, predictor: FakePredictor
) -> None:
    predictor.failure = CheckpointError("broken on purpose")
    annotator = napari_sam.annotate(viewer, image)
    failures: list[Exception] = []
    annotator.events.failed.connect(failures.append)
    with pytest.raises(CheckpointError, match="on purpose"):
        annotator.wait(PATIENCE)
    assert failures == [predictor.failure]
    assert annotator.status.phase is Phase.FAILED
    annotator.wait(PATIENCE)
    predictor.failure = None
    click(annotator, 20, 30)
    assert annotator.status.phase is Phase.READY


def test_taking_a_prompt_back_that_failed_ends_the_failure(annotator: Controller, predictor: FakePredictor) -> None:
    predictor.decode_failure = PromptError("on purpose")
    annotator.points.add([(20, 30)])
    with pytest.raises(PromptError, match="on purpose"):
        annotator.wait(PATIENCE)
    assert annotator.status.phase is Phase.FAILED
    annotator.undo()
    assert annotator.status.phase is Phase.READY


def test_waiting_too_long_is_a_timeout(annotator: Controller, predictor: FakePredictor) -> None:
    predictor.may_decode.clear()
    annotator.points.add([(20, 30)])
    with pytest.raises(TimeoutError, match="still"):
        annotator.wait(0.05)
    predictor.may_decode.set()


def test_cancelling_ends_the_encoding_and_a_prompt_starts_it_again(
    viewer: ViewerModel, image: Image, predictor: FakePredictor
) -> None:
    predictor.may_encode.clear()
    annotator = napari_sam.annotate(viewer, image)
    assert predictor.encoding.wait(PATIENCE)
    annotator.cancel()
    annotator.wait(PATIENCE)
    assert annotator.status.phase is Phase.READY
    assert "Cancelled" in annotator.status.message
    predictor.may_encode.set()
    click(annotator, 20, 30)
    assert pixels(annotator.preview).any()


def test_removing_the_image_while_it_is_encoded_ends_everything(
    viewer: ViewerModel, image: Image, predictor: FakePredictor
) -> None:
    predictor.may_encode.clear()
    annotator = napari_sam.annotate(viewer, image)
    assert predictor.encoding.wait(PATIENCE)
    viewer.layers.remove(image)
    assert annotator.is_closed
    annotator.wait(PATIENCE)
    assert annotator.status.phase is Phase.NO_IMAGE
    assert predictor.encoded == []


def test_new_pixels_are_encoded_and_prompts_answered_again(
    annotator: Controller, image: Image, predictor: FakePredictor
) -> None:
    click(annotator, 20, 30)
    image.data = np.zeros((80, 70), np.uint16)
    annotator.wait(PATIENCE)
    assert predictor.encoded[-1].shape == (80, 70)
    assert annotator.candidates[0][0].shape == (80, 70)


def test_another_model_answers_the_same_prompts(
    annotator: Controller, predictor: FakePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    click(annotator, 20, 30)
    second = FakePredictor()
    monkeypatch.setattr(ModelChoice, "load", lambda *_: second)
    annotator.set_model(ModelChoice("mobile_sam"))
    annotator.wait(PATIENCE)
    assert second.asked[-1].points.tolist() == [[20, 30]]
    assert len(annotator.candidates) == 3


def test_a_failure_that_was_made_good_is_not_raised_later(annotator: Controller, predictor: FakePredictor) -> None:
    predictor.decode_failure = PromptError("on purpose")
    annotator.points.add([(20, 30)])
    while annotator._annotator.is_busy():
        annotator.mailbox.wait(PATIENCE)
    predictor.decode_failure = None
    annotator.points.data = [(22, 30)]
    annotator.wait(PATIENCE)
    assert len(annotator.candidates) == 3


def test_one_that_tries_again_does_not_leave_the_others_waiting(
    viewer: ViewerModel, image: Image, predictor: FakePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_fail = threading.Event()

    def fail(*_: Any) -> None:
        may_fail.wait(PATIENCE)
        raise CheckpointError("no weights")

    monkeypatch.setattr(ModelChoice, "load", fail)
    both = [napari_sam.annotate(viewer, layer) for layer in (image, viewer.add_image(np.zeros(SHAPE)))]
    may_fail.set()
    for annotator in both:
        with pytest.raises(CheckpointError):
            annotator.wait(PATIENCE)
    monkeypatch.setattr(ModelChoice, "load", lambda *_: predictor)
    both[0].set_model(both[0].choice)
    both[1].points.add([(20, 30)])
    with pytest.raises(CheckpointError):
        both[1].wait(PATIENCE)
    both[1].set_model(both[1].choice)
    both[1].wait(PATIENCE)
    assert len(both[1].candidates) == 3


def test_a_commit_whose_prompt_is_removed_before_the_answer_ends(
    annotator: Controller, predictor: FakePredictor
) -> None:
    annotator.wait(PATIENCE)
    predictor.may_decode.clear()
    annotator.points.add([(20, 30)])
    annotator.commit()
    annotator.points.data = np.zeros((0, 2))
    predictor.may_decode.set()
    annotator.wait(PATIENCE)
    assert ids(annotator) == set()


def test_transposing_the_view_leaves_nothing_painted(
    annotator: Controller, viewer: ViewerModel, predictor: FakePredictor
) -> None:
    click(annotator, 20, 70)
    predictor.may_decode.clear()
    viewer.dims.order = (1, 0)
    assert not annotator.preview.data.any()
    predictor.may_decode.set()
    annotator.wait(PATIENCE)
