"""Samples: what the predictor would see of a region, and how much of an object it cuts off."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.training.crops import (
    CropRule,
    as_picture,
    cut_out,
    random_region,
    random_sample,
    region_around,
    scaled_extent,
)

RULE = CropRule(size=64, objects=3)


@pytest.fixture
def picture():
    layers = np.zeros((1, 100, 150), np.int32)
    layers[0, 20:40, 30:60] = 1
    layers[0, 70:90, 100:120] = 2
    image = np.repeat((layers[0] * 100)[..., None], 3, axis=2).astype(np.uint8)
    return as_picture(image, layers)


def test_objects_are_found(picture):
    np.testing.assert_array_equal(picture.boxes, [[0, 1, 20, 30, 40, 60], [0, 2, 70, 100, 90, 120]])
    np.testing.assert_array_equal(picture.areas, [600, 400])


def test_a_picture_without_objects_is_refused():
    with pytest.raises(ValueError, match="without objects"):
        as_picture(np.zeros((8, 8, 3), np.uint8), np.zeros((1, 8, 8), np.int32))


@pytest.mark.parametrize(
    ("centre", "side", "inside", "expected"),
    [
        ((50, 50), 20, True, (40, 40, 60, 60)),
        ((2, 148), 20, True, (0, 130, 20, 150)),  # moved in
        ((2, 148), 20, False, (0, 138, 12, 150)),  # clipped
        ((50, 75), 400, True, (0, 0, 100, 150)),
    ],
)
def test_regions_lie_in_the_image(centre, side, inside, expected):
    assert region_around(np.array(centre), side, (100, 150), inside) == expected


def test_the_longest_side_is_brought_to_the_input():
    assert scaled_extent((10, 10, 30, 50), 64) == (32, 64)


def test_image_and_masks_of_a_region_agree(picture):
    image, layers = cut_out(picture, (20, 30, 40, 60), (40, 60))
    assert image.shape == (40, 60, 3)
    assert (layers == 1).all()
    assert (image == 100).all()


def test_random_regions_hold_a_part_of_their_object(picture):
    for seed in range(60):
        rng = np.random.default_rng(seed)
        row0, col0, row1, col1 = random_region(rng, picture, 0, RULE)
        assert 0 <= row0 < row1 <= 100
        assert 0 <= col0 < col1 <= 150
        assert (picture.layers[0, row0:row1, col0:col1] == 1).any()


def test_samples_are_padded_below_and_right_and_know_what_is_cut_off(picture):
    padded = cut = False
    for seed in range(40):
        sample = random_sample(np.random.default_rng(seed), picture, RULE)
        height, width = sample.extent
        assert sample.image.shape == (64, 64, 3)
        assert max(height, width) <= 64
        assert not sample.masks[:, height:].any()
        assert not sample.image[height:].any()
        assert not sample.image[:, width:].any()
        assert sample.masks.any((1, 2)).all()
        assert (sample.outside >= 0).all()
        padded |= min(height, width) < 64
        cut |= bool(sample.outside.any())
    assert padded
    assert cut


def test_what_a_near_crop_leaves_out_is_counted():
    layers = np.zeros((1, 64, 64), np.int32)
    layers[0, :, 16:48] = 1
    picture = as_picture(np.zeros((64, 64, 3), np.uint8), layers)
    rule = CropRule(size=64, objects=1, whole=0, cut=1.0, nearest=0.6)
    for seed in range(10):
        sample = random_sample(np.random.default_rng(seed), picture, rule)
        visible = sample.masks.sum() / (sample.masks.sum() + sample.outside.sum())
        assert 0.05 < visible < 0.8
