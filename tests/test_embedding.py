from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from toys import make_predictor, picture

from napari_sam import ImageEmbedding
from napari_sam.embedding import RegionEmbedding
from napari_sam.geometry import Frame
from napari_sam.image_input import resolve_rule

SHAPE = (30, 40)
PART, OTHER = (0, 0, 20, 20), (10, 10, 30, 40)


def make(*boxes: tuple, model: str = "model", image: np.ndarray | None = None, **how: object) -> ImageEmbedding:
    rule = resolve_rule(np.zeros(SHAPE, np.uint16) if image is None else image, **how)  # type: ignore[arg-type]
    return ImageEmbedding(rule, tuple(RegionEmbedding(Frame(rule.shape, box, 64), object()) for box in boxes), model)


def test_an_embedding_says_what_was_encoded() -> None:
    embedding = make(PART, image=np.zeros((30, 40, 5)), channels=(4, 1), limits=[(0, 1), (2, 3)])
    assert embedding.shape == SHAPE
    assert embedding.channels == (4, 1)
    assert embedding.limits == ((0, 1), (2, 3))
    assert embedding.boxes == (PART,)


def test_merging_has_the_regions_of_both_and_changes_neither() -> None:
    first, second = make(PART), make(OTHER)
    merged = first.merge(second)
    assert merged.boxes == (PART, OTHER)
    assert merged.regions[0] is first.regions[0]
    assert merged.regions[1] is second.regions[0]
    assert (first.boxes, second.boxes) == ((PART,), (OTHER,))


def test_merging_a_region_again_keeps_the_newer_once() -> None:
    first, second = make(PART, OTHER), make(PART)
    merged = first.merge(second)
    assert sorted(merged.boxes) == [PART, OTHER]
    assert second.regions[0] in merged.regions
    assert len(first.merge(first).regions) == 2


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"model": "another"}, "model"),
        ({"image": np.zeros((30, 41), np.uint16)}, "shape"),
        ({"image": np.zeros((30, 40, 1), np.uint16)}, "channels"),
        ({"limits": (0, 9)}, "limits"),
        ({"image": np.full(SHAPE, 9, np.uint16)}, "limits"),
    ],
)
def test_what_does_not_belong_together_is_not_merged(other: dict, name: str) -> None:
    with pytest.raises(ValueError, match=f"their {name} are"):
        make(PART).merge(make(PART, **other))


def test_regions_encoded_apart_merge_and_see_the_same_values() -> None:
    predictor = make_predictor()
    image = np.random.default_rng(0).normal(100, 30, (90, 130, 2)).cumsum(axis=1)
    left, right = (predictor.encode(image, region=box) for box in ((0, 0, 90, 70), (0, 60, 90, 130)))
    merged = predictor.encode(image).merge(left).merge(right)
    assert merged.boxes == ((0, 0, 90, 130), (0, 0, 90, 70), (0, 60, 90, 130))
    assert merged.limits == left.limits == right.limits


def test_embeddings_survive_pickles_and_copies_with_their_answers() -> None:
    predictor = make_predictor()
    embedding = predictor.encode(picture(50, 70))
    for again in (pickle.loads(pickle.dumps(embedding)), copy.deepcopy(embedding)):
        assert again.rule == embedding.rule
        assert again.model == embedding.model
        assert (again.regions[0].features == embedding.regions[0].features).all()


def test_a_log_line_stays_a_line() -> None:
    assert len(repr(make(PART, OTHER, image=np.zeros((30, 40, 3))))) < 400
