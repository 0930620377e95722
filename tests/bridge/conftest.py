"""An annotation in a viewer model: real layers and their events, no window, a predictor that answers with disks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from annotating import SHAPE
from fakes import PATIENCE, FakePredictor
from mouse import Mouse
from napari.components import ViewerModel
from napari.layers import Image

import napari_sam
from napari_sam.bridge.controller import Controller
from napari_sam.bridge.registry import open_controllers


@pytest.fixture
def viewer() -> Iterator[ViewerModel]:
    model = ViewerModel()
    yield model
    for controller in open_controllers(model):
        controller.close()


@pytest.fixture
def image(viewer: ViewerModel) -> Image:
    """Noise whose pixels are no squares of the world and do not begin at its origin."""
    noise = np.random.default_rng(0).integers(0, 4000, SHAPE, dtype=np.uint16)
    return viewer.add_image(noise, scale=(2, 3), translate=(10, -20))


@pytest.fixture
def annotator(viewer: ViewerModel, image: Image, predictor: FakePredictor) -> Controller:
    """The annotation of `image`, which is encoded."""
    controller = napari_sam.annotate(viewer, image)
    controller.wait(PATIENCE)
    return controller


@pytest.fixture
def mouse(annotator: Controller) -> Mouse:
    return Mouse(annotator.viewer)
