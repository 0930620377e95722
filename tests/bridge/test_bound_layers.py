"""Layers of the user's own: points, shapes and labels that an annotation is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from annotating import BOX, SHAPE, click, ids, shifted
from fakes import PATIENCE, FakePredictor
from mouse import Mouse
from napari.components import ViewerModel
from napari.layers import Image, Labels, Points, Shapes

import napari_sam
from napari_sam.bridge.controller import Controller
from napari_sam.errors import ImageError, LabelsError, PromptError

# Points and shapes


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


def test_places_are_compared_in_pixels_however_small_the_scale(viewer: ViewerModel, predictor: FakePredictor) -> None:
    image = viewer.add_image(np.zeros(SHAPE), scale=(1e-9, 1e-9))
    points = Points(np.array([(10.0, 15.0)]), scale=(2e-9, 2e-9))
    napari_sam.annotate(viewer, image, points=points).wait(PATIENCE)
    assert np.allclose(predictor.asked[-1].points, [(20, 30)])


def test_layers_of_the_wrong_kind_are_refused(viewer: ViewerModel, image: Image, predictor: FakePredictor) -> None:
    with pytest.raises(PromptError, match="give a Points layer"):
        napari_sam.annotate(viewer, image, points=Shapes())  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="give an image layer"):
        napari_sam.annotate(viewer, Points())  # type: ignore[arg-type]


# Their features


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


# Labels


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


def test_labels_that_no_longer_fit_are_an_error(annotator: Controller, image: Image) -> None:
    image.data = np.zeros((80, 50), np.uint16)
    click(annotator, 75, 30)
    with pytest.raises(LabelsError, match="no longer"):
        annotator.commit()


def test_an_empty_table_begins_with_points_on_the_object(
    viewer: ViewerModel, image: Image, predictor: FakePredictor
) -> None:
    points = Points(ndim=2, features=pd.DataFrame({"label": np.zeros(0, int)}), scale=(2, 3), translate=(10, -20))
    annotator = napari_sam.annotate(viewer, image, points=points)
    Mouse(viewer).click(image.data_to_world((20, 30)))
    annotator.wait(PATIENCE)
    assert predictor.asked[-1].labels.tolist() == [1]


def test_points_without_a_displayed_axis_lie_in_no_plane(viewer: ViewerModel, predictor: FakePredictor) -> None:
    points = Points(np.array([(20.0, 30.0)]))
    annotator = napari_sam.annotate(viewer, viewer.add_image(np.zeros((40, *SHAPE))), points=points)
    annotator.wait(PATIENCE)
    assert len(annotator.candidates) == 3
    viewer.dims.order = (1, 0, 2)
    viewer.dims.set_current_step(1, 20)
    annotator.wait(PATIENCE)
    assert annotator.candidates == ()
