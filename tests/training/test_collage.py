"""Pictures made of real ones: their objects are where the labels say."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.training.collage import SCENE, pasted, textured
from napari_sam.training.crops import as_picture
from napari_sam.training.synthetic import SIZE, draw


@pytest.fixture
def source():
    """Give a dark picture with two bright squares, or one without texture that is grey."""
    image = np.full((120, 150, 3), 20, np.uint8)
    labels = np.zeros((1, 120, 150), np.int32)
    for number, corner in enumerate((20, 80), start=1):
        labels[0, corner : corner + 24, corner : corner + 24] = number
    image[labels[0] > 0] = 220
    picture = as_picture(image, labels, complete=False)
    return lambda _: picture


def test_pasted_objects_are_labelled(source):
    rng = np.random.default_rng(0)
    pictures = [pasted(rng, source) for _ in range(20)]
    assert {picture.image.shape for picture in pictures} == {(SCENE, SCENE, 3)}
    assert not any(picture.complete for picture in pictures)
    assert max(len(picture.boxes) for picture in pictures) > 4
    for picture in pictures:
        inside, outside = (picture.image[picture.layers[0] == 0], picture.image[picture.layers[0] > 0])
        assert np.median(inside) < 60 < np.median(outside)


def test_textured_drawings_keep_their_objects(source):
    drawing = draw(3)
    picture = textured(np.random.default_rng(1), drawing, source)
    assert picture.image.shape == (SIZE, SIZE, 3)
    np.testing.assert_array_equal(picture.layers, drawing.layers)


def test_the_same_seed_makes_the_same_picture(source):
    for make in (lambda rng: pasted(rng, source), lambda rng: textured(rng, draw(rng), source)):
        one, other = make(np.random.default_rng(5)), make(np.random.default_rng(5))
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.layers, other.layers)
