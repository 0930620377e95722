"""Drawn shapes as prompts: the pixels inside an outline, the points along a stroke, and the outline of pixels.

Coordinates are (row, column), pixel centres at integers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from skimage.measure import approximate_polygon, find_contours

from .geometry import Frame, whole
from .masks import Mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ELLIPSE_CORNERS = 64
STROKE_POINTS = 5
"""Most points that a stroke becomes: what a person would click, and what models were trained with."""
STROKE_SPACING = 8.0
"""Pixels of a stroke for each of its points, as long as there are few."""
MOST_VERTICES = 400
LOGITS_SIZE = 1024
"""Side of the encoder input that a drawn mask is laid out for; another region gets it resampled from its pixels."""


def corners_of(kind: str, places: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the polygon (n, 2) that a closed shape is; an ellipse is given by the corners (4, 2) of its rectangle."""
    if kind != "ellipse":
        return places
    centre, axes = places.mean(axis=0), (places[[1, 3]] - places[0]) / 2
    angles = np.linspace(0, 2 * np.pi, ELLIPSE_CORNERS, endpoint=False)
    corners: NDArray[np.floating] = centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) @ axes
    return corners


def mask_inside(polygons: Sequence[NDArray[np.floating]], shape: tuple[int, int]) -> Mask | None:
    """Return the pixels of an image of `shape` whose centres lie in any of `polygons` (n, 2); None without one."""
    every = np.concatenate(polygons)
    low = np.clip(np.floor(every.min(axis=0)), 0, shape).astype(int)
    high = np.clip(np.floor(every.max(axis=0)) + 1, low, shape).astype(int)
    crop = np.zeros(high - low, bool)
    for polygon in polygons:
        crop |= fill(polygon - low, crop.shape)
    if not crop.any():
        return None
    box = int(low[0]), int(low[1]), int(high[0]), int(high[1])
    return Mask.of_crop(box, crop, Frame(shape, whole(shape), LOGITS_SIZE))


def fill(polygon: NDArray[np.floating], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which pixel centres of a picture of `shape` lie inside `polygon` (n, 2), by the even-odd rule."""
    crossings = np.zeros((shape[0], shape[1] + 1), np.int32)
    for (row0, col0), (row1, col1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        first, last = np.clip(np.ceil(sorted((row0, row1))), 0, shape[0]).astype(int)
        if first < last:
            rows = np.arange(first, last)
            cols = col0 + (rows - row0) * (col1 - col0) / (row1 - row0)
            np.add.at(crossings, (rows, np.clip(np.ceil(cols), 0, shape[1]).astype(int)), 1)
    inside: NDArray[np.bool_] = (np.cumsum(crossings[:, :-1], axis=1) % 2).astype(bool)
    return inside


def points_along(path: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return a few points (m, 2) spread evenly along a path (n, 2), none at its ends."""
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    count = int(np.clip(np.ceil(lengths[-1] / STROKE_SPACING), 1, STROKE_POINTS))
    wanted = (np.arange(count) + 0.5) / count * lengths[-1]
    return np.stack([np.interp(wanted, lengths, path[:, axis]) for axis in (0, 1)], axis=1)


def outline(picture: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Return the outline of the pixels of `picture` (height, width) as one polygon (n, 2).

    Holes and separate parts are joined by seams that are passed twice, so that filling it gives the pixels back; of
    outlines with very many corners, small ones are cut.
    """
    contours = list(find_contours(np.pad(picture, 1).astype(np.float32), 0.5))
    contours.sort(key=len, reverse=True)
    tolerance = 0.0
    simple = [approximate_polygon(contour, tolerance) for contour in contours]
    while sum(map(len, simple)) > MOST_VERTICES and tolerance < 4:
        tolerance = max(0.25, 2 * tolerance)
        simple = [approximate_polygon(contour, tolerance) for contour in contours]
    seam = simple[0][0]
    return np.concatenate([np.concatenate([loop, [seam]]) for loop in simple])[:-1] - 1
