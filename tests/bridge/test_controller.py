"""An annotation in a viewer model: real layers and their events, no window, a predictor that answers with disks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import dask.array
import numpy as np
import pandas as pd
import pytest
from fakes import PATIENCE, FakePredictor, disk
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Points, Shapes

import napari_sam
from napari_sam.bridge.controller import Controller
from napari_sam.bridge.registry import find_controller, open_controllers
from napari_sam.errors import CheckpointError, ImageError, LabelsError, PromptError
from napari_sam.pending import Phase
from napari_sam.worker import ModelChoice

SHAPE = (60, 90)
BOX = np.array([[10, 20], [10, 50], [30, 50], [30, 20]])


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> FakePredictor:
    fake = FakePredictor()
    monkeypatch.setattr(ModelChoice, "load", lambda *_: fake)
    return fake


@pytest.fixture
def viewer() -> Iterator[ViewerModel]:
    model = ViewerModel()
    yield model
    for controller in open_controllers(model):
        controller.close()


@pytest.fixture
def image(viewer: ViewerModel) -> Image:
    pixels = np.random.default_rng(0).integers(0, 4000, SHAPE, dtype=np.uint16)
    layer = viewer.add_image(pixels, scale=(2, 3), translate=(10, -20))
    assert isinstance(layer, Image)
    return layer


@pytest.fixture
def annotator(viewer: ViewerModel, image: Image, predictor: FakePredictor) -> Controller:
    return napari_sam.annotate(viewer, image)


def shifted(rows: float, cols: float) -> np.ndarray[Any, Any]:
    return np.add(BOX, (rows, cols))


def pixels(layer: Any) -> np.ndarray[Any, Any]:
    return np.squeeze(np.asarray(layer.data)) > 0


def click(annotator: Controller, row: float, col: float, label: int = 1) -> None:
    annotator.set_polarity(label)
    annotator.points.add([(row, col)])
    annotator.wait(PATIENCE)


def ids(annotator: Controller) -> set[int]:
    return set(np.unique(annotator.labels.data)) - {0}


# The four layers


def test_the_four_layers_lie_on_the_image(annotator: Controller, viewer: ViewerModel, image: Image) -> None:
    for layer in (annotator.points, annotator.shapes, annotator.preview, annotator.labels):
        assert any(layer is other for other in viewer.layers)
        assert tuple(layer.scale) == (2, 3)
        assert tuple(layer.translate) == (10, -20)
    assert viewer.layers.selection.active is annotator.points
    assert annotator.points.mode == "add"


def test_moving_the_image_moves_the_layers(annotator: Controller, image: Image) -> None:
    image.scale, image.translate = (4, 4), (7, 7)
    for layer in (annotator.points, annotator.shapes, annotator.preview, annotator.labels):
        assert tuple(layer.scale) == (4, 4)
        assert tuple(layer.translate) == (7, 7)


@pytest.mark.parametrize("index", [0, 3])
def test_the_preview_lies_in_its_slice_under_any_transform(
    viewer: ViewerModel, predictor: FakePredictor, index: int
) -> None:
    affine = np.array([[1, 0, 0, 3], [0, 1.2, 0.1, -4], [0, 0.2, 0.8, 9], [0, 0, 0, 1.0]])
    layer = viewer.add_image(
        np.zeros((5, *SHAPE), np.uint8), scale=(3, 2, 0.5), rotate=20, translate=(5, 6, 7), affine=affine
    )
    annotator = napari_sam.annotate(viewer, layer)
    viewer.dims.set_point(0, layer.data_to_world((index, 30, 40))[0])
    here = annotator._follower.key.index[0]  # type: ignore[union-attr]
    assert np.allclose(annotator.preview.data_to_world((0, 11, 22)), layer.data_to_world((here, 11, 22)))


# Clicks, boxes, commits


def test_a_click_is_answered_with_three_candidates(annotator: Controller) -> None:
    click(annotator, 20, 30)
    assert len(annotator.candidates) == 3
    assert annotator.chosen == 2
    assert (pixels(annotator.preview) == disk(SHAPE, np.array([(20, 30)]), 16)).all()
    annotator.choose(0)
    assert (pixels(annotator.preview) == disk(SHAPE, np.array([(20, 30)]), 4)).all()


def test_choosing_what_is_not_offered_is_an_error(annotator: Controller) -> None:
    with pytest.raises(IndexError, match="candidate 0 of 0"):
        annotator.choose(0)
    click(annotator, 20, 30)
    with pytest.raises(IndexError, match="candidate 3 of 3"):
        annotator.choose(3)


def test_a_second_click_feeds_the_chosen_candidate_back(annotator: Controller, predictor: FakePredictor) -> None:
    click(annotator, 20, 30)
    annotator.choose(1)
    chosen = annotator.candidates[1][0]
    click(annotator, 22, 33, label=0)
    assert predictor.asked[-1].mask is chosen
    assert predictor.asked[-1].labels.tolist() == [1, 0]


def test_the_next_object_starts_without_the_last_ones_mask(annotator: Controller, predictor: FakePredictor) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    click(annotator, 40, 60)
    assert predictor.asked[-1].mask is None


def test_a_commit_is_the_chosen_mask_under_a_new_id_and_clears_its_prompts(annotator: Controller) -> None:
    seen: list[Any] = []
    annotator.events.committed.connect(seen.append)
    click(annotator, 20, 30)
    annotator.choose(1)
    annotator.commit()
    assert (annotator.labels.data == disk(SHAPE, np.array([(20, 30)]), 8)).all()
    assert len(annotator.points.data) == 0
    assert not pixels(annotator.preview).any()
    assert annotator.candidates == ()
    assert seen == [(1,)]


def test_a_box_then_a_click_are_one_object_and_two_boxes_two(annotator: Controller) -> None:
    annotator.shapes.add_rectangles(BOX)
    click(annotator, 20, 30)
    annotator.commit()
    assert ids(annotator) == {1}
    annotator.shapes.add_rectangles([shifted(25, 0), shifted(25, 35)])
    annotator.wait(PATIENCE)
    annotator.commit()
    assert ids(annotator) == {1, 2, 3}


def test_a_box_is_asked_by_its_corners(annotator: Controller, predictor: FakePredictor) -> None:
    annotator.shapes.add_rectangles(BOX)
    annotator.wait(PATIENCE)
    assert predictor.asked[-1].boxes.tolist() == [[10, 20, 30, 50]]


def test_a_commit_never_overwrites_an_earlier_object(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    first = annotator.labels.data == 1
    click(annotator, 20, 40)
    annotator.commit()
    assert (annotator.labels.data[first] == 1).all()
    assert ids(annotator) == {1, 2}


def test_a_commit_without_a_free_pixel_writes_nothing_and_keeps_its_prompts(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    click(annotator, 20, 30)
    annotator.choose(0)
    annotator.commit()
    assert ids(annotator) == {1}
    assert len(annotator.points.data) == 1
    assert "change no pixel" in annotator.status.message
    annotator.clear()
    annotator.undo()
    assert len(annotator.points.data) == 1


def test_a_commit_before_the_answer_waits_for_it(annotator: Controller, predictor: FakePredictor) -> None:
    predictor.may_decode.clear()
    annotator.points.add([(20, 30)])
    annotator.commit()
    assert ids(annotator) == set()
    predictor.may_decode.set()
    annotator.wait(PATIENCE)
    assert ids(annotator) == {1}


def test_committing_nothing_says_so(annotator: Controller) -> None:
    annotator.commit()
    assert "Nothing to commit" in annotator.status.message


# Undo and redo


def test_undo_and_redo_of_a_commit_keep_the_id(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    click(annotator, 45, 70)
    annotator.commit()
    after = annotator.labels.data.copy()
    annotator.undo()
    assert ids(annotator) == {1}
    assert len(annotator.points.data) == 0
    annotator.redo()
    assert (annotator.labels.data == after).all()


def test_edits_of_prompts_are_steps_until_their_commit(annotator: Controller) -> None:
    click(annotator, 20, 30)
    click(annotator, 22, 31, label=0)
    annotator.undo()
    assert annotator.points.data.tolist() == [[20, 30]]
    assert len(annotator.candidates) == 3
    annotator.redo()
    assert annotator.points.data.tolist() == [[20, 30], [22, 31]]
    assert annotator.points.features["label"].tolist() == [1, 0]
    annotator.undo()
    annotator.undo()
    assert len(annotator.points.data) == 0
    assert not annotator.can_undo


def test_a_new_edit_drops_what_could_be_redone(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.undo()
    click(annotator, 40, 60)
    assert not annotator.can_redo


def test_undo_brings_back_moved_and_deleted_prompts(annotator: Controller) -> None:
    click(annotator, 20, 30)
    click(annotator, 25, 35)
    annotator.points.data = [(20, 30), (50, 80)]
    annotator.points.selected_data = {0}
    annotator.points.remove_selected()
    annotator.undo()
    assert annotator.points.data.tolist() == [[20, 30], [50, 80]]
    annotator.undo()
    assert annotator.points.data.tolist() == [[20, 30], [25, 35]]


def test_edits_that_led_to_a_commit_are_no_steps_after_it(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    click(annotator, 40, 60)
    annotator.clear()
    click(annotator, 45, 70)
    annotator.commit()
    annotator.undo()
    annotator.undo()
    assert ids(annotator) == set()
    assert len(annotator.points.data) == 0
    assert not annotator.can_undo


def test_clear_is_a_step(annotator: Controller) -> None:
    annotator.shapes.add_rectangles(BOX)
    click(annotator, 20, 30)
    annotator.clear()
    assert len(annotator.points.data) == len(annotator.shapes.data) == 0
    annotator.undo()
    annotator.wait(PATIENCE)
    assert len(annotator.points.data) == len(annotator.shapes.data) == 1
    assert pixels(annotator.preview).any()


def test_napari_own_undo_on_the_labels_does_not_break_ours(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    annotator.labels.undo()
    assert ids(annotator) == set()
    annotator.undo()
    annotator.redo()
    assert ids(annotator) == {1}


# Prompts that do not count


def test_points_outside_the_image_are_left_out_with_a_word(annotator: Controller) -> None:
    annotator.points.add([(-30, 10)])
    annotator.wait(PATIENCE)
    assert "outside the image" in annotator.status.message
    assert annotator.candidates == ()


def test_negative_points_alone_ask_nothing(annotator: Controller, predictor: FakePredictor) -> None:
    click(annotator, 20, 30, label=0)
    assert predictor.asked == []


def test_removing_the_last_prompt_clears_the_preview(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.points.selected_data = {0}
    annotator.points.remove_selected()
    annotator.wait(PATIENCE)
    assert not pixels(annotator.preview).any()


def test_changing_the_label_of_a_point_asks_again(annotator: Controller, predictor: FakePredictor) -> None:
    click(annotator, 20, 30)
    click(annotator, 40, 60)
    annotator.points.features = pd.DataFrame({"label": [1, 0]})
    annotator.wait(PATIENCE)
    assert predictor.asked[-1].labels.tolist() == [1, 0]


# Stacks


@pytest.fixture
def stack(viewer: ViewerModel, predictor: FakePredictor) -> Controller:
    values = np.arange(5, dtype=np.float32)[:, None, None] * np.ones(SHAPE, np.float32)
    viewer.add_image(values, scale=(5, 2, 3))
    viewer.dims.set_current_step(0, 2)
    annotator = napari_sam.annotate(viewer)
    annotator.wait(PATIENCE)
    return annotator


def test_a_prompt_counts_in_its_slice(stack: Controller, viewer: ViewerModel) -> None:
    stack.points.add([(2, 20, 30)])
    stack.wait(PATIENCE)
    assert (stack.preview.data[0] > 0).sum() == disk(SHAPE, np.array([(20, 30)]), 16).sum()
    viewer.dims.set_current_step(0, 3)
    stack.wait(PATIENCE)
    assert not pixels(stack.preview).any()
    assert stack.candidates == ()
    stack.points.add([(3, 40, 60)])
    stack.wait(PATIENCE)
    stack.commit()
    assert np.unique(np.nonzero(stack.labels.data)[0]).tolist() == [3]
    assert stack.points.data.tolist() == [[2, 20, 30]]
    viewer.dims.set_current_step(0, 2)
    stack.wait(PATIENCE)
    assert len(stack.candidates) == 3


def test_slices_share_their_limits(stack: Controller, viewer: ViewerModel, predictor: FakePredictor) -> None:
    viewer.dims.set_current_step(0, 4)
    stack.wait(PATIENCE)
    assert stack._follower._limits is not None
    assert stack._follower._limits.resolved == (0, 4)
    assert [plane.mean() for plane in predictor.encoded] == [2, 4]


def test_a_slice_seen_before_is_not_encoded_again(
    stack: Controller, viewer: ViewerModel, predictor: FakePredictor
) -> None:
    for index in (3, 2, 3):
        viewer.dims.set_current_step(0, index)
        stack.wait(PATIENCE)
    assert len(predictor.encoded) == 2


def test_transposed_axes_give_transposed_planes(stack: Controller, viewer: ViewerModel) -> None:
    viewer.dims.order = (1, 2, 0)
    viewer.dims.set_current_step(1, 20)
    stack.points.add([(2, 20, 30)])
    stack.wait(PATIENCE)
    mask = stack.candidates[0][0]
    assert mask.shape == (90, 5)
    stack.commit()
    assert set(np.nonzero(stack.labels.data)[1]) == {20}
    assert stack.labels.data[2, 20, 30] == 1


def test_3d_views_pause_and_2d_goes_on(stack: Controller, viewer: ViewerModel) -> None:
    stack.points.add([(2, 20, 30)])
    stack.wait(PATIENCE)
    viewer.dims.ndisplay = 3
    assert stack.status.phase is Phase.NO_IMAGE
    viewer.dims.ndisplay = 2
    stack.wait(PATIENCE)
    assert pixels(stack.preview).any()


# Layers of the user's


def test_bound_layers_with_other_transforms_drive_the_same_path(
    viewer: ViewerModel, image: Image, predictor: FakePredictor
) -> None:
    table = pd.DataFrame({"label": [1, 0], "object": ["a", "a"]})
    world = [image.data_to_world((20, 30)), image.data_to_world((25, 35))]
    points = viewer.add_points(world, features=table)
    shapes = viewer.add_shapes([np.array([image.data_to_world(corner) for corner in BOX])])
    annotator = napari_sam.annotate(viewer, image, points=points, shapes=shapes)
    assert annotator.points is points
    annotator.wait(PATIENCE)
    asked = {len(one.points): one for one in predictor.asked}
    assert asked[2].points.tolist() == [[20, 30], [25, 35]]
    assert asked[2].labels.tolist() == [1, 0]
    assert np.allclose(asked[0].boxes, [(10, 20, 30, 50)])
    annotator.commit()
    assert ids(annotator) == {1, 2}


def test_prompts_of_bound_layers_that_were_not_committed_stay(
    viewer: ViewerModel, image: Image, predictor: FakePredictor
) -> None:
    points = viewer.add_points([(-50, -50), (20, 30)], scale=(2, 3), translate=(10, -20))
    annotator = napari_sam.annotate(viewer, image, points=points)
    annotator.wait(PATIENCE)
    annotator.commit()
    assert points.data.tolist() == [[-50, -50]]
    annotator.close()
    assert points.visible
    assert points.data.tolist() == [[-50, -50]]


def test_ids_go_on_after_the_largest_of_bound_labels(
    viewer: ViewerModel, image: Image, predictor: FakePredictor
) -> None:
    data = np.zeros(SHAPE, np.int32)
    data[50:, 80:] = 41
    labels = viewer.add_labels(data, scale=(2, 3), translate=(10, -20))
    annotator = napari_sam.annotate(viewer, image, labels=labels)
    click(annotator, 20, 30)
    annotator.commit()
    assert ids(annotator) == {41, 42}


def test_full_bound_labels_are_an_error_and_lose_nothing(
    viewer: ViewerModel, image: Image, predictor: FakePredictor
) -> None:
    data = np.zeros(SHAPE, np.uint8)
    data[59, 89] = 255
    annotator = napari_sam.annotate(viewer, image, labels=viewer.add_labels(data, scale=(2, 3), translate=(10, -20)))
    click(annotator, 20, 30)
    with pytest.raises(LabelsError, match="wider type"):
        annotator.commit()
    assert len(annotator.points.data) == 1
    assert ids(annotator) == {255}


def test_a_commit_writes_all_its_objects_or_none(viewer: ViewerModel, image: Image, predictor: FakePredictor) -> None:
    data = np.zeros(SHAPE, np.uint8)
    data[59, 89] = 254
    annotator = napari_sam.annotate(viewer, image, labels=viewer.add_labels(data, scale=(2, 3), translate=(10, -20)))
    annotator.shapes.add_rectangles([BOX, shifted(25, 35)])
    annotator.wait(PATIENCE)
    with pytest.raises(LabelsError, match="wider type"):
        annotator.commit()
    assert ids(annotator) == {254}
    assert len(annotator.shapes.data) == 2


@pytest.mark.parametrize("shape", [(9, 9), (3, *SHAPE)])
def test_labels_of_another_shape_are_refused(
    viewer: ViewerModel, image: Image, predictor: FakePredictor, shape: tuple[int, ...]
) -> None:
    with pytest.raises(LabelsError, match="shape"):
        napari_sam.annotate(viewer, image, labels=Labels(np.zeros(shape, int)))


def test_labels_that_lie_elsewhere_are_refused(viewer: ViewerModel, image: Image, predictor: FakePredictor) -> None:
    with pytest.raises(LabelsError, match="lies elsewhere"):
        napari_sam.annotate(viewer, image, labels=Labels(np.zeros(SHAPE, int)))


def test_layers_of_the_wrong_kind_are_refused(viewer: ViewerModel, image: Image, predictor: FakePredictor) -> None:
    with pytest.raises(PromptError, match="give a Points layer"):
        napari_sam.annotate(viewer, image, points=Shapes())  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="give an image layer"):
        napari_sam.annotate(viewer, Points())  # type: ignore[arg-type]


def test_a_viewer_without_images_is_refused(viewer: ViewerModel) -> None:
    with pytest.raises(ImageError, match="open an image first"):
        napari_sam.annotate(viewer)


# Re-opening


def test_a_reopened_object_is_replaced_under_its_id(annotator: Controller, predictor: FakePredictor) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    before = annotator.labels.data.copy()
    annotator.reopen(1)
    assert (pixels(annotator.preview) == (before == 1)).all()
    click(annotator, 20, 40)
    assert np.asarray(predictor.asked[-1].mask).sum() == (before == 1).sum()
    annotator.choose(0)
    annotator.commit()
    assert ids(annotator) == {1}
    assert (annotator.labels.data != before).any()
    annotator.undo()
    assert (annotator.labels.data == before).all()


def test_reopening_and_committing_at_once_changes_nothing(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    before = annotator.labels.data.copy()
    annotator.reopen(1)
    annotator.commit()
    assert (annotator.labels.data == before).all()
    assert annotator.candidates == ()


def test_undoing_a_click_on_a_reopened_object_shows_it_as_it_was(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    annotator.reopen(1)
    shown = pixels(annotator.preview)
    click(annotator, 20, 40)
    annotator.undo()
    assert (pixels(annotator.preview) == shown).all()


def test_reopening_what_is_not_there_is_an_error(annotator: Controller) -> None:
    with pytest.raises(LabelsError, match="object 5 has no pixel"):
        annotator.reopen(5)


# The background


def test_prompts_wait_while_the_image_is_encoded(viewer: ViewerModel, image: Image, predictor: FakePredictor) -> None:
    predictor.may_encode.clear()
    annotator = napari_sam.annotate(viewer, image)
    assert predictor.encoding.wait(PATIENCE)
    annotator.points.add([(20, 30)])
    annotator.mailbox.deliver()
    assert annotator.status.phase is Phase.ENCODING
    assert not pixels(annotator.preview).any()
    predictor.may_encode.set()
    annotator.wait(PATIENCE)
    assert annotator.status.phase is Phase.READY
    assert pixels(annotator.preview).any()


def test_the_network_runs_on_one_thread_that_is_not_ours(annotator: Controller, predictor: FakePredictor) -> None:
    click(annotator, 20, 30)
    assert len(predictor.threads) == 1
    assert threading.get_ident() not in predictor.threads


def test_only_the_newest_of_many_changes_is_answered(annotator: Controller, predictor: FakePredictor) -> None:
    annotator.wait(PATIENCE)
    predictor.may_decode.clear()
    annotator.points.add([(20, 30)])
    for col in range(31, 60):
        annotator.points.data = [(20, col)]
    predictor.may_decode.set()
    annotator.wait(PATIENCE)
    assert len(predictor.asked) <= 2
    assert predictor.asked[-1].points.tolist() == [[20, 59]]


def test_a_failure_reaches_wait_once_and_the_busy_state_ends(
    viewer: ViewerModel, image: Image, predictor: FakePredictor
) -> None:
    predictor.failure = CheckpointError("broken on purpose")
    annotator = napari_sam.annotate(viewer, image)
    failures: list[Exception] = []
    annotator.events.failed.connect(failures.append)
    with pytest.raises(CheckpointError, match="on purpose"):
        annotator.wait(PATIENCE)
    assert failures == [predictor.failure]
    assert annotator.status.phase is Phase.FAILED
    annotator.wait(PATIENCE)
    predictor.failure = None
    click(annotator, 20, 30)
    assert annotator.status.phase is Phase.READY


def test_taking_a_prompt_back_that_failed_ends_the_failure(
    annotator: Controller, predictor: FakePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise PromptError("on purpose")

    annotator.wait(PATIENCE)
    with monkeypatch.context() as patch:
        patch.setattr(predictor, "decode", fail)
        annotator.points.add([(20, 30)])
        with pytest.raises(PromptError, match="on purpose"):
            annotator.wait(PATIENCE)
    assert annotator.status.phase is Phase.FAILED
    annotator.undo()
    assert annotator.status.phase is Phase.READY


def test_waiting_too_long_is_a_timeout(annotator: Controller, predictor: FakePredictor) -> None:
    predictor.may_decode.clear()
    annotator.points.add([(20, 30)])
    with pytest.raises(TimeoutError, match="still"):
        annotator.wait(0.05)
    predictor.may_decode.set()


def test_cancelling_ends_the_encoding_and_a_prompt_starts_it_again(
    viewer: ViewerModel, image: Image, predictor: FakePredictor
) -> None:
    predictor.may_encode.clear()
    annotator = napari_sam.annotate(viewer, image)
    assert predictor.encoding.wait(PATIENCE)
    annotator.cancel()
    annotator.wait(PATIENCE)
    assert annotator.status.phase is Phase.READY
    assert "Cancelled" in annotator.status.message
    predictor.may_encode.set()
    click(annotator, 20, 30)
    assert pixels(annotator.preview).any()


def test_removing_the_image_while_it_is_encoded_ends_everything(
    viewer: ViewerModel, image: Image, predictor: FakePredictor
) -> None:
    predictor.may_encode.clear()
    annotator = napari_sam.annotate(viewer, image)
    assert predictor.encoding.wait(PATIENCE)
    viewer.layers.remove(image)
    assert annotator.is_closed
    annotator.wait(PATIENCE)
    assert annotator.status.phase is Phase.NO_IMAGE
    assert predictor.encoded == []


def test_new_pixels_are_encoded_and_prompts_answered_again(
    annotator: Controller, image: Image, predictor: FakePredictor
) -> None:
    click(annotator, 20, 30)
    image.data = np.zeros((80, 70), np.uint16)
    annotator.wait(PATIENCE)
    assert predictor.encoded[-1].shape == (80, 70)
    assert annotator.candidates[0][0].shape == (80, 70)


# Beginning and end


def test_the_image_is_never_changed(annotator: Controller, image: Image) -> None:
    before = image.data.copy()
    click(annotator, 20, 30)
    annotator.commit()
    assert (image.data == before).all()
    assert tuple(image.scale) == (2, 3)


def test_annotating_twice_is_the_same_annotation(annotator: Controller, viewer: ViewerModel, image: Image) -> None:
    assert napari_sam.annotate(viewer, image) is annotator
    with pytest.raises(ValueError, match="annotated with other labels"):
        napari_sam.annotate(
            viewer, image, labels=annotator.labels.__class__(np.zeros(SHAPE, int), scale=(2, 3), translate=(10, -20))
        )


def test_two_viewers_do_not_share_anything(annotator: Controller, predictor: FakePredictor) -> None:
    other = ViewerModel()
    other.add_image(np.zeros(SHAPE))
    second = napari_sam.annotate(other)
    click(second, 20, 30)
    assert annotator.candidates == ()
    assert len(annotator.points.data) == 0
    second.close()


def test_another_model_answers_the_same_prompts(
    annotator: Controller, predictor: FakePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    click(annotator, 20, 30)
    second = FakePredictor()
    monkeypatch.setattr(ModelChoice, "load", lambda *_: second)
    annotator.set_model(ModelChoice("mobile_sam"))
    annotator.wait(PATIENCE)
    assert second.asked[-1].points.tolist() == [[20, 30]]
    assert len(annotator.candidates) == 3


def test_closing_keeps_the_labels_and_hides_the_rest(annotator: Controller, viewer: ViewerModel, image: Image) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    click(annotator, 40, 60)
    annotator.close()
    annotator.close()
    assert (annotator.labels.data == 1).any()
    assert annotator.labels.visible
    for layer in (annotator.points, annotator.shapes, annotator.preview):
        assert not layer.visible
    assert len(annotator.points.data) == 0
    assert find_controller(viewer, image) is None
    annotator.points.add([(1, 1)])
    annotator.wait(1)


# Arrays of other kinds


def test_a_lazy_stack_is_read_slice_by_slice(viewer: ViewerModel, predictor: FakePredictor) -> None:
    read: list[int] = []

    def plane(block_info: Any = None) -> np.ndarray[Any, Any]:
        index = block_info[None]["array-location"][0][0]
        read.append(index)
        return np.full((1, *SHAPE), index, np.uint16)

    lazy = dask.array.map_blocks(plane, chunks=((1,) * 40, (SHAPE[0],), (SHAPE[1],)), dtype=np.uint16)
    viewer.add_image(lazy, contrast_limits=(0, 40))
    viewer.dims.set_current_step(0, 7)
    annotator = napari_sam.annotate(viewer)
    annotator.points.add([(7, 20, 30)])
    annotator.wait(PATIENCE)
    assert predictor.encoded[-1].mean() == 7
    assert len(set(read)) < 30
    annotator.commit()
    assert annotator.labels.data[7].any()


def test_a_pyramid_is_annotated_at_full_resolution(viewer: ViewerModel, predictor: FakePredictor) -> None:
    full = np.random.default_rng(0).random((128, 192))
    viewer.add_image([full, full[::2, ::2], full[::4, ::4]], multiscale=True)
    annotator = napari_sam.annotate(viewer)
    click(annotator, 100, 150)
    annotator.commit()
    assert annotator.labels.data.shape == full.shape
    assert annotator.labels.data[100, 150] == 1


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_stacks_are_annotated_plane_by_plane(
    viewer: ViewerModel, predictor: FakePredictor, channels: int
) -> None:
    viewer.add_image(np.zeros((4, *SHAPE, channels), np.uint8), rgb=True)
    viewer.dims.set_current_step(0, 1)
    annotator = napari_sam.annotate(viewer)
    annotator.points.add([(1, 20, 30)])
    annotator.wait(PATIENCE)
    assert predictor.encoded[-1].shape == (*SHAPE, channels)
    annotator.commit()
    assert annotator.labels.data.shape == (4, *SHAPE)
    assert annotator.labels.data[1].any()


# What layers of the user's own may hold, and what may happen between a question and its answer


@pytest.mark.parametrize(
    "labels",
    [
        [1, None],
        [True, False],
        ["1", "0"],
        pd.array([1, pd.NA], dtype="Int64"),
        pd.Categorical(["1", "0"]),
        pd.Categorical([1, 1]),
    ],
    ids=str,
)
def test_labels_of_any_type_take_both_polarities_and_survive_undo(
    viewer: ViewerModel, image: Image, predictor: FakePredictor, labels: Any
) -> None:
    points = Points(np.array([(5.0, 5.0), (7, 7)]), features=pd.DataFrame({"label": labels}), translate=(10, -20))
    annotator = napari_sam.annotate(viewer, image, points=points)
    annotator.wait(PATIENCE)
    assert not annotator.can_undo
    for label in (0, 1):
        click(annotator, 9, 9 + label, label=label)
        assert predictor.asked[-1].labels[-1] == label
    known = predictor.asked[-1].labels.tolist()
    points.data = np.zeros((0, 2))
    annotator.undo()
    annotator.wait(PATIENCE)
    assert predictor.asked[-1].labels.tolist() == known


def test_a_label_that_says_neither_is_left_out_with_a_word(
    viewer: ViewerModel, image: Image, predictor: FakePredictor
) -> None:
    points = Points(np.array([(5.0, 5.0), (7, 7)]), features=pd.DataFrame({"label": ["yes", "1"]}))
    annotator = napari_sam.annotate(viewer, image, points=points)
    annotator.wait(PATIENCE)
    assert "label" in annotator.status.message


def test_points_without_labels_can_become_negative(viewer: ViewerModel, image: Image, predictor: FakePredictor) -> None:
    points = Points(np.array([(20.0, 30.0)]), features=pd.DataFrame({"object": [4]}), scale=(2, 3), translate=(10, -20))
    annotator = napari_sam.annotate(viewer, image, points=points)
    click(annotator, 25, 30, label=0)
    assert predictor.asked[-1].labels.tolist() == [1, 0]
    assert points.features["object"].tolist() == [4, 4]


def test_missing_objects_are_no_edits(viewer: ViewerModel, image: Image, predictor: FakePredictor) -> None:
    features = pd.DataFrame({"object": pd.array([1, pd.NA], dtype="Int64"), "other": [np.nan, 1.0]})
    points = Points(np.array([(5.0, 5.0), (7, 7)]), features=features, translate=(10, -20))
    annotator = napari_sam.annotate(viewer, image, points=points)
    points.events.features()
    assert not annotator.can_undo


def test_undo_across_a_new_column(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.points.data = np.zeros((0, 2))
    click(annotator, 40, 60)
    annotator.points.features = annotator.points.features.assign(object=[7])
    for _ in range(4):
        annotator.undo()
    assert len(annotator.points.data) == 0
    for _ in range(4):
        annotator.redo()
    assert annotator.points.data.tolist() == [[40, 60]]


def test_points_of_fewer_dimensions_and_a_box(viewer: ViewerModel, predictor: FakePredictor) -> None:
    image = viewer.add_image(np.zeros((5, *SHAPE)))
    points = Points(np.array([(40.0, 60.0)]), scale=(0.5, 0.5))  # (20, 30) in the image
    annotator = napari_sam.annotate(viewer, image, points=points)
    here = annotator._follower.key.index[0]  # type: ignore[union-attr]
    annotator.shapes.add_rectangles(np.insert(BOX, 0, here, axis=1))
    annotator.wait(PATIENCE)
    assert predictor.asked[-1].points.tolist() == [[20, 30]]
    assert predictor.asked[-1].boxes.tolist() == [[10, 20, 30, 50]]


def test_a_position_that_is_not_a_number_is_left_out_of_a_stack(viewer: ViewerModel, predictor: FakePredictor) -> None:
    annotator = napari_sam.annotate(viewer, viewer.add_image(np.zeros((5, *SHAPE))))
    annotator.points.add([(np.nan, 20, 30)])
    annotator.wait(PATIENCE)
    assert annotator.candidates == ()
    assert "not a number" in annotator.status.message


def test_bound_prompts_that_move_or_whose_image_moves_are_asked_again(
    viewer: ViewerModel, predictor: FakePredictor
) -> None:
    image, points = viewer.add_image(np.zeros(SHAPE)), Points(np.array([(20.0, 30.0)]))
    annotator = napari_sam.annotate(viewer, image, points=points)
    points.translate = (10, 10)
    annotator.wait(PATIENCE)
    assert predictor.asked[-1].points.tolist() == [[30, 40]]
    image.translate = (5, 5)
    annotator.wait(PATIENCE)
    assert predictor.asked[-1].points.tolist() == [[25, 35]]


def test_an_image_that_moves_across_slices_shows_another(viewer: ViewerModel, predictor: FakePredictor) -> None:
    viewer.add_image(np.zeros((20, *SHAPE)))
    image = viewer.add_image(np.zeros((5, *SHAPE)))
    annotator = napari_sam.annotate(viewer, image)
    viewer.dims.set_point(0, 3)
    image.translate = (2, 0, 0)
    assert annotator._follower.key.index[0] == 1  # type: ignore[union-attr]
    assert annotator.preview.data_to_world((0, 0, 0))[0] == 3


def test_transposing_the_view_leaves_nothing_painted(
    annotator: Controller, viewer: ViewerModel, predictor: FakePredictor
) -> None:
    click(annotator, 20, 70)
    predictor.may_decode.clear()
    viewer.dims.order = (1, 0)
    assert not annotator.preview.data.any()
    predictor.may_decode.set()
    annotator.wait(PATIENCE)


def test_a_commit_whose_prompt_is_removed_before_the_answer_ends(
    annotator: Controller, predictor: FakePredictor
) -> None:
    annotator.wait(PATIENCE)
    predictor.may_decode.clear()
    annotator.points.add([(20, 30)])
    annotator.commit()
    annotator.points.data = np.zeros((0, 2))
    predictor.may_decode.set()
    annotator.wait(PATIENCE)
    assert ids(annotator) == set()


@pytest.mark.parametrize("remove", ["undo", "delete"])
def test_when_the_active_box_goes_the_one_before_is_active(annotator: Controller, remove: str) -> None:
    annotator.shapes.add_rectangles(BOX)
    annotator.shapes.add_rectangles(shifted(25, 30))
    if remove == "undo":
        annotator.undo()
    else:
        annotator.shapes.selected_data = {1}
        annotator.shapes.remove_selected()
    click(annotator, 20, 30)
    annotator.commit()
    assert ids(annotator) == {1}


def test_points_are_loose_again_when_the_only_box_goes(annotator: Controller) -> None:
    click(annotator, 50, 80)
    annotator.shapes.add_rectangles(BOX)
    annotator.shapes.data = []
    click(annotator, 50, 70)
    annotator.commit()
    assert ids(annotator) == {1}


def test_clearing_and_undoing_on_a_reopened_object_keeps_its_id(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    annotator.reopen(1)
    click(annotator, 40, 60)
    annotator.clear()
    annotator.undo()
    annotator.wait(PATIENCE)
    annotator.commit()
    assert ids(annotator) == {1}


def test_labels_that_no_longer_fit_are_an_error(annotator: Controller, image: Image) -> None:
    image.data = np.zeros((80, 50), np.uint16)
    click(annotator, 75, 30)
    with pytest.raises(LabelsError, match="no longer"):
        annotator.commit()


def test_a_closed_annotation_loads_no_model(annotator: Controller) -> None:
    annotator.close()
    annotator.set_model(ModelChoice("other"))
    assert not [thread for thread in threading.enumerate() if thread.name == "napari-sam other"]


def test_one_that_tries_again_does_not_leave_the_others_waiting(
    viewer: ViewerModel, image: Image, predictor: FakePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_fail = threading.Event()

    def fail(*_: Any) -> None:
        may_fail.wait(PATIENCE)
        raise CheckpointError("no weights")

    monkeypatch.setattr(ModelChoice, "load", fail)
    both = [napari_sam.annotate(viewer, layer) for layer in (image, viewer.add_image(np.zeros(SHAPE)))]
    may_fail.set()
    for annotator in both:
        with pytest.raises(CheckpointError):
            annotator.wait(PATIENCE)
    monkeypatch.setattr(ModelChoice, "load", lambda *_: predictor)
    both[0].set_model(both[0].choice)
    both[1].points.add([(20, 30)])
    with pytest.raises(CheckpointError):
        both[1].wait(PATIENCE)
    both[1].set_model(both[1].choice)
    both[1].wait(PATIENCE)
    assert len(both[1].candidates) == 3


def test_a_reopened_object_that_a_commit_would_not_change_keeps_its_prompts(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.choose(1)
    annotator.commit()
    annotator.reopen(1)
    click(annotator, 20, 30)
    annotator.commit()
    assert len(annotator.points.data) == 2
    assert "no pixel" in annotator.status.message


def test_places_are_compared_in_pixels_however_small_the_scale(viewer: ViewerModel, predictor: FakePredictor) -> None:
    image = viewer.add_image(np.zeros(SHAPE), scale=(1e-9, 1e-9))
    points = Points(np.array([(10.0, 15.0)]), scale=(2e-9, 2e-9))
    napari_sam.annotate(viewer, image, points=points).wait(PATIENCE)
    assert np.allclose(predictor.asked[-1].points, [(20, 30)])


# What happens late, twice, or after the end


def test_a_row_whose_object_is_cleared_is_its_own_again(
    viewer: ViewerModel, image: Image, predictor: FakePredictor
) -> None:
    points = Points(
        np.array([(20.0, 30.0), (40, 60)]),
        features=pd.DataFrame({"object": ["a", "b"]}),
        scale=(2, 3),
        translate=(10, -20),
    )
    annotator = napari_sam.annotate(viewer, image, points=points)
    points.features = pd.DataFrame({"object": ["a", None]})
    annotator.wait(PATIENCE)
    points.add([(42, 62)])
    annotator.wait(PATIENCE)
    asked = {tuple(map(tuple, one.points.tolist())) for one in predictor.asked}
    assert ((20, 30), (42, 62)) not in asked
    points.features = pd.DataFrame({"object": [None, None, None]})
    annotator.wait(PATIENCE)
    assert predictor.asked[-1].points.tolist() == [[20, 30], [40, 60], [42, 62]]


def test_boxes_of_one_object_are_one_area(viewer: ViewerModel, image: Image, predictor: FakePredictor) -> None:
    boxes = [np.array([image.data_to_world(corner) for corner in box]) for box in (BOX, shifted(25, 35))]
    shapes = viewer.add_shapes(boxes, features=pd.DataFrame({"object": [7, 7]}))
    annotator = napari_sam.annotate(viewer, image, shapes=shapes)
    annotator.wait(PATIENCE)
    assert np.allclose(predictor.asked[-1].boxes, [(10, 20, 55, 85)])
    drawn = np.asarray(predictor.asked[-1].mask)
    assert drawn[20, 30]
    assert drawn[45, 70]
    assert not drawn[20, 70]
    annotator.commit()
    assert ids(annotator) == {1}
    annotator.reopen(1)
    annotator.wait(PATIENCE)
    assert len(predictor.asked) == 1


def test_a_commit_that_waits_survives_a_look_at_another_slice(
    stack: Controller, viewer: ViewerModel, predictor: FakePredictor
) -> None:
    predictor.may_decode.clear()
    stack.points.add([(2, 20, 30)])
    stack.commit()
    viewer.dims.set_current_step(0, 3)
    assert "waits until its slice" in stack.status.message
    predictor.may_decode.set()
    stack.wait(PATIENCE)
    assert ids(stack) == set()
    viewer.dims.set_current_step(0, 2)
    stack.wait(PATIENCE)
    assert ids(stack) == {1}
    assert len(stack.points.data) == 0


def test_nothing_changes_the_labels_after_the_end(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    click(annotator, 40, 60)
    annotator.commit()
    annotator.undo()
    before, layers = annotator.labels.data.copy(), list(annotator.viewer.layers)
    annotator.close()
    for act in (annotator.undo, annotator.redo, annotator.commit, annotator.clear, annotator.cancel):
        act()
    for act in (lambda: annotator.set_labels(None), lambda: annotator.objects.delete(1)):
        with pytest.raises(LabelsError, match="closed"):
            act()
    assert (annotator.labels.data == before).all()
    assert list(annotator.viewer.layers) == layers


def test_a_failure_that_was_made_good_is_not_raised_later(
    annotator: Controller, predictor: FakePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise PromptError("on purpose")

    annotator.wait(PATIENCE)
    with monkeypatch.context() as patch:
        patch.setattr(predictor, "decode", fail)
        annotator.points.add([(20, 30)])
        while annotator._annotator.is_busy():
            annotator.mailbox.wait(PATIENCE)
    annotator.points.data = [(22, 30)]
    annotator.wait(PATIENCE)
    assert len(annotator.candidates) == 3


def test_another_model_leaves_a_reopened_object_as_it_was(annotator: Controller, predictor: FakePredictor) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    annotator.labels.data_setitem((np.array([0]), np.array([0])), 1)
    annotator.reopen(1)
    annotator.set_model(ModelChoice("mobile_sam"))
    annotator.wait(PATIENCE)
    assert len(predictor.asked) == 1
    assert pixels(annotator.preview)[0, 0]


# Beginning


def listeners(viewer: ViewerModel, *layers: Layer) -> list[str]:
    """Return which of ours listen to something that an annotation listens to."""
    groups = (viewer.events, viewer.dims.events, viewer.layers.events, *(layer.events for layer in layers))
    found = [each for group in groups for emitter in group.emitters.values() for each in emitter.callbacks]
    found += [each for layer in layers for each in (*layer.mouse_drag_callbacks, *layer.mouse_move_callbacks)]
    owners = [each[0]() if isinstance(each, tuple) else each for each in found]
    return [repr(each) for each in owners if "napari_sam" in getattr(each, "__module__", "")]


@pytest.mark.parametrize(
    "broken",
    [
        "controller.Recorder",
        "controller.Prefetch",
        "controller.Hover",
        "controller.Tools",
        "controller.Follower.start",
        "follower.Pointer",
        "controller.Keys",
        "controller._hang_bell",
        "controller.Follower.show_slice",
    ],
)
def test_an_annotation_that_cannot_begin_leaves_nothing_behind(
    viewer: ViewerModel, predictor: FakePredictor, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    image = viewer.add_image(np.zeros((60, 80), np.uint8))
    points = viewer.add_points(np.zeros((0, 2)))
    labels = viewer.add_labels(np.zeros((60, 80), np.uint8))

    def fail(*_: Any) -> None:
        raise OSError("on purpose")

    layers, keys = list(viewer.layers), dict(points.keymap)
    with monkeypatch.context() as patch:
        patch.setattr(f"napari_sam.bridge.{broken}", fail)
        with pytest.raises(OSError, match="on purpose"):
            napari_sam.annotate(viewer, image, points=points, labels=labels)
    assert list(viewer.layers) == layers
    assert listeners(viewer, image, points, labels) == []
    assert points.keymap == keys
    assert open_controllers(viewer) == []
    annotator = napari_sam.annotate(viewer, image, points=points, labels=labels)  # now it can
    assert len(listeners(viewer, image, points, labels)) > 10
    annotator.close()
    assert listeners(viewer, image, points, labels) == []
