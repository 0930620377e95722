"""Drawn images: repeatable, exact, of the promised types."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.training.contact_sheet import TILE, contact_sheet
from napari_sam.training.synthetic import FAMILIES, SIZE, draw


@pytest.mark.parametrize("family", FAMILIES)
def test_family_draws_objects_of_the_promised_types(family):
    drawing = draw(3, family)
    assert drawing.image.shape == (SIZE, SIZE, 3)
    assert drawing.image.dtype == np.uint8
    assert drawing.layers.shape[1:] == (SIZE, SIZE)
    assert drawing.layers.dtype == np.int32
    assert drawing.layers.min() == 0
    assert drawing.layers.any()
    assert drawing.family == family


@pytest.mark.parametrize("family", ["nuclei", "glands"])
def test_the_same_seed_draws_the_same_picture(family):
    first, again, other = draw(5, family), draw(5, family), draw(6, family)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.layers, again.layers)
    assert (first.image != other.image).any()


def test_specks_are_no_objects():
    for seed in range(6):
        for layer in draw(seed).layers:
            counts = np.bincount(layer.ravel())[1:]
            assert counts[counts > 0].min(initial=1000) >= 16


def test_nested_objects_lie_in_their_own_parents():
    cells, nuclei = draw(1, "cells_with_nuclei").layers
    inside = nuclei > 0
    assert inside.any()
    # A cell that is too small to be an object may have been left out, and its nucleus kept.
    np.testing.assert_array_equal(cells[inside & (cells > 0)], nuclei[inside & (cells > 0)])


def test_the_contact_sheet_has_a_row_for_each_family():
    sheet = contact_sheet(columns=2)
    assert sheet.shape == (len(FAMILIES) * TILE, 2 * TILE, 3)
    assert sheet.dtype == np.uint8
