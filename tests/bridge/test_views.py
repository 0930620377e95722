"""Objects like one, the embedding and the encoder's input, in a viewer, with the shipped model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes import PATIENCE
from napari.components import ViewerModel
from numpy.typing import NDArray
from parity import state_of_shapes
from safetensors.torch import save_file

import napari_sam
from napari_sam import likeness
from napari_sam.bridge import commands, keys
from napari_sam.bridge.chosen import ChosenImage
from napari_sam.bridge.controller import Controller
from napari_sam.errors import ImageError, LabelsError, PromptError
from napari_sam.models.recognition import layout
from napari_sam.models.specs import PlainViTSpec
from napari_sam.pending import Phase, Status
from napari_sam.worker import ModelChoice

SHAPE = (120, 200)
CENTRES = [(30, 40), (35, 130), (90, 60), (85, 160)]
ROWS, COLS = np.mgrid[: SHAPE[0], : SHAPE[1]]


def discs() -> NDArray[np.uint8]:
    image = np.full((*SHAPE, 3), (60.0, 80, 60))
    for row, col in CENTRES:
        image[np.hypot(ROWS - row, COLS - col) < 14] = (200, 120, 60)
    return np.clip(image + np.random.default_rng(0).normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def annotated(viewer: ViewerModel, **place: object) -> Controller:
    viewer.add_image(discs(), rgb=True, **place)
    annotator = napari_sam.annotate(viewer, device="cpu")
    annotator.wait(PATIENCE)
    return annotator


def box(annotator: Controller, centre: tuple[int, int]) -> None:
    row, col = centre
    annotator.shapes.add_rectangles(np.array([[row - 15, col - 15], [row + 15, col + 15]]))
    annotator.wait(PATIENCE)


def test_objects_like_the_last_one_are_proposed_and_accepted(viewer: ViewerModel) -> None:
    annotator = annotated(viewer, scale=(2, 3), translate=(10, -20))
    box(annotator, CENTRES[0])
    annotator.commit()
    commands.find_similar(viewer)
    annotator.wait(PATIENCE)
    assert "more like it" in annotator.status.message
    points = annotator.points.data
    assert all(min(np.hypot(*(at - np.array(centre))) for at in points) < 14 for centre in CENTRES[1:])
    wrong = [i for i, at in enumerate(points) if min(np.hypot(*(at - np.array(c))) for c in CENTRES[2:]) > 14]
    annotator.points.selected_data = set(wrong)  # refused, one of the right ones among them
    annotator.points.remove_selected()
    annotator.wait(PATIENCE)
    annotator.commit()
    annotator.wait(PATIENCE)
    labels = np.asarray(annotator.labels.data)
    ids = [labels[centre] for centre in CENTRES]
    assert ids[1] == 0
    assert len({ids[0], ids[2], ids[3]} - {0}) == 3  # each an object of its own
    assert len(annotator.points.data) == 0


def test_proposals_are_accepted_one_by_one(viewer: ViewerModel) -> None:
    annotator = annotated(viewer)
    box(annotator, CENTRES[0])
    annotator.commit()
    annotator.views.find_similar()
    annotator.wait(PATIENCE)
    before = annotator.points.data.copy()
    annotator.points.selected_data = {1}
    commands.accept(viewer)
    assert len(np.unique(annotator.labels.data)) == 3  # nothing, the first one, and the one accepted
    np.testing.assert_array_equal(annotator.points.data, np.delete(before, 1, axis=0))
    annotator.undo()
    assert len(np.unique(annotator.labels.data)) == 2
    annotator.redo()
    annotator.points.selected_data = set()
    with pytest.raises(PromptError, match="no pending object is selected"):
        annotator.views.accept()
    annotator.commit()
    annotator.wait(PATIENCE)
    assert len(np.unique(annotator.labels.data)) == 2 + len(before)


def test_mask_of_a_proposal_is_there_at_once_and_can_be_corrected(viewer: ViewerModel) -> None:
    annotator = annotated(viewer, scale=(2, 3), rotate=20)
    own = viewer.add_points(np.zeros((0, 2)), scale=(0.7, 0.7), translate=(3, 4))  # prompts in a place of their own
    annotator.close()
    annotator = napari_sam.annotate(viewer, viewer.layers[0], device="cpu", points=own)
    annotator.wait(PATIENCE)
    box(annotator, CENTRES[0])
    annotator.commit()
    annotator.views.find_similar()
    annotator.wait(PATIENCE)
    count = len(own.data)
    assert count >= 3
    for place in own.data:
        row, col = np.round(annotator.image_layer.world_to_data(own.data_to_world(place))).astype(int)
        assert annotator.preview.data[row, col]
    assert annotator.status.message.startswith(f"{count} more like it")
    own.selected_data = {0}
    own.remove_selected()
    annotator.wait(PATIENCE)
    assert len(annotator._annotator.slices.masks) == count - 1


def test_looking_tells_how_far_it_is_and_can_be_stopped(viewer: ViewerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "MOST_TILES", 2)
    annotator = annotated(viewer)
    box(annotator, CENTRES[0])
    annotator.commit()
    told: list[Status] = []
    annotator.events.status_changed.connect(told.append)
    annotator.views.find_similar()
    annotator.wait(PATIENCE)
    shares = [status.fraction for status in told if status.fraction is not None]
    assert len(shares) > 2
    assert shares == sorted(shares)
    assert {status.phase for status in told if status.fraction is not None} == {Phase.DECODING}
    assert annotator.status.fraction is None
    assert "Looked at the 2 tiles round the object alone" in annotator.status.message
    annotator.clear()
    annotator.views.find_similar()
    annotator.cancel()
    annotator.wait(PATIENCE)
    assert len(annotator.points.data) == 0
    assert annotator.status.phase is Phase.READY


def test_proposals_are_one_step(viewer: ViewerModel) -> None:
    annotator = annotated(viewer)
    box(annotator, CENTRES[0])
    annotator.commit()
    annotator.views.find_similar(1)
    annotator.wait(PATIENCE)
    count = len(annotator.points.data)
    assert count >= 3
    annotator.undo()
    assert len(annotator.points.data) == 0
    annotator.redo()
    assert len(annotator.points.data) == count


def test_click_after_proposals_is_an_object_of_its_own(viewer: ViewerModel) -> None:
    annotator = annotated(viewer)
    box(annotator, CENTRES[0])
    annotator.commit()
    annotator.views.find_similar()
    annotator.wait(PATIENCE)
    count = len(annotator.points.data)
    annotator.points.add([(5, 190)])
    annotator.wait(PATIENCE)
    assert len(annotator._annotator.slices.view.objects) == count + 1


@pytest.mark.parametrize("object_id", [None, 7])
def test_object_that_is_not_there_is_named(viewer: ViewerModel, object_id: int | None) -> None:
    annotator = annotated(viewer)
    with pytest.raises(LabelsError, match="outline one and commit it"):
        annotator.views.find_similar(object_id)


def test_nothing_to_look_at_is_a_word(viewer: ViewerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(keys, "show_warning", warnings.append)
    viewer.add_image(discs(), rgb=True)
    annotator = napari_sam.annotate(viewer, device="cpu")
    with pytest.raises(ImageError, match="nothing is encoded yet"):
        annotator.views.show_embedding()
    commands.find_similar(viewer)
    assert warnings == ["no object was committed yet: outline one and commit it, then look for others like it"]
    annotator.wait(PATIENCE)


@pytest.mark.parametrize("place", [{}, {"scale": (2, 3), "translate": (5, 7), "rotate": 30, "shear": [0.2]}])
def test_encoder_input_lies_on_the_image(viewer: ViewerModel, place: dict[str, object]) -> None:
    annotator = annotated(viewer, **place)
    annotator.views.show_encoder_input()
    annotator.wait(PATIENCE)
    image, layer = annotator.image_layer, viewer.layers[1]
    assert layer.name.endswith("encoder input")
    assert max(layer.data.shape) == 256
    assert viewer.layers.selection.active is annotator.points
    step = np.divide(SHAPE, layer.data.shape[:2])
    for row, col in [(0, 0), (10, 200), (150, 30)]:
        at = (np.array([row, col]) + 0.5) * step - 0.5
        np.testing.assert_allclose(layer.data_to_world((row, col)), image.data_to_world(at), atol=1e-6)


def test_pictures_take_the_place_of_earlier_ones(viewer: ViewerModel) -> None:
    annotator = annotated(viewer)
    count = len(viewer.layers)
    for _ in range(2):
        annotator.views.show_embedding()
        annotator.views.show_encoder_input()
        annotator.wait(PATIENCE)
    assert len(viewer.layers) == count + 2


def test_pictures_of_an_image_are_no_images_to_annotate(viewer: ViewerModel) -> None:
    annotator = annotated(viewer)
    annotator.views.show_encoder_input()
    annotator.wait(PATIENCE)
    image, picture = viewer.layers[:2]
    assert ChosenImage(viewer, ModelChoice(device="cpu")).images == [image]
    viewer.layers.selection.active = picture
    assert napari_sam.annotate(viewer, device="cpu") is annotator


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2)])
def test_embedding_of_a_slice_lies_in_the_slice(viewer: ViewerModel, order: tuple[int, int, int]) -> None:
    stack = np.stack([discs()[..., 0]] * 4) * np.arange(1, 5)[:, None, None].astype(np.uint16)
    viewer.add_image(stack)
    viewer.dims.order = order
    viewer.dims.set_current_step(order[0], 2)
    annotator = napari_sam.annotate(viewer, device="cpu")
    annotator.wait(PATIENCE)
    annotator.views.show_embedding()
    annotator.wait(PATIENCE)
    layer = viewer.layers[1]
    assert layer.data.shape[order[0]] == 1
    np.testing.assert_allclose(layer.data_to_world((0, 0, 0))[order[0]], 2)
    low, high = np.array(layer.extent.world)
    for axis in order[1:]:
        assert low[axis] == pytest.approx(5.75, abs=0.2)  # the middle of the first cell of 16 px, 200 px being 256
        assert stack.shape[axis] - 14 < high[axis] < stack.shape[axis] + 6  # the last cell may reach beyond it


def test_plain_vit_answers_clicks_and_finds_similar_ones(viewer: ViewerModel, tmp_path: Path) -> None:
    path = tmp_path / "lab.safetensors"
    save_file(state_of_shapes(layout(PlainViTSpec(width=128, depth=2, heads=2, image_size=320))), path)
    viewer.add_image(discs(), rgb=True)
    annotator = napari_sam.annotate(viewer, model=str(path), device="cpu")
    annotator.points.add([CENTRES[0]])
    annotator.wait(PATIENCE)
    assert "mean and deviation 0.5" in annotator.status.message
    annotator.choose(int(np.argmin([abs(mask.area - 610) for mask, _ in annotator.candidates])))
    annotator.commit()
    inside = np.hypot(ROWS - CENTRES[0][0], COLS - CENTRES[0][1]) < 14
    labelled = np.asarray(annotator.labels.data) > 0
    assert (labelled & inside).sum() / (labelled | inside).sum() > 0.7
    annotator.views.find_similar()
    annotator.wait(PATIENCE)
    annotator.commit()
    assert all(annotator.labels.data[centre] for centre in CENTRES)
