"""Masks that follow the hand: presses, drags and drawing, as napari's canvas tells of them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
from annotating import SHAPE, shifted
from fakes import PATIENCE, FakePredictor, disk
from mouse import PIXELS, Mouse
from napari.components import ViewerModel
from napari.layers import Image, Shapes

import napari_sam
from napari_sam.bridge.controller import Controller
from napari_sam.bridge.mask_layer import ACTIVE, OTHER
from napari_sam.bridge.tools import Tool
from napari_sam.embedding import ImageEmbedding
from napari_sam.masks import MaskResult
from napari_sam.prompts import Prompts


@pytest.fixture
def image(viewer: ViewerModel) -> Image:
    return viewer.add_image(np.zeros(SHAPE, np.uint8))


def shown(annotator: Controller) -> np.ndarray:
    annotator.wait(PATIENCE)
    return annotator.preview.data > 0


def steps(annotator: Controller) -> int:
    """Undo everything and return how many steps that took."""
    count = 0
    while annotator.can_undo:
        annotator.undo()
        count += 1
    return count


def test_a_click_is_answered_at_the_press_and_asked_once(
    annotator: Controller, mouse: Mouse, predictor: FakePredictor
) -> None:
    mouse.press((20, 30))
    assert (shown(annotator) == disk(SHAPE, np.array([(20, 30)]), 16)).all()
    assert len(annotator.points.data) == 0
    mouse.release((20, 30))
    annotator.wait(PATIENCE)
    assert annotator.points.data.tolist() == [[20, 30]]
    assert len(predictor.asked) == 1
    assert steps(annotator) == 1


@pytest.mark.parametrize(("button", "modifiers"), [(2, ()), (1, ("Control",))])
def test_a_right_or_ctrl_press_is_answered_as_negative(
    annotator: Controller, mouse: Mouse, predictor: FakePredictor, button: int, modifiers: tuple[str, ...]
) -> None:
    mouse.click((20, 30))
    mouse.press((25, 35), button, modifiers)
    annotator.wait(PATIENCE)
    assert predictor.asked[-1].labels.tolist() == [1, 0]
    mouse.release((25, 35))
    assert annotator.points.features["label"].tolist() == [1, 0]


def test_a_press_that_trembles_is_followed(annotator: Controller, mouse: Mouse, predictor: FakePredictor) -> None:
    mouse.press((20, 30))
    mouse.move((20, 30 + 4 / PIXELS))
    annotator.wait(PATIENCE)
    assert predictor.asked[-1].points.tolist() == [[20, 30.4]]
    mouse.release((20, 30.4))
    assert annotator.points.data.tolist() == [[20, 30.4]]


def test_a_press_that_turns_into_a_pan_is_taken_back(annotator: Controller, mouse: Mouse) -> None:
    mouse.press((20, 30))
    assert shown(annotator).any()
    mouse.move((20, 31))
    assert not shown(annotator).any()
    mouse.release((20, 31))
    assert len(annotator.points.data) == 0
    assert not annotator.can_undo


@pytest.mark.parametrize("action", ["commit", "clear", "undo", "redo"])
def test_what_is_done_during_a_press_leaves_the_click_for_the_release(
    annotator: Controller, mouse: Mouse, action: str
) -> None:
    mouse.click((20, 30))
    annotator.wait(PATIENCE)
    mouse.press((40, 70))
    annotator.wait(PATIENCE)
    getattr(annotator, action)()
    before = annotator.points.data.tolist()
    assert [40, 70] not in before
    mouse.release((40, 70))
    annotator.wait(PATIENCE)
    assert annotator.points.data.tolist() == [*before, [40, 70]]
    annotator.undo()
    assert annotator.points.data.tolist() == before


def test_a_press_without_a_point_leaves_nothing_behind(annotator: Controller, mouse: Mouse) -> None:
    mouse.press((20, 30))
    annotator.points.mode = "pan_zoom"
    mouse.release((20, 30))
    assert shown(annotator).any() == bool(len(annotator.points.data))


def test_a_dragged_point_takes_its_mask_along_and_is_one_step(annotator: Controller, mouse: Mouse) -> None:
    mouse.click((20, 30))
    annotator.points.mode = "select"
    mouse.press((20, 30))
    for col in (40, 50, 60):
        mouse.move((20, col))
        assert (shown(annotator) == disk(SHAPE, np.array([(20, col)]), 16)).all()
    mouse.release((20, 60))
    annotator.undo()
    assert annotator.points.data.tolist() == [[20, 30]]
    annotator.redo()
    assert annotator.points.data.tolist() == [[20, 60]]


def test_a_box_is_answered_while_it_is_drawn_and_is_one_step(
    annotator: Controller, mouse: Mouse, predictor: FakePredictor
) -> None:
    annotator.tools.take(Tool.BOX)
    mouse.press((10, 10))
    for end in ((15, 20), (20, 30), (30, 40)):
        mouse.move(end)
        annotator.wait(PATIENCE)
    assert shown(annotator)[10:31, 10:41].all()
    assert predictor.asked[-2].boxes.tolist() == [[10, 10, 20, 30]]
    mouse.release((30, 40))
    assert steps(annotator) == 1


@pytest.mark.parametrize("mode", ["add_rectangle", "add_ellipse"])
def test_a_click_with_the_box_tool_leaves_nothing_and_says_why(
    annotator: Controller, mouse: Mouse, predictor: FakePredictor, mode: str
) -> None:
    annotator.tools.take(Tool.BOX)
    mouse.drag((10, 10), (20, 20))
    annotator.wait(PATIENCE)
    annotator.shapes.mode = mode
    asked = len(predictor.asked)
    mouse.press((30, 30))
    mouse.move((30.2, 30.2))
    annotator.wait(PATIENCE)
    mouse.release((30.2, 30.2))
    annotator.wait(PATIENCE)
    assert len(annotator.shapes.data) == len(annotator.shapes.features) == 1
    assert "drag" in annotator.status.message
    assert len(predictor.asked) == asked
    annotator.shapes.add_rectangles([[40, 40], [50, 50]])  # a script's box, though no mouse has opened it
    mouse.drag((60, 60), (60.2, 60.2), (70, 70), (60.2, 60.2))
    assert len(annotator.shapes.data) == 3
    assert steps(annotator) == 3


def boxes(annotator: Controller) -> list[list[float]]:
    """Return the boxes that the shapes layer holds and the annotation knows, as (row0, col0, row1, col1)."""
    annotator.wait(PATIENCE)
    known = [row.data for row in annotator._annotator.slices.rows.values()]
    assert [data.tolist() for data in known] == [np.asarray(data, float).tolist() for data in annotator.shapes.data]
    return [[*data.min(0), *data.max(0)] for data in known]


BOXES = [[10.0, 10.0, 20.0, 20.0], [30.0, 30.0, 40.0, 40.0]]
SCRIPTED = [60.0, 60.0, 70.0, 70.0]


@pytest.mark.parametrize("when", ["during the press", "at once after the click"])
@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (lambda annotator: annotator.undo(), BOXES[:1]),
        (lambda annotator: annotator.clear(), []),
        (lambda annotator: annotator.commit(), []),
        (lambda annotator: annotator.tools.take(Tool.POSITIVE), BOXES),
        (lambda annotator: annotator.tools.take(Tool.LASSO), BOXES),
        (lambda annotator: annotator.tools.take(Tool.SCRIBBLE), BOXES),
        (lambda annotator: setattr(annotator.shapes, "mode", "pan_zoom"), BOXES),
        (lambda annotator: annotator.shapes.remove_selected(), BOXES),
    ],
    ids=["undo", "clear", "commit", "points", "lasso", "scribble", "pan", "delete"],
)
def test_what_is_done_about_a_click_with_the_box_tool_loses_no_box(
    annotator: Controller, mouse: Mouse, act: Callable[[Controller], None], expected: list[list[float]], when: str
) -> None:
    annotator.tools.take(Tool.BOX)
    for box in BOXES:
        mouse.drag((box[0], box[1]), (box[2], box[3]))
        annotator.wait(PATIENCE)
    mouse.press((50, 50))
    if when == "during the press":
        act(annotator)
        annotator.wait(PATIENCE)
        mouse.move((52, 52))
        mouse.release((52, 52))
    else:
        mouse.release((50, 50))
        act(annotator)
    assert boxes(annotator) == expected
    annotator.shapes.add_rectangles([[60, 60], [70, 70]])
    assert boxes(annotator) == [*expected, SCRIPTED]


def test_clicks_with_the_box_tool_take_no_box_of_a_script_along(annotator: Controller, mouse: Mouse) -> None:
    annotator.tools.take(Tool.BOX)
    mouse.click((50, 50))
    mouse.click((52, 52))
    annotator.shapes.add_rectangles([[60, 60], [70, 70]])
    assert boxes(annotator) == [SCRIPTED]
    mouse.click((50, 50))
    shapes = annotator.shapes
    annotator.close()
    assert len(shapes.data) == 0


@pytest.mark.parametrize("mode", ["direct", "select"])
def test_a_dragged_box_takes_its_mask_along_and_is_one_step(
    annotator: Controller, mouse: Mouse, predictor: FakePredictor, mode: str
) -> None:
    annotator.tools.take(Tool.BOX)
    mouse.drag((10, 10), (20, 20), (30, 40))
    annotator.wait(PATIENCE)
    annotator.shapes.mode = mode
    start = (30, 40) if mode == "direct" else (20, 25)
    mouse.press(start)
    asked = len(predictor.asked)
    for step in (1, 2, 3):
        mouse.move((start[0] + step, start[1] + step))
        annotator.wait(PATIENCE)
    assert len(predictor.asked) == asked + 3
    assert predictor.asked[-1].boxes[0, 2:].tolist() == [33, 43]
    mouse.release((33, 43))
    assert steps(annotator) == 2


def test_the_mask_follows_a_hand_that_is_quicker_than_the_network(
    annotator: Controller, mouse: Mouse, predictor: FakePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, decoding = predictor.decode, threading.Event()

    def tell_and_decode(embedding: ImageEmbedding, prompts: Prompts) -> MaskResult:
        decoding.set()
        return decode(embedding, prompts)

    mouse.click((20, 30))
    annotator.wait(PATIENCE)
    monkeypatch.setattr(predictor, "decode", tell_and_decode)
    annotator.points.mode = "select"
    mouse.press((20, 30))
    seen: set[int] = set()
    annotator.events.mask_changed.connect(lambda: seen.add(int(np.nonzero(annotator.preview.data)[1].min())))
    for col in range(40, 60, 4):
        predictor.may_decode.clear()
        decoding.clear()
        mouse.move((20, col))
        assert decoding.wait(PATIENCE)
        mouse.move((20, col + 2))  # a newer question, before the older one is answered
        predictor.may_decode.set()
        annotator.wait(PATIENCE)
    mouse.release((20, 58))
    assert seen >= {col - 16 for col in range(40, 60, 2)}


def test_an_answer_that_comes_after_the_object_is_gone_is_not_shown(
    annotator: Controller, predictor: FakePredictor
) -> None:
    predictor.may_decode.clear()
    annotator.points.add([(20, 30)])
    annotator.clear()
    predictor.may_decode.set()
    assert not shown(annotator).any()
    assert annotator.candidates == ()


def test_of_many_objects_each_answer_paints_its_own_alone(
    viewer: ViewerModel, image: Image, predictor: FakePredictor
) -> None:
    boxes = [shifted(row, col) for row in range(0, 25, 6) for col in range(0, 40, 8)]  # which overlap
    shapes = Shapes(boxes)
    annotator = napari_sam.annotate(viewer, image, shapes=shapes)
    painted: list[tuple[int, ...]] = []
    annotator.preview.events.labels_update.connect(lambda event: painted.append(event.data.shape))
    annotator.wait(PATIENCE)
    assert len(painted) == len(boxes)
    annotator.shapes.selected_data = {3, 7}
    annotator.shapes.remove_selected()
    annotator.wait(PATIENCE)
    expected = np.zeros(SHAPE, np.uint8)
    for value, box in [*((OTHER, box) for box in annotator.shapes.data), (ACTIVE, annotator.shapes.data[-1])]:
        (row0, col0), (row1, col1) = box.min(0).astype(int), box.max(0).astype(int)
        expected[row0 : row1 + 1, col0 : col1 + 1] = value
    assert (annotator.preview.data == expected).all()
