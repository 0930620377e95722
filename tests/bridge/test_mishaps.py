"""What people and scripts do to layers while they are annotated: nothing is lost, and what cannot go on says why."""

from __future__ import annotations

from typing import Any

import dask.array
import numpy as np
import pytest
import torch
from annotating import SHAPE, ids, put
from fakes import PATIENCE, FakePredictor
from napari.components import ViewerModel
from napari.layers import Image

import napari_sam
from napari_sam.bridge.controller import Controller
from napari_sam.bridge.tools import Tool
from napari_sam.errors import LabelsError
from napari_sam.worker import ModelChoice


@pytest.fixture
def image(viewer: ViewerModel) -> Image:
    return viewer.add_image(np.zeros(SHAPE, np.uint16))


@pytest.fixture
def stack(viewer: ViewerModel, predictor: FakePredictor) -> Controller:
    viewer.add_image(np.zeros((3, *SHAPE), np.uint16))
    viewer.dims.set_current_step(0, 1)
    return napari_sam.annotate(viewer)


# The image


@pytest.mark.parametrize("shape", [(30, 40), (80, 100), (60, 80)])
def test_an_image_of_another_shape_takes_new_labels(
    annotator: Controller, image: Image, shape: tuple[int, int]
) -> None:
    put(annotator, 20, 20)
    annotator.reopen(1)
    before = annotator.labels.data.copy()
    image.data = np.zeros(shape, np.uint16)
    annotator.objects.set_class(1, "cell")
    annotator.points.add([(25, 35)])
    annotator.wait(PATIENCE)
    with pytest.raises(LabelsError, match="no longer has the image's shape"):
        annotator.commit()
    assert (annotator.labels.data == before).all()
    annotator.set_labels(None)
    put(annotator, 25, 35)
    assert annotator.labels.data.shape == shape
    assert annotator.labels.data[25, 35] == 1


def test_an_image_with_more_slices_takes_new_labels(stack: Controller, viewer: ViewerModel) -> None:
    stack.image_layer.data = np.zeros((6, *SHAPE), np.uint16)
    viewer.dims.set_current_step(0, 5)
    stack.points.add([(5, 20, 20)])
    stack.wait(PATIENCE)
    with pytest.raises(LabelsError, match="no longer has the image's shape"):
        stack.commit()
    stack.set_labels(None)
    stack.commit()
    assert stack.objects[1].slices == ((5,),)


def test_an_image_of_other_dimensions_ends_its_annotation(annotator: Controller, image: Image) -> None:
    put(annotator, 20, 20)
    image.data = np.zeros((3, *SHAPE), np.uint16)
    assert annotator.is_closed
    assert ids(annotator) == {1}


def test_an_image_whose_type_numpy_does_not_know(viewer: ViewerModel, predictor: FakePredictor) -> None:
    annotator = napari_sam.annotate(viewer, viewer.add_image(torch.rand(SHAPE)))
    put(annotator, 20, 20)
    assert ids(annotator) == {1}
    assert annotator.journal.path is not None


def test_an_image_that_goes_while_it_is_encoded(viewer: ViewerModel, image: Image, predictor: FakePredictor) -> None:
    predictor.may_encode.clear()
    annotator = napari_sam.annotate(viewer, image)
    annotator.points.add([(20, 20)])
    annotator.commit()
    assert predictor.encoding.wait(PATIENCE)
    viewer.layers.remove(image)
    assert annotator.is_closed
    annotator.wait(PATIENCE)
    assert annotator.labels in viewer.layers


def test_another_model_while_the_image_is_encoded(viewer: ViewerModel, image: Image, predictor: FakePredictor) -> None:
    predictor.may_encode.clear()
    annotator = napari_sam.annotate(viewer, image)
    annotator.points.add([(20, 20)])
    assert predictor.encoding.wait(PATIENCE)
    annotator.set_model(ModelChoice("another"))
    annotator.commit()
    predictor.may_encode.set()
    annotator.wait(PATIENCE)
    assert ids(annotator) == {1}


# Our layers


@pytest.mark.parametrize("name", ["points", "shapes", "preview", "labels"])
def test_removing_one_of_the_layers_ends_the_annotation(
    annotator: Controller, viewer: ViewerModel, predictor: FakePredictor, name: str
) -> None:
    put(annotator, 20, 20)
    predictor.may_decode.clear()
    annotator.points.add([(40, 60)])
    annotator.commit()
    viewer.layers.remove(getattr(annotator, name))
    predictor.may_decode.set()
    assert annotator.is_closed
    annotator.wait(PATIENCE)
    assert ids(annotator) == {1}


def test_all_layers_go_at_once(annotator: Controller, viewer: ViewerModel) -> None:
    put(annotator, 20, 20)
    annotator.points.add([(40, 60)])
    viewer.layers.clear()
    assert annotator.is_closed
    for act in (annotator.commit, annotator.clear, annotator.undo, annotator.redo):
        act()
    assert ids(annotator) == {1}
    assert not viewer.layers


def test_layers_may_be_renamed_and_moved(annotator: Controller, viewer: ViewerModel) -> None:
    for layer in viewer.layers:
        layer.name = "same"
    viewer.layers.reverse()
    put(annotator, 20, 20)
    assert ids(annotator) == {1}


def test_points_may_be_replaced_all_at_once(annotator: Controller, predictor: FakePredictor) -> None:
    annotator.points.add([(5, 5)])
    annotator.points.data = np.array([(10, 10), (20, 20), (30, 30)])
    annotator.wait(PATIENCE)
    assert predictor.asked[-1].points.tolist() == [[10, 10], [20, 20], [30, 30]]
    annotator.undo()
    assert annotator.points.data.tolist() == [[5, 5]]


# The labels


@pytest.mark.parametrize("make", ["smaller", "lazy", "read-only"])
def test_labels_that_cannot_be_written_any_more(annotator: Controller, make: str) -> None:
    put(annotator, 20, 20)
    data: Any = annotator.labels.data.copy()
    if make == "smaller":
        data = data[:30]
    elif make == "lazy":
        data = dask.array.from_array(data)
    else:
        data.flags.writeable = False
    annotator.labels.data = data
    annotator.points.add([(40, 60)])
    annotator.wait(PATIENCE)
    with pytest.raises(LabelsError, match=r"shape|not in memory|read-only"):
        annotator.commit()
    assert len(annotator.points.data) == 1
    annotator.set_labels(None)
    annotator.commit()
    assert ids(annotator) == {1}


def test_read_only_labels_are_not_bound(viewer: ViewerModel, image: Image, predictor: FakePredictor) -> None:
    data = np.zeros(SHAPE, np.uint8)
    data.flags.writeable = False
    with pytest.raises(LabelsError, match=r"read-only.*copy\(\)"):
        napari_sam.annotate(viewer, image, labels=viewer.add_labels(data))


def test_small_types_have_room_or_say_so(viewer: ViewerModel, image: Image, predictor: FakePredictor) -> None:
    data = np.zeros(SHAPE, np.int8)
    data[0, 0] = 126
    data[59, 89] = -3
    annotator = napari_sam.annotate(viewer, image, labels=viewer.add_labels(data))
    put(annotator, 20, 20)
    annotator.shapes.add_rectangles(
        [np.array([(r, c), (r, c + 9), (r + 9, c + 9), (r + 9, c)]) for r, c in ((40, 5), (45, 70))]
    )
    annotator.wait(PATIENCE)
    with pytest.raises(LabelsError, match=r"up to 127, the next object is 128.*astype"):
        annotator.commit("replace")
    assert ids(annotator) == {-3, 126, 127}
    annotator.labels.data = annotator.labels.data.astype(np.int32)
    annotator.commit("replace")
    assert ids(annotator) == {-3, 126, 127, 128, 129}


def test_our_own_labels_are_widened_whenever_they_are_chosen(annotator: Controller) -> None:
    first = annotator.labels
    annotator.set_labels(None)
    annotator.set_labels(first)
    first.data_setitem((np.array([0]), np.array([0])), 65535)
    put(annotator, 20, 20)
    assert ids(annotator) == {65535, 65536}


def test_what_a_script_writes_into_the_array_counts(stack: Controller, viewer: ViewerModel) -> None:
    put(stack, 1, 20, 20)
    stack.labels.data[2, 40:] = 7
    stack.labels.refresh()
    assert {one.id: one.slices for one in stack.objects} == {1: ((1,),), 7: ((2,),)}
    put(stack, 1, 20, 70)
    assert ids(stack) == {1, 7, 8}
    viewer.dims.set_current_step(0, 2)
    stack.labels.data = np.zeros_like(stack.labels.data)
    assert not len(stack.objects)


def test_ids_that_were_taken_back_are_not_given_again(annotator: Controller) -> None:
    put(annotator, 20, 20)
    put(annotator, 40, 60)
    annotator.undo()
    annotator.labels.refresh()
    put(annotator, 20, 60)
    assert ids(annotator) == {1, 3}


def test_a_listener_that_fails_leaves_nothing_half_done(annotator: Controller, viewer: ViewerModel) -> None:
    def fail(_event: Any) -> None:
        raise RuntimeError("on purpose")

    put(annotator, 20, 20)
    before, seen = annotator.labels.data.copy(), list(annotator.objects)
    annotator.points.add([(40, 60)])
    annotator.wait(PATIENCE)
    annotator.labels.events.paint.connect(fail)
    for act in (annotator.commit, lambda: annotator.objects.delete(1)):
        with pytest.raises(RuntimeError, match="on purpose"):
            act()
        assert (annotator.labels.data == before).all()
        assert list(annotator.objects) == seen
    annotator.labels.events.paint.disconnect(fail)
    annotator.commit()
    assert len(annotator.objects) == 2
    annotator.undo()
    assert (annotator.labels.data == before).all()


def test_other_labels_leave_what_was_open_behind(annotator: Controller, viewer: ViewerModel) -> None:
    put(annotator, 20, 20)
    annotator.reopen(1)
    annotator.points.add([(25, 25)])
    other = np.zeros(SHAPE, np.uint16)
    other[40:, 40:] = 1
    annotator.set_labels(viewer.add_labels(other.copy()))
    assert len(annotator.points.data) == 0
    for act in (annotator.undo, annotator.redo, annotator.commit):
        act()
    assert (annotator.labels.data == other).all()


def test_hidden_labels_are_written_all_the_same(stack: Controller, viewer: ViewerModel) -> None:
    put(stack, 1, 20, 20)
    stack.labels.visible = False
    viewer.dims.order = (1, 0, 2)
    viewer.dims.order = (0, 1, 2)
    viewer.dims.set_current_step(0, 2)
    put(stack, 2, 40, 60)
    assert {one.id: one.slices for one in stack.objects} == {1: ((1,),), 2: ((2,),)}
    stack.labels.undo()  # napari's own, of which it does not tell
    assert [one.id for one in stack.objects] == [1]
    stack.labels.redo()
    stack.objects.delete(2)
    stack.labels.visible = True
    assert {one.id for one in stack.objects} == ids(stack) == {1}


def test_where_the_view_cuts_the_image_at_an_angle_nothing_is_outlined_and_undo_hits_the_right_plane(
    stack: Controller, viewer: ViewerModel
) -> None:
    stack.image_layer.affine = [[1, 0, 0, 0], [0, 0.8, 0.6, 0], [0, -0.6, 0.8, 0], [0, 0, 0, 1]]
    viewer.dims.set_point((1, 2), (60, 20))  # napari will show row 48, and take it for row 36
    put(stack, 1, 36, 40)
    committed = stack.labels.data.copy()
    viewer.dims.order = (1, 0, 2)
    stack.points.add([(1, 20, 20)])
    stack.wait(PATIENCE)
    assert stack.candidates == ()
    assert "turned out of this view" in stack.status.message
    for is_visible in (True, False):
        stack.labels.visible = is_visible
        stack.objects.delete(1)
        assert not stack.labels.data.any()
        stack.undo()
        assert (stack.labels.data == committed).all()
    assert stack.labels.contour == 0
    viewer.dims.order = (0, 1, 2)
    stack.wait(PATIENCE)
    assert len(stack.candidates) == 3


def test_two_annotations_may_write_into_the_same_labels(
    viewer: ViewerModel, image: Image, predictor: FakePredictor
) -> None:
    labels = viewer.add_labels(np.zeros(SHAPE, np.uint16))
    one = napari_sam.annotate(viewer, image, labels=labels)
    other = napari_sam.annotate(viewer, viewer.add_image(np.ones(SHAPE)), labels=labels)
    put(one, 20, 20)
    put(other, 40, 60)
    put(one, 20, 75)
    assert [len(both.objects) for both in (one, other)] == [3, 3]
    one.undo()
    other.undo()
    assert ids(one) == {1}


def test_other_labels_leave_the_tool_in_hand(annotator: Controller, viewer: ViewerModel) -> None:
    annotator.tools.take(Tool.BOX)
    annotator.set_labels(None)
    assert annotator.tools.current is Tool.BOX
    viewer.layers.selection.active = annotator.labels
    annotator.set_labels(None)
    assert viewer.layers.selection.active is annotator.points
