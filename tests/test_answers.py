"""One mask from several regions' answers."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam import Prompts
from napari_sam.answers import CONTRADICTION_PENALTY, CUT_OFF_PENALTY, choose
from napari_sam.geometry import Frame
from napari_sam.masks import Mask

SHAPE = (128, 128)
WHOLE = Frame(SHAPE, (0, 0, 128, 128), 64)
PART = Frame(SHAPE, (32, 32, 96, 96), 64)


def mask_of(frame: Frame, rows: slice, cols: slice) -> Mask:
    logits = np.full((16, 16), -5, np.float32)
    logits[rows, cols] = 5
    return Mask(logits, frame)


def test_logits_at_points_are_those_of_their_cells() -> None:
    mask = mask_of(PART, slice(4, 8), slice(4, 8))  # rows and columns 48 to 63
    inside = mask.logits_at(np.array([(50.0, 50), (61, 61), (50, 70), (10, 10)]))
    assert inside[:2] == pytest.approx(5)
    assert inside[2] == pytest.approx(-5)
    assert inside[3] == -10  # not in the region
    assert mask.logits_at(np.zeros((0, 2))).shape == (0,)


def test_logits_at_every_pixel_agree_with_the_mask() -> None:
    rng = np.random.default_rng(0)
    mask = Mask(rng.standard_normal((16, 16)).astype(np.float32), WHOLE)
    points = np.argwhere(np.ones(SHAPE, bool)).astype(float)
    agree = (mask.logits_at(points) > 0).reshape(SHAPE) == np.asarray(mask)
    assert agree.mean() > 0.95  # the published way interpolates twice


def test_one_region_alone_keeps_the_scores() -> None:
    contradicting = mask_of(PART, slice(0, 4), slice(0, 4))
    result = choose([[(contradicting, 0.7)]], Prompts(points=[(60, 60)]))
    assert result.scores.tolist() == [pytest.approx(0.7)]
    assert result.masks == (contradicting,)


def test_a_mask_that_leaves_out_the_click_loses() -> None:
    wrong, right = mask_of(WHOLE, slice(0, 4), slice(0, 4)), mask_of(WHOLE, slice(6, 10), slice(6, 10))
    result = choose([[(wrong, 0.9)], [(right, 0.6)]], Prompts(points=[(60, 60)]))
    assert result.masks == (right,)
    assert result.scores[0] == pytest.approx(0.6)
    clear = choose([[(wrong, 0.9)], [(right, 0.3)]], Prompts(points=[(60, 60), (110, 110)], labels=[1, 0]))
    assert clear.scores[0] == pytest.approx(0.9 - CONTRADICTION_PENALTY / 2)


def test_a_mask_that_its_region_cuts_off_loses() -> None:
    cut, whole = mask_of(PART, slice(0, 16), slice(4, 8)), mask_of(WHOLE, slice(4, 12), slice(6, 8))
    result = choose([[(cut, 0.6)], [(whole, 0.5)]], Prompts(points=[(60, 52)]))
    assert result.masks == (whole,)
    assert CUT_OFF_PENALTY > 0.1


def test_scales_that_agree_win_over_one_that_is_surer() -> None:
    click = Prompts(points=[(64, 64)])
    small, other = mask_of(WHOLE, slice(7, 9), slice(7, 9)), mask_of(WHOLE, slice(7, 9), slice(6, 9))
    same = mask_of(PART, slice(6, 10), slice(6, 10))  # the pixels of `small`, seen from nearer
    lone = mask_of(PART, slice(1, 15), slice(1, 15))
    result = choose([[(small, 0.5), (other, 0.1), (other, 0.1)], [(lone, 0.6), (same, 0.5), (other, 0.1)]], click)
    assert result.masks[result.best].bbox in {small.bbox, same.bbox}
    assert (result.scores > 0).all()
    assert (result.scores < 1).all()


def test_people_click_where_an_object_is_thickest() -> None:
    click, far = Prompts(points=[(64, 64)]), Prompts(points=[(64, 64), (64, 68)])
    central, aside = mask_of(WHOLE, slice(5, 11), slice(5, 11)), mask_of(WHOLE, slice(7, 15), slice(7, 15))
    answers = [[(aside, 0.6), (central, 0.5)]] * 2
    assert choose(answers, click).best == 1
    assert choose(answers, far).best == 0  # of more clicks some lie at the border


def test_candidates_that_are_all_empty_are_no_trouble() -> None:
    nothing = Mask(np.full((16, 16), -5, np.float32), WHOLE)
    result = choose([[(nothing, 0.1)] * 3, [(nothing, -0.2)] * 3], Prompts(points=[(64, 64)]))
    assert result.scores.tolist() == [0, 0, 0]
