"""What an embedding says without a decoder: which places look like an object, and what the encoder tells apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter, zoom
from skimage.transform import resize_local_mean

from .prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .embedding import ImageEmbedding, RegionEmbedding
    from .geometry import Frame
    from .masks import Mask
    from .predictor import Predictor

MOST = 50
FINENESS = 4
"""Places tried along the side of a cell of the embedding."""
HALFWAY = 0.65
"""Share of the object's own likeness that a place must reach, between the background's and that."""
SIZES = (1 / 3, 3.0)
"""Areas, over the object's, of masks that count as the same kind of object."""
NOVEL = 0.5
"""Share of a mask that may lie on what is an object already."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """A place where an object like another one may be: (row, column) in the image, its mask, its likeness in 0 to 1."""

    point: tuple[float, float]
    mask: Mask
    likeness: float


def find_similar(
    predictor: Predictor,
    embedding: ImageEmbedding,
    example: Mask | NDArray[np.bool_],
    taken: NDArray[np.bool_] | None = None,
    most: int = MOST,
) -> list[Proposal]:
    """Return where objects like `example` may be, the likeliest first.

    The embedding says which places look like it; the model then outlines what is there, and what has another size, or
    lies on the example, on `taken` or on a likelier one is left out.

    Parameters
    ----------
    example
        The mask of one object: an earlier answer, or a bool picture (height, width) of the image's shape.
    taken
        Pixels (height, width) that are objects already.
    most
        How many to return at most.

    Raises
    ------
    ValueError
        The example is empty, of another shape, or lies in no encoded region.
    """
    pixels = np.asarray(example, bool)
    if pixels.shape != embedding.shape or not pixels.any():
        raise ValueError(f"an example of shape {pixels.shape} with {pixels.sum()} pixels: give the mask of an object")
    region = _region_round(embedding, pixels)
    places = _places(predictor.cells(region), region, pixels)
    occupied = pixels if taken is None else pixels | taken
    free = [(point, likeness) for point, likeness in places if not occupied[tuple(np.round(point).astype(int))]]
    return _outlined(predictor, embedding, free[: 4 * most], pixels, occupied)[:most]


def _region_round(embedding: ImageEmbedding, pixels: NDArray[np.bool_]) -> RegionEmbedding:
    """Return the largest encoded region that holds the example whole."""
    inside = np.argwhere(pixels)
    corners = np.array([inside.min(0), inside.max(0)], float)
    holding = [one for one in embedding.regions if one.frame.holds(corners).all()]
    if not holding:
        raise ValueError(f"no encoded region holds the example, encoded are {embedding.boxes}: encode the whole image")
    return max(holding, key=lambda one: np.prod(one.frame.shape))


def _places(
    cells: NDArray[np.float32], region: RegionEmbedding, pixels: NDArray[np.bool_]
) -> list[tuple[tuple[float, float], float]]:
    """Return points (row, column) of the image that look like the example, the likeliest first, and how much."""
    share = _share_of_cells(region.frame, pixels, cells.shape[1:])
    directions = centred(cells)
    likeness = np.tensordot(_mean(directions, share), directions, 1)
    likeness -= np.tensordot(_mean(directions, (1 - share) * (likeness < np.median(likeness))), directions, 1)
    rows, columns = (-(-side * len(share) // region.frame.image_size) for side in region.frame.resized)  # no padding
    fine = zoom(likeness[:rows, :columns], FINENESS, order=1, mode="nearest", grid_mode=True)
    weights = share[:rows, :columns].repeat(FINENESS, 0).repeat(FINENESS, 1)
    # Smoothed as wide as the object is, a place in its middle is its highest.
    radius = max(0.5, 0.35 * float(np.sqrt(weights.sum())))
    smooth = gaussian_filter(fine, radius / 2)
    own, low = float(np.average(smooth, weights=weights)), float(np.median(smooth))
    is_peak = smooth == maximum_filter(smooth, size=2 * int(np.ceil(radius)) + 1)
    peaks = np.argwhere(is_peak & (smooth > low + HALFWAY * (own - low)))
    values = smooth[tuple(peaks.T)]
    places = _in_image(region.frame, peaks, region.frame.image_size / (len(share) * FINENESS))
    likenesses = np.clip((values - low) / max(own - low, 1e-6), 0, 1)
    order = np.argsort(-values, kind="stable")
    return [((float(places[i, 0]), float(places[i, 1])), float(likenesses[i])) for i in order]


def _in_image(frame: Frame, places: NDArray[np.intp], side: float) -> NDArray[np.float64]:
    """Return the image coordinates (n, 2) of the middles of squares of `side` input pixels, named by their indices."""
    scale = np.divide(frame.shape, frame.resized) * side
    inside = np.clip((places + 0.5) * scale - 0.5, 0, np.array(frame.shape) - 1)
    return np.asarray(inside + frame.region[:2])


def _outlined(
    predictor: Predictor,
    embedding: ImageEmbedding,
    places: Sequence[tuple[tuple[float, float], float]],
    pixels: NDArray[np.bool_],
    occupied: NDArray[np.bool_],
) -> list[Proposal]:
    """Return what the model outlines at `places`, without what is no new object of that size."""
    results = predictor.decode_many(embedding, [Prompts(points=[point]) for point, _ in places]) if places else []
    area, occupied, kept = int(pixels.sum()), occupied.copy(), []
    for (point, likeness), result in zip(places, results, strict=True):
        mask = min(result.masks, key=lambda one: abs(np.log(max(one.area, 1e-3) / area)))
        row0, col0, row1, col1 = mask.bbox
        there = occupied[row0:row1, col0:col1]
        if not SIZES[0] <= mask.area / area <= SIZES[1] or (there & mask.crop).sum() > NOVEL * mask.area:
            continue
        there |= mask.crop
        kept.append(Proposal(point, mask, likeness))
    return kept


def principal_components(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the three directions in which features (C, h, w) differ most, as a picture (h, w, 3) in 0 to 1."""
    flat = cells.reshape(len(cells), -1).T.astype(np.float64)
    flat = flat - flat.mean(0)
    _, _, axes = np.linalg.svd(flat, full_matrices=False)
    axes = axes[:3] * np.sign(axes[:3].sum(1, keepdims=True) + 1e-12)  # the same picture every time
    values = np.zeros((len(flat), 3))
    values[:, : len(axes)] = flat @ axes.T
    low, high = np.percentile(values, (1, 99), axis=0)
    stretched = np.clip((values - low) / np.maximum(high - low, 1e-12), 0, 1)
    return np.asarray(stretched.reshape(*cells.shape[1:], 3), np.float32)


def centred(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return features (C, h, w) less their mean, each cell of length 1."""
    apart = cells - cells.mean((1, 2), keepdims=True)
    directions: NDArray[np.float32] = apart / np.maximum(np.linalg.norm(apart, axis=0, keepdims=True), 1e-9)
    return directions


def _mean(directions: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    total = (directions * weights).sum((1, 2))
    return np.asarray(total / max(float(np.linalg.norm(total)), 1e-9), np.float32)


def _share_of_cells(frame: Frame, pixels: NDArray[np.bool_], grid: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the share of every cell (h, w) that the example covers; of a small one, that of its fullest cell is 1."""
    row0, col0, row1, col1 = frame.region
    rows, columns = (frame.cell_overlap(axis, 0, frame.shape[axis]) for axis in (0, 1))
    fine = rows @ pixels[row0:row1, col0:col1].astype(np.float32) @ columns.T
    share: NDArray[np.float32] = resize_local_mean(fine, grid, preserve_range=True).astype(np.float32)
    if share.max() < HALFWAY:
        share /= max(float(share.max()), 1e-6)
    return share
