"""How the picture looks in a mask and round it: a second opinion on which cells the mask holds.

A small network knows about where an object is, and draws its border softly; what colour the object has is often plain.
Two normal distributions say how likely a cell's colour and texture are in the mask so far, and in what surrounds it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import label

from .geometry import LOW_RESOLUTION_STRIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .masks import Mask

SURROUNDINGS = 0.2
"""How far round the mask's box cells are looked at, as a share of its sides."""
LEAST_SURROUNDINGS = 2.0
"""That at least, in low-resolution cells."""
CLEAREST = 8.0
"""Largest logit that counts as sure."""
LEAST_VARIANCE = 0.02
"""Added to the variance of each value: so much do alike cells differ anyway, in the encoder's normalised values."""
SWAY = 2.5
"""Most that the look of a cell adds to its logit or takes off."""


def look_of(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how each low-resolution cell of an encoder's input (3, s, s) looks: (4, s / 4, s / 4).

    These are the means of its three channels, and the mean of their standard deviations within the cell.
    """
    channels, height, width = pixels.shape
    stride = LOW_RESOLUTION_STRIDE
    cells = pixels.reshape(channels, height // stride, stride, width // stride, stride)
    texture = cells.std(axis=(2, 4)).mean(axis=0, keepdims=True)
    return np.concatenate([cells.mean(axis=(2, 4)), texture])


def in_its_colours(mask: Mask, look: NDArray[np.float32]) -> Mask:
    """Return a mask that leans to the cells that look like it, away from those that look like its surroundings.

    Borders move, but where there was neither, no speck and no hole begins. `look` is `look_of` its region. An empty
    mask stays as it is.
    """
    near = _cells_near(mask)
    if not near.any():
        return mask
    values = look[:, near].T.astype(np.float64)
    inside = 1 / (1 + np.exp(-np.clip(mask.logits[near], -CLEAREST, CLEAREST)))
    likelier = _log_likelihood(values, inside) - _log_likelihood(values, 1 - inside)
    logits = mask.logits.copy()
    logits[near] += np.clip(likelier, -SWAY, SWAY).astype(np.float32)
    for is_inside in (np.less_equal, np.greater):
        before, after = is_inside(mask.logits, 0), is_inside(logits, 0)
        stray = after & ~_touching(after, before)
        logits[stray] = mask.logits[stray]
    return replace(mask, logits=logits)


def _touching(cells: NDArray[np.bool_], others: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return those of `cells` (h, w) whose connected part has any of `others` in it."""
    parts, count = label(cells)
    kept = np.zeros(count + 1, bool)
    kept[parts[others]] = True
    kept[0] = False
    return np.asarray(kept[parts])


def _cells_near(mask: Mask) -> NDArray[np.bool_]:
    """Return which cells (h, w) lie in the mask's box and a little round it; those of the padding do not."""
    near = np.zeros(mask.logits.shape, bool)
    inside = mask.cells
    if inside.any():
        spans = []
        for axis, size in enumerate(inside.shape):
            lines = np.flatnonzero(inside.any(axis=1 - axis))
            further = max(LEAST_SURROUNDINGS, SURROUNDINGS * (lines[-1] + 1 - lines[0]))
            spans.append(slice(max(0, int(lines[0] - further)), min(size, int(np.ceil(lines[-1] + 1 + further)))))
        near[tuple(spans)] = True
    return near


def _log_likelihood(values: NDArray[np.float64], chances: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return of each of n values (n, k), but for a constant, its log likelihood among those of high `chances` (n,)."""
    weights = chances**2  # those in doubt say little
    weights = weights / weights.sum()
    apart = values - weights @ values
    covariance = (apart * weights[:, None]).T @ apart + LEAST_VARIANCE * np.eye(values.shape[1])
    distances = (apart @ np.linalg.inv(covariance) * apart).sum(axis=1)
    return np.asarray(-0.5 * (distances + np.linalg.slogdet(covariance)[1]))
