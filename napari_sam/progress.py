"""Progress of work, which rises from 0 to 1: of work that has parts, and in a terminal."""

from __future__ import annotations

import sys
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


def percent(what: str) -> Callable[[float], None]:
    """Return a callback that keeps one line of a terminal up to date, and is silent where nobody looks."""

    def show(fraction: float) -> None:
        if sys.stderr.isatty():
            end = "\n" if fraction >= 1 else ""
            detail = getattr(fraction, "detail", "")  # of a download: speed and time left
            sys.stderr.write(f"\r{what}: {fraction:4.0%} {detail:<30}{end}")
            sys.stderr.flush()

    return show
