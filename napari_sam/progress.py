"""Progress of work that has parts: one bar that rises from 0 to 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def part_of(progress: Callable[[float], None] | None, start: float, stop: float) -> Callable[[float], None] | None:
    """Return what tells `progress` of a part of the work, from `start` to `stop`."""
    if progress is None:
        return None

    def told(share: float) -> None:
        if share > 0 or start == 0:  # the part before has said where this one starts
            progress(start + (stop - start) * share)

    return told
