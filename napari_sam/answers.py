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
    """Take each candidate from the region that is surest of it; the decoder's order of candidates stays.

    One region alone gives the decoder's own scores.
    """
    if len(answers) == 1:
        return _result(answers[0])
    chosen = []
    for same in zip(*answers, strict=True):
        rated = [(mask, _rated(mask, score, prompts)) for mask, score in same]
        chosen.append(max(rated, key=lambda one: one[1]))
    return _result(chosen)


def _rated(mask: Mask, score: float, prompts: Prompts) -> float:
    """Return a mask's score less what speaks against it."""
    wrong = (mask.logits_at(prompts.points) > 0) != (prompts.labels == 1)
    contradicted = float(wrong.mean()) if len(wrong) else 0.0
    return score - CUT_OFF_PENALTY * mask.is_cut_off() - CONTRADICTION_PENALTY * contradicted


def _result(candidates: Candidates) -> MaskResult:
    masks, scores = zip(*candidates, strict=True)
    return MaskResult(masks, np.array(scores, np.float32))
