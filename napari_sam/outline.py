"""A picture for people: an image with the outline of a mask and the prompts that gave it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from skimage.draw import disk
from skimage.morphology import dilation
from skimage.segmentation import find_boundaries

from .geometry import whole
from .image_input import read_picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .image_input import PictureRule
    from .prompts import Prompts

OUTLINE = (255, 215, 0)
RIM = (0, 0, 0)
POSITIVE = (0, 230, 90)
NEGATIVE = (255, 50, 50)
BOX = (60, 160, 255)


def outlined(image: Any, rule: PictureRule, mask: NDArray[np.bool_], prompts: Prompts) -> NDArray[np.uint8]:
    """Return the picture (height, width, 3) of `image` under `rule`, with the outline of `mask` and the prompts on it.

    The outline is yellow between black rims, so that it shows on bright and on dark; boxes are blue, positive points
    green, negative ones red.
    """
    picture = read_picture(image, rule, whole(rule.shape)).copy()
    thickness = 1 + max(rule.shape) // 800
    line = find_boundaries(mask, mode="inner")
    picture[_grown(line, thickness)] = RIM
    picture[_grown(line, thickness - 1)] = OUTLINE
    height, width = rule.shape
    for row0, col0, row1, col1 in np.rint(prompts.boxes).astype(int).clip(0, [height - 1, width - 1] * 2):
        picture[[row0, row1], col0 : col1 + 1] = BOX
        picture[row0 : row1 + 1, [col0, col1]] = BOX
    for (row, col), label in zip(prompts.points, prompts.labels, strict=True):
        for radius, colour in ((2.5 * thickness + 1, RIM), (2.5 * thickness, POSITIVE if label else NEGATIVE)):
            picture[disk((row, col), radius, shape=rule.shape)] = colour
    return picture


def _grown(line: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """Return `line` with `by` more pixels on every side."""
    return np.asarray(dilation(line, np.ones((2 * by + 1, 2 * by + 1))), bool) if by else line
