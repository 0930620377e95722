"""The dock in a viewer with a window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from docks import Opener
from fakes import FakePredictor
from napari import Viewer
from npe2 import PluginManager

from napari_sam.bridge.registry import open_controllers
from napari_sam.errors import CheckpointError
from napari_sam.widgets import dock as dock_module
from napari_sam.widgets.dock import SegmentAnythingDock
from napari_sam.worker import ModelChoice


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
