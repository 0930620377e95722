"""The smallest real networks, for tests of what surrounds them: milliseconds, weights that follow from their names."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from parity import state_of_shapes

from napari_sam.checkpoints import LoadedCheckpoint
from napari_sam.geometry import Profile
from napari_sam.masks import MaskResult
from napari_sam.models import SPECS, build_sam
from napari_sam.predictor import Predictor

CROP_SIDES = (24, 40)
SHAPE = (90, 130)
LEFT, RIGHT = (0, 0, 90, 70), (20, 60, 80, 130)
"""Regions of a picture of `SHAPE` that overlap."""
INSIDE = (40.0, 50.0)
BOX = [(30, 40, 60, 80)]


@cache
def toy_state(name: str = "toy_tiny_vit") -> dict[str, torch.Tensor]:
    shapes = {key: tuple(value.shape) for key, value in build_sam(SPECS[name]).state_dict().items()}
    return state_of_shapes(shapes)


def make_predictor(
    crop_sides: tuple[int, ...] = (), dtype: torch.dtype = torch.float32, name: str = "toy_tiny_vit", **options: Any
) -> Predictor:
    spec = SPECS[name]
    sam = build_sam(spec)
    sam.load_state_dict(toy_state(name))
    profile = Profile("toy", spec.image_size, crop_sides=crop_sides)
    checkpoint = LoadedCheckpoint(sam, spec, profile, name, f"weights of {name}")
    return Predictor(checkpoint, torch.device("cpu"), dtype, **options)


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return a colour picture (height, width, 3) of noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_same(ours: MaskResult, theirs: MaskResult, tolerance: float = 1e-4) -> None:
    assert len(ours.masks) == len(theirs.masks)
    assert ours.logits == pytest.approx(theirs.logits, abs=tolerance)
    assert ours.scores == pytest.approx(theirs.scores, abs=tolerance)
    assert [mask.region for mask in ours.masks] == [mask.region for mask in theirs.masks]
