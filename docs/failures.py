"""Make the model card's picture: where the default model succeeds, and where it fails, after one click.

`python docs/failures.py` writes images/failures.jpg: of each family of drawn pictures one that went as usual, above,
and the one that went worst, below it, of `TRIED`. The truth is green, the mask magenta, the click a white square.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from skimage.segmentation import find_boundaries

import napari_sam
from napari_sam import Predictor, Prompts
from napari_sam.training.synthetic import FAMILIES, draw

TARGET = Path(__file__).parent / "images" / "failures.jpg"
TRIED = 9
FIRST_SEED = 7_000_000  # training draws none of these
LEAST_AREA = 60  # px
TILE = 192  # px


def main() -> None:
    """Click once in every picture, and show the median and the worst of each family."""
    predictor = napari_sam.load_predictor()
    columns = []
    for number, family in enumerate(FAMILIES):
        tried = sorted(
            (_clicked(predictor, family, FIRST_SEED + TRIED * number + k) for k in range(TRIED)), key=lambda one: one[0]
        )
        median, worst = tried[TRIED // 2], tried[0]
        columns.append(np.vstack([median[1], worst[1]]))
    half = len(columns) // 2
    sheet = np.vstack([np.hstack(columns[:half]), np.hstack(columns[half : 2 * half])])
    TARGET.parent.mkdir(exist_ok=True)
    Image.fromarray(sheet).save(TARGET, quality=80)


def _clicked(predictor: Predictor, family: str, seed: int) -> tuple[float, npt.NDArray[np.uint8]]:
    """Return the IoU after one click on an object of a drawn picture, and the picture with outlines."""
    drawing = draw(seed, family)
    rng = np.random.default_rng(seed)
    layer = drawing.layers[rng.integers(len(drawing.layers))]
    ids, areas = np.unique(layer[layer > 0], return_counts=True)
    large = ids[areas >= min(LEAST_AREA, areas.max(initial=0))]
    if not len(large):
        return _clicked(predictor, family, seed + 1_000_000)
    truth = layer == rng.choice(large)
    depth = ndimage.distance_transform_edt(np.pad(truth, 1))[1:-1, 1:-1]
    click = np.unravel_index(int(depth.argmax()), depth.shape)
    prompts = Prompts(points=[click], labels=[1])
    embedding = predictor.refine(predictor.encode(drawing.image), drawing.image, prompts)
    result = predictor.decode(embedding, prompts)
    mask = np.asarray(result.masks[result.best])
    picture = drawing.image.copy()
    picture[find_boundaries(truth, mode="inner")] = (0, 230, 0)
    picture[find_boundaries(mask, mode="inner")] = (255, 0, 220)
    row, col = (int(place) for place in click)
    picture[max(0, row - 2) : row + 3, max(0, col - 2) : col + 3] = 255
    tile = Image.fromarray(picture).resize((TILE, TILE), Image.Resampling.LANCZOS)
    return float((mask & truth).sum() / (mask | truth).sum()), np.asarray(tile)


if __name__ == "__main__":
    main()
