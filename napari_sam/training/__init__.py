"""Training: drawn images, real ones, a simulated user, the loop. What needs torch is loaded when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_sam.training.loop import train
    from napari_sam.training.plan import TrainingPlan

__all__ = ["TrainingPlan", "train"]

_HOME = {"TrainingPlan": "napari_sam.training.plan", "train": "napari_sam.training.loop"}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
