"""Predictors with the smallest real networks, and what one of them made of a picture."""

from __future__ import annotations

import pytest
from toys import CROP_SIDES, SHAPE, make_predictor, picture

from napari_sam import ImageEmbedding, Predictor


@pytest.fixture(scope="module")
def toy_predictor() -> Predictor:
    """One that knows several scales, as the default one does."""
    return make_predictor(CROP_SIDES)


@pytest.fixture(scope="module")
def published() -> Predictor:
    """One that knows one scale, as the published ones do."""
    return make_predictor()


@pytest.fixture(scope="module")
def embedding(published: Predictor) -> ImageEmbedding:
    return published.encode(picture(*SHAPE))
