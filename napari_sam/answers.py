"""What becomes of the decoder's answers: one mask chosen among several regions'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .masks import Mask, MaskResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .prompts import Prompts

Candidates = list[tuple[Mask, float]]
CUT_OFF_PENALTY = 0.25
"""Taken from the score of a mask that its region cuts off: a larger region shows the object whole."""
CONTRADICTION_PENALTY = 0.5
"""Taken, times the share of the points that a mask contradicts: one that leaves out what was clicked is wrong."""
SHARPNESS = 1.5
"""Power of a score in the chance that its mask is the right one; measured on training pictures."""
OFF_CENTRE = 0.3
"""What is left of the score of a mask at whose border the click lies: people click where an object is thickest."""
LEAST_SCORE = 1e-3
RINGS, SPOKES = 28, 24


@dataclass(frozen=True, eq=False)
class Weighed:
    """All regions' candidates, one region's after another's, the n of each in the decoder's order.

    `scores` (m,) are lowered by what speaks against a mask; where candidates are offered, they are what is to be
    expected of one after hearing all. `overlap` (m, m) is the IoU of each with each.
    """

    masks: list[Mask]
    scores: NDArray[np.float64]
    overlap: NDArray[np.float64]
    count: int

    @property
    def winners(self) -> list[int]:
        """Of each candidate (n) the region's that is best."""
        places = range(len(self.masks))
        return [max(places[first :: self.count], key=self.scores.__getitem__) for first in range(self.count)]


def choose(answers: list[Candidates], prompts: Prompts) -> MaskResult:
    """Take each candidate from the region whose mask is best; the decoder's order of candidates stays.

    One region alone gives the decoder's own scores.
    """
    if len(answers) == 1:
        return result_of(*zip(*answers[0], strict=True))
    weighed = weigh(answers, prompts)
    return result_of([weighed.masks[k] for k in weighed.winners], [weighed.scores[k] for k in weighed.winners])


def weigh(answers: list[Candidates], prompts: Prompts) -> Weighed:
    """Compare the answers of several regions."""
    masks = [mask for candidates in answers for mask, _ in candidates]
    scores = np.array([_rated(mask, score, prompts) for candidates in answers for mask, score in candidates])
    count = len(answers[0])
    if count == 1 or not len(prompts.positive):
        return Weighed(masks, scores, np.eye(len(masks)), count)
    if prompts.is_single_click:
        centralities = np.array([mask.centrality(prompts.points[0]) for mask in masks])
        scores = scores * (OFF_CENTRE + (1 - OFF_CENTRE) * centralities)
    overlap = _overlap(masks, prompts)
    return Weighed(masks, _expected(scores, overlap), overlap, count)


def result_of(masks: Sequence[Mask], scores: Sequence[float]) -> MaskResult:
    """Return candidates as a result."""
    return MaskResult(tuple(masks), np.array(scores, np.float32))


def _expected(scores: NDArray[np.float64], overlap: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the IoU (m,) to expect of each mask, if every candidate is right as often as its score says.

    Crops of several scales that find the same object confirm one another; the predicted IoU of one alone is often
    sure of the wrong scale.
    """
    weights = np.maximum(scores, LEAST_SCORE) ** SHARPNESS
    return np.asarray(overlap @ weights / weights.sum())


def _overlap(masks: Sequence[Mask], prompts: Prompts) -> NDArray[np.float64]:
    """Return the IoU (m, m) of each mask with each, sampled as densely as pixels are near the clicks."""
    places, areas = _log_polar(prompts.positive.mean(axis=0), max(masks[0].shape))
    inside = np.stack([mask.logits_at(places) > 0 for mask in masks])
    sizes = inside @ areas
    both = (inside * areas) @ inside.T
    return np.asarray(both / np.maximum(sizes[:, None] + sizes[None] - both, 1))


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
