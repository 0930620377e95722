"""The dock's parts, each alone: one value, one signal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.components import LayerList
from napari.layers import Image
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication, QComboBox, QFileDialog, QLabel, QPushButton, QToolButton, QWidget

from napari_sam.bridge.tools import Tool
from napari_sam.checkpoints import DEFAULT, REGISTRY
from napari_sam.checkpoints.registry import MODELS_VARIABLE
from napari_sam.geometry import Frame
from napari_sam.masks import Mask
from napari_sam.pending import Phase, Status
from napari_sam.widgets import model_picker
from napari_sam.widgets.action_bar import BUTTONS, ActionBar
from napari_sam.widgets.candidates import DETAIL, SIDE, CandidateStrip, thumbnails
from napari_sam.widgets.layer_picker import LayerPicker
from napari_sam.widgets.model_picker import FILE, ModelPicker
from napari_sam.widgets.parts import Column, Section, narrow
from napari_sam.widgets.status_line import StatusLine
from napari_sam.widgets.tool_bar import ToolBar
from napari_sam.worker import ModelChoice

LEFT = Qt.MouseButton.LeftButton


def mask_of(box: tuple[int, int, int, int], shape: tuple[int, int] = (100, 140)) -> Mask:
    picture = np.zeros(shape, bool)
    picture[box[0] : box[2], box[1] : box[3]] = True
    return Mask.of_pixels(picture, Frame(shape, (0, 0, *shape), 1024))


def button(widget: QWidget, text: str) -> QPushButton:
    return next(each for each in widget.findChildren(QPushButton) if text in each.text())


def texts(box: QComboBox) -> list[str]:
    return [box.itemText(row) for row in range(box.count())]


# Status


@pytest.mark.parametrize(
    ("status", "text", "shows_bar", "can_cancel", "can_retry"),
    [
        (Status(Phase.NO_IMAGE), "Open an image to begin.", False, False, False),
        (Status(Phase.LOADING, message="Loading default"), "Loading default\N{HORIZONTAL ELLIPSIS}", True, True, False),
        (Status(Phase.ENCODING, 0.45, "Encoding the image"), "Encoding the image, 45%", True, True, False),
        (Status(Phase.DECODING), "Outlining\N{HORIZONTAL ELLIPSIS}", False, True, False),
        (Status(Phase.READY, message="Ready, encoded in 0.4 s."), "Ready, encoded in 0.4 s.", False, False, False),
        (Status(Phase.FAILED, message="no such file"), "no such file", False, False, True),
    ],
)
def test_status_line_shows_each_phase(
    qtbot: QtBot, status: Status, text: str, shows_bar: bool, can_cancel: bool, can_retry: bool
) -> None:
    line = StatusLine()
    qtbot.addWidget(line)
    line.show()
    line.set_status(status)
    assert line.value() is status
    assert line.text() == text
    shown = (line._bar.isVisible(), line._cancel.isVisible(), line._retry.isVisible())
    assert shown == (shows_bar, can_cancel, can_retry)


def test_status_line_asks_to_stop_and_to_try_again(qtbot: QtBot) -> None:
    line = StatusLine()
    qtbot.addWidget(line)
    line.show()
    line.set_status(Status(Phase.ENCODING, 0.5))
    with qtbot.waitSignal(line.cancelled):
        qtbot.mouseClick(line._cancel, LEFT)
    line.set_status(Status(Phase.FAILED))
    with qtbot.waitSignal(line.retried):
        qtbot.mouseClick(line._retry, LEFT)
    line.set_status(Status(Phase.FAILED), can_retry=False)
    assert not line._retry.isVisible()


# Candidates


def test_candidates_are_shown_in_their_order(qtbot: QtBot) -> None:
    strip = CandidateStrip()
    qtbot.addWidget(strip)
    strip.show()
    masks = [mask_of((10, 10, 20, 20)), mask_of((10, 10, 40, 50)), mask_of((5, 5, 90, 90))]
    strip.set_candidates(list(zip(masks, (0.93, 0.875, 0.1), strict=True)), 1)
    shown = [each for each in strip.findChildren(QToolButton) if each.isVisible()]
    assert [each.text() for each in shown] == ["0.93", "0.88", "0.10"]
    assert [each.isChecked() for each in shown] == [False, True, False]
    assert strip.value() == 1
    assert "1200 px" in shown[1].toolTip()


def test_a_click_on_a_candidate_chooses_it(qtbot: QtBot) -> None:
    strip = CandidateStrip()
    qtbot.addWidget(strip)
    strip.set_candidates([(mask_of((10, 10, 20, 20)), 0.9), (mask_of((1, 1, 3, 3)), 0.8)], 0)
    with qtbot.waitSignal(strip.chosen, check_params_cb=lambda index: index == 1):
        qtbot.mouseClick(strip._buttons[1], LEFT)
    strip.set_candidates((), None)
    assert strip.value() is None


def test_thumbnails_show_the_same_place_in_the_image() -> None:
    small, large = thumbnails([mask_of((20, 20, 30, 30)), mask_of((20, 20, 60, 60))])
    assert small.shape == large.shape == (SIDE * DETAIL, SIDE * DETAIL)
    assert (large | small == large).all()
    assert large.sum() / small.sum() == pytest.approx(16, rel=0.1)
    assert large.mean() == pytest.approx(1 / 1.2**2, rel=0.05)


def test_thumbnails_reach_over_the_border_of_the_image() -> None:
    (picture,) = thumbnails([mask_of((0, 0, 10, 140))])
    assert picture.any()
    assert not picture[0].any()
    assert not thumbnails([mask_of((0, 0, 0, 0))])[0].any()


def test_icons_keep_their_pixels(qtbot: QtBot) -> None:
    strip = CandidateStrip()
    qtbot.addWidget(strip)
    strip.set_candidates([(mask_of((20, 20, 24, 24)), 0.9), (mask_of((2, 2, 90, 90)), 0.8)], 0)
    blue = []
    for each in strip._buttons[:2]:
        image = each.icon().pixmap(SIDE, SIDE).toImage()
        at = [image.pixelColor(x, y).blue() > 128 for x in range(image.width()) for y in range(image.height())]
        blue.append(np.mean(at))
    assert blue[0] < 0.02
    assert blue[1] == pytest.approx(1 / 1.2**2, rel=0.1)


# Tools and actions


def test_tool_bar_has_one_tool_or_none(qtbot: QtBot) -> None:
    bar = ToolBar()
    qtbot.addWidget(bar)
    assert bar.value() is None
    with qtbot.waitSignal(bar.changed, check_params_cb=lambda tool: tool is Tool.BOX):
        qtbot.mouseClick(button(bar, "Box"), LEFT)
    qtbot.mouseClick(button(bar, "Box"), LEFT)  # it stays pressed
    assert bar.value() is Tool.BOX
    bar.setValue(Tool.NEGATIVE)
    assert bar.value() is Tool.NEGATIVE
    bar.setValue(None)
    assert bar.value() is None


def test_what_is_not_possible_is_disabled_and_says_why(qtbot: QtBot) -> None:
    actions, tools = ActionBar(), ToolBar()
    qtbot.addWidget(actions)
    qtbot.addWidget(tools)
    actions.set_obstacles(dict.fromkeys(BUTTONS, "") | {"redo": "nothing was undone."})
    assert not actions.button("redo").isEnabled()
    assert "nothing was undone." in actions.button("redo").toolTip()
    assert actions.button("commit").isEnabled()
    assert "Enter" in actions.button("commit").toolTip()
    tools.set_obstacle("open an image")
    assert not any(each.isEnabled() for each in tools.findChildren(QPushButton))
    assert "open an image" in button(tools, "Box").toolTip()


@pytest.mark.parametrize("name", BUTTONS)
def test_each_action_is_asked_for_by_name(qtbot: QtBot, name: str) -> None:
    actions = ActionBar()
    qtbot.addWidget(actions)
    with qtbot.waitSignal(actions.asked, check_params_cb=lambda asked: asked == name):
        qtbot.mouseClick(actions.button(name), LEFT)


# Pickers


def test_layer_picker_follows_names_and_keeps_its_choice(qtbot: QtBot) -> None:
    layers = LayerList([Image(np.zeros((4, 4)), name="a"), Image(np.zeros((4, 4)), name="b")])
    picker = LayerPicker(lambda: list(layers), "none", offers_none=False)
    qtbot.addWidget(picker)
    box = picker.findChild(QComboBox)
    assert texts(box) == ["none", "a", "b"]
    with qtbot.assertNotEmitted(picker.changed):
        picker.setValue(layers["b"])
        layers["b"].name = "c"
        picker.refresh()
    assert texts(box) == ["a", "c"]
    assert box.currentText() == "c"
    with qtbot.waitSignal(picker.changed, check_params_cb=lambda layer: layer is layers["a"]):
        qtbot.keyClick(box, Qt.Key.Key_Up)
    assert picker.value() is layers["a"]


def test_model_picker_offers_what_can_be_loaded(qtbot: QtBot) -> None:
    from napari_sam.predictor import loading

    picker = ModelPicker()
    qtbot.addWidget(picker)
    assert texts(picker.findChildren(QComboBox)[0]) == [DEFAULT, *REGISTRY, FILE]
    assert set(model_picker.ABOUT) <= {DEFAULT, *REGISTRY}
    assert loading.DEVICES == model_picker.DEVICES
    assert {"auto", *loading.PRECISIONS} == set(model_picker.PRECISIONS)


def test_model_picker_tells_every_change_once(qtbot: QtBot) -> None:
    picker = ModelPicker()
    qtbot.addWidget(picker)
    told: list[ModelChoice] = []
    picker.changed.connect(told.append)
    (model,), (device, precision, profile) = picker.findChildren(QComboBox), picker.details.findChildren(QComboBox)
    model.setCurrentText("sam_vit_b")
    device.setCurrentText("cpu")
    precision.setCurrentText("bfloat16")
    profile.setCurrentText("medsam")
    assert told[-1] == picker.value() == ModelChoice("sam_vit_b", "cpu", "bfloat16", "medsam")
    assert len(told) == 4
    picker.setValue(ModelChoice("/some/where/mine.pt", profile="/some/where/mine.toml"))
    assert model.currentText() == "mine.pt"
    assert profile.currentText() == "/some/where/mine.toml"
    assert len(told) == 4
    model.setCurrentText("default")
    assert picker.value().profile is None  # another model brings its own


def test_model_picker_goes_on_where_the_list_of_models_cannot_be_read(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "models.toml").write_text("not toml")
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path / "models.toml"))
    picker = ModelPicker()
    qtbot.addWidget(picker)
    assert texts(picker.findChildren(QComboBox)[0]) == [*model_picker.ABOUT, FILE]


def test_model_picker_opens_a_file(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    picker = ModelPicker()
    qtbot.addWidget(picker)
    model = picker.findChildren(QComboBox)[0]
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("", ""))
    with qtbot.assertNotEmitted(picker.changed):
        model.setCurrentText(FILE)
    assert model.currentText() == "default"
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("/some/where/mine.pt", ""))
    with qtbot.waitSignal(picker.changed):
        model.setCurrentText(FILE)
    assert picker.value().model == "/some/where/mine.pt"
    assert model.currentText() == "mine.pt"


def test_details_fold_away(qtbot: QtBot) -> None:
    picker = ModelPicker()
    qtbot.addWidget(picker)
    qtbot.addWidget(picker.details)
    assert picker.details.isHidden()
    qtbot.mouseClick(button(picker, "\N{HORIZONTAL ELLIPSIS}"), LEFT)
    assert not picker.details.isHidden()


# What they have in common


def test_a_section_folds_away(qtbot: QtBot) -> None:
    content = QLabel("content")
    section = Section("Title", content, "What it is for")
    qtbot.addWidget(section)
    section.show()
    assert not content.isVisible()
    qtbot.keyClick(section.findChild(QToolButton), Qt.Key.Key_Space)
    assert content.isVisible()


def test_a_column_is_never_narrower_than_its_content_and_may_be_lower(qtbot: QtBot) -> None:
    content = QLabel("text")
    content.setMinimumSize(200, 900)
    column = Column(content)
    qtbot.addWidget(column)
    assert column.minimumSizeHint().width() > 200
    assert column.minimumSizeHint().height() < 500
    assert column.sizeHint().height() >= 900


def test_the_wheel_is_for_the_column_unless_a_box_has_the_focus(qtbot: QtBot) -> None:
    box = QComboBox()
    qtbot.addWidget(box)
    box.addItems(["a", "b", "c"])
    narrow(box)
    assert not turned(box).isAccepted()  # Qt hands it on to whatever the box stands in
    assert box.currentText() == "a"
    box.hasFocus = lambda: True  # type: ignore[method-assign]  # which the offscreen platform gives at its whim
    turned(box)
    assert box.currentText() == "b"


def turned(widget: QWidget) -> QWheelEvent:
    """Turn the wheel over the middle of a widget by one notch, downwards."""
    middle = QPointF(widget.rect().center())
    no_button, no_key = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier
    event = QWheelEvent(
        middle, middle, QPoint(), QPoint(0, -120), no_button, no_key, Qt.ScrollPhase.NoScrollPhase, False
    )
    QApplication.sendEvent(widget, event)
    return event
