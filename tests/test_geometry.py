from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from napari_sam.geometry import Frame, linear_taps, square_around, whole

SHAPES = [(300, 400), (1400, 900), (37, 211), (1, 50), (50, 1), (1, 1), (256, 256), (1023, 1025)]


def whole_frame(shape: tuple[int, int], size: int = 1024) -> Frame:
    return Frame(shape, whole(shape), size)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_longest_side_fills_the_input_and_nothing_vanishes(shape: tuple[int, int]) -> None:
    resized = whole_frame(shape).resized
    assert max(resized) == 1024
    assert min(resized) >= 1
    assert resized[0] / resized[1] == pytest.approx(shape[0] / shape[1], abs=1 / min(shape) + 0.01, rel=0.05)


def test_sides_are_rounded_as_published() -> None:
    assert whole_frame((300, 400)).resized == (768, 1024)
    assert whole_frame((1400, 900)).resized == (1024, 658)  # 658.28...
    assert whole_frame((333, 1024)).resized == (333, 1024)


def test_points_become_x_y_times_the_scale_without_half_a_pixel() -> None:
    frame = whole_frame((300, 400))
    assert frame.to_input(np.array([[90.0, 160.0], [0, 0]])) == pytest.approx(np.array([[409.6, 230.4], [0, 0]]))


def test_each_axis_has_its_own_rounded_scale() -> None:
    (x, y) = whole_frame((1400, 900)).to_input(np.array([[700.0, 450.0]]))[0]
    assert x == pytest.approx(450 * 658 / 900)
    assert y == pytest.approx(700 * 1024 / 1400)


def test_points_in_a_region_are_counted_from_its_corner() -> None:
    frame = Frame((300, 400), (100, 50, 164, 178), 256)
    assert frame.to_input(np.array([[100.0, 50.0], [132, 114]])).tolist() == [[0, 0], [128, 64]]


def test_a_region_holds_its_pixels_to_their_edges() -> None:
    frame = Frame((30, 40), (10, 20, 15, 30), 64)
    points = np.array([(9.5, 19.5), (14.5, 29.5), (9.4, 25), (12, 29.6), (12, 25)])
    assert frame.holds(points).tolist() == [True, True, False, False, True]
    assert frame.holds(np.zeros((0, 2))).all()


def test_inner_borders_are_those_that_cut_through_the_image() -> None:
    assert Frame((30, 40), (0, 0, 30, 40), 64).inner_borders() == (False,) * 4
    assert Frame((30, 40), (0, 5, 20, 40), 64).inner_borders() == (False, True, True, False)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axis", [0, 1])
def test_positions_of_cells_are_undone_by_their_coordinates(shape: tuple[int, int], axis: int) -> None:
    frame = Frame((2000, 2000), (7, 11, 7 + shape[0], 11 + shape[1]), 256)
    cells = frame.low_coordinates(frame.low_positions(axis), axis)
    assert cells == pytest.approx(np.arange(64), abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axis", [0, 1])
def test_every_pixel_lies_in_the_cells_once(shape: tuple[int, int], axis: int) -> None:
    frame = whole_frame(shape, 256)
    overlap = frame.cell_overlap(axis, 0, shape[axis])
    pixels_in_a_cell = 4 * shape[axis] / frame.resized[axis]
    assert overlap.sum(0) * pixels_in_a_cell == pytest.approx(np.ones(shape[axis]), rel=1e-4)


@pytest.mark.parametrize("size", [64, 256, 1024])
@pytest.mark.parametrize("shape", SHAPES)
def test_taps_are_the_two_published_interpolations(shape: tuple[int, int], size: int) -> None:
    frame = whole_frame(shape, size)
    values = torch.randn(1, 1, size // 4, generator=torch.Generator().manual_seed(size))
    for axis in (0, 1):
        padded = F.interpolate(values, size, mode="linear", align_corners=False)[..., : frame.resized[axis]]
        expected = F.interpolate(padded, shape[axis], mode="linear", align_corners=False)[0, 0].numpy()
        taps = frame.taps(axis)
        ours = (values[0, 0].numpy()[taps.indices] * taps.weights).sum(1)
        dense = taps.matrix(slice(0, shape[axis]), 0, size // 4 - 1) @ values[0, 0].numpy()
        assert ours == pytest.approx(expected, abs=1e-4)
        assert dense == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_that_draw_on_a_cell_are_all_found(shape: tuple[int, int]) -> None:
    taps = whole_frame(shape).taps(0)
    for first, last in ((0, 0), (3, 9), (100, 101), (255, 255)):
        draws = ((taps.indices >= first) & (taps.indices <= last)).any(axis=1)
        found = np.zeros(len(draws), bool)
        found[taps.outputs_of(first, last)] = True
        assert (found | ~draws).all()


def test_linear_taps_are_clamped_to_what_there_is() -> None:
    taps = linear_taps(np.array([-1.0, 0.25, 2.0, 9.0]), 3)
    assert taps.indices.tolist() == [[0, 1], [0, 1], [2, 2], [2, 2]]
    assert taps.weights.tolist() == [[1, 0], [0.75, 0.25], [1, 0], [1, 0]]


@pytest.mark.parametrize(
    ("centre", "side", "box"),
    [
        ((10, 20), 5, (8, 18, 13, 23)),
        ((0, 0), 6, (0, 0, 6, 6)),
        ((29, 39), 6, (24, 34, 30, 40)),
        ((10, 20), 35, (0, 2, 30, 37)),
        ((10, 20), 99, (0, 0, 30, 40)),
    ],
)
def test_a_square_is_moved_and_cut_to_lie_inside(centre: tuple[int, int], side: int, box: tuple) -> None:
    found = square_around(np.array(centre, float), side, (30, 40))
    assert np.abs(np.subtract(found, box)).max() <= 1  # an even side has no middle pixel
    assert found[0] <= centre[0] < found[2]
    assert found[1] <= centre[1] < found[3]
