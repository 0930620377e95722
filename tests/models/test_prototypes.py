"""Prompts without a mask decoder: what looks like the prompts, to the border, through the same predictor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from parity import state_of_shapes
from safetensors.torch import save_file

import napari_sam
from napari_sam import Predictor, Prompts
from napari_sam.masks import Mask
from napari_sam.models.prototypes import connected, upsampled
from napari_sam.models.recognition import layout
from napari_sam.models.specs import PlainViTSpec

SHAPE = (200, 260)
ROWS, COLS = np.mgrid[: SHAPE[0], : SHAPE[1]]
DISC = np.hypot(ROWS - 70, COLS - 90) < 40
OTHER_DISC = np.hypot(ROWS - 140, COLS - 200) < 30
SQUARE = (abs(ROWS - 150) < 25) & (abs(COLS - 60) < 25)


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    """Two orange discs and a blue square on green, with noise."""
    image = np.full((*SHAPE, 3), (60.0, 80, 60))
    image[DISC | OTHER_DISC], image[SQUARE] = (200, 120, 60), (50, 90, 210)
    return np.clip(image + np.random.default_rng(0).normal(0, 8, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def vit_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain ViT of two blocks; even weights that were drawn tell colours apart."""
    path = tmp_path_factory.mktemp("vit") / "vit.safetensors"
    save_file(state_of_shapes(layout(PlainViTSpec(width=128, depth=2, heads=2))), path)
    return path


@pytest.fixture(scope="module")
def predictor(vit_file: Path) -> Predictor:
    return napari_sam.load_predictor(vit_file, device="cpu", profile="vit")


def overlap(mask: Mask, truth: NDArray[np.bool_]) -> float:
    pixels = np.asarray(mask)
    return float((pixels & truth).sum() / (pixels | truth).sum())


def test_click_offers_the_heart_the_whole_and_everything_alike(
    predictor: Predictor, picture: NDArray[np.uint8]
) -> None:
    result = predictor.decode(predictor.encode(picture), Prompts(points=[(70, 90)]))
    heart, whole, alike = result.masks
    assert overlap(heart, DISC) > 0.9
    assert overlap(whole, DISC) > 0.85
    assert overlap(alike, DISC | OTHER_DISC) > 0.85
    assert not np.asarray(whole)[OTHER_DISC].any()
    assert result.logits.shape == (3, 56, 56)
    assert ((result.scores > 0) & (result.scores <= 1)).all()


@pytest.mark.parametrize(
    ("prompts", "truth"),
    [
        (Prompts(boxes=[(28, 48, 112, 132)]), DISC),
        (Prompts(boxes=[(124, 34, 176, 86)]), SQUARE),
        (Prompts(mask=OTHER_DISC), OTHER_DISC),
        (Prompts(points=[(70, 90), (140, 200)]), DISC | OTHER_DISC),
        (Prompts(points=[(70, 90), (20, 20)], labels=[1, 0]), DISC),
        (Prompts(points=[(10, 10)], labels=[0]), DISC | OTHER_DISC | SQUARE),
    ],
    ids=["box", "other box", "mask", "two points", "negative point", "negative alone"],
)
def test_every_kind_of_prompt(
    predictor: Predictor, picture: NDArray[np.uint8], prompts: Prompts, truth: NDArray[np.bool_]
) -> None:
    result = predictor.decode(predictor.encode(picture), prompts, multimask=False)
    assert len(result.masks) == 1
    assert overlap(result.masks[0], truth) > 0.8


def test_masks_stay_inside_their_box(predictor: Predictor, picture: NDArray[np.uint8]) -> None:
    result = predictor.decode(predictor.encode(picture), Prompts(boxes=[(60, 80, 112, 132)]))
    outside = np.asarray(result.masks[0]).copy()
    outside[58:115, 78:135] = False  # a logit is 4 x 5 px here
    assert not outside.any()


def test_borders_follow_the_picture_and_not_the_patches(predictor: Predictor, picture: NDArray[np.uint8]) -> None:
    """Whole patches would be 14 x 19 px of this picture; pixels of the guide are 4 x 5."""
    mask = predictor.decode(predictor.encode(picture), Prompts(points=[(70, 90)])).masks[0]
    wrong = np.asarray(mask) ^ DISC
    distance = np.abs(np.hypot(ROWS - 70, COLS - 90) - 40)
    assert np.percentile(distance[wrong], 90) < 8


def test_objects_are_answered_alike_together_and_alone(predictor: Predictor, picture: NDArray[np.uint8]) -> None:
    embedding = predictor.encode(picture)
    several = [Prompts(boxes=[(28, 48, 112, 132)]), Prompts(boxes=[(124, 34, 176, 86)])]
    for together, prompts in zip(predictor.decode_many(embedding, several), several, strict=True):
        np.testing.assert_array_equal(together.logits, predictor.decode(embedding, prompts).logits)


def test_candidate_can_be_fed_back(predictor: Predictor, picture: NDArray[np.uint8]) -> None:
    embedding = predictor.encode(picture)
    first = predictor.decode(embedding, Prompts(points=[(70, 90)]))
    again = Prompts(points=[(70, 90), (140, 200)], labels=[1, 0], mask=first.masks[1])
    assert overlap(predictor.decode(embedding, again).masks[0], DISC) > 0.75


def test_regions_can_be_encoded_apart(predictor: Predictor, picture: NDArray[np.uint8]) -> None:
    embedding = predictor.encode(picture).merge(predictor.encode(picture, region=(20, 40, 120, 140)))
    assert overlap(predictor.decode(embedding, Prompts(points=[(70, 90)])).masks[1], DISC) > 0.85


def test_encoder_of_a_segment_anything_model_can_answer_by_likeness(picture: NDArray[np.uint8], tmp_path: Path) -> None:
    (tmp_path / "likeness.toml").write_text('base = "default"\ndecoder = "prototypes"')
    predictor = napari_sam.load_predictor("default", device="cpu", profile=tmp_path / "likeness.toml")
    mask = predictor.decode(predictor.encode(picture), Prompts(boxes=[(124, 34, 176, 86)])).masks[0]
    assert overlap(mask, SQUARE) > 0.7


@pytest.mark.parametrize("value", [0, 128, 255])
def test_picture_of_one_colour_is_answered(predictor: Predictor, value: int) -> None:
    embedding = predictor.encode(np.full((40, 60), value, np.uint8))
    for prompts in (Prompts(points=[(3, 4)]), Prompts(boxes=[(0, 0, 39, 59)]), Prompts(boxes=[(5, 5, 5, 5)])):
        assert np.isfinite(predictor.decode(embedding, prompts).logits).all()


@pytest.mark.parametrize("patch", [8, 14, 16, 32])
def test_patches_of_other_sizes(patch: int, tmp_path: Path) -> None:
    spec = PlainViTSpec(width=64, depth=1, heads=1, image_size=224, patch_size=patch)
    save_file(state_of_shapes(layout(spec)), tmp_path / "vit.safetensors")
    predictor = napari_sam.load_predictor(tmp_path / "vit.safetensors", device="cpu")
    result = predictor.decode(predictor.encode(np.zeros((50, 70, 3), np.uint8)), Prompts(points=[(9, 9)]))
    assert result.logits.shape == (3, 56, 56)


def test_upsampling_keeps_to_the_colours() -> None:
    """A border that runs through the patches ends where the colour changes."""
    guide = torch.full((3, 16, 16), -1.0)
    guide[:, :, 6:] = 1
    coarse = torch.tensor([[-4.0, -4, 4, 4]]).expand(4, 4).clone()
    coarse[:, 1] = 1  # half and half
    fine = upsampled(coarse, guide)
    assert (fine[:, 7:] > 0).all()
    assert (fine[:, :4] < 0).all()
    flat = upsampled(coarse, torch.zeros(3, 16, 16))
    assert torch.isfinite(flat).all()
    assert flat.abs().max() <= 4


def test_only_what_is_joined_stays() -> None:
    logits = torch.full((7, 7), -1.0)
    logits[1, 1:6] = logits[2:6, 5] = 1.0  # a bent line
    logits[4, 1] = 1.0
    seed = torch.zeros(7, 7, dtype=torch.bool)
    seed[1, 1] = True
    kept = connected(logits, seed) > 0
    assert kept.sum() == 9
    assert not kept[4, 1]
    assert not (connected(logits, torch.zeros_like(seed)) > 0).any()


def test_encoding_can_be_stopped_between_blocks(predictor: Predictor) -> None:
    asked: list[int] = []
    with pytest.raises(napari_sam.Cancelled):
        predictor.encode(np.zeros((9, 9), np.uint8), cancelled=lambda: len(asked) > 0 or bool(asked.append(1)))
