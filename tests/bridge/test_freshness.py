"""Pixels that a script writes into the image's own array, of which napari tells no more than of a refresh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array
import numpy as np
import pytest
from annotating import SHAPE, click, ids, put
from fakes import PATIENCE, FakePredictor
from napari.components import ViewerModel
from napari.layers import Image

import napari_sam
from napari_sam.bridge import freshness
from napari_sam.bridge.controller import Controller
from napari_sam.bridge.freshness import Freshness
from napari_sam.pending import ImageSource
from napari_sam.planes import SliceKey

PLANE = SliceKey((0, 1), (None, None))


def test_other_pixels_are_encoded_and_asked_the_same(
    annotator: Controller, image: Image, predictor: FakePredictor
) -> None:
    put(annotator, 50, 80)
    click(annotator, 20, 30)
    image.data[:] = 7
    image.refresh()
    annotator.wait(PATIENCE)
    assert len(predictor.encoded) == 2
    assert (predictor.encoded[-1] == 7).all()
    assert predictor.asked[-1].points.tolist() == [[20, 30]]
    annotator.commit()
    assert ids(annotator) == {1, 2}


def test_the_same_pixels_are_not_encoded_again(annotator: Controller, image: Image, predictor: FakePredictor) -> None:
    click(annotator, 20, 30)
    asked = len(predictor.asked)
    image.refresh()
    image.visible = False
    image.visible = True
    image.contrast_limits = (0, 100)
    annotator.wait(PATIENCE)
    assert len(predictor.encoded) == 1
    assert len(predictor.asked) == asked


def test_another_array_is_encoded_once(annotator: Controller, image: Image, predictor: FakePredictor) -> None:
    image.data = image.data + 1
    annotator.wait(PATIENCE)
    assert len(predictor.encoded) == 2


def test_a_refresh_that_is_answered_after_the_end_is_left_alone(annotator: Controller, image: Image) -> None:
    image.data[:] = 7
    image.refresh()
    annotator.close()
    annotator.mailbox.deliver()


def test_a_plane_that_was_written_while_another_was_shown(viewer: ViewerModel, predictor: FakePredictor) -> None:
    image = viewer.add_image(np.zeros((3, *SHAPE), np.uint8))
    viewer.dims.set_current_step(0, 1)
    annotator = napari_sam.annotate(viewer, image)
    annotator.wait(PATIENCE)
    viewer.dims.set_current_step(0, 2)
    annotator.wait(PATIENCE)
    image.data[1] = 9
    image.refresh()
    viewer.dims.set_current_step(0, 1)
    annotator.wait(PATIENCE)
    assert (predictor.encoded[-1] == 9).all()
    seen = len(predictor.encoded)
    viewer.dims.set_current_step(0, 0)
    viewer.dims.set_current_step(0, 1)
    annotator.wait(PATIENCE)
    assert not any((plane == 9).all() for plane in predictor.encoded[seen:])


def test_lazy_arrays_are_not_read_for_it(viewer: ViewerModel, predictor: FakePredictor) -> None:
    reads = []

    def read(block: Any) -> Any:
        reads.append(block.shape)
        return block

    lazy = dask.array.zeros(SHAPE, np.uint8, chunks=SHAPE).map_blocks(read, meta=np.zeros((0, 0), np.uint8))
    image = viewer.add_image(lazy, contrast_limits=(0, 1), cache=False)
    annotator = napari_sam.annotate(viewer, image)
    annotator.wait(PATIENCE)
    before = len(reads)
    image.refresh()
    for_napari = len(reads) - before
    annotator.wait(PATIENCE)
    assert len(reads) == before + for_napari
    assert len(predictor.encoded) == 1


# What is looked at


@pytest.fixture(params=[np.bool_, np.uint8, ">i2", np.float16, np.float64])
def plane(request: pytest.FixtureRequest) -> np.ndarray[Any, Any]:
    return np.zeros((40, 30), request.param)


def turned(plane: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return plane.T


def coloured(plane: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.stack([plane] * 3, axis=-1)


@pytest.mark.parametrize("seen", [np.asarray, turned, coloured, lambda plane: plane[::-1, ::2]])
def test_every_pixel_of_any_array_counts(
    plane: np.ndarray[Any, Any], seen: Callable[[Any], np.ndarray[Any, Any]]
) -> None:
    fresh, pixels = Freshness(), seen(plane)
    source = ImageSource(PLANE, pixels)
    assert not fresh.is_lost(source)
    assert not fresh.is_lost(source)
    pixels[3, 4] = 1
    assert fresh.is_lost(source)


def test_of_large_planes_some_rows_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "READ", 500)
    fresh, pixels = Freshness(), np.zeros((40, 30), np.uint8)
    source = ImageSource(PLANE, pixels)
    assert not fresh.is_lost(source)
    pixels[:] = 1
    assert fresh.is_lost(source)


def test_what_is_forgotten_is_new() -> None:
    fresh, pixels = Freshness(), np.zeros((40, 30), np.uint8)
    source = ImageSource(PLANE, pixels)
    assert not fresh.is_lost(source)
    pixels[:] = 1
    fresh.forget()
    assert not fresh.is_lost(source)
