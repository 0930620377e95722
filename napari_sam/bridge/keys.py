"""Keys on the canvas while one of an annotation's layers is selected.

They are bound on the layers themselves, which beats what napari binds on their classes and on the viewer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Shapes
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.notifications import show_warning

from ..errors import NapariSamError
from .tools import Tool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.layers import Layer

    from .controller import Controller

KEYS: dict[str, Callable[[Controller], None]] = {
    "Enter": lambda controller: controller.commit_as_chosen(),
    "Escape": lambda controller: controller.clear(),
    "T": lambda controller: controller.tools.toggle_polarity(),
    "P": lambda controller: controller.tools.take(Tool.POSITIVE),
    "N": lambda controller: controller.tools.take(Tool.NEGATIVE),
    "B": lambda controller: controller.tools.take(Tool.BOX),
    "L": lambda controller: controller.tools.take(Tool.LASSO),
    "S": lambda controller: controller.tools.take(Tool.SCRIBBLE),
    "M": lambda controller: controller.outline_object_under_cursor(),
    "C": lambda controller: choose_next(controller),
    "Control-Z": lambda controller: controller.undo(),
    "Control-Shift-Z": lambda controller: controller.redo(),
}
"""What each key does."""

FINISH_DRAWING = ("Enter", "Escape")


class Keys:
    """The keys of one annotation, bound on `layers` until `unbind`."""

    def __init__(self, controller: Controller, layers: Sequence[Layer]) -> None:
        self._controller, self._layers = controller, tuple(layers)
        self._is_drawing = False
        self._before: list[tuple[Layer, Any, Any]] = []
        for layer in self._layers:
            for key in KEYS:
                self._bind(layer, key)
            if isinstance(layer, Shapes):
                layer.events.data.connect(self._on_shape_data)

    def unbind(self) -> None:
        """Give every key back to whoever had it before."""
        for layer, key, before in self._before:
            layer.bind_key(key, before, overwrite=True)
        for layer in self._layers:
            if isinstance(layer, Shapes):
                layer.events.data.disconnect(self._on_shape_data)
        self._before = []

    def _bind(self, layer: Layer, key: str) -> None:
        binding = coerce_keybinding(key)
        self._before.append((layer, binding, layer.keymap.get(binding)))

        def pressed(layer: Layer) -> None:
            # While a polygon is drawn these keys finish it, as everywhere in napari; its window binds them to that.
            finish = type(layer).class_keymap.get(binding)
            if key in FINISH_DRAWING and self._is_drawing and isinstance(layer, Shapes) and finish is not None:
                finish(layer)
            else:
                warning_only(lambda: KEYS[key](self._controller))

        layer.bind_key(binding, pressed, overwrite=True)

    def _on_shape_data(self, event: Any) -> None:
        if str(event.action) in ("adding", "added"):
            self._is_drawing = str(event.action) == "adding"


def warning_only(act: Callable[[], Any]) -> None:
    """Say what went wrong instead of raising it into napari."""
    try:
        act()
    except NapariSamError as error:
        show_warning(str(error))


def choose_next(controller: Controller) -> None:
    """Choose the next candidate of the active object, after the last one the first."""
    if controller.chosen is not None:
        controller.choose((controller.chosen + 1) % len(controller.candidates))
