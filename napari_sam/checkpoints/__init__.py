"""Weights from a name or a file: registry, download, verification, recognition, strict loading.

`profiles`, `registry` and `download` need no torch; what reads weights does, and is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .registry import DEFAULT, REGISTRY, Entry, known_checkpoints

if TYPE_CHECKING:
    from .loading import LoadedCheckpoint, load_sam

__all__ = ["DEFAULT", "REGISTRY", "Entry", "LoadedCheckpoint", "known_checkpoints", "load_sam"]


def __getattr__(name: str) -> object:
    """Import what needs torch when it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.loading"), name)
