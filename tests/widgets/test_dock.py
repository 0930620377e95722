"""The dock in a viewer with a window: which annotation it shows, and that its buttons do what they say."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import PATIENCE, FakePredictor
from napari import Viewer
from napari.layers import Image
from npe2 import PluginManager
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication, QCheckBox, QComboBox, QPushButton

import napari_sam
from napari_sam.bridge.controller import Controller
from napari_sam.bridge.registry import find_controller, open_controllers, registry
from napari_sam.bridge.remembered import remembered_choice
from napari_sam.bridge.tools import Tool
from napari_sam.bridge.views import Views
from napari_sam.errors import CheckpointError
from napari_sam.pending import Phase
from napari_sam.widgets import dock as dock_module
from napari_sam.widgets.dock import NO_IMAGE, NOT_CHOSEN, SegmentAnythingDock
from napari_sam.worker import ModelChoice

SHAPE = (60, 90)
LEFT = Qt.MouseButton.LeftButton
WAIT = int(1000 * PATIENCE)

Opener = Callable[[], SegmentAnythingDock]


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> FakePredictor:
    """Answers for the models that this machine has; the large ones it cannot get."""
    fake = FakePredictor()

    def load(choice: ModelChoice, *_: Any) -> FakePredictor:
        if choice.model == "sam_vit_h":
            raise CheckpointError("cannot download it: choose 'default'")
        return fake

    monkeypatch.setattr(ModelChoice, "load", load)
    return fake


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Viewer], predictor: FakePredictor) -> Iterator[Viewer]:
    made = make_napari_viewer()
    yield made
    for controller in open_controllers(made):
        controller.close()


@pytest.fixture
def open_dock(viewer: Viewer, npe2pm: PluginManager) -> Iterator[Opener]:
    def opened() -> SegmentAnythingDock:
        _, widget = viewer.window.add_plugin_dock_widget("napari-sam-live", "Segment Anything")
        return widget

    with npe2pm.tmp_plugin(package="napari-sam-live"):
        yield opened


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    shown: list[str] = []
    monkeypatch.setattr(dock_module, "show_error", shown.append)
    return shown


def new_image(viewer: Viewer, name: str = "image") -> Image:
    return viewer.add_image(np.zeros(SHAPE, np.uint8), name=name)


def annotator_of(widget: SegmentAnythingDock) -> Controller:
    annotator = widget.annotator
    assert annotator is not None
    annotator.wait(PATIENCE)
    return annotator


def click(annotator: Controller, row: float = 20, col: float = 30) -> None:
    annotator.points.add((row, col))
    annotator.wait(PATIENCE)


def press(qtbot: QtBot, widget: SegmentAnythingDock, text: str) -> None:
    found = next(each for each in widget.findChildren(QPushButton) if each.text().strip().startswith(text))
    assert found.isEnabled(), found.toolTip()
    qtbot.mouseClick(found, LEFT)


def boxes(widget: SegmentAnythingDock) -> dict[str, QComboBox]:
    names = ("image", "model", "device", "precision", "profile", "labels")
    order = widget._image, widget._model, widget._model.details, widget._labels
    return dict(zip(names, (box for part in order for box in part.findChildren(QComboBox)), strict=True))


def names(box: QComboBox) -> list[str]:
    return [box.itemText(row) for row in range(box.count())]


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
    click(first)
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
    click(annotator)
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
    click(annotator)
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
    click(annotator)
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
    click(annotator)
    assert len(annotator.candidates) == 3


# Models, labels, errors


def test_a_failure_is_shown_once_and_another_model_helps(
    plugin_settings: Any, viewer: Viewer, open_dock: Opener, qtbot: QtBot, errors: list[str]
) -> None:
    new_image(viewer)
    widget = open_dock()
    click(annotator_of(widget))
    boxes(widget)["model"].setCurrentText("sam_vit_h")
    qtbot.waitUntil(lambda: widget._status.value().phase is Phase.FAILED, timeout=WAIT)
    assert widget._model.complaint() == "cannot download it: choose 'default'"
    assert "choose another" in widget._status.text()
    assert errors == ["cannot download it: choose 'default'"]
    qtbot.mouseClick(widget._status._retry, LEFT)
    qtbot.waitUntil(lambda: len(errors) == 2, timeout=WAIT)
    boxes(widget)["model"].setCurrentText("sam_vit_b")
    qtbot.waitUntil(lambda: widget._status.value().phase is Phase.READY, timeout=WAIT)
    assert widget._model.complaint() == ""
    assert len(errors) == 2


def test_the_former_model_is_shown_again_where_another_cannot_be_had(
    plugin_settings: Any, viewer: Viewer, open_dock: Opener, qtbot: QtBot, predictor: FakePredictor, errors: list[str]
) -> None:
    new_image(viewer)
    widget = open_dock()
    annotator = annotator_of(widget)
    click(annotator)
    boxes(widget)["model"].setCurrentText("sam_vit_h")
    qtbot.waitUntil(lambda: widget._model.complaint() != "", timeout=WAIT)
    assert boxes(widget)["model"].currentText() == "default"
    assert "stays in use" in widget._status.text()
    with pytest.raises(CheckpointError, match="cannot download"):
        annotator.wait(PATIENCE)
    assert len(annotator.candidates) == 3
    assert widget._model.complaint() == errors[0]
    click(annotator, 22, 32)
    assert len(predictor.encoded) == 1
    assert (widget._model.complaint(), widget._status.value().phase) == ("", Phase.READY)
    press(qtbot, widget, "Commit")
    assert annotator.labels.data[20, 30] == 1
    annotator.close()
    new_image(viewer, "second")
    assert annotator_of(widget).choice == ModelChoice()


def test_a_model_that_a_script_chooses_is_shown(viewer: Viewer, open_dock: Opener) -> None:
    new_image(viewer)
    widget = open_dock()
    annotator = annotator_of(widget)
    annotator.set_model(ModelChoice("mobile_sam", "cpu"))
    assert [boxes(widget)[name].currentText() for name in ("model", "device")] == ["mobile_sam", "cpu"]


def test_the_chosen_model_is_that_of_the_next_image(viewer: Viewer, open_dock: Opener) -> None:
    widget = open_dock()
    boxes(widget)["model"].setCurrentText("sam_vit_b")
    new_image(viewer)
    assert annotator_of(widget).choice == ModelChoice("sam_vit_b")


def test_a_model_is_remembered_once_it_has_loaded(
    plugin_settings: Any, viewer: Viewer, open_dock: Opener, qtbot: QtBot, errors: list[str]
) -> None:
    new_image(viewer)
    widget = open_dock()
    annotator_of(widget)
    assert remembered_choice() == ModelChoice()
    boxes(widget)["model"].setCurrentText("sam_vit_b")
    annotator_of(widget)
    assert remembered_choice() == ModelChoice("sam_vit_b")
    boxes(widget)["model"].setCurrentText("sam_vit_h")
    annotator = widget.annotator
    assert annotator is not None
    annotator.events.embedding_ready.emit()  # of the model in use, while the other one is loaded
    qtbot.waitUntil(lambda: widget._status.value().phase is Phase.FAILED, timeout=WAIT)
    assert remembered_choice() == ModelChoice("sam_vit_b")


def test_labels_can_be_changed_with_prompts_pending(viewer: Viewer, open_dock: Opener, qtbot: QtBot) -> None:
    new_image(viewer)
    mine = viewer.add_labels(np.full(SHAPE, 0, np.uint8), name="mine")
    mine.data[0, 0] = 7
    widget = open_dock()
    annotator = annotator_of(widget)
    former = annotator.labels
    click(annotator)
    boxes(widget)["labels"].setCurrentText("mine")
    press(qtbot, widget, "Commit")
    assert mine.data[20, 30] == 8
    assert not former.data.any()
    press(qtbot, widget, "Undo")
    assert np.unique(mine.data).tolist() == [0, 7]
    boxes(widget)["labels"].setCurrentText("new layer")
    assert annotator.labels not in (mine, former)
    assert annotator.labels in viewer.layers
    assert boxes(widget)["labels"].currentText() == annotator.labels.name
    assert viewer.layers.index(annotator.labels) < viewer.layers.index(annotator.preview)


def test_labels_that_do_not_fit_are_refused_in_the_dock(viewer: Viewer, open_dock: Opener, errors: list[str]) -> None:
    new_image(viewer)
    widget = open_dock()
    annotator = annotator_of(widget)
    labels = annotator.labels
    viewer.add_labels(np.zeros((3, 3), int), name="small")
    boxes(widget)["labels"].setCurrentText("small")
    assert annotator.labels is labels
    assert boxes(widget)["labels"].currentText() == labels.name
    assert len(errors) == 1
    assert "small" in widget._labels_complaint.text()
    boxes(widget)["labels"].setCurrentText("new layer")
    assert widget._labels_complaint.text() == ""


def drop(widget: SegmentAnythingDock, *files: Path) -> bool:
    """Drag files over the dock and, where it takes them, drop them; return whether it did."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(file)) for file in files])
    copy, keys = Qt.DropAction.CopyAction, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(QPoint(5, 5), copy, data, LEFT, keys)
    QApplication.sendEvent(widget, enter)
    if enter.isAccepted():
        QApplication.sendEvent(widget, QDropEvent(QPointF(5, 5), copy, data, LEFT, keys))
    return enter.isAccepted()


def test_a_checkpoint_that_is_dropped_is_the_model(viewer: Viewer, open_dock: Opener, tmp_path: Path) -> None:
    new_image(viewer)
    widget = open_dock()
    annotator = annotator_of(widget)
    assert not drop(widget, tmp_path / "picture.png")
    assert not drop(widget, tmp_path / "one.pt", tmp_path / "two.pt")
    assert annotator.choice.model == "default"
    assert drop(widget, tmp_path / "mine.safetensors")
    assert annotator.choice.model == str(tmp_path / "mine.safetensors")
    assert boxes(widget)["model"].currentText() == "mine.safetensors"
    assert not drop(widget, tmp_path)
    (tmp_path / "best.pt").touch()  # as torch_em leaves it
    assert drop(widget, tmp_path)
    assert annotator.choice.model == str(tmp_path)


def test_a_profile_that_is_dropped_belongs_to_the_model(viewer: Viewer, open_dock: Opener, tmp_path: Path) -> None:
    new_image(viewer)
    widget = open_dock()
    annotator = annotator_of(widget)
    assert drop(widget, tmp_path / "mine.pt")
    assert drop(widget, tmp_path / "Ours.TOML")
    assert (annotator.choice.model, annotator.choice.profile) == (
        str(tmp_path / "mine.pt"),
        str(tmp_path / "Ours.TOML"),
    )
    assert boxes(widget)["profile"].currentText() == str(tmp_path / "Ours.TOML")


def test_a_checkpoint_that_does_not_load_is_said_beside_the_model(
    make_napari_viewer: Callable[..., Viewer],
    npe2pm: PluginManager,
    qtbot: QtBot,
    errors: list[str],
    tmp_path: Path,
) -> None:
    file = tmp_path / "broken.safetensors"
    file.write_bytes(b"no weights")
    viewer = make_napari_viewer()
    with npe2pm.tmp_plugin(package="napari-sam-live"):
        _, widget = viewer.window.add_plugin_dock_widget("napari-sam-live", "Segment Anything")
        assert drop(widget, file)
        new_image(viewer)
        annotator = widget.annotator
        assert annotator is not None
        qtbot.waitUntil(lambda: widget._model.complaint() != "", timeout=WAIT)
        assert "broken.safetensors" in widget._model.complaint()
        assert errors == [widget._model.complaint()]
        annotator.close()
        assert widget._model.complaint() == ""


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
    click(annotator)
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


# The mask under the cursor


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
