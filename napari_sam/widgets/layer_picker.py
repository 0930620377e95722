"""A box to pick a layer from, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QWidget

from .parts import narrow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.layers import Layer


NO_LAYER = object()
"""Stands for no layer in the box, which does not tell when None is chosen."""


class LayerPicker(QWidget):
    """Shows the layers that `layers` returns, by name.

    `none` names the choice of no layer, which is offered always, or only while no layer is chosen.
    """

    changed = Signal(object)

    def __init__(self, layers: Callable[[], Sequence[Layer]], none: str, *, offers_none: bool) -> None:
        super().__init__()
        self._layers, self._none, self._offers_none = layers, none, offers_none
        self._value: Layer | None = None
        self._box = ComboBox(choices=self._choices)
        self._box.changed.connect(self._on_box_changed)
        narrow(self._box.native)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box.native)
        self.setFocusProxy(self._box.native)

    def value(self) -> Layer | None:
        """Return the chosen layer."""
        return self._value

    def setValue(self, layer: Layer | None) -> None:
        """Choose a layer, or none, without telling."""
        self._value = layer
        self.refresh()

    def refresh(self) -> None:
        """Read the layers and their names again; the choice stays."""
        with self._box.changed.blocked():
            self._box.reset_choices()
            self._box.value = NO_LAYER if self._value is None else self._value
        name = "" if self._value is None else f"\nNow: {self._value.name}"
        self._box.native.setToolTip(self.toolTip() + name)

    def _choices(self, _box: Any) -> list[tuple[str, Any]]:
        layers = list(self._layers())
        if self._value is not None and self._value not in layers:
            layers.append(self._value)
        none = [(self._none, NO_LAYER)] if self._offers_none or self._value is None else []
        return [*none, *((layer.name, layer) for layer in layers)]

    def _on_box_changed(self, choice: Any) -> None:
        self._value = None if choice is NO_LAYER else choice
        self.changed.emit(self._value)
