"""Outlines, strokes and objects of labels layers as prompts, drawn with the mouse or put into layers."""

from __future__ import annotations

from typing import Any

import dask.array
import numpy as np
import pandas as pd
import pytest
from annotating import SHAPE
from fakes import PATIENCE, FakePredictor, disk
from mouse import Mouse
from napari.components import ViewerModel
from napari.layers import Image, Shapes

import napari_sam
from napari_sam.bridge.controller import Controller
from napari_sam.bridge.looks import COLOURS, SHAPE_COLOUR
from napari_sam.bridge.tools import Tool
from napari_sam.errors import LabelsError
from napari_sam.worker import ModelChoice

SQUARE = np.array([(10, 20), (10, 40), (30, 40), (30, 20)], float)


@pytest.fixture
def image(viewer: ViewerModel) -> Image:
    return viewer.add_image(np.zeros(SHAPE, np.uint8), scale=(2, 2))


def rgb(colour: str) -> list[float]:
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]


@pytest.mark.parametrize("kind", ["polygon", "ellipse"])
def test_an_outline_is_a_box_and_its_inside_a_mask(annotator: Controller, predictor: FakePredictor, kind: str) -> None:
    annotator.shapes.add([SQUARE], shape_type=kind)
    annotator.wait(PATIENCE)
    asked = predictor.asked[-1]
    assert np.allclose(asked.boxes, [(10, 20, 30, 40)])
    mask = np.asarray(asked.mask)
    assert mask.shape == SHAPE
    assert mask[20, 30]
    assert mask[11, 21] == (kind == "polygon")
    assert not mask[20, 45]


def test_a_lasso_is_one_object_asked_when_it_is_closed(
    annotator: Controller, mouse: Mouse, predictor: FakePredictor
) -> None:
    annotator.tools.take(Tool.LASSO)
    corners = [(20, 40), (20, 60), (20, 80), (40, 80), (60, 80), (60, 60), (60, 40)]
    mouse.press(corners[0])
    for corner in corners[1:]:
        mouse.move(corner)
        annotator.wait(PATIENCE)
    assert predictor.asked == []
    mouse.release(corners[-1])
    annotator.wait(PATIENCE)
    assert annotator.shapes.shape_type == ["polygon"]
    assert len(predictor.asked) == 1
    assert np.asarray(predictor.asked[-1].mask)[15, 30]
    annotator.commit()
    assert set(np.unique(annotator.labels.data)) == {0, 1}
    assert annotator.tools.current is Tool.LASSO


def test_another_outline_in_the_same_box_is_asked_anew(annotator: Controller, predictor: FakePredictor) -> None:
    annotator.shapes.add_polygons(SQUARE)
    annotator.wait(PATIENCE)
    before = np.asarray(predictor.asked[-1].mask).sum()
    annotator.shapes.data = [np.insert(SQUARE, 2, (20, 30), axis=0)]
    annotator.wait(PATIENCE)
    assert len(predictor.asked) == 2
    assert np.asarray(predictor.asked[-1].mask).sum() < before
    annotator.undo()
    annotator.wait(PATIENCE)
    assert np.asarray(predictor.asked[-1].mask).sum() == before


def test_a_click_corrects_the_answer_to_an_outline(annotator: Controller, predictor: FakePredictor) -> None:
    annotator.shapes.add_polygons(SQUARE)
    annotator.wait(PATIENCE)
    answer = annotator.candidates[0][0]
    annotator.set_polarity(0)
    annotator.points.add([(12, 22)])
    annotator.wait(PATIENCE)
    assert predictor.asked[-1].mask is answer
    assert predictor.asked[-1].labels.tolist() == [0]


def test_another_model_is_asked_the_outline_itself(
    annotator: Controller, predictor: FakePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotator.shapes.add_polygons(SQUARE)
    annotator.points.add([(20, 30)])
    annotator.wait(PATIENCE)
    second = FakePredictor()
    monkeypatch.setattr(ModelChoice, "load", lambda *_: second)
    annotator.set_model(ModelChoice("mobile_sam"))
    annotator.wait(PATIENCE)
    assert np.asarray(second.asked[-1].mask).sum() == np.asarray(predictor.asked[0].mask).sum()


def test_shapes_of_one_named_object_are_one_area(viewer: ViewerModel, predictor: FakePredictor) -> None:
    viewer.add_image(np.zeros(SHAPE, np.uint8))
    shapes = Shapes(
        [SQUARE, np.add(SQUARE, (0, 30))],
        shape_type=["rectangle", "polygon"],
        features=pd.DataFrame({"object": [7, 7]}),
    )
    annotator = napari_sam.annotate(viewer, shapes=shapes)
    annotator.wait(PATIENCE)
    (asked,) = predictor.asked
    assert asked.boxes.tolist() == [[10, 20, 30, 70]]
    mask = np.asarray(asked.mask)
    assert mask[20, 30]
    assert mask[20, 60]
    assert not mask[20, 45]


def test_a_stroke_is_points_along_it_and_the_mask_follows(
    annotator: Controller, mouse: Mouse, predictor: FakePredictor
) -> None:
    annotator.tools.take(Tool.SCRIBBLE)
    mouse.press((40, 40))
    for col in range(50, 130, 10):
        mouse.move((40, col))
        annotator.wait(PATIENCE)
    assert len(predictor.asked) > 3
    mouse.release((40, 120))
    annotator.wait(PATIENCE)
    asked = predictor.asked[-1]
    assert (asked.points[:, 0] == 20).all()
    assert (np.diff(asked.points[:, 1]) > 0).all()
    assert asked.points[:, 1].min() >= 20
    assert asked.labels.tolist() == [1] * len(asked.points)
    assert len(asked.boxes) == 0
    annotator.undo()
    assert len(annotator.shapes.data) == 0
    assert not annotator.can_undo


@pytest.mark.parametrize("how", ["right", "ctrl", "toggle"])
def test_a_negative_stroke_corrects_the_object_at_hand(
    annotator: Controller, mouse: Mouse, predictor: FakePredictor, how: str
) -> None:
    annotator.shapes.add_rectangles(SQUARE)
    annotator.tools.take(Tool.SCRIBBLE)
    if how == "toggle":
        annotator.tools.toggle_polarity()
    mouse.press((24, 44), 2 if how == "right" else 1, ("Control",) if how == "ctrl" else ())
    for col in range(48, 76, 4):
        mouse.move((24, col))
    mouse.release((24, 76))
    annotator.wait(PATIENCE)
    assert len(predictor.asked[-1].boxes) == 1
    assert set(predictor.asked[-1].labels) == {0}
    assert annotator.shapes.features["label"].tolist() == [1, 0]
    colours = np.asarray(annotator.shapes.edge_color)[:, :3]
    assert np.allclose(colours, [rgb(SHAPE_COLOUR), rgb(COLOURS[0])], atol=0.01)
    annotator.commit()
    assert set(np.unique(annotator.labels.data)) == {0, 1}
    assert len(annotator.shapes.data) == 0


def test_points_show_their_polarity_as_a_symbol_too(annotator: Controller, mouse: Mouse) -> None:
    mouse.click((40, 60))
    mouse.click((50, 70), button=2)
    assert [str(symbol) for symbol in annotator.points.symbol] == ["disc", "cross"]
    annotator.points.features = pd.DataFrame({"label": [0, 1]})
    assert [str(symbol) for symbol in annotator.points.symbol] == ["cross", "disc"]
    annotator.undo()
    assert [str(symbol) for symbol in annotator.points.symbol] == ["disc", "cross"]


def test_a_labelled_object_is_a_prompt(annotator: Controller, predictor: FakePredictor) -> None:
    picture = disk(SHAPE, np.array([(25, 40)]), 12) & ~disk(SHAPE, np.array([(25, 40)]), 4)
    other = annotator.viewer.add_labels(picture * 5, scale=(2, 2))
    annotator.outline_object(other, 5)
    annotator.wait(PATIENCE)
    assert (np.asarray(predictor.asked[-1].mask) == picture).all()
    assert predictor.asked[-1].boxes.round().tolist() == [[12, 28, 38, 52]]
    annotator.undo()
    assert len(annotator.shapes.data) == 0
    with pytest.raises(LabelsError, match="no pixel of object 6"):
        annotator.outline_object(other, 6)


def test_a_labelled_object_is_taken_from_the_slice_shown_under_the_cursor(
    viewer: ViewerModel, predictor: FakePredictor
) -> None:
    viewer.add_image(np.zeros((4, *SHAPE), np.uint8))
    labels = np.zeros((4, *SHAPE), int)
    labels[2, 10:20, 30:50] = 9
    viewer.add_labels(labels)
    viewer.dims.set_current_step(0, 2)
    annotator = napari_sam.annotate(viewer)
    viewer.cursor.position = (2, 40, 40)
    with pytest.raises(LabelsError, match="under the cursor"):
        annotator.outline_object_under_cursor()
    viewer.cursor.position = (2, 15, 40)
    annotator.outline_object_under_cursor()
    annotator.wait(PATIENCE)
    assert np.asarray(predictor.asked[-1].mask).sum() == 200
    assert annotator.shapes.data[0][0][0] == 2


@pytest.mark.parametrize("kind", ["lazy", "pyramid", "read-only"])
def test_labels_that_cannot_be_written_are_prompts_all_the_same(
    annotator: Controller, predictor: FakePredictor, kind: str
) -> None:
    data: Any = np.zeros(SHAPE, np.uint8)
    data[10:20, 30:50] = 9
    data.flags.writeable = False
    if kind == "lazy":
        data = dask.array.from_array(data)
    elif kind == "pyramid":
        data = [data, data[::2, ::2]]
    annotator.viewer.add_labels(data, scale=(2, 2))
    annotator.viewer.cursor.position = (30, 80)
    annotator.outline_object_under_cursor()
    annotator.wait(PATIENCE)
    assert np.asarray(predictor.asked[-1].mask).sum() == 200
