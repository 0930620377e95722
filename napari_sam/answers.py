"""What becomes of the decoder's answers: masks kept to the prompt's box, and one mask chosen among several regions'."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .masks import Mask, MaskResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .geometry import Frame
    from .prompts import Prompts

Candidates = list[tuple[Mask, float]]
CUT_OFF_PENALTY = 0.15
"""Taken from the score of a mask that its region cuts off: a larger region shows the object whole."""
CONTRADICTION_PENALTY = 0.5
"""Taken, times the share of the points that a mask contradicts: one that leaves out what was clicked is wrong."""
SHARPNESS = 1.5
"""Power of a score in the chance that its mask is the right one; measured on training pictures."""
LEAST_SCORE = 1e-3
RINGS, SPOKES = 28, 24
OUTSIDE_BOX = -3.0
"""Highest logit beyond a prompt box, where masks are kept to it."""


def within_box(logits: NDArray[np.float32], frame: Frame, prompts: Prompts) -> NDArray[np.float32]:
    """Return logits (..., h, w) of the region of `frame` that are negative beyond the prompts' box.

    The mask may reach about half a low-resolution cell further. It is left alone if a point says that the object goes
    on outside.
    """
    if not len(prompts.boxes):
        return logits
    low, high = prompts.boxes[0, :2] - 0.5, prompts.boxes[0, 2:] + 0.5
    if ((prompts.positive < low) | (prompts.positive > high)).any():
        return logits
    rows, cols = ((low[a] <= (cells := frame.low_positions(a))) & (cells <= high[a]) for a in (0, 1))
    if not (rows.any() and cols.any()):  # a box between the centres of the cells
        return logits
    return np.where(np.outer(rows, cols), logits, np.minimum(logits, np.float32(OUTSIDE_BOX)))


def choose(answers: list[Candidates], prompts: Prompts) -> MaskResult:
    """Take each candidate from the region whose mask is best; the decoder's order of candidates stays.

    One region alone gives the decoder's own scores. Among several a score is lowered by what speaks against the mask;
    where candidates are offered, it becomes what is to be expected of one after hearing all.
    """
    if len(answers) == 1:
        return _result(answers[0])
    rated = [[(mask, _rated(mask, score, prompts)) for mask, score in candidates] for candidates in answers]
    if len(answers[0]) > 1 and len(prompts.positive):
        rated = _agreed(rated, prompts)
    return _result([max(same, key=lambda one: one[1]) for same in zip(*rated, strict=True)])


def _agreed(rated: list[Candidates], prompts: Prompts) -> list[Candidates]:
    """Return each mask with the IoU to expect of it, if every candidate is right as often as its score says.

    Crops of several scales that find the same object confirm one another; the predicted IoU of one alone is often
    sure of the wrong scale.
    """
    masks = [mask for candidates in rated for mask, _ in candidates]
    scores = np.array([score for candidates in rated for _, score in candidates])
    weights = np.maximum(scores, LEAST_SCORE) ** SHARPNESS
    places, areas = _log_polar(prompts.positive.mean(axis=0), max(masks[0].shape))
    inside = np.stack([mask.logits_at(places) > 0 for mask in masks])
    sizes = inside @ areas
    both = (inside * areas) @ inside.T
    overlap = both / np.maximum(sizes[:, None] + sizes[None] - both, 1)
    expected = iter((overlap @ weights / weights.sum()).tolist())
    return [[(mask, next(expected)) for mask, _ in candidates] for candidates in rated]


def _log_polar(centre: NDArray[np.float64], farthest: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return image points (n, 2) round a click, as dense as they are near, and the area (n,) that each stands for."""
    radii = np.geomspace(0.7, farthest, RINGS)
    angles = np.linspace(0, 2 * np.pi, SPOKES, endpoint=False)
    around = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    points = centre + (radii[:, None, None] * around).reshape(-1, 2)
    return points, np.repeat(radii**2, SPOKES)


def _rated(mask: Mask, score: float, prompts: Prompts) -> float:
    """Return a mask's score less what speaks against it."""
    wrong = (mask.logits_at(prompts.points) > 0) != (prompts.labels == 1)
    contradicted = float(wrong.mean()) if len(wrong) else 0.0
    return score - CUT_OFF_PENALTY * mask.is_cut_off() - CONTRADICTION_PENALTY * contradicted


def _result(candidates: Candidates) -> MaskResult:
    masks, scores = zip(*candidates, strict=True)
    return MaskResult(masks, np.array(scores, np.float32))
