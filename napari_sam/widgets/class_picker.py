"""The class of what is committed next: one of those there are, or a new one, typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QColorDialog, QComboBox, QHBoxLayout, QPushButton, QWidget

from .object_list import swatch
from .parts import SMALL_BUTTON, explain, narrow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..objects import ObjectClass

NO_CLASS = "no class"


class ClassPicker(QWidget):
    """Shows the classes with their colours, and which one is current; "" is none."""

    changed = Signal(str)
    added = Signal(str)
    coloured = Signal(str, str)

    def __init__(self) -> None:
        super().__init__()
        self._value = ""
        self._classes: tuple[ObjectClass, ...] = ()
        self._box, self._colour = QComboBox(), QPushButton()
        self._lay_out()
        self._box.activated.connect(self._on_activated)
        if (line := self._box.lineEdit()) is not None:
            line.returnPressed.connect(self._on_return_pressed)
        self._colour.clicked.connect(self._on_colour_clicked)
        self.set_classes((), "", needs_class=False)

    def value(self) -> str:
        """Return the name of the current class."""
        return self._value

    def set_classes(self, classes: Sequence[ObjectClass], current: str, *, needs_class: bool) -> None:
        """Show these classes, without telling; `needs_class` leaves out the choice of none."""
        self._classes, self._value = tuple(classes), current
        self._box.clear()
        if not needs_class:
            self._box.addItem(NO_CLASS, "")
        for one in classes:
            self._box.addItem(swatch(one.colour), one.name, one.name)
        self._box.setCurrentIndex(self._box.findData(current))
        colour = next((one.colour for one in classes if one.name == current), None)
        self._colour.setIcon(swatch(colour or "transparent"))
        explain(self._colour, "The colour of the class", "" if colour else "no class is chosen.")

    def _lay_out(self) -> None:
        self._box.setEditable(True)
        self._box.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self._box.setToolTip(
            "The class of what you commit next, and of the object that is picked in the list.\n"
            "Type a name and press Enter for a new one."
        )
        narrow(self._box)
        self._colour.setFixedWidth(SMALL_BUTTON)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box, 1)
        layout.addWidget(self._colour)
        self.setFocusProxy(self._box)

    def _on_activated(self, index: int) -> None:
        name = self._box.itemData(index)
        self.changed.emit(name if isinstance(name, str) else "")

    def _on_return_pressed(self) -> None:
        name = self._box.currentText().strip()
        if name == NO_CLASS or not name:
            self.changed.emit("")
        elif any(one.name == name for one in self._classes):
            self.changed.emit(name)
        else:
            self.added.emit(name)

    def _on_colour_clicked(self) -> None:
        former = next(one.colour for one in self._classes if one.name == self._value)
        colour = QColorDialog.getColor(QColor(former), self, f"The colour of {self._value}")
        if colour.isValid():
            self.coloured.emit(self._value, colour.name())
