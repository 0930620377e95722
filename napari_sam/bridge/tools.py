"""What the next click or drag on the canvas means: a point, a box, an outline or a stroke."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from .prompt_layers import LABEL

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from napari.components import ViewerModel
    from napari.layers import Points, Shapes


WORDS = {0: ("0", "0.0", "False"), 1: ("1", "1.0", "True")}
"""How the two labels may be written in a layer of the user's."""


class Tool(Enum):
    """The ways to prompt that have a button and a key."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    BOX = "box"
    LASSO = "lasso"
    SCRIBBLE = "scribble"


DRAWING = {Tool.BOX: "add_rectangle", Tool.LASSO: "add_polygon_lasso", Tool.SCRIBBLE: "add_path"}
"""The modes of the shapes layer that tools stand for; the others place points."""


def _value_of(label: int, column: pd.Series[Any]) -> Any:
    """Return what stands for `label` in a column; None if that is categorical and has no such category."""
    if not hasattr(column, "cat"):
        return label
    return next((value for value in column.cat.categories if str(value) in WORDS[label]), None)


class Tools:
    """The modes of an annotation's prompt layers, as one choice of tool.

    `changed` is emitted when another tool is in hand, whoever took it.
    """

    changed = Signal()

    def __init__(self, viewer: ViewerModel, points: Points, shapes: Shapes) -> None:
        self._viewer, self._points, self._shapes = viewer, points, shapes
        default = points.feature_defaults.get(LABEL) if len(points.data) else None  # for no points napari makes 0 up
        self._polarity = 0 if default is not None and str(default.iloc[0]) in WORDS[0] else 1

    @property
    def polarity(self) -> int:
        """1 if the next point is positive, 0 if it is negative."""
        return self._polarity

    @property
    def current(self) -> Tool | None:
        """The tool in hand; None if the canvas does something else, say pan or select."""
        active = self._viewer.layers.selection.active
        if active is self._shapes:
            return next((tool for tool, mode in DRAWING.items() if active.mode == mode), None)
        if active is self._points and active.mode == "add":
            return self.pointing
        return None

    @property
    def pointing(self) -> Tool:
        """The tool that places points of the chosen polarity."""
        return Tool.POSITIVE if self._polarity else Tool.NEGATIVE

    def take(self, tool: Tool) -> None:
        """Take a tool in hand: choose its layer, and make that ready to be clicked or drawn in."""
        layer = self._shapes if tool in DRAWING else self._points
        layer.visible = True
        self._viewer.layers.selection.active = layer
        layer.mode = DRAWING.get(tool, "add")
        self.set_polarity(self._polarity if tool in DRAWING else int(tool is Tool.POSITIVE))

    def toggle_polarity(self) -> None:
        """Change between positive and negative; what is not drawn with a polarity gives way to points."""
        if self.current is Tool.SCRIBBLE:
            self.set_polarity(1 - self._polarity)
        else:
            self.take(Tool.NEGATIVE if self._polarity else Tool.POSITIVE)

    def set_polarity(self, label: int) -> None:
        """Make the next points and strokes positive (1) or negative (0)."""
        self._polarity = int(label)
        self._prepare(self._points, self._polarity)
        self._prepare(self._shapes, self._polarity if self.current is Tool.SCRIBBLE else 1)
        self.changed.emit()

    def connections(self) -> list[tuple[Any, Callable[..., None]]]:
        """Every signal to listen to, and who answers it."""
        sources = (self._points.events.mode, self._shapes.events.mode, self._viewer.layers.selection.events.active)
        return [(source, self._on_changed) for source in sources]

    def prepare_click(self, event: Any) -> None:
        """Left is as chosen, right or Ctrl negative, for the point that napari adds at the release."""
        self._prepare(self._points, self._polarity_of(event))

    def prepare_stroke(self, shapes: Shapes, event: Any) -> None:
        """Do the same for the stroke that a press begins; an outline is always one of an object."""
        self._prepare(shapes, self._polarity_of(event) if self.current is Tool.SCRIBBLE else 1)

    def _polarity_of(self, event: Any) -> int:
        is_negative = event.button == 2 or "Control" in event.modifiers
        return 0 if is_negative else self._polarity

    def _prepare(self, layer: Points | Shapes, label: int) -> None:
        """Give what is placed next in a layer its label."""
        if LABEL not in layer.features:
            if label:
                return  # what a point without a label is
            layer.features = layer.features.assign(**{LABEL: 1})
        value = _value_of(label, layer.features[LABEL])
        if value is None:
            layer.features = layer.features.assign(**{LABEL: layer.features[LABEL].cat.add_categories([label])})
            value = label
        # Without the block, what is selected would change too, and what was placed last always is.
        with layer.block_update_properties():
            layer.feature_defaults = layer.feature_defaults.assign(**{LABEL: value})

    def _on_changed(self) -> None:
        self.changed.emit()
