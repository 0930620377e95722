"""The simulated person: clicks lie where they should."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.training.interaction import first_clicks, jittered_boxes, next_clicks, thickest_point


@pytest.fixture
def masks():
    masks = np.zeros((2, 32, 32), bool)
    masks[0, 4:20, 6:16] = True
    masks[1, 20:30, 2:30] = True
    return masks


def cells(points):
    """Input pixels (x, y) to (row, column) of the masks, which have half the size."""
    return np.rint((points[..., ::-1] + 0.5) / 2 - 0.5).astype(int)


def test_thickest_point_is_farthest_from_the_border(masks):
    (row, col), depth = thickest_point(masks[0])
    assert 8 <= row <= 15
    assert col in (10, 11)
    assert depth == 5
    assert thickest_point(np.zeros((4, 4), bool)) == ((0, 0), 0.0)


@pytest.mark.parametrize("thickest", [0.0, 1.0])
def test_first_clicks_lie_in_the_objects(masks, thickest):
    points, labels = first_clicks(np.random.default_rng(0), masks, thickest)
    assert points.shape == (2, 1, 2)
    assert (labels == 1).all()
    for mask, place in zip(masks, cells(points)[:, 0], strict=True):
        assert mask[tuple(place)]


@pytest.mark.parametrize("thickest", [0.0, 1.0])
def test_next_clicks_lie_in_the_error(masks, thickest):
    predicted = masks.copy()
    predicted[0, 4:18] = False  # mostly missed
    predicted[1, 2:19, 2:30] = True  # spilled
    points, labels = next_clicks(np.random.default_rng(1), masks, predicted, thickest)
    np.testing.assert_array_equal(labels, [[1], [0]])
    for mask, answer, place, label in zip(masks, predicted, cells(points)[:, 0], labels[:, 0], strict=True):
        assert (mask ^ answer)[tuple(place)]
        assert mask[tuple(place)] == label


def test_a_perfect_mask_gets_one_more_click_inside(masks):
    points, labels = next_clicks(np.random.default_rng(1), masks, masks.copy())
    assert (labels == 1).all()
    assert masks[0][tuple(cells(points)[0, 0])]


def test_boxes_without_jitter_are_exact(masks):
    boxes = jittered_boxes(np.random.default_rng(0), masks, jitter=0.0)
    np.testing.assert_array_equal(boxes, [[12, 8, 31, 39], [4, 40, 59, 59]])


def test_jitter_stays_small_and_inside(masks):
    exact = jittered_boxes(np.random.default_rng(0), masks, jitter=0.0)
    sides = np.tile(exact[:, 2:] - exact[:, :2] + 1, 2)
    for seed in range(20):
        boxes = jittered_boxes(np.random.default_rng(seed), masks)
        assert (np.abs(boxes - exact) <= 0.1 * sides + 1e-3).all()
        assert boxes.min() >= 0
        assert boxes.max() <= 63
