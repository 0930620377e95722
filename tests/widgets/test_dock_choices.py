"""What is chosen in the dock: models, checkpoints that are dropped on it, labels; and what it says where that fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotating import SHAPE, click
from docks import LEFT, WAIT, Opener, annotator_of, boxes, drop, new_image, press
from fakes import PATIENCE, FakePredictor
from napari import Viewer
from npe2 import PluginManager
from pytestqt.qtbot import QtBot

from napari_sam.bridge.remembered import remembered_choice
from napari_sam.errors import CheckpointError
from napari_sam.pending import Phase
from napari_sam.worker import ModelChoice

# Models


def test_a_failure_is_shown_once_and_another_model_helps(
    plugin_settings: Any, viewer: Viewer, open_dock: Opener, qtbot: QtBot, errors: list[str]
) -> None:
    new_image(viewer)
    widget = open_dock()
    click(annotator_of(widget), 20, 30)
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
    click(annotator, 20, 30)
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


# Files that are dropped


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


# Labels


def test_labels_can_be_changed_with_prompts_pending(viewer: Viewer, open_dock: Opener, qtbot: QtBot) -> None:
    new_image(viewer)
    mine = viewer.add_labels(np.full(SHAPE, 0, np.uint8), name="mine")
    mine.data[0, 0] = 7
    widget = open_dock()
    annotator = annotator_of(widget)
    former = annotator.labels
    click(annotator, 20, 30)
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
