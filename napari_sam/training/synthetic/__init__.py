"""Drawn images with exact instance masks: a seed in, a picture and its objects out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_sam.training.synthetic.appearance import photographed
from napari_sam.training.synthetic.canvas import SIZE, without_specks
from napari_sam.training.synthetic.families import FAMILIES

__all__ = ["FAMILIES", "SIZE", "Drawing", "draw"]

LEAST_AREA = 16  # px; smaller pieces are no objects


@dataclass(frozen=True)
class Drawing:
    """A drawn picture.

    Attributes
    ----------
    image
        (SIZE, SIZE, 3) uint8.
    layers
        (n, SIZE, SIZE) int32 ids, 0 is background; objects of different layers may overlap.
    family
        Which kind it is, a key of `FAMILIES`.
    """

    image: npt.NDArray[np.uint8] = field(repr=False)
    layers: npt.NDArray[np.int32] = field(repr=False)
    family: str


def draw(seed: int | list[int] | np.random.Generator, family: str | None = None) -> Drawing:
    """Draw one picture of a random family (or of the one named); the same seed draws the same picture.

    Drawn again, a few times at most, while nothing in it is large enough to be an object.
    """
    rng = np.random.default_rng(seed)
    name = family or str(rng.choice(list(FAMILIES)))
    for _ in range(8):
        scene = FAMILIES[name](rng)
        layers = np.stack([without_specks(layer, LEAST_AREA) for layer in scene.layers])
        if layers.any():
            break
    return Drawing(photographed(rng, scene.paint), layers, name)
