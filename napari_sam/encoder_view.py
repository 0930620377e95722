"""Pictures of what an image encoder is given, and of what it makes of it, each with its place in the image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .geometry import Frame, whole
from .image_input import as_array, check_fits, check_region, encoder_input, read_picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .embedding import ImageEmbedding
    from .predictor import Predictor


@dataclass(frozen=True, eq=False)
class PlacedPicture:
    """A picture (h, w, 3) that covers a part of an image.

    Its pixel (0, 0) has its centre at `origin` (row, column) of the image, and a pixel is `step` image pixels high and
    wide.
    """

    pixels: NDArray[Any] = field(repr=False)
    origin: tuple[float, float]
    step: tuple[float, float]


def encoder_picture(
    predictor: Predictor, embedding: ImageEmbedding, image: Any, region: Sequence[int] | None = None
) -> PlacedPicture:
    """Return exactly what the network sees of `image`, without the padding: uint8 values before normalisation.

    Parameters
    ----------
    embedding
        How the image's values are read: its channels and limits.
    region
        Half-open (row0, col0, row1, col1); None is the whole image.

    Raises
    ------
    ImageError
        The image cannot be the one of the embedding, or the region is not in it.
    """
    array, profile = as_array(image), predictor.profile
    check_fits(array, embedding.rule)
    box = check_region(whole(embedding.shape) if region is None else region, embedding.shape)
    frame = Frame(embedding.shape, box, profile.image_size, profile.resize == "square")
    seen = encoder_input(read_picture(array, embedding.rule, box), frame, profile)
    height, width = frame.resized
    values = seen[:, :height, :width].transpose(1, 2, 0) * profile.std + profile.mean
    return _placed(np.clip(np.rint(values), 0, 255).astype(np.uint8), frame, 1.0)


def embedding_picture(predictor: Predictor, embedding: ImageEmbedding) -> PlacedPicture:
    """Return the three principal components of the largest region's features as red, green and blue in 0 to 1.

    What has the same colour looks alike to the encoder.
    """
    region = max(embedding.regions, key=lambda one: np.prod(one.frame.shape))
    cells, frame = predictor.cells(region), region.frame
    side = frame.image_size / cells.shape[1]
    height, width = (int(np.ceil(length / side)) for length in frame.resized)
    return _placed(principal_components(cells[:, :height, :width]), frame, side)


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


def _placed(pixels: NDArray[Any], frame: Frame, side: float) -> PlacedPicture:
    """Return a picture whose pixels are squares of `side` input pixels of `frame`."""
    step = np.divide(frame.shape, frame.resized) * side
    origin = step / 2 - 0.5 + frame.region[:2]
    return PlacedPicture(pixels, (float(origin[0]), float(origin[1])), (float(step[0]), float(step[1])))
