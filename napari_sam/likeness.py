"""Objects like one: which places an embedding says look like it, and what the model outlines there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter, label, maximum_filter, zoom
from skimage.transform import resize_local_mean

from .errors import Cancelled
from .geometry import square_around
from .masks import Mask
from .progress import part_of
from .prompts import Prompts
from .regions import mask_corners, tiles_round

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from .embedding import ImageEmbedding, RegionEmbedding
    from .geometry import Box, Frame
    from .masks import MaskResult
    from .predictor import Predictor

MOST = 50
TILE = 4.0
"""Side of a tile over the example's, for models that see one scale at a time well."""
OVERLAP = 1.5
"""Overlap of tiles over the example's side: whatever has about its size lies whole in one of them."""
MOST_TILES = 100
FINENESS = 4
"""Places tried along the side of a cell of the embedding."""
CROP = 2.5
"""Side of the crop in which such a model outlines an object, over the example's."""
AT_ONCE = 8
"""Places outlined together; what they cover is not looked at again."""
RADIUS = 0.35
"""Radius, over the root of the example's area, within which likeness is averaged and one place is found at most."""
HALFWAY = 0.65
"""Share of the object's own likeness that a place must reach, between the background's and that."""
SIZES = (1 / 3, 3.0)
"""Areas, over the object's, of masks that count as the same kind of object."""
WHOLE = 0.9
"""Share of the example that lies together, from which those like it are kept to one connected part, too."""
NOVEL = 0.5
"""Share of a mask that may lie on what is an object already."""
TILED = 0.5
"""Share of the work that is done once the tiles are encoded."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """A place where an object like another one may be: (row, column) in the image, and its likeness in 0 to 1.

    `result` is what the model outlines there, `chosen` the candidate whose size is nearest to the other one's.
    """

    point: tuple[float, float]
    likeness: float
    result: MaskResult
    chosen: int

    @property
    def mask(self) -> Mask:
        """The chosen candidate."""
        return self.result.masks[self.chosen]


@dataclass(frozen=True)
class _Place:
    """A point (row, column) of the image that looks like the example, and how much."""

    point: tuple[float, float]
    likeness: float

    @property
    def pixel(self) -> tuple[int, int]:
        """The pixel it lies on."""
        return round(self.point[0]), round(self.point[1])


def find_similar(
    predictor: Predictor,
    embedding: ImageEmbedding,
    image: Any,
    example: Mask | NDArray[np.bool_],
    taken: NDArray[np.bool_] | None = None,
    most: int = MOST,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    notify: Callable[[str], None] | None = None,
) -> list[Proposal]:
    """Return where objects like `example` may be, the likeliest first.

    The embedding says which places look like it; the model then outlines what is there, and what has another size, or
    lies on the example, on `taken` or on a likelier one is left out. A model that sees small objects in crops alone
    looks at the image in tiles of a few times the example's size, of those the hundred that are nearest to it.

    Parameters
    ----------
    image
        The array that was encoded.
    example
        The mask of one object: an earlier answer, or a bool picture (height, width) of the image's shape.
    taken
        Pixels (height, width) that are objects already.
    most
        How many to return at most.
    progress
        Called with the rising share of the work that is done, and once with 1.0 at the end.
    cancelled
        Asked between the encoder's blocks and between a few outlines; True ends the search with `Cancelled`.
    notify
        Called with a sentence for the user where not all of the image was looked at.

    Raises
    ------
    ValueError
        The example is empty, of another shape, or lies in no encoded region.
    Cancelled
        `cancelled` returned True.
    """
    pixels = np.asarray(example, bool)
    if pixels.shape != embedding.shape or not pixels.any():
        raise ValueError(f"an example of shape {pixels.shape} with {pixels.sum()} pixels: give the mask of an object")
    extent = mask_corners(pixels)
    size = float((extent[1] - extent[0]).max()) + 1
    in_tiles = bool(predictor.profile.crop_sides)
    if in_tiles:
        boxes = _tiles(extent, size, embedding.shape, notify)
        told = part_of(progress, 0.0, TILED)
        # What is encoded already may have been looked at from another side, and would not compare.
        tiles = predictor.encode_regions(replace(embedding, regions=()), image, boxes, told, cancelled)
        regions = list(tiles.regions)
    else:
        regions = [_largest_round(embedding, extent)]
    occupied = pixels if taken is None else pixels | taken
    places = [one for one in _places(predictor, regions, pixels, size) if not occupied[one.pixel]]
    outline = _outliner(predictor, embedding, image, size, cancelled)
    told = part_of(progress, TILED if in_tiles else 0.0, 1.0) or (lambda _share: None)

    def between_outlines(share: float) -> None:
        if cancelled is not None and cancelled():
            raise Cancelled("the search was cancelled")
        told(share)

    found = _new_objects(places, outline, pixels, occupied, most, between_outlines)
    told(1.0)
    return found


def _tiles(
    extent: NDArray[np.float64], size: float, shape: tuple[int, int], notify: Callable[[str], None] | None
) -> list[Box]:
    """Return the tiles to look at for objects of `size` pixels, the nearest to the box `extent` (2, 2) first."""
    boxes = tiles_round(extent.mean(0), int(np.ceil(TILE * size)), int(np.ceil(OVERLAP * size)), shape)
    if len(boxes) > MOST_TILES and notify is not None:
        notify(
            f"Looked at the {MOST_TILES} tiles round the object alone, of {len(boxes)}: to find more, commit one "
            "that lies further away, and look for others like that one."
        )
    return boxes[:MOST_TILES]


def _largest_round(embedding: ImageEmbedding, extent: NDArray[np.float64]) -> RegionEmbedding:
    """Return the largest encoded region that holds the box `extent` (2, 2) whole."""
    holding = [one for one in embedding.regions if one.frame.holds(extent).all()]
    if not holding:
        raise ValueError(f"no encoded region holds the example, encoded are {embedding.boxes}: encode the whole image")
    return max(holding, key=lambda one: np.prod(one.frame.shape))


def _places(
    predictor: Predictor, regions: Sequence[RegionEmbedding], pixels: NDArray[np.bool_], size: float
) -> list[_Place]:
    """Return the places in `regions` that look like the example, the likeliest first."""
    cells = np.stack([predictor.cells(one) for one in regions])
    shares = np.stack([_share_of_cells(one.frame, pixels, cells.shape[2:]) for one in regions])
    frame, side = regions[0].frame, regions[0].frame.image_size / (cells.shape[2] * FINENESS)
    # Smoothed as wide as the object is, a place in its middle is its highest.
    area = pixels.sum() * np.prod(frame.resized) / np.prod(frame.shape)
    radius = max(0.5, RADIUS * float(np.sqrt(area)) / side)
    smooth, weights = [], []
    for likeness, share, one in zip(_likeness(cells, shares), shares, regions, strict=True):
        rows, columns = (-(-length // round(side * FINENESS)) for length in one.frame.resized)  # no padding
        fine = zoom(likeness[:rows, :columns], FINENESS, order=1, mode="nearest", grid_mode=True)
        smooth.append(gaussian_filter(fine, radius / 2))
        weights.append(share[:rows, :columns].repeat(FINENESS, 0).repeat(FINENESS, 1))
    everywhere = np.concatenate([each.ravel() for each in smooth])
    own = float(np.average(everywhere, weights=np.concatenate([each.ravel() for each in weights])))
    low = float(np.median(everywhere))
    places = []
    for each, one in zip(smooth, regions, strict=True):
        is_peak = each == maximum_filter(each, size=2 * int(np.ceil(radius)) + 1)
        peaks = np.argwhere(is_peak & (each > low + HALFWAY * (own - low)))
        at = _in_image(one.frame, peaks, side)
        inside = _clear_of_borders(one.frame, at, size / 2)
        values = np.clip((each[tuple(peaks.T)] - low) / max(own - low, 1e-6), 0, 1)
        places += [_Place((float(r), float(c)), float(v)) for (r, c), v in zip(at[inside], values[inside], strict=True)]
    return sorted(places, key=lambda one: -one.likeness)


def _likeness(cells: NDArray[np.float32], shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how much more every cell (n, h, w) of features (n, C, h, w) looks like the example than like the rest."""
    directions = cells - cells.mean((0, 2, 3), keepdims=True)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-9)
    likeness = np.einsum("nchw,c->nhw", directions, _mean(directions, shares))
    rest = (1 - shares) * (likeness < np.median(likeness))
    return np.asarray(likeness - np.einsum("nchw,c->nhw", directions, _mean(directions, rest)), np.float32)


def _mean(directions: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    total = np.einsum("nchw,nhw->c", directions, weights)
    return np.asarray(total / max(float(np.linalg.norm(total)), 1e-9), np.float32)


def _in_image(frame: Frame, places: NDArray[np.intp], side: float) -> NDArray[np.float64]:
    """Return the image coordinates (n, 2) of the middles of squares of `side` input pixels, named by their indices."""
    scale = np.divide(frame.shape, frame.resized) * side
    inside = np.clip((places + 0.5) * scale - 0.5, 0, np.array(frame.shape) - 1)
    return np.asarray(inside + frame.region[:2])


def _clear_of_borders(frame: Frame, points: NDArray[np.float64], margin: float) -> NDArray[np.bool_]:
    """Tell which points (n, 2) lie further than `margin` from borders that cut through the image."""
    cut = np.array(frame.inner_borders()) * margin
    low, high = np.array(frame.region[:2]) + cut[:2], np.array(frame.region[2:]) - cut[2:]
    return np.asarray(((points >= low) & (points < high)).all(axis=1))


def _outliner(
    predictor: Predictor, embedding: ImageEmbedding, image: Any, size: float, cancelled: Callable[[], bool] | None
) -> Callable[[Sequence[_Place]], list[MaskResult]]:
    """Return what outlines the objects of about `size` pixels at some places, in crops if the model needs them."""

    def in_crops(places: Sequence[_Place]) -> list[MaskResult]:
        boxes = [square_around(np.array(one.point), int(np.ceil(CROP * size)), embedding.shape) for one in places]
        encoded = predictor.encode_regions(replace(embedding, regions=()), image, boxes, cancelled=cancelled)
        regions = {one.frame.region: one for one in encoded.regions}
        alone = [replace(embedding, regions=(regions[box],)) for box in boxes]
        return [predictor.decode(each, Prompts(points=[one.point])) for each, one in zip(alone, places, strict=True)]

    def in_the_whole(places: Sequence[_Place]) -> list[MaskResult]:
        return predictor.decode_many(embedding, [Prompts(points=[one.point]) for one in places])

    return in_crops if predictor.profile.crop_sides else in_the_whole


def _new_objects(
    places: Sequence[_Place],
    outline: Callable[[Sequence[_Place]], list[MaskResult]],
    pixels: NDArray[np.bool_],
    occupied: NDArray[np.bool_],
    most: int,
    between_outlines: Callable[[float], None],
) -> list[Proposal]:
    """Return the first objects of about the example's size, `pixels`, of which most is not `occupied`.

    `between_outlines` is told the share of the places that were looked at.
    """
    area, occupied, kept = int(pixels.sum()), occupied.copy(), list[Proposal]()
    is_whole = np.bincount(label(pixels)[0][pixels]).max() > WHOLE * area
    for start in range(0, len(places), AT_ONCE):
        between_outlines(start / len(places))
        part = [one for one in places[start : start + AT_ONCE] if not occupied[one.pixel]]
        for place, result in zip(part, outline(part) if part else [], strict=True):
            if is_whole:
                result = replace(result, masks=tuple(_part_at(place, mask) for mask in result.masks))
            areas = np.array([mask.area for mask in result.masks])
            chosen = int(np.abs(np.log(np.maximum(areas, 1e-3) / area)).argmin())
            mask = result.masks[chosen]
            row0, col0, row1, col1 = mask.bbox
            there = occupied[row0:row1, col0:col1]
            is_alike = SIZES[0] <= mask.area / area <= SIZES[1]
            if is_alike and not occupied[place.pixel] and (there & mask.crop).sum() <= NOVEL * mask.area:
                there |= mask.crop
                kept.append(Proposal(place.point, place.likeness, result, chosen))
            if len(kept) == most:
                return kept
    return kept


def _part_at(place: _Place, mask: Mask) -> Mask:
    """Return the connected part of a mask that holds a place, the largest one if none does."""
    parts, count = label(mask.crop)
    if count < 2:
        return mask
    row, column = place.pixel[0] - mask.bbox[0], place.pixel[1] - mask.bbox[1]
    inside = 0 <= row < parts.shape[0] and 0 <= column < parts.shape[1]
    wanted = (int(parts[row, column]) if inside else 0) or int(np.bincount(parts[parts > 0]).argmax())
    return Mask.of_crop(mask.bbox, parts == wanted, mask.frame)


def _share_of_cells(frame: Frame, pixels: NDArray[np.bool_], grid: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the share of every cell (h, w) that the example covers; of a small one, that of its fullest cell is 1."""
    row0, col0, row1, col1 = frame.region
    rows, columns = (frame.cell_overlap(axis, 0, frame.shape[axis]) for axis in (0, 1))
    fine = rows @ pixels[row0:row1, col0:col1].astype(np.float32) @ columns.T
    share: NDArray[np.float32] = resize_local_mean(fine, grid, preserve_range=True).astype(np.float32)
    return share
