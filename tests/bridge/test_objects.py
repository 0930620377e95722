"""The objects of an annotation: the table, classes, deletion, extension, overlap, hand edits; on real layers."""

from __future__ import annotations

from functools import partial
from typing import Any

import annotating
import numpy as np
import pytest
from annotating import SHAPE
from fakes import PATIENCE, FakePredictor, disk
from napari.components import ViewerModel

import napari_sam
from napari_sam.bridge.controller import Controller
from napari_sam.errors import LabelsError
from napari_sam.objects import Mode

put = partial(annotating.put, choose=1)  # a disk of 8 px


@pytest.fixture
def stack(viewer: ViewerModel, predictor: FakePredictor) -> Controller:
    viewer.add_image(np.zeros((5, *SHAPE), np.uint8))
    viewer.dims.set_current_step(0, 2)
    return napari_sam.annotate(viewer)


def area(radius: int) -> int:
    return int(disk(SHAPE, np.array([(30, 40)]), radius).sum())


# The table


def test_the_table_lists_what_the_labels_hold(annotator: Controller) -> None:
    changed: list[Any] = []
    annotator.events.objects_changed.connect(lambda: changed.append(1))
    put(annotator, 20, 20)
    put(annotator, 40, 60, choose=0)
    assert [(one.id, one.area, one.class_name, one.slices) for one in annotator.objects] == [
        (1, area(8), "", ((),)),
        (2, area(4), "", ((),)),
    ]
    assert [one.score for one in annotator.objects] == pytest.approx([0.7, 0.5])
    assert len(annotator.objects) == len(changed) == 2


def test_the_brush_counts_too(annotator: Controller) -> None:
    put(annotator, 20, 20)
    annotator.labels.data_setitem((np.array([0, 0]), np.array([0, 1])), 9)
    annotator.labels.data_setitem((np.array([20]), np.array([20])), 0)
    assert {one.id: one.area for one in annotator.objects} == {1: area(8) - 1, 9: 2}
    assert annotator.objects[9].score is None


def test_an_object_that_is_not_there_is_an_error(annotator: Controller) -> None:
    for act in (annotator.objects.delete, annotator.objects.select, annotator.objects.__getitem__):
        with pytest.raises(LabelsError, match="no object 3"):
            act(3)
    with pytest.raises(LabelsError, match="no object 3"):
        annotator.objects.set_class(3, "cell")


def test_bound_labels_are_in_the_table(viewer: ViewerModel, predictor: FakePredictor) -> None:
    data = np.zeros((5, *SHAPE), np.int64)
    data[1:3, :10, :10] = 2**40
    data[4, 0, 0] = -1
    annotator = napari_sam.annotate(viewer, viewer.add_image(np.zeros(data.shape)), labels=viewer.add_labels(data))
    assert [(one.id, one.area, one.slices) for one in annotator.objects] == [(2**40, 200, ((1,), (2,)))]


# Deletion


def test_deleting_is_a_step_in_all_slices(stack: Controller, viewer: ViewerModel) -> None:
    put(stack, 2, 20, 20)
    stack.objects.select(1)
    viewer.dims.set_current_step(0, 3)
    put(stack, 3, 20, 20)
    before = stack.labels.data.copy()
    stack.objects.delete(1)
    assert not stack.labels.data.any()
    assert stack.objects.selected is None
    stack.undo()
    assert (stack.labels.data == before).all()
    stack.redo()
    assert not stack.labels.data.any()


def test_deleting_a_reopened_object_takes_its_prompts_along(annotator: Controller) -> None:
    put(annotator, 20, 20)
    annotator.reopen(1)
    annotator.objects.delete(1)
    assert len(annotator.points.data) == 0
    assert not annotator.has_pending
    annotator.undo()
    annotator.wait(PATIENCE)
    assert annotator.points.data.tolist() == [[20, 20]]
    assert len(annotator.objects) == 1


def test_deleting_leaves_what_the_brush_gave_to_others(annotator: Controller) -> None:
    put(annotator, 20, 20)
    annotator.labels.data_setitem((np.array([20]), np.array([20])), 5)
    annotator.objects.delete(1)
    annotator.undo()
    assert annotator.labels.data[20, 20] == 5


# Re-opening


def test_reopening_returns_the_prompts_and_keeps_hand_edits(annotator: Controller, predictor: FakePredictor) -> None:
    put(annotator, 20, 20)
    annotator.labels.data_setitem((np.array([0]), np.array([0])), 1)
    asked = len(predictor.asked)
    annotator.reopen(1)
    annotator.wait(PATIENCE)
    assert annotator.points.data.tolist() == [[20, 20]]
    assert len(predictor.asked) == asked
    assert (np.asarray(annotator.candidates[0][0]) == (annotator.labels.data == 1)).all()
    annotator.points.add([(25, 25)])
    annotator.wait(PATIENCE)
    assert np.asarray(predictor.asked[-1].mask)[0, 0]
    assert predictor.asked[-1].points.tolist() == [[20, 20], [25, 25]]
    annotator.undo()
    assert np.asarray(annotator.candidates[0][0])[0, 0]
    annotator.undo()
    assert not annotator.has_pending
    annotator.redo()
    assert annotator.points.data.tolist() == [[20, 20]]
    assert np.asarray(annotator.candidates[0][0])[0, 0]


def test_the_brush_on_an_open_object_is_kept(annotator: Controller) -> None:
    put(annotator, 20, 20)
    annotator.reopen(1)
    annotator.labels.data_setitem((np.array([20, 0]), np.array([20, 0])), [0, 1])
    before = annotator.labels.data.copy()
    annotator.commit()
    assert (annotator.labels.data == before).all()
    assert not annotator.has_pending


def test_what_is_prompted_beside_a_reopened_object_in_another_slice_is_new(
    stack: Controller, viewer: ViewerModel
) -> None:
    put(stack, 2, 20, 20)
    stack.reopen(1)
    viewer.dims.set_current_step(0, 3)
    put(stack, 3, 20, 20)
    assert [(one.id, one.slices) for one in stack.objects] == [(1, ((2,),)), (2, ((3,),))]


def test_reopening_twice_is_reopening_once(annotator: Controller) -> None:
    put(annotator, 20, 20)
    annotator.reopen(1)
    annotator.points.add([(25, 25)])
    annotator.wait(PATIENCE)
    annotator.reopen(1)
    assert len(annotator.points.data) == 2
    annotator.commit()
    assert [one.id for one in annotator.objects] == [1]
    assert len(annotator.points.data) == 0


def test_what_was_taken_back_before_a_commit_does_not_return(annotator: Controller) -> None:
    put(annotator, 20, 20)
    annotator.reopen(1)
    annotator.points.add([(25, 25)])
    annotator.undo()
    annotator.commit()
    annotator.redo()
    assert len(annotator.points.data) == 0
    assert not annotator.has_pending


# Extension


def test_a_selected_object_goes_on_in_other_slices(stack: Controller, viewer: ViewerModel) -> None:
    put(stack, 2, 20, 20)
    stack.objects.select(1)
    for z in (3, 4):
        viewer.dims.set_current_step(0, z)
        put(stack, z, 20, 20)
    put(stack, 4, 40, 60)
    assert [(one.id, one.slices) for one in stack.objects] == [(1, ((2,), (3,), (4,))), (2, ((4,),))]
    stack.undo()
    stack.undo()
    put(stack, 4, 30, 30)
    assert stack.objects[1].slices == ((2,), (3,), (4,))
    stack.objects.select(None)
    viewer.dims.set_current_step(0, 1)
    put(stack, 1, 20, 20)
    assert stack.objects[3].slices == ((1,),)  # the id of what was undone is not given again


def test_only_the_active_object_goes_on(stack: Controller, viewer: ViewerModel) -> None:
    put(stack, 2, 20, 20)
    stack.objects.select(1)
    viewer.dims.set_current_step(0, 3)
    for col in (10, 50):
        stack.shapes.add_rectangles(np.array([(3, 10, col), (3, 10, col + 9), (3, 19, col + 9), (3, 19, col)]))
    stack.wait(PATIENCE)
    stack.commit()
    assert [(one.id, one.slices) for one in stack.objects] == [(1, ((2,), (3,))), (2, ((3,),))]
    assert stack.labels.data[3, 12, 55] == 1


def test_what_is_begun_beside_a_selected_object_that_is_open_is_new(annotator: Controller) -> None:
    put(annotator, 20, 20)
    annotator.objects.select(1)
    annotator.reopen(1)
    annotator.points.add([(25, 25)])
    annotator.shapes.add_rectangles(np.array([(40, 60), (40, 69), (49, 69), (49, 60)]))
    annotator.wait(PATIENCE)
    annotator.commit()
    assert [one.id for one in annotator.objects] == [1, 2]
    assert annotator.labels.data[25, 25] == 1
    assert annotator.labels.data[45, 65] == 2


# Overlap


def test_overlap_is_kept_unless_told_otherwise(annotator: Controller) -> None:
    put(annotator, 20, 20)
    put(annotator, 20, 28)
    assert annotator.objects[1].area == area(8)
    put(annotator, 20, 28, choose=2, overlap="replace")
    assert annotator.objects[3].area == np.count_nonzero(disk(SHAPE, np.array([(20, 28)]), 16))
    annotator.undo()
    assert annotator.objects[1].area == area(8)


def test_asking_writes_nothing_until_it_is_answered(annotator: Controller) -> None:
    questions: list[Any] = []
    annotator.events.overlap_asked.connect(questions.append)
    put(annotator, 20, 20, overlap="ask")
    assert not questions
    put(annotator, 20, 28, overlap="ask")
    met = disk(SHAPE, np.array([(20, 20)]), 8) & disk(SHAPE, np.array([(20, 28)]), 8)
    assert questions == [annotator.overlap_question]
    assert (questions[0].object_ids, questions[0].pixels) == ((1,), met.sum())
    assert len(annotator.objects) == 1
    annotator.commit("replace")
    assert annotator.overlap_question is None
    assert annotator.objects[2].area == area(8)
    with pytest.raises(ValueError, match="never"):
        annotator.commit("never")


def test_a_question_is_gone_when_what_it_is_about_changes(annotator: Controller) -> None:
    put(annotator, 20, 20)
    put(annotator, 20, 28, overlap="ask")
    for change in (
        lambda: annotator.points.add([(20, 33)]),
        lambda: annotator.choose(0),
        lambda: annotator.objects.set_class(1, "cell"),
    ):
        assert annotator.overlap_question is not None
        change()
        assert annotator.overlap_question is None
        annotator.wait(PATIENCE)
        annotator.commit("ask")


def test_a_script_asks_and_answers_while_the_mask_is_on_its_way(
    annotator: Controller, predictor: FakePredictor
) -> None:
    put(annotator, 20, 20)
    predictor.may_decode.clear()
    annotator.points.add([(20, 28)])
    annotator.commit("ask")
    predictor.may_decode.set()
    annotator.wait(PATIENCE)
    assert annotator.overlap_question is not None
    assert [one.id for one in annotator.objects] == [1]
    annotator.commit("keep")
    assert [one.id for one in annotator.objects] == [1, 2]


# Classes


def test_classes_are_steps(annotator: Controller) -> None:
    put(annotator, 20, 20)
    annotator.objects.set_class(1, "nucleus")
    assert [one.name for one in annotator.objects.classes] == ["nucleus"]
    annotator.objects.current_class = "nucleus"
    put(annotator, 40, 60)
    annotator.objects.rename_class("nucleus", "cell")
    assert [one.class_name for one in annotator.objects] == ["cell", "cell"]
    assert annotator.objects.current_class == "cell"
    annotator.objects.set_colour("cell", "#123456")
    annotator.objects.remove_class("cell")
    assert [one.class_name for one in annotator.objects] == ["", ""]
    annotator.undo()
    assert annotator.objects.classes[0].colour == "#123456"
    annotator.undo()
    annotator.undo()
    assert [one.class_name for one in annotator.objects] == ["nucleus", "nucleus"]
    annotator.undo()
    annotator.undo()
    assert annotator.objects.classes == ()
    annotator.redo()
    assert annotator.objects[1].class_name == "nucleus"


def test_colours_are_checked(annotator: Controller) -> None:
    annotator.objects.add_class("cell", "#AA00ff")
    for act in (lambda: annotator.objects.add_class("gap", "red"), lambda: annotator.objects.set_colour("cell", "#12")):
        with pytest.raises(LabelsError, match="'#rrggbb'"):
            act()
    assert [(one.name, one.colour) for one in annotator.objects.classes] == [("cell", "#AA00ff")]


def test_class_names_are_checked(annotator: Controller) -> None:
    annotator.objects.add_class("cell")
    for name, message in (("cell", "already"), ("  ", "needs a name")):
        with pytest.raises(LabelsError, match=message):
            annotator.objects.add_class(name)
    with pytest.raises(LabelsError, match="no class 'gap'"):
        annotator.objects.current_class = "gap"


def test_semantic_labels_hold_values_of_classes(annotator: Controller) -> None:
    annotator.objects.set_mode("semantic")
    put(annotator, 20, 20)
    annotator.objects.add_class("gap")
    annotator.objects.current_class = "gap"
    put(annotator, 40, 60)
    put(annotator, 40, 65)
    assert [(one.id, one.class_name) for one in annotator.objects] == [(1, "foreground"), (2, "gap")]
    assert annotator.objects[2].area > area(8)
    annotator.undo()
    assert annotator.objects[2].area == area(8)
    with pytest.raises(LabelsError, match="delete object 2 first"):
        annotator.objects.remove_class("gap")
    with pytest.raises(LabelsError, match="already"):
        annotator.objects.set_mode(Mode.INSTANCE)
    annotator.set_labels(None)
    annotator.objects.set_mode(Mode.INSTANCE)
    assert len(annotator.objects) == 0


def test_semantic_labels_have_the_colours_of_their_classes(annotator: Controller) -> None:
    plain = annotator.labels.get_color(1)
    annotator.objects.set_mode("semantic")
    assert (annotator.labels.get_color(1) != plain).any()
    annotator.objects.set_mode("instance")
    assert (annotator.labels.get_color(1) == plain).all()
    annotator.objects.set_mode("semantic")
    annotator.objects.add_class("gap", "#ff0000")
    put(annotator, 20, 20)
    assert annotator.labels.get_color(2).tolist() == [1, 0, 0, 1]
    annotator.objects.set_colour("gap", "#0000ff")
    assert annotator.labels.get_color(2).tolist() == [0, 0, 1, 1]
    annotator.undo()
    assert annotator.labels.get_color(2).tolist() == [1, 0, 0, 1]


def test_a_selected_class_goes_on_beside_what_it_has(annotator: Controller) -> None:
    annotator.objects.set_mode("semantic")
    put(annotator, 20, 20)
    annotator.objects.add_class("gap")
    annotator.objects.current_class = "gap"
    annotator.objects.select(1)
    put(annotator, 20, 70)
    assert [(one.id, one.area) for one in annotator.objects] == [(1, 2 * area(8))]


def test_values_of_bound_labels_can_be_named(viewer: ViewerModel, predictor: FakePredictor) -> None:
    data = np.zeros(SHAPE, np.uint8)
    data[:5] = 3
    annotator = napari_sam.annotate(viewer, viewer.add_image(np.zeros(SHAPE)), labels=viewer.add_labels(data))
    annotator.objects.set_mode("semantic")
    annotator.objects.set_class(3, "sky")
    assert (annotator.objects[3].class_name, annotator.objects.classes[-1].value) == ("sky", 3)
    assert annotator.objects.add_class("sea").value == 4
