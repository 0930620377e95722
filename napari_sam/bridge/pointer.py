"""The mouse over the points layer: a click is answered at the press, before napari places the point at the release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.layers import Points
    from numpy.typing import NDArray

    from .tools import Tools

CLICK_RADIUS = 5
"""Screen pixels that the mouse may move between press and release; beyond them napari pans and places nothing."""


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
    """

    def __init__(
        self,
        points: Points,
        tools: Tools,
        on_pressed: Callable[[NDArray[np.floating]], None],
        on_released: Callable[[bool], None],
    ) -> None:
        self._points, self._tools = points, tools
        self._on_pressed, self._on_released = on_pressed, on_released
        self._is_pressed = False
        points.mouse_drag_callbacks.insert(0, self._on_drag)

    def stop(self) -> None:
        """Leave the layer alone."""
        self._points.mouse_drag_callbacks.remove(self._on_drag)

    def let_go(self) -> None:
        """Take back the point that is pressed; the release may still place it."""
        self._end(is_placed=False)

    def _end(self, *, is_placed: bool) -> None:
        if self._is_pressed:
            self._is_pressed = False
            self._on_released(is_placed)

    def _on_drag(self, layer: Points, event: Any) -> Iterator[None]:
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
