"""The command palette: every command of the manifest acts on the viewer that napari hands it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from annotating import SHAPE
from fakes import PATIENCE, FakePredictor
from napari.components import ViewerModel
from napari.layers import Image

from napari_sam.bridge import commands, keys
from napari_sam.bridge.controller import Controller
from napari_sam.bridge.registry import open_controllers
from napari_sam.bridge.tools import Tool


@pytest.fixture
def annotator(viewer: Any, image: Image, predictor: FakePredictor) -> Controller:
    commands.start(viewer)
    return open_controllers(viewer)[0]


def test_commands_do_what_the_annotation_does(annotator: Controller, viewer: Any) -> None:
    annotator.points.add([(20, 30)])
    annotator.wait(PATIENCE)
    commands.next_candidate(viewer)
    assert annotator.chosen == 0
    commands.commit(viewer)
    assert annotator.labels.data.max() == 1
    commands.undo(viewer)
    assert annotator.labels.data.max() == 0
    commands.redo(viewer)
    assert annotator.labels.data.max() == 1
    annotator.points.add([(40, 60)])
    commands.clear(viewer)
    assert len(annotator.points.data) == 0


def test_commands_take_tools_in_hand(annotator: Controller, viewer: Any) -> None:
    for command, tool in [
        (commands.boxes, Tool.BOX),
        (commands.negative_points, Tool.NEGATIVE),
        (commands.positive_points, Tool.POSITIVE),
    ]:
        command(viewer)
        assert annotator.tools.current is tool


def test_the_annotation_whose_layer_is_selected_is_meant(annotator: Controller, viewer: Any) -> None:
    viewer.add_image(np.zeros(SHAPE, np.uint8))
    commands.start(viewer)
    viewer.layers.selection.active = annotator.labels
    commands.negative_points(viewer)
    assert annotator.tools.polarity == 0
    assert open_controllers(viewer)[1].tools.polarity == 1


@pytest.mark.parametrize("command", [commands.commit, commands.start])
def test_without_an_image_a_command_says_so(monkeypatch: pytest.MonkeyPatch, command: Any) -> None:
    said: list[str] = []
    monkeypatch.setattr(commands, "show_warning", said.append)
    monkeypatch.setattr(keys, "show_warning", said.append)
    command(ViewerModel())
    assert len(said) == 1
    assert "image" in said[0]
