"""An annotation in a viewer model: real layers and their events, no window, a predictor that answers with disks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotating import SHAPE, Begin
from fakes import PATIENCE, FakePredictor
from mouse import Mouse
from napari.components import ViewerModel
from napari.layers import Image
from numpy.typing import NDArray

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


# Journals


@pytest.fixture
def pixels() -> NDArray[np.uint16]:
    """A stack of noise."""
    return np.random.default_rng(0).integers(0, 4000, (4, *SHAPE), dtype=np.uint16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the journals of `begin` go."""
    return tmp_path / "journals"


@pytest.fixture
def begin(pixels: NDArray[np.uint16], folder: Path, predictor: FakePredictor) -> Iterator[Begin]:
    """Annotates `pixels`, or others, at slice 1, each time in a viewer of its own."""
    begun: list[Controller] = []

    def begin(data: object = pixels, **options: Any) -> Controller:
        viewer = ViewerModel()
        image = viewer.add_image(data, contrast_limits=(0, 4000))
        viewer.dims.set_current_step(0, 1)
        if "labels" in options:
            options["labels"] = viewer.add_labels(options["labels"])
        begun.append(napari_sam.annotate(viewer, image, **{"journal": folder, **options}))
        return begun[-1]

    yield begin
    for controller in begun:
        controller.close()
