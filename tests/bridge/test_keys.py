"""Keys on the canvas, pressed as napari presses them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from annotating import SHAPE, click
from fakes import PATIENCE, FakePredictor
from napari import Viewer
from napari.components import ViewerModel
from napari.layers import Image, Layer
from napari.utils.key_bindings import KeymapHandler, coerce_keybinding
from vispy.util.keys import Key

import napari_sam
from napari_sam.bridge.controller import Controller
from napari_sam.bridge.keys import ACTIONS, Binding, keys_in_words, left_to_napari
from napari_sam.bridge.tools import Tool


@pytest.fixture
def image(viewer: ViewerModel) -> Image:
    return viewer.add_image(np.zeros(SHAPE, np.uint8))


def press(viewer: ViewerModel, key: str) -> None:
    """Press a key as the canvas does: the selected layer is asked first, then the viewer."""
    handler = KeymapHandler()
    handler.keymap_providers = [viewer.layers.selection.active, viewer]
    *modifiers, name = key.split("-")
    event = SimpleNamespace(key=Key(name), modifiers=modifiers, native=None, handled=False)
    handler.on_key_press(event)
    assert event.handled, f"nobody answers {key}"


@pytest.mark.parametrize("name", ["points", "shapes", "preview"])
def test_enter_commits_and_undo_and_redo_follow(annotator: Controller, name: str) -> None:
    click(annotator, 20, 30)
    annotator.viewer.layers.selection.active = getattr(annotator, name)
    press(annotator.viewer, "Enter")
    assert annotator.labels.data[20, 30] == 1
    press(annotator.viewer, "Control-Z")
    assert not annotator.labels.data.any()
    press(annotator.viewer, "Control-Shift-Z")
    assert annotator.labels.data[20, 30] == 1


def test_escape_clears(annotator: Controller) -> None:
    click(annotator, 20, 30)
    press(annotator.viewer, "Escape")
    assert len(annotator.points.data) == 0
    assert annotator.candidates == ()


def test_t_toggles_polarity_of_points_that_follow(annotator: Controller) -> None:
    annotator.points.add((20, 30))
    press(annotator.viewer, "T")
    annotator.points.add((40, 50))
    press(annotator.viewer, "T")
    annotator.points.add((30, 30))
    assert list(annotator.points.features["label"]) == [1, 0, 1]


@pytest.mark.parametrize(("key", "tool"), [("P", Tool.POSITIVE), ("N", Tool.NEGATIVE), ("B", Tool.BOX)])
@pytest.mark.parametrize("start", list(Tool))
def test_tool_keys_take_the_tool_from_any_other(annotator: Controller, start: Tool, key: str, tool: Tool) -> None:
    annotator.tools.take(start)
    press(annotator.viewer, key)
    assert annotator.tools.current is tool


def test_c_goes_round_the_candidates(annotator: Controller) -> None:
    press(annotator.viewer, "C")  # nothing to choose from is no error
    click(annotator, 20, 30)
    assert annotator.chosen == 2
    chosen = []
    for _ in range(3):
        press(annotator.viewer, "C")
        chosen.append(annotator.chosen)
    assert chosen == [0, 1, 2]


@pytest.mark.parametrize("key", ["Enter", "Escape"])
def test_keys_finish_a_polygon_that_is_drawn(
    make_napari_viewer: Callable[..., Viewer], predictor: FakePredictor, key: str
) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros(SHAPE, np.uint8))
    annotator = napari_sam.annotate(viewer)
    corners = [(10, 10), (10, 40), (40, 40)]
    start_polygon(annotator, corners)
    press(viewer, key)
    annotator.wait(PATIENCE)
    assert annotator.shapes.shape_type == ["polygon"]
    assert annotator.shapes.data[0].tolist() == [list(map(float, corner)) for corner in corners]
    assert not annotator.labels.data.any()
    press(annotator.viewer, "Enter")
    assert annotator.labels.data[20, 20] == 1


@pytest.fixture
def in_window(make_napari_viewer: Callable[..., Viewer], predictor: FakePredictor) -> Iterator[Controller]:
    """An annotation in a window, which alone binds napari's own keys."""
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros(SHAPE, np.uint8))
    controller = napari_sam.annotate(viewer)
    controller.wait(PATIENCE)
    yield controller
    controller.close()


def test_on_the_labels_keys_of_napari_are_napari_s(in_window: Controller) -> None:
    viewer, labels = in_window.viewer, in_window.labels
    click(in_window, 20, 30)
    viewer.layers.selection.active = labels
    left = left_to_napari(viewer)
    assert {ACTIONS[name].key for name in left} == {"P", "B", "L", "M", "Control-Z", "Control-Shift-Z"}
    assert not any(isinstance(act, Binding) for key in ("P", "M") if (act := labels.keymap.get(coerce_keybinding(key))))
    before = labels.preserve_labels
    press(viewer, "B")
    assert labels.preserve_labels is not before
    press(viewer, "P")
    assert labels.mode == "paint"
    labels.data_setitem((np.array([5]), np.array([5])), 7)
    press(viewer, "M")
    assert labels.selected_label == 8
    press(viewer, "Control-Z")
    assert not labels.data.any()
    assert len(in_window.points.data) == 1


def test_on_the_labels_keys_that_napari_leaves_free_are_ours(in_window: Controller) -> None:
    viewer, labels = in_window.viewer, in_window.labels
    click(in_window, 20, 30)
    viewer.layers.selection.active = labels
    press(viewer, "C")
    assert in_window.chosen == 0
    press(viewer, "Enter")
    assert labels.data[20, 30] == 1
    assert viewer.layers.selection.active is labels
    viewer.cursor.position = (20, 30)
    press(viewer, "O")
    assert [len(in_window.candidates), len(in_window.points.data)] == [1, 1]
    press(viewer, "Escape")
    assert len(in_window.points.data) == 0
    press(viewer, "N")
    assert in_window.tools.current is Tool.NEGATIVE


@pytest.mark.parametrize(("key", "painted"), [("Enter", True), ("Escape", False)])
def test_a_polygon_of_labels_is_finished_first(in_window: Controller, key: str, painted: bool) -> None:
    viewer, labels = in_window.viewer, in_window.labels
    click(in_window, 20, 30)
    viewer.layers.selection.active = labels
    labels.mode, labels.selected_label = "polygon", 9
    polygon = labels._overlays["polygon"]
    polygon.points = [(40, 50), (40, 70), (55, 70)]
    press(viewer, key)
    assert polygon.points == []
    assert set(np.unique(labels.data)) == ({0, 9} if painted else {0})
    assert len(in_window.points.data) == 1
    labels.mode = "pan_zoom"
    press(viewer, "Enter")
    assert labels.data[20, 30] > 0


def test_keys_follow_to_other_labels(in_window: Controller) -> None:
    viewer, former = in_window.viewer, in_window.labels
    keymap = dict(in_window.labels.keymap)
    assert keymap
    in_window.set_labels(None)
    assert former.keymap == {}
    assert in_window.labels.keymap.keys() == keymap.keys()
    click(in_window, 20, 30)
    viewer.layers.selection.active = in_window.labels
    press(viewer, "Enter")
    assert in_window.labels.data[20, 30] == 1


def test_two_annotations_of_the_same_labels_end_in_any_order(predictor: FakePredictor) -> None:
    viewer = ViewerModel()
    images = [viewer.add_image(np.zeros(SHAPE, np.uint8)) for _ in range(2)]
    labels = viewer.add_labels(np.zeros(SHAPE, np.uint8))
    first, second = (napari_sam.annotate(viewer, image, labels=labels) for image in images)
    first.close()
    click(second, 20, 30)
    viewer.layers.selection.active = labels
    press(viewer, "Enter")
    assert labels.data[20, 30] == 1
    second.close()
    assert labels.keymap == {}


def test_the_list_of_keys_says_what_is_napari_s(in_window: Controller) -> None:
    lines = keys_in_words(in_window.viewer)
    assert any("<b>Enter</b> Write" in line for line in lines)
    assert any("<b>M</b>" in line and "<b>Ctrl+Z</b>" in line and "napari's own" in line for line in lines)


def start_polygon(annotator: Controller, corners: list[tuple[int, int]]) -> None:
    """Click a polygon's corners and leave it open, through the callbacks that napari's canvas calls."""
    from napari.layers.shapes._shapes_mouse_bindings import add_path_polygon, polygon_creating

    shapes = annotator.shapes
    annotator.viewer.layers.selection.active = shapes
    shapes.mode = "add_polygon"
    for corner in corners:
        event = Press(corner)
        polygon_creating(shapes, event)
        list(add_path_polygon(shapes, event) or ())


class Press:
    """What napari's mouse callbacks read of an event."""

    type = "mouse_press"
    button = 1
    modifiers: tuple[str, ...] = ()

    def __init__(self, place: tuple[int, int]) -> None:
        self.position = tuple(map(float, place))
        self.pos = np.array(place[::-1], float) * 10


def test_close_gives_bound_layers_their_keys_back(viewer: ViewerModel, image: Image, predictor: FakePredictor) -> None:
    points = viewer.add_points(ndim=2)
    pressed: list[Layer] = []
    points.bind_key("Enter", pressed.append)
    annotator = napari_sam.annotate(viewer, image, points=points)
    keys_while_open = set(points.keymap)
    annotator.close()
    viewer.layers.selection.active = points
    press(viewer, "Enter")
    assert pressed == [points]
    assert len(points.keymap) == 1 < len(keys_while_open)
