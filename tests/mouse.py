"""A mouse for a viewer without a window: events as napari's canvas makes them, to the viewer and its selected layer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.utils._proxies import ReadOnlyWrapper
from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks

PIXELS = 10.0
"""Pixels of the imagined screen for each unit of the world."""


class Mouse:
    """Points at world positions of the two displayed axes; the others are where the viewer stands."""

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self.button = 0

    def press(self, place: tuple[float, float], button: int = 1, modifiers: tuple[str, ...] = ()) -> None:
        self.button = button
        self._send(mouse_press_callbacks, "mouse_press", place, modifiers)

    def move(self, place: tuple[float, float]) -> None:
        self._send(mouse_move_callbacks, "mouse_move", place)

    def release(self, place: tuple[float, float]) -> None:
        self._send(mouse_release_callbacks, "mouse_release", place)
        self.button = 0

    def click(self, place: tuple[float, float], button: int = 1, modifiers: tuple[str, ...] = ()) -> None:
        self.press(place, button, modifiers)
        self.release(place)

    def drag(self, *places: tuple[float, float]) -> None:
        self.press(places[0])
        for place in places[1:]:
            self.move(place)
        self.release(places[-1])

    def _send(self, callbacks: Any, kind: str, place: tuple[float, float], modifiers: tuple[str, ...] = ()) -> None:
        dims = self.viewer.dims
        position = np.array(dims.point, float)
        position[list(dims.displayed)] = place
        self.viewer.cursor.position = tuple(position)
        event = SimpleNamespace(
            type=kind,
            button=self.button,
            modifiers=modifiers,
            position=tuple(position),
            pos=np.array(place[::-1], float) * PIXELS,
            is_dragging=kind == "mouse_move" and self.button > 0,
            view_direction=None,
            up_direction=None,
            dims_displayed=list(dims.displayed),
            dims_point=list(dims.point),
            handled=False,
        )
        wrapped = ReadOnlyWrapper(event, exceptions=("handled",))
        callbacks(self.viewer, wrapped)
        if (layer := self.viewer.layers.selection.active) is not None:
            callbacks(layer, wrapped)
