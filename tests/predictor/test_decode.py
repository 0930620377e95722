"""`decode` and `decode_many`: what is offered, what is refused, and that answers depend on nothing else."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest
import torch
from toys import BOX, CROP_SIDES, INSIDE, LEFT, RIGHT, SHAPE, assert_same, make_predictor, picture

from napari_sam import MaskResult, Predictor, PromptError, Prompts
from napari_sam.masks import CERTAIN
from napari_sam.models import layers
from napari_sam.predictor.decoding import PROMPTS_PER_PASS


@pytest.mark.parametrize(
    ("prompts", "count"),
    [
        (Prompts(points=[INSIDE]), 3),
        (Prompts(points=[INSIDE], labels=[0]), 3),
        (Prompts(points=[INSIDE, (20, 20)], labels=[1, 0]), 1),
        (Prompts(boxes=BOX), 1),
        (Prompts(points=[INSIDE], boxes=BOX), 1),
        (Prompts(points=[INSIDE], mask=np.ones(SHAPE, bool)), 1),
        (Prompts(mask=np.eye(*SHAPE, dtype=bool)), 1),
        (Prompts(mask=np.zeros(SHAPE, bool)), 1),
        (Prompts(points=[INSIDE], labels=[0], mask=np.zeros(SHAPE, bool)), 1),
    ],
)
def test_a_single_click_gets_three_candidates_and_all_else_one(
    published: Predictor, embedding: Any, prompts: Prompts, count: int
) -> None:
    result = published.decode(embedding, prompts)
    assert len(result.masks) == len(result.scores) == len(result.logits) == count
    assert result.logits.shape == (count, 16, 16)
    assert result.logits.dtype == result.scores.dtype == np.float32
    for yes, no in ((True, False), (np.True_, np.False_)):
        assert len(published.decode(embedding, prompts, multimask=yes).masks) == 3
        assert len(published.decode(embedding, prompts, multimask=no).masks) == 1
    for mask in result.masks:
        assert np.asarray(mask).shape == SHAPE
        assert np.asarray(mask).dtype == bool


def test_a_negative_point_outside_the_region_does_not_make_the_click_ambiguous(published: Predictor) -> None:
    part = published.encode(picture(*SHAPE), region=LEFT)
    both = published.decode(part, Prompts(points=[INSIDE, (40, 120)], labels=[1, 0]))
    alone = published.decode(part, Prompts(points=[INSIDE]), multimask=False)
    assert len(both.masks) == 1
    assert_same(both, alone, 0)


OUTSIDE = [
    ({"points": [(90, 10)]}, r"\[90\.0, 10\.0\].*outside the image of 90 x 130.*leave"),
    ({"points": [INSIDE, (10, -3)], "labels": [1, 0]}, r"\[10\.0, -3\.0\].*outside"),
    ({"points": [(1e300, 0)]}, "outside"),
    ({"boxes": [(0, 140, 9, 150)]}, r"140\.0.*outside the image of 90 x 130"),
    ({"boxes": [(-9, -9, -1, -1)]}, "outside"),
    ({"boxes": [(0, 0, 9, 9), (5, 5, 9, 9)]}, "2 boxes.*decode_many"),
    ({"mask": np.ones((90, 131), bool)}, r"\(90, 131\).*\(90, 130\)"),
    ({"points": [INSIDE], "mask": np.zeros((130, 90), bool)}, r"\(130, 90\)"),
]


@pytest.mark.parametrize(("arguments", "said"), OUTSIDE)
def test_prompts_that_this_image_cannot_answer_are_refused(
    published: Predictor, embedding: Any, arguments: dict, said: str
) -> None:
    with pytest.raises(PromptError, match=said):
        published.decode(embedding, Prompts(**arguments))
    with pytest.raises(PromptError, match=said):
        published.decode_many(embedding, [Prompts(points=[INSIDE]), Prompts(**arguments)])
    with pytest.raises(PromptError, match=said):
        published.refine(embedding, picture(*SHAPE), Prompts(**arguments))


def test_a_mask_of_another_image_is_refused(published: Predictor, embedding: Any) -> None:
    small = published.decode(published.encode(picture(40, 50)), Prompts(points=[(9, 9)])).masks[0]
    with pytest.raises(PromptError, match=r"\(40, 50\) on one of \(90, 130\)"):
        published.decode(embedding, Prompts(mask=small))


def test_points_count_to_the_edges_of_the_border_pixels(published: Predictor, embedding: Any) -> None:
    for point in [(-0.5, 0), (89.5, 129.5), (0, 129.49)]:
        assert published.decode(embedding, Prompts(points=[point])).masks


def test_a_box_across_the_border_is_clipped(published: Predictor, embedding: Any) -> None:
    across = published.decode(embedding, Prompts(boxes=[(-50, 100, 40, 500)]))
    inside = published.decode(embedding, Prompts(boxes=[(0, 100, 40, 129)]))
    assert_same(across, inside, 0)


def test_what_a_box_says_beyond_the_border_changes_nothing(toy_predictor: Predictor) -> None:
    image = picture(300, 400)
    drawn, cut = Prompts(boxes=[(-60, 150, 50, 200)]), Prompts(boxes=[(0, 150, 50, 200)])
    whole = toy_predictor.encode(image)
    seen = toy_predictor.refine(whole, image, drawn)
    assert seen.boxes == toy_predictor.refine(whole, image, cut).boxes
    expected = toy_predictor.decode(seen, cut)
    assert_same(toy_predictor.decode(seen, drawn), expected)
    np.testing.assert_array_equal(toy_predictor.decode_best(seen, drawn).logits, expected.logits[expected.best])


def test_a_box_of_one_pixel_is_a_box(published: Predictor, embedding: Any) -> None:
    assert published.decode(embedding, Prompts(boxes=[(5, 6, 5, 6)])).masks


def test_answers_do_not_depend_on_what_was_asked_before(published: Predictor, embedding: Any) -> None:
    click, box = Prompts(points=[INSIDE]), Prompts(boxes=BOX)
    first = published.decode(embedding, click)
    kept = first.logits.copy()
    published.decode(embedding, Prompts(points=[INSIDE], mask=first.masks[0]))
    published.decode(embedding, box)
    other = published.encode(picture(50, 60, seed=1))
    published.decode(other, box)
    again = published.decode(embedding, click)
    assert np.array_equal(again.logits, kept)
    assert np.array_equal(first.logits, kept)
    assert np.array_equal(again.scores, first.scores)


def test_a_mask_fed_back_reaches_the_decoder_as_its_own_logits(published: Predictor, embedding: Any) -> None:
    asked = []
    decode = published._sam.decode

    def noted(*features: Any, **prompts: Any) -> Any:
        asked.append(prompts["masks"])
        return decode(*features, **prompts)

    first = published.decode(embedding, Prompts(points=[INSIDE]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published._sam, "decode", noted)
        again = published.decode(embedding, Prompts(points=[INSIDE, (20, 30)], labels=[1, 0], mask=first.masks[1]))
        published.decode(embedding, Prompts(mask=np.zeros(SHAPE, bool)))
    assert torch.equal(asked[0][0, 0], torch.from_numpy(first.logits[1]))
    assert (asked[1] == -CERTAIN).all()
    without = published.decode(embedding, Prompts(points=[INSIDE, (20, 30)], labels=[1, 0]))
    assert not np.allclose(again.logits, without.logits)


def some_objects(count: int = 18) -> list[Prompts]:
    """Return prompts of every kind, mixed."""
    generator = np.random.default_rng(0)
    prompts = []
    for index in range(count):
        points = generator.uniform(0, 89, (1 + index % 3, 2))
        corners = np.sort(generator.uniform(0, 89, (2, 2)), axis=0).ravel()
        mask = np.zeros(SHAPE, bool)
        mask[index : index + 9, index : index + 5] = True
        kinds: list[dict[str, Any]] = [
            {"points": points, "labels": [1, 0, 1][: len(points)]},
            {"boxes": [corners]},
            {"points": points, "labels": [1, 0, 0][: len(points)], "boxes": [corners]},
            {"mask": mask},
            {"points": points[:1], "mask": mask},
            {"points": points[:1], "labels": [0]},
        ]
        prompts.append(Prompts(**kinds[index % len(kinds)]))
    return prompts


@pytest.mark.parametrize("multimask", [None, True, False])
@pytest.mark.parametrize("regions", [(), (LEFT, RIGHT)])
def test_many_objects_are_answered_in_order_as_one_by_one(
    published: Predictor, embedding: Any, regions: tuple, multimask: bool | None
) -> None:
    for region in regions:
        embedding = embedding.merge(published.encode(picture(*SHAPE), region=region))
    objects = some_objects()
    together = published.decode_many(embedding, objects, multimask=multimask)
    assert len(together) == len(objects)
    for prompts, result in zip(objects, together, strict=True):
        assert_same(result, published.decode(embedding, prompts, multimask=multimask))


def test_more_objects_than_one_pass_takes_are_all_answered(published: Predictor, embedding: Any) -> None:
    boxes = [Prompts(boxes=[(0, 0, 20 + index, 30)]) for index in range(2 * PROMPTS_PER_PASS + 1)]
    results = published.decode_many(embedding, boxes)
    assert len(results) == len(boxes)
    assert_same(results[-1], published.decode(embedding, boxes[-1]))


def test_many_objects_may_be_none_or_a_generator(published: Predictor, embedding: Any) -> None:
    assert published.decode_many(embedding, []) == []
    assert len(published.decode_many(embedding, (Prompts(boxes=BOX) for _ in range(2)))) == 2  # type: ignore[arg-type]


def test_two_threads_do_not_disturb_each_other(published: Predictor, embedding: Any) -> None:
    objects = some_objects(12)
    alone = [published.decode(embedding, prompts) for prompts in objects]
    answers: dict[int, list[MaskResult]] = {}

    def ask(number: int) -> None:
        answers[number] = [published.decode(embedding, prompts) for prompts in objects]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for answer in (answers[0], answers[1]):
        for ours, theirs in zip(answer, alone, strict=True):
            assert_same(ours, theirs)


def test_an_embedding_of_other_weights_or_precision_is_refused(published: Predictor, embedding: Any) -> None:
    for other in (make_predictor(name="toy_vit"), make_predictor(dtype=torch.bfloat16)):
        foreign = other.encode(picture(*SHAPE))
        with pytest.raises(ValueError, match="encode the image again"):
            published.decode(foreign, Prompts(points=[INSIDE]))
        with pytest.raises(ValueError, match="encode the image again"):
            published.refine(foreign, picture(*SHAPE), Prompts(points=[INSIDE]))
        with pytest.raises(ValueError, match="model"):
            embedding.merge(foreign)


def test_what_a_region_alone_decides_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, counted = make_predictor(CROP_SIDES), []
    image_side = predictor._sam.image_side
    monkeypatch.setattr(predictor._sam, "image_side", lambda features: counted.append(1) or image_side(features))
    image, click = picture(60, 90), Prompts(points=[(30, 40)], labels=[1])
    embedding = predictor.encode(image)
    first = predictor.decode(embedding, click)
    assert len(counted) == 1
    refined = predictor.refine(embedding, image, click)
    for _ in range(3):
        predictor.decode(refined, click)
    assert len(counted) == len(refined.regions)
    np.testing.assert_array_equal(predictor.decode(embedding, click).logits, first.logits)
    del embedding, refined
    gc.collect()
    assert not predictor._decoding._sides  # nothing holds what nobody uses


def test_a_cpu_answers_as_many_prompts_at_once_as_stay_in_its_cache(
    published: Predictor, embedding: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, decode = [], published._sam.decode

    def counted(*arguments: Any, **options: Any) -> Any:
        sizes.append(len(options["points"]))
        return decode(*arguments, **options)

    monkeypatch.setattr(published._sam, "decode", counted)
    monkeypatch.setattr(layers, "BAND_SIZE", 2 * embedding.regions[0].features.numel())
    published.decode_many(embedding, [Prompts(points=[(row, 20)]) for row in (5, 15, 25, 35, 45)])
    assert sizes == [2, 2, 1]
