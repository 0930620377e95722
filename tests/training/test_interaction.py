"""The simulated person: clicks lie where they should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage as ndi

from napari_sam.training.interaction import bounding_boxes, depths, erosions, first_clicks, jittered_boxes, next_clicks


@pytest.fixture
def masks():
    masks = torch.zeros(2, 32, 32, dtype=torch.bool)
    masks[0, 4:20, 6:16] = True
    masks[1, 20:30, 2:30] = True
    return masks


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def cells(points):
    """Input pixels (x, y) to (row, column) of the masks, which have half the size."""
    return torch.round((points.flip(-1) + 0.5) / 2 - 0.5).long()[:, 0]


@pytest.mark.parametrize("depths", [depths, erosions])
def test_depth_is_about_the_distance_to_the_outside(depths):
    rng = np.random.default_rng(0)
    noise = ndi.gaussian_filter(rng.standard_normal((3, 64, 64)), (0, 5, 5))
    regions = noise > 0.02
    exact = np.stack([ndi.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1] for region in regions])
    depth = depths(torch.from_numpy(regions)).numpy()
    np.testing.assert_array_equal(depth > 0, regions)
    assert np.abs(depth - exact).max() < 0.2 * exact.max() + 1
    assert not depths(torch.zeros(1, 4, 4, dtype=torch.bool)).any()


@pytest.mark.parametrize("depths", [depths, erosions])
def test_the_edge_of_the_picture_is_outside(depths):
    assert depths(torch.ones(1, 9, 9, dtype=torch.bool)).max() == 5


@pytest.mark.parametrize("thickest", [0.0, 1.0])
def test_first_clicks_lie_in_the_objects(masks, generator, thickest):
    points, labels = first_clicks(generator, masks, thickest)
    assert points.shape == (2, 1, 2)
    assert (labels == 1).all()
    for mask, (row, col) in zip(masks, cells(points), strict=True):
        assert mask[row, col]


def test_a_thick_click_is_far_from_the_border(masks, generator):
    points, _ = first_clicks(generator, masks, thickest=1.0)
    row, col = cells(points)[0].tolist()
    assert 7 <= row <= 16
    assert col in (10, 11)


@pytest.mark.parametrize("thickest", [0.0, 1.0])
def test_next_clicks_lie_in_the_error(masks, generator, thickest):
    predicted = masks.clone()
    predicted[0, 4:18] = False  # mostly missed
    predicted[1, 2:19, 2:30] = True  # spilled
    points, labels = next_clicks(generator, masks, predicted, thickest)
    assert labels.tolist() == [[1], [0]]
    for mask, answer, (row, col), label in zip(masks, predicted, cells(points), labels[:, 0], strict=True):
        assert (mask ^ answer)[row, col]
        assert mask[row, col] == label


def test_a_perfect_mask_gets_one_more_click_inside(masks, generator):
    points, labels = next_clicks(generator, masks, masks.clone())
    assert (labels == 1).all()
    row, col = cells(points)[0]
    assert masks[0, row, col]


def test_boxes_without_jitter_are_exact(masks, generator):
    assert bounding_boxes(masks).tolist() == [[6, 4, 15, 19], [2, 20, 29, 29]]
    assert jittered_boxes(generator, masks, jitter=0.0).tolist() == [[12, 8, 31, 39], [4, 40, 59, 59]]


def test_jitter_stays_small_and_inside(masks, generator):
    exact = jittered_boxes(generator, masks, jitter=0.0)
    sides = (exact[:, 2:] - exact[:, :2] + 1).repeat(1, 2)
    for _ in range(20):
        boxes = jittered_boxes(generator, masks)
        assert ((boxes - exact).abs() <= 0.1 * sides + 1e-3).all()
        assert boxes.min() >= 0
        assert boxes.max() <= 63
