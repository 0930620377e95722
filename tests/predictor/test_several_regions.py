"""Embeddings of several regions: which of them are asked, and which ones `refine` adds."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from toys import BOX, CROP_SIDES, INSIDE, LEFT, RIGHT, SHAPE, make_predictor, picture

import napari_sam
from napari_sam import Cancelled, Predictor, PromptError, Prompts
from napari_sam.answers import CONTRADICTION_PENALTY, CUT_OFF_PENALTY
from napari_sam.regions import helpful_regions

# Asking


def test_only_regions_that_hold_the_prompts_are_asked(published: Predictor) -> None:
    image = picture(*SHAPE)
    both = published.encode(image, region=LEFT).merge(published.encode(image, region=RIGHT))

    def answered_by(**prompts: Any) -> set[Any]:
        return {mask.region for mask in published.decode(both, Prompts(**prompts)).masks}

    assert answered_by(points=[(10, 10)]) == {LEFT}
    assert answered_by(points=[(50, 100)]) == {RIGHT}
    assert answered_by(points=[(50, 65)]) <= {LEFT, RIGHT}
    assert answered_by(boxes=[(30, 5, 50, 66)]) == {LEFT}
    assert answered_by(points=[(50, 65), (50, 100)], labels=[1, 1]) == {RIGHT}
    assert answered_by(points=[(10, 10), (50, 100)], labels=[1, 0]) == {LEFT}
    assert answered_by(points=[(50, 100)], labels=[0]) == {RIGHT}
    assert answered_by(points=[(50, 65), (50, 66)], labels=[0, 0]) <= {LEFT, RIGHT}
    assert answered_by(mask=np.pad(np.ones((5, 5), bool), ((40, 45), (100, 25)))) == {RIGHT}
    assert answered_by(mask=np.zeros(SHAPE, bool)) <= {LEFT, RIGHT}


@pytest.mark.parametrize(
    "prompts",
    [
        {"points": [(10, 120)]},
        {"points": [(10, 120)], "labels": [0]},
        {"points": [(10, 10), (50, 100)]},
        {"boxes": [(0, 10, 10, 129)]},
        {"mask": np.ones(SHAPE, bool)},
    ],
)
def test_prompts_that_no_region_holds_are_refused(published: Predictor, prompts: dict) -> None:
    image = picture(*SHAPE)
    both = published.encode(image, region=LEFT).merge(published.encode(image, region=RIGHT))
    with pytest.raises(PromptError, match=r"no encoded region holds.*\(20, 60, 80, 130\).*encode the whole image"):
        published.decode(both, Prompts(**prompts))


def test_the_one_mask_comes_from_the_region_that_is_surest(published: Predictor, embedding: Any) -> None:
    part = published.encode(picture(*SHAPE), region=RIGHT)
    click = Prompts(points=[(50, 100)])
    apart = [published.decode(each, click, multimask=False) for each in (embedding, part)]
    together = published.decode(embedding.merge(part), click, multimask=False)
    scores = {}
    for mask, score in ((answer.masks[0], answer.scores[0]) for answer in apart):
        contradicts = mask.logits_at(click.points)[0] <= 0
        scores[mask.region] = score - CUT_OFF_PENALTY * mask.is_cut_off() - CONTRADICTION_PENALTY * contradicts
    chosen = together.masks[0].region
    assert chosen == max(scores, key=lambda region: scores[region])
    assert together.scores[0] == pytest.approx(scores[chosen], abs=1e-5)


def test_each_candidate_is_one_of_a_region(published: Predictor, embedding: Any) -> None:
    part = published.encode(picture(*SHAPE), region=RIGHT)
    click = Prompts(points=[(50, 100)])
    apart = {box: published.decode(each, click) for each, box in ((embedding, embedding.boxes[0]), (part, RIGHT))}
    together = published.decode(embedding.merge(part), click)
    for index, mask in enumerate(together.masks):
        assert mask.logits == pytest.approx(apart[mask.region].logits[index], abs=1e-4)


def test_a_mask_of_one_region_is_a_prompt_for_another(published: Predictor, embedding: Any) -> None:
    part = published.encode(picture(*SHAPE), region=RIGHT)
    mask = published.decode(embedding, Prompts(points=[(50, 100)])).masks[0]
    result = published.decode(part, Prompts(points=[(50, 100)], mask=mask))
    assert result.masks[0].region == RIGHT


# Refining


def test_published_checkpoints_have_nothing_to_refine(published: Predictor, embedding: Any) -> None:
    for prompts in (Prompts(points=[INSIDE]), Prompts(boxes=BOX)):
        assert published.refine(embedding, picture(*SHAPE), prompts) is embedding


def test_a_model_of_several_scales_encodes_crops_round_the_prompts(toy_predictor: Predictor) -> None:
    image, seen = picture(*SHAPE), list[float]()
    embedding = toy_predictor.encode(image)
    refined = toy_predictor.refine(embedding, image, Prompts(points=[INSIDE]), progress=seen.append)
    assert embedding.boxes == ((0, 0, *SHAPE),)
    assert refined.boxes[0] == (0, 0, *SHAPE)
    count = 1 + len(CROP_SIDES)
    assert sorted(row1 - row0 for row0, _, row1, _ in refined.boxes[1:count]) == list(CROP_SIDES)
    assert all(earlier < later for earlier, later in pairwise(seen))
    assert seen[-1] == 1.0
    assert refined.limits == embedding.limits
    assert toy_predictor.refine(refined, image, Prompts(points=[INSIDE])) is refined


def test_what_a_click_shows_is_looked_at_more_closely() -> None:
    image, predictor = picture(300, 400), make_predictor(CROP_SIDES)
    click = Prompts(points=[(150, 200)])
    whole = predictor.encode(image)
    refined = predictor.refine(whole, image, click)
    helpful = helpful_regions(click, whole.shape, whole.boxes, CROP_SIDES)
    turned = [box for box, is_turned in helpful.items() if is_turned]
    first = predictor.encode_regions(whole, image, list(helpful), turned=[list(box) for box in turned])
    assert {region.frame.region for region in first.regions if region.is_turned} == set(turned)
    found = predictor.decode(first, click)
    shown = replace(click, mask=found.masks[found.best])
    closer = helpful_regions(shown, whole.shape, first.boxes, CROP_SIDES)
    assert refined.boxes == (*first.boxes, *closer)
    boxed = predictor.refine(whole, image, Prompts(boxes=[(100, 150, 180, 230)]))
    assert len(boxed.boxes) == 3  # a box says it all at once


def test_refined_regions_that_are_not_turned_are_what_encode_makes_of_them(toy_predictor: Predictor) -> None:
    image = np.random.default_rng(0).normal(size=(*SHAPE, 5)).cumsum(axis=0)
    whole = toy_predictor.encode(image, channels=(4, 0), limits=[(-5, 5), (-3, 9)])
    refined = toy_predictor.refine(whole, image, Prompts(boxes=BOX))
    assert len(refined.boxes) == 3
    region = next(one for one in refined.regions[1:] if not one.is_turned)
    again = toy_predictor.encode(image, channels=(4, 0), limits=[(-5, 5), (-3, 9)], region=region.frame.region)
    assert torch.allclose(region.features, again.regions[0].features, atol=1e-5)
    assert set(refined.merge(again).boxes) == set(refined.boxes)


def test_a_box_keeps_what_several_crops_say_of_it_where_the_profile_says_so() -> None:
    image, predictor = picture(300, 400), make_predictor(CROP_SIDES)
    box = Prompts(boxes=[(100, 150, 180, 230)])
    refined = predictor.refine(predictor.encode(image), image, box)
    assert len(refined.regions) == 3
    loose = predictor.decode(refined, box).masks[0]
    predictor.profile = replace(predictor.profile, masks_within_boxes=True)
    kept = predictor.decode(refined, box).masks[0]
    cell = max(kept.frame.shape) / kept.frame.low_size
    beyond = np.array([100, 150, -181, -231]) - np.array([loose.bbox, kept.bbox]) * (1, 1, -1, -1)
    assert beyond[0].max() > cell
    assert beyond[1].max() < cell
    np.testing.assert_array_equal(predictor.decode_best(refined, box).logits, kept.logits)


@pytest.mark.parametrize("kind", ["points", "boxes", "masks"])
def test_a_turned_region_answers_as_the_turned_image_does(toy_predictor: Predictor, kind: str) -> None:
    image, box = picture(*SHAPE), (10, 30, 74, 78)  # not square: the padding is turned, too; of the encoder's size
    nothing = replace(toy_predictor.encode(image), regions=())
    turned = toy_predictor.encode_regions(nothing, image, [box], turned=[box])
    mirror = toy_predictor.encode(np.ascontiguousarray(image.swapaxes(0, 1)), region=(30, 10, 78, 74))
    assert torch.allclose(turned.regions[0].features, mirror.regions[0].features, atol=1e-5)
    square = np.zeros(image.shape[:2], bool)
    square[20:50, 40:60] = True
    asked, asked_across = {
        "points": (Prompts(points=[(30, 50), (60, 70)], labels=[1, 0]), Prompts([(50, 30), (70, 60)], [1, 0])),
        "boxes": (Prompts(boxes=[(20, 40, 55, 70)]), Prompts(boxes=[(40, 20, 70, 55)])),
        "masks": (Prompts([(30, 50)], [1], mask=square), Prompts([(50, 30)], [1], mask=square.T)),
    }[kind]
    ours, theirs = toy_predictor.decode(turned, asked), toy_predictor.decode(mirror, asked_across)
    np.testing.assert_allclose(ours.logits, theirs.logits.swapaxes(1, 2), atol=1e-4)
    np.testing.assert_array_equal(np.asarray(ours.masks[0]), np.asarray(theirs.masks[0]).T)
    cells = toy_predictor.cells(turned.regions[0])
    np.testing.assert_allclose(cells, toy_predictor.cells(mirror.regions[0]).swapaxes(1, 2), atol=1e-5)


def test_refining_can_be_cancelled(toy_predictor: Predictor) -> None:
    image = picture(*SHAPE)
    with pytest.raises(Cancelled):
        toy_predictor.refine(toy_predictor.encode(image), image, Prompts(points=[INSIDE]), cancelled=lambda: True)


@pytest.mark.parametrize(
    "other",
    [picture(91, 130), picture(*SHAPE)[..., :2], picture(*SHAPE)[..., 0], picture(*SHAPE).astype(np.float32), [1, 2]],
    ids=["shape", "fewer channels", "no channels", "type", "no picture"],
)
def test_refining_with_another_image_is_a_value_error(
    toy_predictor: Predictor, published: Predictor, embedding: Any, other: Any
) -> None:
    with pytest.raises(ValueError, match="image"):
        toy_predictor.refine(toy_predictor.encode(picture(*SHAPE)), other, Prompts(points=[INSIDE]))
    with pytest.raises(ValueError, match="image"):
        published.refine(embedding, other, Prompts(points=[INSIDE]))


@pytest.fixture(scope="module")
def default() -> Predictor:
    return napari_sam.load_predictor("default", device="cpu")


def a_bright_disk() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rows, cols = np.mgrid[:200, :260]
    disk = np.hypot(rows - 90, cols - 140) <= 30
    noise = np.random.default_rng(0).normal(0, 0.1, disk.shape)
    return (0.3 + 0.5 * disk + noise).astype(np.float32), disk


@pytest.mark.parametrize("refined", [False, True], ids=["whole image", "refined"])
@pytest.mark.parametrize(
    ("prompts", "bar"),
    [({"points": [(90, 140)], "labels": [1]}, 0.8), ({"boxes": [(60, 110, 120, 170)]}, 0.7)],
    ids=["one click", "box"],
)
def test_the_default_model_outlines_a_bright_disk(default: Predictor, prompts: dict, bar: float, refined: bool) -> None:
    image, disk = a_bright_disk()
    embedding = default.encode(image)
    if refined:
        embedding = default.refine(embedding, image, Prompts(**prompts))
        assert len(embedding.regions) > 1
    result = default.decode(embedding, Prompts(**prompts))
    found = np.asarray(result.masks[int(np.argmax(result.scores))])
    iou = (found & disk).sum() / (found | disk).sum()
    assert iou > bar
