"""Many training pictures on one sheet, to be looked at: `python -m napari_sam.training.contact_sheet sheet.png`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage.segmentation import mark_boundaries

from napari_sam.training.collage import pasted, textured
from napari_sam.training.crops import Picture, as_picture
from napari_sam.training.dataset import Trainset
from napari_sam.training.synthetic import FAMILIES, draw

if TYPE_CHECKING:
    from collections.abc import Callable

TILE = 160  # px


def contact_sheet(columns: int = 10, trainset: Path | None = None, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return a sheet (H, W, 3): a row for each family of drawn pictures, the first half of it with outlines.

    With the folder of a trainset, also rows of its pictures as they are, pasted together, and as texture of drawings.
    """
    rng = np.random.default_rng(seed)
    makers: list[Callable[[], Picture]] = [lambda name=name: _drawn(rng, name) for name in FAMILIES]  # type: ignore[misc]
    if trainset is not None:
        source = Trainset(trainset).random_picture
        makers += [
            lambda: source(rng),
            lambda: pasted(rng, source),
            lambda: textured(rng, draw(rng), source),
        ]
    rows = [np.hstack([_tile(make(), outlined=k < columns // 2) for k in range(columns)]) for make in makers]
    return np.vstack(rows)


def _drawn(rng: np.random.Generator, family: str) -> Picture:
    drawing = draw(rng, family)
    return as_picture(drawing.image, drawing.layers)


def _tile(picture: Picture, outlined: bool) -> npt.NDArray[np.uint8]:
    image = picture.image
    if outlined:
        for layer in picture.layers:
            image = (mark_boundaries(image, layer) * 255).astype(np.uint8)
    return np.asarray(Image.fromarray(image).resize((TILE, TILE), Image.Resampling.BILINEAR))


def main() -> None:
    """Read the command line and write the sheet."""
    parser = argparse.ArgumentParser("python -m napari_sam.training.contact_sheet", description=contact_sheet.__doc__)
    parser.add_argument("out", type=Path, help="a .png or .jpg file")
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--trainset", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    Image.fromarray(contact_sheet(options.columns, options.trainset, options.seed)).save(options.out)


if __name__ == "__main__":
    main()
