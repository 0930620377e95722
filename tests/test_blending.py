"""Crops that see the same object are averaged, and clicks are heeded."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam import Prompts
from napari_sam.blending import blend, blend_best, heeding
from napari_sam.box_prompts import within_box
from napari_sam.geometry import Frame, whole
from napari_sam.masks import Mask

SHAPE = (128, 128)
WHOLE = Frame(SHAPE, (0, 0, 128, 128), 64)
PART = Frame(SHAPE, (32, 32, 96, 96), 64)
CLICK = Prompts(points=[(64, 64)])
CLICKS = Prompts(points=[(64, 64), (10, 10)], labels=[1, 0])


def mask_of(frame: Frame, rows: slice, cols: slice, sure: float = 5) -> Mask:
    logits = np.full((16, 16), -sure, np.float32)
    logits[rows, cols] = sure
    return Mask(logits, frame)


def test_equal_voices_meet_in_the_middle() -> None:
    left, right = mask_of(WHOLE, slice(4, 12), slice(4, 12)), mask_of(WHOLE, slice(4, 12), slice(6, 14))
    result = blend([[(left, 0.8)], [(right, 0.8)]], CLICKS, {})
    assert result.scores == pytest.approx([0.8])
    np.testing.assert_allclose(result.logits[0], (left.logits + right.logits) / 2)


def test_who_scores_higher_is_heard_more_and_gives_the_frame() -> None:
    near, far = mask_of(PART, slice(2, 14), slice(2, 14)), mask_of(WHOLE, slice(7, 9), slice(7, 9))
    result = blend([[(far, 0.5)], [(near, 0.8)]], CLICKS, {})
    assert result.masks[0].frame == PART
    assert np.asarray(result.masks[0])[64, 50]
    result = blend([[(far, 0.8)], [(near, 0.5)]], CLICKS, {})
    assert result.masks[0].frame == WHOLE
    assert not np.asarray(result.masks[0])[64, 50]


def test_a_region_has_no_voice_in_what_it_does_not_see() -> None:
    near, far = mask_of(PART, slice(0, 16), slice(0, 16), sure=20), mask_of(WHOLE, slice(2, 14), slice(2, 14), sure=3)
    pixels = np.asarray(blend([[(far, 0.9)], [(near, 0.89)]], CLICKS, {}).masks[0])
    assert pixels[18:110, 18:110].all()


def test_an_average_keeps_to_the_box_where_it_is_asked_to() -> None:
    near, far = mask_of(PART, slice(4, 12), slice(4, 12)), mask_of(WHOLE, slice(5, 11), slice(5, 11), sure=8)
    box = Prompts(boxes=[(48, 48, 79, 79)])  # what near says
    answers = [[(far, 0.9)], [(near, 0.95)]]
    assert blend(answers, box, {}).masks[0].bbox[0] < 46
    kept = blend(answers, box, {}, within_boxes=True).masks[0]
    np.testing.assert_allclose(kept.bbox, (48, 48, 80, 80), atol=2)  # half a cell
    assert blend_best(answers, box, {}, within_boxes=True).bbox == kept.bbox


def test_what_looks_alike_beyond_a_box_stays_outside_of_a_mask_that_is_raised() -> None:
    frame = Frame(SHAPE, whole(SHAPE), 256)
    logits = np.full((64, 64), -4, np.float32)
    logits[16:48, 24:40] = 1  # the object in the middle of the box
    logits[16:48, 40:52] = 4  # it goes on beyond the box, and so it looks
    look = np.zeros((4, 64, 64), np.float32)
    look[:, 16:48, 24:52] = 3
    box = Prompts(boxes=[(24, 24, 103, 79)])  # rows and columns 12 to 51 and 12 to 39 of the cells
    answers = [[(Mask(within_box(logits, frame, box), frame), 0.9)]]
    mask = blend(answers, box, {frame: look}, within_boxes=True).masks[0]
    assert mask.bbox[3] <= 81
    np.testing.assert_array_equal(blend_best(answers, box, {frame: look}, within_boxes=True).logits, mask.logits)
    assert blend(answers, box, {frame: look}).masks[0].bbox[3] <= 81


def test_candidates_are_averaged_with_their_like_alone() -> None:
    small, large = mask_of(WHOLE, slice(7, 9), slice(7, 9)), mask_of(WHOLE, slice(2, 14), slice(2, 14))
    small_too, large_too = mask_of(PART, slice(6, 10), slice(6, 10)), mask_of(WHOLE, slice(2, 14), slice(2, 13))
    result = blend([[(small, 0.6), (large, 0.6)], [(small_too, 0.6), (large_too, 0.6)]], CLICK, {})
    areas = [mask.area for mask in result.masks]
    assert areas[0] == pytest.approx(16**2, rel=0.3)
    assert areas[1] == pytest.approx(96 * 92, rel=0.1)


def test_the_best_alone_is_the_one_that_scores_highest() -> None:
    small, large = mask_of(WHOLE, slice(7, 9), slice(7, 9)), mask_of(WHOLE, slice(2, 14), slice(2, 14))
    answers = [[(small, 0.6), (large, 0.8)], [(small, 0.7), (large, 0.9)]]
    result = blend(answers, CLICK, {})
    assert result.best == 1
    np.testing.assert_array_equal(blend_best(answers, CLICK, {}).logits, result.masks[1].logits)


def test_one_region_alone_keeps_scores_and_masks() -> None:
    mask = mask_of(WHOLE, slice(6, 10), slice(6, 10))
    result = blend([[(mask, 0.7)]], CLICK, {})
    assert result.masks == (mask,)
    assert result.scores == pytest.approx([0.7])


@pytest.mark.parametrize("label", [0, 1])
def test_a_click_that_was_contradicted_is_heeded_and_the_rest_stays(label: int) -> None:
    mask = mask_of(WHOLE, slice(4, 12), slice(4, 12))  # rows and columns 32 to 95
    missed = (90, 90) if label == 0 else (64, 112)
    prompts = Prompts(points=[(40, 40), (5, 5), missed], labels=[1, 0, label])
    before, after = np.asarray(mask), np.asarray(heeding(mask, prompts))
    assert before[missed] != bool(label)
    assert after[missed] == bool(label)
    distances = np.linalg.norm(np.argwhere(before != after) - missed, axis=1)
    assert len(distances) > 20
    assert distances.max() < np.linalg.norm(np.subtract(missed, (40, 40)))


def test_a_mask_that_agrees_with_the_clicks_is_the_same_mask() -> None:
    mask = mask_of(WHOLE, slice(4, 12), slice(4, 12))
    assert heeding(mask, CLICKS) is mask
    assert heeding(mask, Prompts(boxes=[(0, 0, 9, 9)])) is mask
    part = mask_of(PART, slice(4, 12), slice(4, 12))
    assert heeding(part, Prompts(points=[(64, 64), (5, 5)])) is part  # what its region does not hold
