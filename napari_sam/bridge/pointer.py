"""The mouse over the prompt layers, where napari itself tells of nothing: before a click, and from press to release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .tools import Tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.layers import Points, Shapes
    from numpy.typing import NDArray

    from .tools import Tools

CLICK_RADIUS = 5
"""Screen pixels that the mouse may move between press and release; beyond them napari pans and places no point, and
what is drawn is more than a dot."""
DRAGGED = ("add_rectangle", "add_ellipse")
"""Modes of a shapes layer in which a drag opens a shape from one corner to the other."""


class Pointer:
    """Follows the mouse over an annotation's points layer until `stop`.

    Parameters
    ----------
    points, tools
        The layer, and what a click on it means.
    on_pressed
        Told where a point is about to be placed (d,), in the layer's coordinates.
    on_released
        Told that the press is over: with True just before napari places the point, with False if it will not.
    on_hovered
        Told where a click would place a point (d,), in the layer's coordinates; None if it would place none.
    """

    def __init__(
        self,
        points: Points,
        tools: Tools,
        on_pressed: Callable[[NDArray[np.floating]], None],
        on_released: Callable[[bool], None],
        on_hovered: Callable[[NDArray[np.floating] | None], None],
    ) -> None:
        self._points, self._tools = points, tools
        self._on_pressed, self._on_released, self._on_hovered = on_pressed, on_released, on_hovered
        self._is_pressed = False
        points.mouse_drag_callbacks.insert(0, self._on_drag)
        points.mouse_move_callbacks.append(self._on_move)

    def stop(self) -> None:
        """Leave the layer alone."""
        self._points.mouse_drag_callbacks.remove(self._on_drag)
        self._points.mouse_move_callbacks.remove(self._on_move)

    def let_go(self) -> None:
        """Take back the point that is pressed; the release may still place it."""
        self._end(is_placed=False)

    def _end(self, *, is_placed: bool) -> None:
        if self._is_pressed:
            self._is_pressed = False
            self._on_released(is_placed)

    def _on_move(self, layer: Points, event: Any) -> None:
        is_ready = self._tools.current is Tool.POSITIVE and "Control" not in event.modifiers
        self._on_hovered(layer.world_to_data(event.position) if is_ready else None)

    def _on_drag(self, layer: Points, event: Any) -> Iterator[None]:
        self._on_hovered(None)
        if layer.mode != "add":
            return
        self._tools.prepare_click(event)
        start = np.array(event.pos)
        self._is_pressed = True
        self._on_pressed(layer.world_to_data(event.position))
        yield
        while event.type == "mouse_move":
            if np.linalg.norm(start - event.pos) >= CLICK_RADIUS:
                self.let_go()
            elif self._is_pressed:
                self._on_pressed(layer.world_to_data(event.position))
            yield
        self._end(is_placed=True)


class Pen:
    """Follows the mouse over an annotation's shapes layer until `stop`.

    Parameters
    ----------
    shapes, tools
        The layer, and what is drawn there.
    on_opened
        Told that a drag has gone far enough to mean the shape that napari began at the press.
    """

    def __init__(self, shapes: Shapes, tools: Tools, on_opened: Callable[[], None]) -> None:
        self._shapes, self._tools, self._on_opened = shapes, tools, on_opened
        self.dot: int | None = None
        """The index of the shape that a press began and no drag has opened: what a click leaves, which nobody meant."""
        shapes.mouse_drag_callbacks.insert(0, self._on_drag)

    def stop(self) -> None:
        """Leave the layer alone."""
        self._shapes.mouse_drag_callbacks.remove(self._on_drag)

    def _on_drag(self, layer: Shapes, event: Any) -> Iterator[None]:
        self._tools.prepare_stroke(layer, event)
        self.dot = layer.nshapes if str(layer.mode) in DRAGGED else None
        start = np.array(event.pos)
        yield
        while event.type == "mouse_move":
            if self.dot is not None and np.linalg.norm(start - event.pos) >= CLICK_RADIUS:
                self.dot = None
                self._on_opened()
            yield
