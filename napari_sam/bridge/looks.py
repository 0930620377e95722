"""How prompts look: points and strokes by their polarity, closed shapes all alike. Only layers of ours are touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..prompt_rows import STROKES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.layers import Points, Shapes

    from ..prompt_rows import PromptRow

COLOURS = {1: "#3ddc5a", 0: "#ff4b4b"}
SYMBOLS = {1: "disc", 0: "cross"}
SHAPE_COLOUR = "#ffd23d"


def show_symbols(points: Points, labels: Iterable[int | None]) -> None:
    """Give every point the symbol of its polarity."""
    wanted = [SYMBOLS[1 if label is None else label] for label in labels]
    if len(wanted) == len(points.data) and [str(symbol) for symbol in points.symbol] != wanted:
        points.symbol = wanted


def show_colours(shapes: Shapes, rows: Iterable[PromptRow], labels: Iterable[int | None]) -> None:
    """Give every stroke the colour of its polarity, every other shape that of shapes."""
    wanted: list[Any] = [
        COLOURS[1 if label is None else label] if row.kind in STROKES else SHAPE_COLOUR
        for row, label in zip(rows, labels, strict=True)
    ]
    if len(wanted) == len(shapes.data) and wanted and not _has_colours(shapes, wanted):
        shapes.edge_color = wanted


def _has_colours(shapes: Shapes, wanted: list[str]) -> bool:
    rgb = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in wanted]) / 255
    return np.allclose(np.asarray(shapes.edge_color)[:, :3], rgb, atol=1e-3)
