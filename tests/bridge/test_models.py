"""Another model for an annotation: it is used once it has loaded, and the former one stays where it cannot be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from annotating import SHAPE, click
from fakes import PATIENCE, FakePredictor
from mouse import Mouse
from napari.components import ViewerModel
from napari.layers import Image

import napari_sam
from napari_sam.bridge.controller import Controller
from napari_sam.errors import Cancelled, CheckpointError
from napari_sam.pending import Phase
from napari_sam.worker import ModelChoice

BROKEN, SLOW = ModelChoice("broken.pt"), ModelChoice("slow.pt")


class Models:
    """What each choice loads: `broken.pt` and `slow.pt` wait for `may_load`, and the first has nothing."""

    def __init__(self) -> None:
        self.may_load = threading.Event()
        self.may_load.set()
        self.loaded: list[str] = []
        self._predictors: dict[str, FakePredictor] = {}

    def __getitem__(self, model: str) -> FakePredictor:
        return self._predictors.setdefault(model, FakePredictor())

    def load(self, choice: ModelChoice, progress: Any, cancelled: Any, notify: Any) -> FakePredictor:
        if choice in (BROKEN, SLOW):
            while not self.may_load.wait(0.005):
                if cancelled():
                    raise Cancelled("cancelled")
        if choice == BROKEN:
            raise CheckpointError("broken.pt: no weights in it")
        self.loaded.append(choice.model)
        return self[choice.model]


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Models:
    made = Models()
    monkeypatch.setattr(ModelChoice, "load", lambda choice, *how: made.load(choice, *how))
    return made


@pytest.fixture
def image(viewer: ViewerModel) -> Image:
    return viewer.add_image(np.zeros(SHAPE, np.uint8))


@pytest.fixture
def annotator(viewer: ViewerModel, image: Image, models: Models) -> Iterator[Controller]:
    yield napari_sam.annotate(viewer, image)
    models.may_load.set()


def until_refused(annotator: Controller) -> None:
    while annotator.refused is None:
        assert annotator.mailbox.wait(PATIENCE)


def test_a_model_that_cannot_be_loaded_leaves_the_former_one_in_use(annotator: Controller, models: Models) -> None:
    click(annotator, 20, 30)
    annotator.choose(0)
    failures: list[Exception] = []
    annotator.events.failed.connect(failures.append)
    annotator.set_model(BROKEN)
    with pytest.raises(CheckpointError, match=r"broken\.pt"):
        annotator.wait(PATIENCE)
    annotator.wait(PATIENCE)
    assert [str(failure) for failure in failures] == ["broken.pt: no weights in it"]
    assert (annotator.status.phase, annotator.status.error) == (Phase.FAILED, failures[0])
    assert (annotator.choice, annotator.refused) == (ModelChoice(), BROKEN)
    assert (annotator.chosen, len(annotator.candidates)) == (0, 3)
    click(annotator, 22, 32)
    assert annotator.status.phase is Phase.READY
    assert annotator.refused is None
    assert (len(models["default"].encoded), len(models["default"].asked)) == (1, 2)
    assert models.loaded == ["default"]
    annotator.commit()
    assert annotator.labels.data[20, 30] == 1


def test_what_is_asked_while_it_fails_is_answered_and_the_failure_still_raised(
    annotator: Controller, models: Models
) -> None:
    annotator.set_model(BROKEN)  # before the first one has loaded
    annotator.points.add([(20, 30)])
    with pytest.raises(CheckpointError):
        annotator.wait(PATIENCE)
    assert len(annotator.candidates) == 3
    assert annotator.choice == ModelChoice()


def test_the_former_model_answers_until_the_next_has_loaded(annotator: Controller, models: Models) -> None:
    click(annotator, 20, 30)
    former = next(thread for thread in threading.enumerate() if thread.name == "napari-sam default")
    models.may_load.clear()
    annotator.set_model(SLOW)
    assert annotator.choice == SLOW
    assert annotator.status.phase is Phase.LOADING
    assert annotator.status.message == "Still answering with the former model; loading slow.pt"
    annotator.points.add([(40, 60)])
    while len(models["default"].asked) < 2 or len(annotator.candidates) != 1:
        assert annotator.mailbox.wait(PATIENCE)
    with pytest.raises(TimeoutError, match="loading"):
        annotator.wait(0)
    models.may_load.set()
    annotator.wait(PATIENCE)
    assert models["slow.pt"].asked[-1].points.tolist() == [[20, 30], [40, 60]]
    former.join(PATIENCE)  # nobody uses it any more
    assert not former.is_alive()


def test_the_cursor_asks_the_model_in_use(annotator: Controller, viewer: ViewerModel, models: Models) -> None:
    annotator.wait(PATIENCE)
    annotator.set_model(BROKEN)
    until_refused(annotator)
    mouse = Mouse(viewer)
    mouse.move((20, 30))
    while annotator.hover.mask is None:
        assert annotator.mailbox.wait(PATIENCE)
    assert len(models["default"].asked) == 1
    annotator.set_model(SLOW)
    annotator.wait(PATIENCE)
    assert annotator.hover.mask is None
    mouse.move((20, 31))
    while annotator.hover.mask is None:
        assert annotator.mailbox.wait(PATIENCE)
    assert len(models["slow.pt"].asked) == 1


@pytest.mark.parametrize("choose_again", [False, True])
def test_a_model_is_not_waited_for_any_more(annotator: Controller, models: Models, choose_again: bool) -> None:
    click(annotator, 20, 30)
    models.may_load.clear()
    annotator.set_model(BROKEN)
    if choose_again:
        annotator.set_model(ModelChoice())
    else:
        annotator.cancel()
        assert annotator.choice == ModelChoice()
    annotator.wait(PATIENCE)
    models.may_load.set()
    click(annotator, 22, 32)
    assert annotator.choice == ModelChoice()
    assert annotator.status.phase is Phase.READY
    assert models.loaded == ["default"]


def test_another_choice_after_one_that_was_refused(annotator: Controller, models: Models) -> None:
    click(annotator, 20, 30)
    annotator.set_model(BROKEN)
    until_refused(annotator)
    annotator.set_model(BROKEN)
    assert annotator.refused is None
    until_refused(annotator)
    annotator.set_model(SLOW)
    annotator.wait(PATIENCE)
    assert annotator.status.phase is Phase.READY
    assert len(models["slow.pt"].asked) == 1


def test_a_first_model_that_cannot_be_loaded_stays_the_choice(
    viewer: ViewerModel, image: Image, models: Models
) -> None:
    annotator = napari_sam.annotate(viewer, image, model="broken.pt")
    with pytest.raises(CheckpointError):
        annotator.wait(PATIENCE)
    assert (annotator.choice, annotator.refused, annotator.status.phase) == (BROKEN, None, Phase.FAILED)
    annotator.set_model(ModelChoice("other"))
    click(annotator, 20, 30)
    assert len(models["other"].asked) == 1


def test_an_annotation_that_is_closed_waits_for_no_model(annotator: Controller, models: Models) -> None:
    annotator.wait(PATIENCE)
    models.may_load.clear()
    annotator.set_model(SLOW)
    annotator.close()
    annotator.wait(PATIENCE)
    assert models.loaded == ["default"]


def test_a_refusal_is_said_where_nothing_is_shown(annotator: Controller, viewer: ViewerModel, models: Models) -> None:
    annotator.wait(PATIENCE)
    viewer.dims.ndisplay = 3
    annotator.set_model(BROKEN)
    with pytest.raises(CheckpointError):
        annotator.wait(PATIENCE)
    assert annotator.status.phase is Phase.NO_IMAGE
    assert isinstance(annotator.status.error, CheckpointError)
