"""An annotation under Qt: the event loop turns while the network works, and a closed window ends everything."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from annotating import SHAPE
from fakes import PATIENCE, FakePredictor
from qtpy.QtCore import QObject, Qt, Signal

import napari_sam
from napari_sam.bridge.registry import open_controllers
from napari_sam.pending import Phase

MILLISECONDS = int(1000 * PATIENCE)


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any]) -> Any:
    model = make_napari_viewer()
    model.add_image(np.zeros(SHAPE, np.uint8))
    return model


class Ticker(QObject):
    """Counts turns of the event loop: each turn asks for the next one."""

    turned = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0
        self.turned.connect(self._count, Qt.ConnectionType.QueuedConnection)
        self.turned.emit()

    def _count(self) -> None:
        self.turns += 1
        if self.turns < 50:
            self.turned.emit()


def test_the_event_loop_turns_and_prompts_queue_while_an_image_is_encoded(
    viewer: Any, predictor: FakePredictor, qtbot: Any
) -> None:
    predictor.may_encode.clear()
    annotator = napari_sam.annotate(viewer)
    assert predictor.encoding.wait(PATIENCE)
    annotator.points.add([(20, 30)])
    ticker = Ticker()
    qtbot.waitUntil(lambda: ticker.turns == 50, timeout=MILLISECONDS)
    assert annotator.status.phase is Phase.ENCODING
    assert annotator.candidates == ()
    predictor.may_encode.set()
    qtbot.waitUntil(lambda: len(annotator.candidates) == 3, timeout=MILLISECONDS)
    qtbot.waitUntil(lambda: annotator.status.phase is Phase.READY, timeout=MILLISECONDS)
    assert threading.get_ident() not in predictor.threads


def test_a_failure_in_the_background_reaches_the_signals_and_nothing_else(
    viewer: Any, predictor: FakePredictor, qtbot: Any
) -> None:
    predictor.failure = ValueError("on purpose")
    annotator = napari_sam.annotate(viewer)
    failures: list[Exception] = []
    annotator.events.failed.connect(failures.append)
    qtbot.waitUntil(lambda: failures == [predictor.failure], timeout=MILLISECONDS)
    assert annotator.status.phase is Phase.FAILED


def thread_of(annotator: Any) -> threading.Thread:
    name = f"napari-sam {annotator.choice.model}"
    return next(thread for thread in threading.enumerate() if thread.name == name)


@pytest.mark.parametrize("close", ["viewer", "window"])
def test_closing_the_viewer_while_an_image_is_encoded_ends_the_thread(
    viewer: Any, predictor: FakePredictor, qtbot: Any, close: str
) -> None:
    predictor.may_encode.clear()
    annotator = napari_sam.annotate(viewer)
    assert predictor.encoding.wait(PATIENCE)
    thread = thread_of(annotator)
    if close == "viewer":
        viewer.close()
    else:
        viewer.window.close()
    qtbot.waitUntil(lambda: annotator.is_closed, timeout=MILLISECONDS)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert open_controllers(viewer) == []
    annotator.close()
    annotator.wait(1)


def test_removing_the_image_while_it_is_encoded_ends_the_thread(viewer: Any, predictor: FakePredictor) -> None:
    predictor.may_encode.clear()
    annotator = napari_sam.annotate(viewer)
    assert predictor.encoding.wait(PATIENCE)
    thread = thread_of(annotator)
    viewer.layers.remove(annotator.image_layer)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert annotator.is_closed
    assert annotator.status.phase is Phase.NO_IMAGE
