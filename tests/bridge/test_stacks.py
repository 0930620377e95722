"""Images of more than one plane: stacks, lazy ones, colour, pyramids."""

from __future__ import annotations

from typing import Any

import dask.array
import numpy as np
import pytest
from annotating import BOX, SHAPE, click, ids, pixels
from fakes import PATIENCE, FakePredictor, disk
from mouse import Mouse
from napari.components import ViewerModel
from napari.layers import Points

import napari_sam
from napari_sam.bridge.controller import Controller
from napari_sam.errors import ImageError
from napari_sam.pending import Phase


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


def test_an_image_that_moves_across_slices_shows_another(viewer: ViewerModel, predictor: FakePredictor) -> None:
    viewer.add_image(np.zeros((20, *SHAPE)))
    image = viewer.add_image(np.zeros((5, *SHAPE)))
    annotator = napari_sam.annotate(viewer, image)
    viewer.dims.set_point(0, 3)
    image.translate = (2, 0, 0)
    assert annotator._follower.key.index[0] == 1  # type: ignore[union-attr]
    assert annotator.preview.data_to_world((0, 0, 0))[0] == 3


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


def test_beside_the_image_nothing_is_outlined_until_a_slice_shows_it(
    viewer: ViewerModel, predictor: FakePredictor
) -> None:
    annotator = napari_sam.annotate(viewer, viewer.add_image(np.zeros((5, *SHAPE), np.uint8)))
    viewer.add_image(np.zeros((20, *SHAPE), np.uint8))
    viewer.dims.set_current_step(0, 4)
    click(annotator, 4, 20, 30)
    viewer.dims.set_current_step(0, 12)
    assert annotator.status.phase is Phase.NO_IMAGE
    assert "go to a slice that shows it" in annotator.status.message
    annotator.clear()
    annotator.commit()
    assert len(annotator.points.data) == 1
    viewer.dims.set_current_step(0, 4)
    annotator.wait(PATIENCE)
    assert len(annotator.candidates) == 3
    annotator.image_layer.data = np.zeros((3, *SHAPE), np.uint8)
    assert annotator.status.phase is Phase.NO_IMAGE


def test_what_begins_in_3d_says_what_to_do(viewer: ViewerModel, predictor: FakePredictor) -> None:
    viewer.add_image(np.zeros((5, *SHAPE), np.uint8))
    viewer.dims.ndisplay = 3
    annotator = napari_sam.annotate(viewer)
    for act in (annotator.wait, annotator.undo, annotator.commit, annotator.clear):
        act()
        assert "turn off the 3D view" in annotator.status.message
    views, labels = annotator.views, annotator.labels
    for look in (views.find_similar, views.show_embedding, views.show_encoder_input, annotator.reopen_under_cursor):
        with pytest.raises(ImageError, match="turn off the 3D view"):
            look()
    for outline in (annotator.outline_object_under_cursor, lambda: annotator.outline_object(labels, 1)):
        with pytest.raises(ImageError, match="turn off the 3D view"):
            outline()


@pytest.mark.parametrize("change", [{"ndisplay": 3}, {"order": (0, 2, 1)}, {"order": (1, 0, 2)}], ids=str)
@pytest.mark.parametrize("is_hovering", [True, False])
def test_where_napari_takes_no_parts_the_preview_is_emptied_as_a_whole(
    stack: Controller, viewer: ViewerModel, predictor: FakePredictor, is_hovering: bool, change: dict[str, Any]
) -> None:
    if is_hovering:
        Mouse(viewer).move((40, 90))
        while stack.hover.mask is None:
            assert stack.mailbox.wait(PATIENCE)
    else:
        click(stack, 2, 20, 30)
    assert pixels(stack.preview).any()
    shown: list[str] = []
    stack.preview.events.labels_update.connect(lambda _event: shown.append("part"))
    stack.preview.events.set_data.connect(lambda _event: shown.append("whole"))
    viewer.dims.update(change)
    assert not pixels(stack.preview).any()
    assert set(shown) == {"whole"}


def test_new_units_of_a_stack_keep_nobody_from_committing(stack: Controller, viewer: ViewerModel) -> None:
    stack.image_layer.units = "um"
    click(stack, 2, 20, 30)
    stack.commit()
    assert stack.objects[1].slices == ((2,),)
    committed = stack.labels.data.copy()
    stack.undo()
    assert not stack.labels.data.any()
    stack.redo()
    assert (stack.labels.data == committed).all()
    stack.labels.undo()  # napari's own
    assert not len(stack.objects)
