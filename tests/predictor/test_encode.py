"""`encode`: progress, cancelling, and whatever is a picture."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
from toys import INSIDE, RIGHT, SHAPE, picture

from napari_sam import Cancelled, ImageError, Predictor, Prompts


def test_encoding_reports_rising_progress_and_1_once_at_the_end(published: Predictor) -> None:
    seen: list[float] = []
    published.encode(picture(*SHAPE), progress=seen.append)
    assert len(seen) > 3
    assert all(earlier < later for earlier, later in pairwise(seen))
    assert seen[0] >= 0
    assert seen[-1] == 1.0


@pytest.mark.parametrize("after", [0, 1, 3])
def test_encoding_is_cancelled_between_blocks(published: Predictor, after: int) -> None:
    seen: list[float] = []
    asked: list[bool] = []

    def cancelled() -> bool:
        asked.append(len(seen) > after)
        return asked[-1]

    with pytest.raises(Cancelled):
        published.encode(picture(*SHAPE), progress=seen.append, cancelled=cancelled)
    assert len(seen) == after + 1
    assert 1.0 not in seen
    assert asked.count(True) == 1


def test_cancelled_before_the_start_encodes_nothing(published: Predictor) -> None:
    with pytest.raises(Cancelled):
        published.encode(picture(*SHAPE), cancelled=lambda: True)


def test_whoever_does_not_cancel_gets_the_same(published: Predictor, embedding: Any) -> None:
    again = published.encode(picture(*SHAPE), cancelled=lambda: False)
    assert torch.equal(again.regions[0].features, embedding.regions[0].features)


def test_what_progress_raises_reaches_the_caller(published: Predictor) -> None:
    def fail(_: float) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        published.encode(picture(*SHAPE), progress=fail)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros(SHAPE),
        np.full(SHAPE, np.nan),
        np.random.default_rng(0).random((*SHAPE, 7)),
        np.random.default_rng(0).random((*SHAPE, 2)) * 1e308,
        np.zeros((1, 1), bool),
        np.zeros((1, 200), np.int64),
        picture(60, 40).tolist(),
        da.from_array(picture(60, 40), chunks=20),
    ],
    ids=["constant", "NaN", "7 channels", "huge", "1x1", "thin", "list", "dask"],
)
def test_whatever_is_a_picture_gets_finite_features_and_an_answer(published: Predictor, image: Any) -> None:
    embedding = published.encode(image)
    assert torch.isfinite(embedding.regions[0].features).all()
    result = published.decode(embedding, Prompts(points=[(0, 0)]))
    assert np.asarray(result.masks[0]).shape == np.shape(image)[:2]
    assert np.isfinite(result.scores).all()


def test_encoding_changes_no_pixel(published: Predictor) -> None:
    image = np.random.default_rng(0).random((*SHAPE, 3))
    image[3, 4] = np.nan
    before = image.copy()
    published.refine(published.encode(image), image, Prompts(points=[INSIDE]))
    assert np.array_equal(image, before, equal_nan=True)


@pytest.mark.parametrize(
    "how", [{"channels": 3}, {"limits": (1, 0)}, {"region": (0, 0, 91, 5)}, {"region": (5, 5, 5, 9)}]
)
def test_what_does_not_fit_the_image_is_a_value_error(published: Predictor, how: dict) -> None:
    with pytest.raises(ImageError):
        published.encode(picture(*SHAPE), **how)
    assert issubclass(ImageError, ValueError)


def test_a_region_is_encoded_as_a_picture_of_its_own(published: Predictor) -> None:
    image = picture(*SHAPE)
    part, alone = published.encode(image, region=RIGHT), published.encode(image[20:80, 60:130])
    assert part.boxes == (RIGHT,)
    assert part.shape == SHAPE
    assert torch.equal(part.regions[0].features, alone.regions[0].features)
    ours = published.decode(part, Prompts(points=[(50, 100)]))
    theirs = published.decode(alone, Prompts(points=[(30, 40)]))
    assert np.array_equal(ours.logits, theirs.logits)
    assert np.array_equal(ours.scores, theirs.scores)
    for mask, other in zip(ours.masks, theirs.masks, strict=True):
        assert np.array_equal(np.asarray(mask)[20:80, 60:130], np.asarray(other))
        assert mask.area == other.area
