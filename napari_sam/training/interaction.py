"""A simulated person: where the first prompt lies, and where the next click corrects a mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage as ndi

Mask = npt.NDArray[np.bool_]
Clicks = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
STRIDE = 2  # masks here have half the input's size


def thickest_point(region: Mask) -> tuple[tuple[int, int], float]:
    """Return the (row, column) of a region (H, W) that is farthest from its border, and how far; (0, 0), 0 if empty."""
    rows, cols = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    if not len(rows):
        return (0, 0), 0.0
    window = region[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    depth = ndi.distance_transform_edt(np.pad(window, 1))[1:-1, 1:-1]
    row, col = np.unravel_index(int(depth.argmax()), depth.shape)
    return (int(row) + int(rows[0]), int(col) + int(cols[0])), float(depth[row, col])


def random_point(rng: np.random.Generator, region: Mask) -> tuple[int, int]:
    """Return any (row, column) of a region that is not empty."""
    inside = np.flatnonzero(region)
    row, col = divmod(int(inside[rng.integers(len(inside))]), region.shape[1])
    return row, col


def first_clicks(rng: np.random.Generator, masks: Mask, thickest: float = 0.5) -> Clicks:
    """Return one click in each of P masks (P, H, W): points (P, 1, 2) as (x, y) in input pixels, and labels (P, 1)."""
    places = [thickest_point(m)[0] if rng.random() < thickest else random_point(rng, m) for m in masks]
    return _clicks(rng, places, [1] * len(places))


def next_clicks(rng: np.random.Generator, masks: Mask, predicted: Mask, thickest: float = 0.7) -> Clicks:
    """Return one correcting click for each of P predictions (P, H, W), as `first_clicks` does.

    It lies where the wrong region is thickest or, in a share of the cases, anywhere in what is wrong. A prediction
    without error gets one more click inside the object.
    """
    answers = [_correction(rng, m, p, rng.random() < thickest) for m, p in zip(masks, predicted, strict=True)]
    return _clicks(rng, [place for place, _ in answers], [label for _, label in answers])


def _correction(rng: np.random.Generator, mask: Mask, predicted: Mask, thickest: bool) -> tuple[tuple[int, int], int]:
    missed, spilled = mask & ~predicted, predicted & ~mask
    wrong = missed | spilled
    if not wrong.any():
        return random_point(rng, mask), 1
    if not thickest:
        place = random_point(rng, wrong)
        return place, int(mask[place])
    (inner, depth), (outer, other) = thickest_point(missed), thickest_point(spilled)
    return (inner, 1) if depth >= other else (outer, 0)


def _clicks(rng: np.random.Generator, places: list[tuple[int, int]], labels: list[int]) -> Clicks:
    centres = (np.array(places, np.float32)[:, None, ::-1] + 0.5) * STRIDE - 0.5
    jitter = rng.uniform(-0.5, 0.5, centres.shape)  # which of the pixels that share a cell
    return (centres + jitter).astype(np.float32), np.array(labels, np.float32)[:, None]


def jittered_boxes(rng: np.random.Generator, masks: Mask, jitter: float = 0.05) -> npt.NDArray[np.float32]:
    """Return the bounding boxes (P, 4) as (x0, y0, x1, y1) of P masks (P, H, W), corners moved by a share of the sides.

    About half of the boxes of a batch are exact. Corners are pixel centres that lie inside.
    """
    boxes = np.empty((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box[:] = np.array([cols[0], rows[0], cols[-1], rows[-1]]) * STRIDE + [0, 0, STRIDE - 1, STRIDE - 1]
    sides = np.tile(boxes[:, 2:] - boxes[:, :2] + 1, 2)
    noise = rng.normal(0, jitter, boxes.shape).clip(-2 * jitter, 2 * jitter) * (rng.random((len(boxes), 1)) < 0.5)
    size = masks.shape[1] * STRIDE - 1
    result: npt.NDArray[np.float32] = np.clip(boxes + noise * sides, 0, size).astype(np.float32)
    return result
