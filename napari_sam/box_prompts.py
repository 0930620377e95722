"""What a box says of the mask in it: that it ends there, and reaches all four sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .geometry import Frame
    from .prompts import Prompts

OUTSIDE = -3.0
"""Highest logit beyond a box, where masks are kept to it."""
TIGHT = 0.05
"""How far from a side of the box a mask may end, as a share of the box's length there."""
RAISED, LOWERED = 1.5, 0.5
"""How much is added to or taken from the logits at most, for a mask to end there."""


def within_box(logits: NDArray[np.float32], frame: Frame, prompts: Prompts) -> NDArray[np.float32]:
    """Return logits (..., h, w) of the region of `frame` that are negative beyond the prompts' box.

    The mask may reach about half a low-resolution cell further. It is left alone if a point says that the object goes
    on outside.
    """
    inside = _cells_inside(frame, prompts)
    return logits if inside is None else np.where(inside, logits, np.minimum(logits, np.float32(OUTSIDE)))


def reaching_sides(logits: NDArray[np.float32], frame: Frame, prompts: Prompts) -> NDArray[np.float32]:
    """Return logits (h, w) whose mask is nearer to reaching the four sides of the prompts' box, and no more.

    People draw a box tightly round what they mean. Half of what has to be added for the mask to come near all sides is
    added, and of what can be taken off half is, within bounds: where the network is sure, the box may be loose.
    """
    inside = _cells_inside(frame, prompts)
    if inside is None:
        return logits
    kept = np.where(inside, logits, -np.inf)
    highest = []
    for axis, (low, high) in enumerate(zip(*_span(prompts), strict=True)):
        cells = frame.low_positions(axis)
        near = max(TIGHT * (high - low), cells[1] - cells[0])
        across = kept.max(axis=1 - axis)  # (h,) or (w,)
        highest += [across[cells <= low + near].max(initial=-np.inf), across[cells >= high - near].max(initial=-np.inf)]
    reached = min(highest)  # the highest threshold at which the mask comes near all sides
    return logits - np.float32(np.clip(reached / 2, -RAISED, LOWERED)) if np.isfinite(reached) else logits


def _span(prompts: Prompts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where the box begins and ends, (row, column) each, the outer borders of its pixels."""
    return prompts.boxes[0, :2] - 0.5, prompts.boxes[0, 2:] + 0.5


def _cells_inside(frame: Frame, prompts: Prompts) -> NDArray[np.bool_] | None:
    """Return which cells (h, w) lie in the box, None without a box that is to be kept to and has cells in it."""
    if not len(prompts.boxes):
        return None
    low, high = _span(prompts)
    if ((prompts.positive < low) | (prompts.positive > high)).any():
        return None
    rows, cols = ((low[a] <= (cells := frame.low_positions(a))) & (cells <= high[a]) for a in (0, 1))
    inside = np.outer(rows, cols)
    return inside if inside.any() else None  # a box between the centres of the cells
