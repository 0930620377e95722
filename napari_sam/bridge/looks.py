"""How layers look: points and strokes by their polarity, closed shapes all alike, semantic labels by their classes.

Only layers of ours are touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.colormaps import DirectLabelColormap, label_colormap

from ..objects import Mode
from ..prompt_rows import STROKES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari.layers import Labels, Points, Shapes

    from ..object_table import ObjectTable
    from ..prompt_rows import PromptRow

COLOURS = {1: "#3ddc5a", 0: "#ff4b4b"}
SYMBOLS = {1: "disc", 0: "cross"}
SHAPE_COLOUR = "#ffd23d"
CLASSES = "classes"
"""Name of the colormap that semantic labels get."""
WITHOUT_CLASS = "#808080"
USUAL_COLOURS = 49
"""How many a labels layer has from the start."""


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


def show_classes(labels: Labels, objects: ObjectTable) -> None:
    """Give the values of semantic labels the colours of their classes; instances have napari's."""
    shown = labels.colormap
    if objects.mode is Mode.INSTANCE:
        if shown.name == CLASSES:
            labels.colormap = label_colormap(USUAL_COLOURS)
        return
    colours = {None: WITHOUT_CLASS, 0: "transparent"} | {one.value: one.colour for one in objects.classes}
    wanted = DirectLabelColormap(name=CLASSES, color_dict=colours)
    if shown.name != CLASSES or not _same_colours(shown.color_dict, wanted.color_dict):
        labels.colormap = wanted


def _same_colours(one: Mapping[int | None, Any], other: Mapping[int | None, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[value], other[value]) for value in one)


def _has_colours(shapes: Shapes, wanted: list[str]) -> bool:
    rgb = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in wanted]) / 255
    return np.allclose(np.asarray(shapes.edge_color)[:, :3], rgb, atol=1e-3)
