"""Drawn shapes: what lies inside an outline, where a stroke leads, and outlines of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.measure import points_in_poly

from napari_sam.drawn import MOST_VERTICES, STROKE_POINTS, corners_of, fill, mask_inside, outline, points_along
from napari_sam.geometry import Frame, whole

SHAPE = (40, 60)


def star(corners: int) -> np.ndarray:
    """A polygon that crosses itself, some of it outside the picture."""
    angles = np.arange(corners) * 2.4
    return np.array([20.3, 30.1]) + np.stack([25 * np.sin(angles), 25 * np.cos(angles)], axis=1)


@pytest.mark.parametrize("corners", [3, 5, 17])
def test_filling_is_by_pixel_centres_and_the_even_odd_rule(corners: int) -> None:
    polygon = star(corners)
    pixels = np.argwhere(np.ones(SHAPE, bool)).astype(float)
    assert (fill(polygon, SHAPE).ravel() == points_in_poly(pixels, polygon)).all()


def test_an_ellipse_is_given_by_its_rectangle() -> None:
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]]
    inside = ((rows - 20) / 10) ** 2 + ((cols - 30) / 25) ** 2 <= 1
    mask = mask_inside([corners_of("ellipse", np.array([(10, 5), (10, 55), (30, 55), (30, 5)], float))], SHAPE)
    assert mask is not None
    assert (np.asarray(mask) ^ inside).sum() < 0.02 * inside.sum()


def test_what_lies_outside_the_image_is_cut_off() -> None:
    mask = mask_inside([np.array([(-10, -10), (-10, 20), (15, 20), (15, -10)], float)], SHAPE)
    assert mask is not None
    assert mask.bbox == (0, 0, 15, 20)
    assert mask_inside([np.array([(-10, -10), (-10, -5), (-5, -5)], float)], SHAPE) is None


def test_a_mask_of_pixels_is_laid_out_anew_for_every_region() -> None:
    shape = (2000, 2000)
    mask = mask_inside([np.array([(1000.0, 1000), (1000, 1006), (1006, 1006), (1006, 1000)])], shape)
    assert mask is not None
    assert (mask.logits > 0).any(), "smaller than a cell, and yet not lost"
    close = mask.logits_in(Frame(shape, (990, 990, 1022, 1022), 1024))
    assert (close > 0).mean() == pytest.approx((6 / 32) ** 2, rel=0.05)
    assert (mask.logits_in(Frame(shape, whole(shape), 1024)) == mask.logits).all()


def test_points_are_spread_along_a_stroke() -> None:
    path = np.array([(0, 0), (0, 0), (0, 50), (50, 50)], float)
    points = points_along(path)
    assert len(points) == STROKE_POINTS
    assert points[0].tolist() == [0, 10]
    assert points[-1].tolist() == [40, 50]
    assert points_along(path[:2]).tolist() == [[0, 0]]
    assert len(points_along(np.array([(0, 0), (0, 3)], float))) == 1


@pytest.mark.parametrize("seed", range(5))
def test_the_outline_of_pixels_gives_them_back_with_holes_and_parts(seed: int) -> None:
    picture = gaussian_filter(np.random.default_rng(seed).random(SHAPE), 4) > 0.5
    places = outline(picture)
    assert len(places) <= MOST_VERTICES
    again = fill(places, SHAPE)
    assert (again & picture).sum() / (again | picture).sum() > 0.97


def test_a_small_outline_is_exact() -> None:
    picture = np.zeros(SHAPE, bool)
    picture[0:12, 3:14] = True
    picture[4:7, 6:9] = False
    picture[30, 50] = True
    assert (fill(outline(picture), SHAPE) == picture).all()
