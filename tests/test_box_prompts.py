"""Masks end where a box ends, and reach its sides."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam import Prompts
from napari_sam.box_prompts import LOWERED, RAISED, reaching_sides, within_box
from napari_sam.geometry import Frame
from napari_sam.masks import Mask

WHOLE = Frame((128, 128), (0, 0, 128, 128), 64)
BOX = Prompts(boxes=[(16, 16, 111, 111)])


def cone(height: float) -> np.ndarray:
    """Return logits that fall by 1 a cell of 8 px from the middle of the box, where they are `height`."""
    places = WHOLE.low_positions(0) - 63.5
    return (height - np.hypot(*np.meshgrid(places, places)) / 8).astype(np.float32)


def test_masks_stay_in_their_box() -> None:
    everything = Mask(within_box(np.full((16, 16), 5, np.float32), WHOLE, Prompts(boxes=[(16, 32, 79, 95)])), WHOLE)
    row0, col0, row1, col1 = everything.bbox
    assert np.abs(np.array([row0, col0, row1, col1]) - [16, 32, 80, 96]).max() <= 4  # half a cell of 8 px


def test_a_click_outside_the_box_opens_it() -> None:
    logits = np.full((16, 16), 5, np.float32)
    prompts = Prompts(points=[(100, 100)], labels=[1], boxes=[(16, 32, 79, 95)])
    assert within_box(logits, WHOLE, prompts) is logits
    assert within_box(logits, WHOLE, Prompts(points=[(1, 1)])) is logits


def test_a_box_smaller_than_a_cell_leaves_the_mask_alone() -> None:
    logits = np.full((16, 16), 5, np.float32)
    assert within_box(logits, WHOLE, Prompts(boxes=[(17, 17, 18, 18)])) is logits


def test_a_mask_that_ends_too_early_comes_nearer_to_the_sides() -> None:
    # The centres of the outermost cells that are near enough lie 5.5 cells from the middle, half a cell beside it.
    missed = np.hypot(5.5, 0.5) - 4.5
    moved = reaching_sides(cone(4.5), WHOLE, BOX)
    np.testing.assert_allclose(moved - cone(4.5), missed / 2, atol=1e-5)
    assert Mask(moved, WHOLE).area > Mask(cone(4.5), WHOLE).area


def test_a_mask_that_fills_the_box_shrinks_towards_its_sides() -> None:
    spare = 6.0 - np.hypot(5.5, 0.5)
    np.testing.assert_allclose(cone(6.0) - reaching_sides(cone(6.0), WHOLE, BOX), spare / 2, atol=1e-5)


@pytest.mark.parametrize(("height", "change"), [(-20.0, RAISED), (60.0, -LOWERED)])
def test_the_sides_of_a_box_say_only_so_much(height: float, change: float) -> None:
    np.testing.assert_allclose(reaching_sides(cone(height), WHOLE, BOX) - cone(height), change, atol=1e-5)


@pytest.mark.parametrize(
    "prompts",
    [
        Prompts(points=[(63, 63)]),
        Prompts(points=[(2, 2)], boxes=[(16, 16, 111, 111)]),
        Prompts(boxes=[(17, 17, 18, 18)]),
    ],
    ids=["no box", "a click beyond it", "smaller than a cell"],
)
def test_where_a_box_says_nothing_of_the_sides_all_stays(prompts: Prompts) -> None:
    np.testing.assert_array_equal(reaching_sides(cone(3), WHOLE, prompts), cone(3))


def test_a_box_that_its_region_does_not_hold_changes_nothing() -> None:
    part = Frame((128, 128), (32, 32, 96, 96), 64)
    logits = np.full((16, 16), 3, np.float32)
    np.testing.assert_array_equal(reaching_sides(logits, part, BOX), logits)
