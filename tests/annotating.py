"""What a user does to an annotation, and what it then shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fakes import PATIENCE

from napari_sam.bridge.controller import Controller

Begin = Callable[..., Controller]
"""What the fixture `begin` is, and others that make annotations."""

SHAPE = (60, 90)
BOX = np.array([[10, 20], [10, 50], [30, 50], [30, 20]])


def click(annotator: Controller, *place: float, label: int = 1) -> None:
    annotator.set_polarity(label)
    annotator.points.add([place])
    annotator.wait(PATIENCE)


def put(annotator: Controller, *place: float, choose: int | None = None, overlap: str = "keep") -> None:
    """Click and commit; what is chosen for a first click is a disk of 4, 8 or (where nothing is said) 16 px."""
    click(annotator, *place)
    if choose is not None:
        annotator.choose(choose)
    annotator.commit(overlap)


def work(annotator: Controller) -> None:
    """Do something of everything, in a stack."""
    put(annotator, 1, 20, 20)
    put(annotator, 1, 20, 30, overlap="replace")
    annotator.objects.set_class(2, "nucleus")
    annotator.viewer.dims.set_current_step(0, 2)
    annotator.objects.select(2)
    put(annotator, 2, 30, 30)
    put(annotator, 2, 50, 80)
    annotator.objects.delete(1)
    put(annotator, 2, 10, 80)
    annotator.undo()
    annotator.viewer.dims.order = (1, 0, 2)
    annotator.viewer.dims.set_current_step(1, 40)
    put(annotator, 2, 40, 60, overlap="replace")
    annotator.undo()
    annotator.redo()


def crash(annotator: Controller) -> Path:
    """End an annotation without its journal hearing of it, as kill does; return the journal's path."""
    path, writing = annotator.journal.path, annotator.journal._journal
    assert path is not None
    assert writing is not None
    assert writing._file is not None
    writing._file.close()
    writing._file = None
    annotator.close()
    return path


def shifted(rows: float, cols: float) -> np.ndarray[Any, Any]:
    """Return `BOX`, moved."""
    return np.add(BOX, (rows, cols))


def ids(annotator: Controller) -> set[int]:
    return set(np.unique(annotator.labels.data).tolist()) - {0}


def pixels(layer: Any) -> np.ndarray[Any, Any]:
    return np.squeeze(np.asarray(layer.data)) > 0
