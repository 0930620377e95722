"""What a user does to an annotation, and what it then shows."""

from __future__ import annotations

from typing import Any

import numpy as np
from fakes import PATIENCE

from napari_sam.bridge.controller import Controller

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


def shifted(rows: float, cols: float) -> np.ndarray[Any, Any]:
    """Return `BOX`, moved."""
    return np.add(BOX, (rows, cols))


def ids(annotator: Controller) -> set[int]:
    return set(np.unique(annotator.labels.data).tolist()) - {0}


def pixels(layer: Any) -> np.ndarray[Any, Any]:
    return np.squeeze(np.asarray(layer.data)) > 0
