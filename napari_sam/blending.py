"""One mask of what crops of several scales say: averaged where they mean the same object, and true to every click.

For a network that knows many scales: crops that differ a little err apart, and their average errs less.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .answers import Candidates, result_of, weigh
from .appearance import in_its_colours
from .box_prompts import reaching_sides, within_box
from .masks import Mask

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from .geometry import Frame
    from .masks import MaskResult
    from .prompts import Prompts

    Looks = Mapping[Frame, NDArray[np.float32]]

DOUBT = 0.15
"""Difference in score at which a mask's voice falls to 1/e."""
SAME = 0.6
"""IoU from which candidates are the same object."""
LOUDEST = 8.0
"""Largest logit with which a region votes."""
FAINTEST = 0.02
"""Voices below it, the best being 1, are not heard."""
REACH = 0.75
"""How far a click that was contradicted corrects the mask, as a share of the distance to the nearest opposite click."""
LEAST_REACH = 2.5
"""That reach at least, and where there is no opposite click, in low-resolution cells."""


def blend(answers: list[Candidates], prompts: Prompts, looks: Looks, *, within_boxes: bool = False) -> MaskResult:
    """Return of each candidate the average of the regions that see the same, the decoder's order kept.

    `looks` says of regions how their cells look, which corrects masks; clicks have the last word. Scores are those of
    the best region; see `answers.choose`. `within_boxes` keeps averages to the prompts' box and has them reach its
    sides, see `box_prompts`.
    """
    masks, scores = _averages(answers, prompts, within_boxes=within_boxes)
    return result_of([_corrected(mask, prompts, looks, within_boxes=within_boxes) for mask in masks], scores)


def blend_best(answers: list[Candidates], prompts: Prompts, looks: Looks, *, within_boxes: bool = False) -> Mask:
    """Return the mask of the highest score alone, as `blend` makes it: the others are not corrected."""
    masks, scores = _averages(answers, prompts, within_boxes=within_boxes)
    return _corrected(masks[result_of(masks, scores).best], prompts, looks, within_boxes=within_boxes)


def _averages(
    answers: list[Candidates], prompts: Prompts, *, within_boxes: bool
) -> tuple[Sequence[Mask], Sequence[float]]:
    """Return the masks and scores of the candidates, before what their cells look like and clicks correct them."""
    if len(answers) == 1:
        masks, scores = zip(*answers[0], strict=True)
        return masks, scores
    weighed = weigh(answers, prompts)
    blended = []
    for winner in weighed.winners:
        voices = np.exp((weighed.scores - weighed.scores[winner]) / DOUBT)
        if weighed.count > 1:
            voices = voices * (weighed.overlap[winner] >= SAME)
            voices[winner] = 1.0
        average = _average(weighed.masks, voices, weighed.masks[winner].frame)
        if within_boxes:  # beyond which the coarse cells of a large region reach farther than those of a near one
            average = replace(average, logits=within_box(average.logits, average.frame, prompts))
        blended.append(average)
    return blended, [weighed.scores[winner] for winner in weighed.winners]


def _corrected(mask: Mask, prompts: Prompts, looks: Looks, *, within_boxes: bool) -> Mask:
    look = looks.get(mask.frame)
    mask = mask if look is None else in_its_colours(mask, look)
    if within_boxes:  # again: what was added may have raised what lies beyond the box
        logits = reaching_sides(mask.logits, mask.frame, prompts)
        mask = replace(mask, logits=within_box(logits, mask.frame, prompts))
    return heeding(mask, prompts)


def heeding(mask: Mask, prompts: Prompts) -> Mask:
    """Return a mask that agrees with the clicks in its region: round one that it contradicts it is corrected."""
    frame, values = mask.frame, mask.logits_at(prompts.points)
    wrong = ((values > 0) != (prompts.labels == 1)) & frame.holds(prompts.points)
    if not wrong.any():
        return mask
    logits = mask.logits.copy()
    rows, cols = frame.low_positions(0), frame.low_positions(1)
    least = LEAST_REACH * float(rows[1] - rows[0])
    for point, label, value in zip(prompts.points[wrong], prompts.labels[wrong], values[wrong], strict=True):
        opposite = np.linalg.norm(prompts.points[prompts.labels != label] - point, axis=1)
        reach = max(least, REACH * opposite.min() if len(opposite) else 0.0)
        distances = np.add.outer((rows - point[0]) ** 2, (cols - point[1]) ** 2) / reach**2
        logits += (np.sign(label - 0.5) * (abs(value) + 1) * np.maximum(1 - distances, 0) ** 2).astype(np.float32)
    return Mask(logits, frame)


def _average(masks: list[Mask], voices: NDArray[np.float64], frame: Frame) -> Mask:
    """Return the weighted mean logits in the region of `frame`; each mask counts where its own region reaches."""
    total, weights = np.zeros((2, frame.low_size, frame.low_size), np.float32)
    positions = frame.low_positions(0), frame.low_positions(1)
    for mask, voice in zip(masks, voices, strict=True):
        if voice >= FAINTEST:
            row0, col0, row1, col1 = np.array(mask.region) - 0.5
            rows, cols = positions
            seen = np.outer((rows >= row0) & (rows <= row1), (cols >= col0) & (cols <= col1))
            weight = np.float32(voice) * (seen | (mask.frame == frame))
            total += weight * np.clip(mask.logits_in(frame), -LOUDEST, LOUDEST)
            weights += weight
    return Mask(total / weights, frame)
