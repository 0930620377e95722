"""Segment Anything in napari, and without it: click or box in, mask out.

The names below are loaded when first used, so that importing the package needs neither torch nor napari.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_sam.bridge.annotate import annotate
    from napari_sam.embedding import ImageEmbedding
    from napari_sam.errors import (
        Cancelled,
        CheckpointError,
        DeviceError,
        ExportError,
        ImageError,
        JournalError,
        LabelsError,
        NapariSamError,
        PromptError,
        TrainingError,
    )
    from napari_sam.masks import Mask, MaskResult
    from napari_sam.predictor import Predictor, load_predictor
    from napari_sam.prompts import Prompts

try:
    __version__ = version("napari-sam-live")
except PackageNotFoundError:  # a checkout on the path, not installed
    __version__ = "0+unknown"

__all__ = [
    "Cancelled",
    "CheckpointError",
    "DeviceError",
    "ExportError",
    "ImageEmbedding",
    "ImageError",
    "JournalError",
    "LabelsError",
    "Mask",
    "MaskResult",
    "NapariSamError",
    "Predictor",
    "PromptError",
    "Prompts",
    "TrainingError",
    "annotate",
    "load_predictor",
]

_HOME = {
    "ImageEmbedding": "napari_sam.embedding",
    "Mask": "napari_sam.masks",
    "MaskResult": "napari_sam.masks",
    "Predictor": "napari_sam.predictor",
    "Prompts": "napari_sam.prompts",
    "annotate": "napari_sam.bridge.annotate",
    "load_predictor": "napari_sam.predictor",
}


def __getattr__(name: str) -> object:
    """Import a public name from its home the first time that it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME.get(name, "napari_sam.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
