"""The dock in a viewer with a window: which annotation it shows, and that its buttons do what they say."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest
from annotating import SHAPE, click
from docks import LEFT, WAIT, Opener, annotator_of, boxes, names, new_image, press
from fakes import PATIENCE, FakePredictor
from napari import Viewer
from pytestqt.qtbot import QtBot
from qtpy.QtWidgets import QCheckBox, QPushButton

import napari_sam
from napari_sam.bridge.registry import find_controller, open_controllers, registry
from napari_sam.bridge.tools import Tool
from napari_sam.bridge.views import Views
from napari_sam.pending import Phase
from napari_sam.widgets.dock import NO_IMAGE, NOT_CHOSEN

# Which annotation


def test_an_image_that_is_there_is_annotated_on_return(viewer: Viewer, open_dock: Opener) -> None:
    image = new_image(viewer)
    widget = open_dock()
    annotator = annotator_of(widget)
    assert annotator.image_layer is image
    assert find_controller(viewer, image) is annotator
    assert boxes(widget)["image"].currentText() == "image"
    assert viewer.layers.selection.active is annotator.points


def test_without_an_image_it_says_how_to_begin(viewer: Viewer, open_dock: Opener) -> None:
    widget = open_dock()
    assert widget.annotator is None
    assert widget._status.text() == NO_IMAGE
    assert not any(button.isEnabled() for button in widget._tools.findChildren(QPushButton))
    assert not widget._actions.button("commit").isEnabled()


def test_an_image_that_comes_is_chosen_by_the_event_loop(viewer: Viewer, open_dock: Opener, qtbot: QtBot) -> None:
    widget = open_dock()
    image = new_image(viewer)
    qtbot.waitUntil(lambda: find_controller(viewer, image) is not None, timeout=WAIT)
    annotator = annotator_of(widget)
    assert annotator.image_layer is image
    assert viewer.layers.selection.active is annotator.points
    other = new_image(viewer, "other")
    assert annotator_of(widget) is annotator
    assert find_controller(viewer, other) is None


def test_a_script_need_not_wait_for_the_event_loop(viewer: Viewer, open_dock: Opener) -> None:
    widget = open_dock()
    image = new_image(viewer)
    assert annotator_of(widget).image_layer is image
    assert viewer.layers.selection.active is annotator_of(widget).points


def test_an_image_that_went_again_is_not_chosen(viewer: Viewer, open_dock: Opener) -> None:
    widget = open_dock()
    viewer.layers.remove(new_image(viewer))
    assert widget.annotator is None
    assert open_controllers(viewer) == []


def test_it_takes_over_what_a_script_opened_before(viewer: Viewer, open_dock: Opener) -> None:
    image = new_image(viewer)
    new_image(viewer, "other")
    annotator = napari_sam.annotate(viewer, image, model="sam_vit_b", device="cpu")
    widget = open_dock()
    assert widget.annotator is annotator
    assert boxes(widget)["model"].currentText() == "sam_vit_b"
    assert boxes(widget)["device"].currentText() == "cpu"


def test_it_lets_go_of_what_a_script_closes_and_takes_what_it_opens(viewer: Viewer, open_dock: Opener) -> None:
    image = new_image(viewer)
    widget = open_dock()
    annotator_of(widget).close()
    assert widget.annotator is None
    assert widget._status.text() == NOT_CHOSEN
    assert boxes(widget)["image"].currentText() == "choose an image"
    annotator = napari_sam.annotate(viewer, image)
    assert widget.annotator is annotator
    assert boxes(widget)["image"].currentText() == "image"


def test_other_viewers_are_none_of_its_business(
    viewer: Viewer, open_dock: Opener, make_napari_viewer: Callable[..., Viewer]
) -> None:
    widget = open_dock()
    other = make_napari_viewer()
    annotator = napari_sam.annotate(other, new_image(other))
    assert widget.annotator is None
    annotator.close()


def test_removing_the_image_leaves_none(viewer: Viewer, open_dock: Opener) -> None:
    image = new_image(viewer)
    widget = open_dock()
    viewer.layers.remove(image)
    assert widget.annotator is None
    assert open_controllers(viewer) == []
    assert widget._status.text() == NO_IMAGE


def test_choosing_another_image_keeps_the_prompts_of_the_first(viewer: Viewer, open_dock: Opener) -> None:
    first_image, _ = new_image(viewer, "first"), new_image(viewer, "second")
    viewer.layers.selection.active = first_image
    widget = open_dock()
    first = annotator_of(widget)
    click(first, 20, 30)
    boxes(widget)["image"].setCurrentText("second")
    second = annotator_of(widget)
    assert second.image_layer.name == "second"
    assert second.candidates == ()
    assert widget._candidates.value() is None
    boxes(widget)["image"].setCurrentText("first")
    assert widget.annotator is first
    assert viewer.layers.selection.active is first.points
    assert len(first.candidates) == 3
    assert widget._candidates.value() == first.chosen


def test_pickers_follow_layers_and_their_names(viewer: Viewer, open_dock: Opener) -> None:
    image = new_image(viewer)
    widget = open_dock()
    viewer.add_labels(np.zeros(SHAPE, int), name="mine")
    image.name = "renamed"
    assert names(boxes(widget)["image"]) == ["renamed"]
    assert names(boxes(widget)["labels"]) == ["new layer", "image objects", "mine"]
    viewer.layers.remove("mine")
    assert "mine" not in names(boxes(widget)["labels"])


# What the buttons do


def test_a_click_a_candidate_and_commit(viewer: Viewer, open_dock: Opener, qtbot: QtBot) -> None:
    new_image(viewer)
    widget = open_dock()
    annotator = annotator_of(widget)
    assert not widget._actions.button("commit").isEnabled()
    click(annotator, 20, 30)
    assert widget._candidates.value() == annotator.chosen == 2
    qtbot.mouseClick(widget._candidates._buttons[0], LEFT)
    assert annotator.chosen == 0
    press(qtbot, widget, "Commit")
    assert (annotator.labels.data == 1).sum() == annotator.labels.data.astype(bool).sum() == 49
    assert widget._candidates.value() is None
    assert not widget._actions.button("clear").isEnabled()
    press(qtbot, widget, "Undo")
    assert not annotator.labels.data.any()
    press(qtbot, widget, "Redo")
    assert annotator.labels.data.any()


def test_clear_removes_the_prompts(viewer: Viewer, open_dock: Opener, qtbot: QtBot) -> None:
    new_image(viewer)
    widget = open_dock()
    annotator = annotator_of(widget)
    click(annotator, 20, 30)
    press(qtbot, widget, "Clear")
    assert len(annotator.points.data) == 0
    assert annotator.candidates == ()


def test_commit_is_offered_before_the_answer(
    viewer: Viewer, open_dock: Opener, qtbot: QtBot, predictor: FakePredictor
) -> None:
    new_image(viewer)
    widget = open_dock()
    annotator = annotator_of(widget)
    predictor.may_decode.clear()
    annotator.points.add((20, 30))
    press(qtbot, widget, "Commit")
    predictor.may_decode.set()
    qtbot.waitUntil(lambda: bool(annotator.labels.data.any()), timeout=WAIT)


def test_tools_set_the_modes_and_show_them(viewer: Viewer, open_dock: Opener, qtbot: QtBot) -> None:
    new_image(viewer)
    widget = open_dock()
    annotator = annotator_of(widget)
    assert widget._tools.value() is Tool.POSITIVE
    press(qtbot, widget, "Box")
    assert viewer.layers.selection.active is annotator.shapes
    assert annotator.shapes.mode == "add_rectangle"
    press(qtbot, widget, "\N{MINUS SIGN} Point")
    assert viewer.layers.selection.active is annotator.points
    annotator.points.add((20, 30))
    assert list(annotator.points.features["label"]) == [0]
    annotator.points.mode = "pan_zoom"
    assert widget._tools.value() is None
    annotator.tools.take(Tool.BOX)
    assert widget._tools.value() is Tool.BOX


def test_progress_is_shown_and_can_be_stopped(
    viewer: Viewer, open_dock: Opener, qtbot: QtBot, predictor: FakePredictor
) -> None:
    new_image(viewer)
    predictor.may_encode.clear()
    widget = open_dock()
    qtbot.waitUntil(lambda: widget._status.value().phase is Phase.ENCODING, timeout=WAIT)
    qtbot.mouseClick(widget._status._cancel, LEFT)
    assert widget._status.value().phase is Phase.READY
    predictor.may_encode.set()
    annotator = annotator_of(widget)
    click(annotator, 20, 30)
    assert len(annotator.candidates) == 3


def test_the_preview_under_the_cursor_is_a_box_to_tick(viewer: Viewer, open_dock: Opener, qtbot: QtBot) -> None:
    widget = open_dock()
    box = next(each for each in widget.findChildren(QCheckBox) if "cursor" in each.text())
    assert not box.isEnabled()
    new_image(viewer)
    annotator = annotator_of(widget)
    assert box.isEnabled()
    assert box.isChecked()
    box.click()
    assert annotator.hover.wanted is False
    annotator.hover.wanted = True
    assert box.isChecked()


@pytest.mark.parametrize(("text", "name"), [("Show embedding", "show_embedding"), ("Show input", "show_encoder_input")])
def test_what_the_model_sees_is_asked_for(
    viewer: Viewer, open_dock: Opener, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, text: str, name: str
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(Views, name, lambda _views: asked.append(name))
    widget = open_dock()
    press(qtbot, widget, "\N{HORIZONTAL ELLIPSIS}")
    assert not widget._views.button(name).isEnabled()
    new_image(viewer)
    annotator_of(widget)
    press(qtbot, widget, text)
    assert asked == [name]


def test_a_low_screen_needs_no_higher_window(viewer: Viewer, open_dock: Opener) -> None:
    widget = open_dock()
    assert widget.minimumSizeHint().height() < 400
    assert widget.minimumSizeHint().width() < 400


# The end


def test_closing_the_dock_leaves_the_annotation_and_nothing_else(
    viewer: Viewer, open_dock: Opener, predictor: FakePredictor
) -> None:
    new_image(viewer)
    widget = open_dock()
    annotator = annotator_of(widget)
    click(annotator, 20, 30)
    gone = weakref.ref(widget)
    viewer.window.remove_dock_widget(widget)
    del widget
    gc.collect()
    assert gone() is None
    assert len(registry.opened) == 0
    annotator.choose(0)
    new_image(viewer, "another")
    assert len(open_controllers(viewer)) == 1
    viewer.layers.selection.active = annotator.points
    assert open_dock().annotator is annotator


def test_a_viewer_can_go_while_an_image_is_encoded(
    viewer: Viewer, open_dock: Opener, qtbot: QtBot, predictor: FakePredictor
) -> None:
    new_image(viewer)
    predictor.may_encode.clear()
    widget = open_dock()
    annotator = widget.annotator
    assert annotator is not None
    assert predictor.encoding.wait(PATIENCE)
    viewer.close()
    qtbot.waitUntil(lambda: annotator.is_closed, timeout=WAIT)
    predictor.may_encode.set()
    qtbot.waitUntil(lambda: len(registry.opened) == 0, timeout=WAIT)
    viewer.layers.clear()
