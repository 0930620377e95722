"""Masks lean to what looks like them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import label
from toys import make_predictor

from napari_sam import Prompts
from napari_sam.appearance import SWAY, in_its_colours, look_of
from napari_sam.blending import blend
from napari_sam.geometry import Frame, whole
from napari_sam.masks import Mask

SIZE = 256
CROP_SIDES = (24, 48)


def disk(radius: float, col: float = 128) -> NDArray[np.bool_]:
    rows, cols = np.mgrid[:SIZE, :SIZE]
    return np.asarray(np.hypot(rows - 128, cols - col) <= radius)


def pixels_of(picture: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return an encoder input (3, SIZE, SIZE) in grey, with a little noise."""
    noise = np.random.default_rng(0).normal(0, 0.1, (SIZE, SIZE))
    return np.repeat((picture + noise)[None], 3, axis=0).astype(np.float32)


def soft_mask(radius: float, frame: Frame) -> Mask:
    rows, cols = (frame.low_positions(axis) - 128 for axis in (0, 1))
    return Mask(((radius - np.hypot(*np.meshgrid(rows, cols, indexing="ij"))) / 12).astype(np.float32), frame)


def iou(mask: Mask, truth: NDArray[np.bool_]) -> float:
    picture = np.asarray(mask)
    return float((picture & truth).sum() / (picture | truth).sum())


@pytest.fixture
def frame() -> Frame:
    return Frame((SIZE, SIZE), whole((SIZE, SIZE)), SIZE)


def test_a_look_is_the_mean_and_the_texture_of_each_cell() -> None:
    pixels = np.zeros((3, 8, 8), np.float32)
    pixels[1, :4, :4] = 2
    pixels[2, 4:, :4] = np.tile([[1, -1], [-1, 1]], (2, 2))
    look = look_of(pixels)
    assert look.shape == (4, 2, 2)
    assert look[:, 0, 0].tolist() == [0, 2, 0, 0]
    assert look[:, 1, 0].tolist() == [0, 0, 0, pytest.approx(1 / 3)]


@pytest.mark.parametrize("believed", [48, 72])
def test_a_mask_finds_the_border_that_the_picture_shows(frame: Frame, believed: float) -> None:
    truth, mask = disk(60), soft_mask(believed, frame)
    corrected = in_its_colours(mask, look_of(pixels_of(truth * 1.5)))
    assert iou(mask, truth) < 0.75
    assert iou(corrected, truth) > 0.9


def test_where_the_picture_shows_nothing_a_mask_stays(frame: Frame) -> None:
    mask = soft_mask(60, frame)
    corrected = in_its_colours(mask, look_of(pixels_of(np.zeros((SIZE, SIZE)))))
    assert iou(corrected, np.asarray(mask)) > 0.95
    assert np.abs(corrected.logits - mask.logits).max() <= SWAY + 1e-6


def test_what_looks_alike_farther_off_is_left_alone(frame: Frame) -> None:
    picture = disk(30, 60) | disk(30, 200)
    near = Mask(np.roll(soft_mask(30, frame).logits, -17, axis=1), frame)
    assert iou(in_its_colours(near, look_of(pixels_of(picture * 2.0))), disk(30, 60)) > 0.8


def test_noise_makes_neither_specks_nor_holes(frame: Frame) -> None:
    grain = np.random.default_rng(0).normal(0, 1, (SIZE // 4, SIZE // 4)).repeat(4, 0).repeat(4, 1)
    corrected = in_its_colours(soft_mask(48, frame), look_of(pixels_of(disk(48) * 1.5 + grain)))
    assert (corrected.cells != soft_mask(48, frame).cells).sum() > 20
    for cells in (corrected.cells, ~corrected.cells):
        assert label(cells)[1] == 1


def test_an_empty_mask_and_the_padding_stay(frame: Frame) -> None:
    empty = Mask(np.full((64, 64), -3, np.float32), frame)
    look = look_of(pixels_of(disk(60) * 1.0))
    assert in_its_colours(empty, look) is empty
    padded = Frame((SIZE, SIZE // 2), whole((SIZE, SIZE // 2)), SIZE)
    mask = Mask(np.full((64, 64), 3, np.float32), padded)
    assert (in_its_colours(mask, look).logits[:, 32:] == 3).all()


def test_clicks_have_the_last_word(frame: Frame) -> None:
    looks = {frame: look_of(pixels_of(disk(60) * 1.5))}
    click = np.array([(128.0, 196.0)])  # beyond the border
    result = blend([[(soft_mask(60, frame), 0.9)]], Prompts([(128, 128), *click], [1, 1]), looks)
    assert result.masks[0].logits_at(click)[0] > 0


def test_networks_of_many_scales_are_told_how_the_picture_looks() -> None:
    image = np.random.default_rng(0).integers(0, 255, (60, 90), np.uint8)
    many, one = make_predictor(CROP_SIDES), make_predictor()
    assert one.encode(image).regions[0].look is None
    look = many.encode(image).regions[0].look
    assert look is not None
    side = many.encode(image).regions[0].frame.low_size
    assert look.shape == (4, side, side)
