"""The mask under the cursor: it shows what a click would begin, and takes part in nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from annotating import BOX, SHAPE, put
from fakes import PATIENCE, FakePredictor, disk
from mouse import Mouse
from napari.components import ViewerModel
from napari.layers import Image

import napari_sam
from napari_sam.bridge.controller import Controller
from napari_sam.bridge.mask_layer import HOVER
from napari_sam.bridge.tools import Tool
from napari_sam.embedding import ImageEmbedding
from napari_sam.errors import Cancelled
from napari_sam.hover import ENOUGH, REST, SLOW
from napari_sam.masks import MaskResult
from napari_sam.prompts import Prompts
from napari_sam.worker import ModelChoice


@pytest.fixture
def image(viewer: ViewerModel) -> Image:
    return viewer.add_image(np.zeros(SHAPE, np.uint8))


def until(annotator: Controller, holds: Callable[[], bool]) -> None:
    while not holds():
        assert annotator.mailbox.wait(PATIENCE), "nothing came"


def hover(annotator: Controller, mouse: Mouse, place: tuple[float, float]) -> None:
    mouse.move(place)
    until(annotator, lambda: annotator.hover.mask is not None)


def under_cursor(annotator: Controller) -> np.ndarray:
    return annotator.preview.data == HOVER


def test_the_mask_under_the_cursor_shows_before_the_click(annotator: Controller, mouse: Mouse) -> None:
    hover(annotator, mouse, (20, 30))
    assert (under_cursor(annotator) == disk(SHAPE, np.array([(20, 30)]), 16)).all()


def test_it_is_no_candidate_no_step_and_nothing_to_commit_or_to_wait_for(
    annotator: Controller, mouse: Mouse, predictor: FakePredictor
) -> None:
    hover(annotator, mouse, (20, 30))
    assert annotator.candidates == ()
    assert not annotator.can_undo
    assert not annotator.has_pending
    annotator.commit()
    assert not annotator.labels.data.any()
    predictor.may_decode.clear()
    mouse.move((30, 30))
    annotator.wait(0.05)
    predictor.may_decode.set()


def test_the_newest_place_wins_and_older_answers_are_shown_meanwhile(
    annotator: Controller, mouse: Mouse, predictor: FakePredictor
) -> None:
    predictor.may_decode.clear()
    for col in range(20, 60):
        mouse.move((20, col))
    predictor.may_decode.set()
    until(annotator, lambda: under_cursor(annotator)[20, 59 + 15])
    assert len(predictor.asked) <= 2


def look_closer(predictor: FakePredictor, monkeypatch: pytest.MonkeyPatch) -> list[ImageEmbedding]:
    """Let `refine` add something to the embedding that makes every mask empty; return what it was asked to refine."""
    asked: list[ImageEmbedding] = []
    decode = predictor.decode

    def refine(embedding: ImageEmbedding, _image: Any, _prompts: Prompts, **_: Any) -> ImageEmbedding:
        asked.append(embedding)
        return replace(embedding, model="closer")

    def decode_closer(embedding: ImageEmbedding, prompts: Prompts) -> MaskResult:
        result = decode(embedding, prompts)
        if embedding.model != "closer":
            return result
        return replace(result, masks=tuple(replace(one, logits=-np.abs(one.logits)) for one in result.masks))

    monkeypatch.setattr(predictor, "refine", refine)
    monkeypatch.setattr(predictor, "decode", decode_closer)
    return asked


def test_where_the_mouse_rests_the_model_looks_closer(
    annotator: Controller, mouse: Mouse, predictor: FakePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = look_closer(predictor, monkeypatch)
    hover(annotator, mouse, (20, 30))
    assert under_cursor(annotator).any()
    until(annotator, lambda: not under_cursor(annotator).any())
    assert len(asked) == 1
    mouse.move((30, 30))
    until(annotator, lambda: under_cursor(annotator).any())


def test_while_the_mouse_moves_the_model_does_not_look_closer(
    annotator: Controller, mouse: Mouse, predictor: FakePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = look_closer(predictor, monkeypatch)
    start = time.monotonic()
    places = iter(np.linspace(20, 60, 1000))
    while time.monotonic() < start + 2 * REST:
        hover(annotator, mouse, (20, next(places)))
    mouse.click((20, 60))
    assert asked == []
    annotator.wait(PATIENCE)
    time.sleep(2 * REST)
    assert len(asked) == 1  # for the click


def test_the_model_looks_closer_after_it_has_answered_and_no_longer_once_the_mouse_moves_on(
    annotator: Controller, mouse: Mouse, predictor: FakePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, stopped = threading.Event(), threading.Event()

    def refine(embedding: ImageEmbedding, _image: Any, _prompts: Prompts, cancelled: Any) -> ImageEmbedding:
        looking.set()
        while not cancelled():
            time.sleep(0.001)
        stopped.set()
        raise Cancelled("cancelled")

    monkeypatch.setattr(predictor, "refine", refine)
    predictor.may_decode.clear()
    mouse.move((20, 30))
    time.sleep(2 * REST)
    assert not looking.is_set()
    predictor.may_decode.set()
    until(annotator, lambda: annotator.hover.mask is not None)
    assert looking.wait(PATIENCE)
    mouse.move((30, 30))
    assert stopped.wait(PATIENCE)
    annotator.close()


@pytest.mark.parametrize("how", ["click", "leave", "tool", "box", "reopen", "off", "outside"])
def test_it_goes(annotator: Controller, mouse: Mouse, how: str) -> None:
    put(annotator, 40, 60)
    hover(annotator, mouse, (20, 30))
    annotator.viewer.mouse_over_canvas = True
    if how == "click":
        mouse.click((20, 30))
        annotator.wait(PATIENCE)
    elif how == "leave":
        annotator.viewer.mouse_over_canvas = False
    elif how == "tool":
        annotator.tools.take(Tool.NEGATIVE)
        mouse.move((20, 31))
    elif how == "box":  # of whose layer the points hear no mouse
        annotator.tools.take(Tool.BOX)
    elif how == "reopen":
        annotator.reopen(1)
    elif how == "off":
        annotator.hover.wanted = False
    else:
        mouse.move((-20, 30))
    assert not under_cursor(annotator).any()


def test_nothing_is_asked_while_an_object_is_pending(
    annotator: Controller, mouse: Mouse, predictor: FakePredictor
) -> None:
    mouse.click((20, 30))
    annotator.wait(PATIENCE)
    asked, before = len(predictor.asked), annotator.preview.data.copy()
    mouse.move((40, 60))
    annotator.wait(PATIENCE)
    assert len(predictor.asked) == asked
    assert (annotator.preview.data == before).all()
    annotator.commit()
    hover(annotator, mouse, (40, 60))


def test_a_slice_that_is_left_takes_its_mask_along(viewer: ViewerModel, predictor: FakePredictor) -> None:
    viewer.add_image(np.zeros((3, *SHAPE), np.uint8))
    annotator = napari_sam.annotate(viewer)
    annotator.wait(PATIENCE)
    mouse = Mouse(viewer)
    hover(annotator, mouse, (20, 30))
    viewer.dims.set_current_step(0, 2)
    assert not annotator.preview.data.any()


def test_a_model_too_slow_to_follow_turns_it_off_unless_it_is_wanted(
    annotator: Controller, mouse: Mouse, predictor: FakePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(np.arange(0, 1000, 2 * SLOW))
    monkeypatch.setattr("napari_sam.hover.time.perf_counter", lambda: next(clock))
    switched: list[bool] = []
    annotator.hover.switched.connect(lambda: switched.append(annotator.hover.is_on))
    for col in range(ENOUGH + 1):
        assert annotator.hover.is_on
        annotator.hover.clear()
        hover(annotator, mouse, (20, col + 20)) if col < ENOUGH else mouse.move((20, 40))
    until(annotator, lambda: not annotator.hover.is_on)
    assert switched == [False]
    assert not under_cursor(annotator).any()
    annotator.hover.wanted = True
    hover(annotator, mouse, (20, 50))
    annotator.hover.wanted = None
    annotator.set_model(ModelChoice("mobile_sam"))
    annotator.wait(PATIENCE)
    assert annotator.hover.is_on


def test_a_failure_under_the_cursor_shows_nothing_and_is_no_failure(
    annotator: Controller, mouse: Mouse, predictor: FakePredictor
) -> None:
    hover(annotator, mouse, (20, 30))
    predictor.decode_failure = RuntimeError("on purpose")
    mouse.move((20, 31))
    until(annotator, lambda: annotator.hover.mask is None)
    annotator.wait(PATIENCE)
    assert not annotator.preview.data.any()


def test_it_works_after_a_model_that_could_not_be_loaded_is_tried_again(
    viewer: ViewerModel, image: Image, predictor: FakePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(ModelChoice, "load", fail)
    annotator = napari_sam.annotate(viewer, image)
    with pytest.raises(RuntimeError, match="on purpose"):
        annotator.wait(PATIENCE)
    monkeypatch.setattr(ModelChoice, "load", lambda *_: predictor)
    annotator.set_model(annotator.choice)
    annotator.wait(PATIENCE)
    hover(annotator, Mouse(viewer), (20, 30))


def test_it_shows_while_something_is_pending_in_another_slice(viewer: ViewerModel, predictor: FakePredictor) -> None:
    viewer.add_image(np.zeros((3, *SHAPE), np.uint8))
    annotator = napari_sam.annotate(viewer)
    viewer.dims.set_current_step(0, 1)
    annotator.shapes.add_rectangles([np.insert(BOX, 0, 1, axis=1)])
    viewer.dims.set_current_step(0, 2)
    viewer.layers.selection.active = annotator.points
    annotator.wait(PATIENCE)
    hover(annotator, Mouse(viewer), (20, 30))
