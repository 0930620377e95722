"""Training: drawn images, real ones, a simulated user, the loop."""

from __future__ import annotations

from napari_sam.training.loop import train
from napari_sam.training.plan import TrainingPlan

__all__ = ["TrainingPlan", "train"]
