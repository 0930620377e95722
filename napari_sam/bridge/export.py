"""What an annotation holds, as files: what the dock's buttons and scripts call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..export import copy_journal, objects_table, write_labels, write_objects

if TYPE_CHECKING:
    from .controller import Controller


def export_labels(annotator: Controller, path: str | Path) -> None:
    """Write the labels as OME-TIFF with the image's axes and pixel size; `ExportError` if that is not possible."""
    write_labels(Path(path), np.asarray(annotator.labels.data), annotator.grid)


def export_objects(annotator: Controller, path: str | Path) -> None:
    """Write a table of the objects as CSV, in pixels; `ExportError` if that is not possible."""
    write_objects(Path(path), objects_table(np.asarray(annotator.labels.data), annotator.objects))


def export_journal(annotator: Controller, path: str | Path) -> None:
    """Copy the journal so far: prompts, models and masks; `ExportError` if there is none, or that is not possible."""
    copy_journal(Path(path), annotator.journal.path)
