"""Commit, clear, undo, redo."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QPushButton, QWidget

from .parts import explain

if TYPE_CHECKING:
    from collections.abc import Mapping

BUTTONS = {
    "commit": ("Commit", "Write the outlined objects into the labels.\nKey: Enter"),
    "clear": ("Clear", "Remove the clicks and boxes of this slice.\nKey: Escape"),
    "undo": ("Undo", "Take back the last click, box or commit.\nKey: Ctrl+Z"),
    "redo": ("Redo", "Do again what was undone last.\nKey: Ctrl+Shift+Z"),
}


class ActionBar(QWidget):
    """Buttons that ask for what a controller's method of the same name does."""

    asked = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._buttons: dict[str, QPushButton] = {}
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for place, (name, (text, _)) in enumerate(BUTTONS.items()):
            button = self._buttons[name] = QPushButton(text)
            button.clicked.connect(partial(self.asked.emit, name))
            layout.addWidget(button, place // 2, place % 2)

    def set_obstacles(self, obstacles: Mapping[str, str]) -> None:
        """Say for each action why it is not possible now; nothing enables it."""
        for name, button in self._buttons.items():
            explain(button, BUTTONS[name][1], obstacles[name])

    def button(self, name: str) -> QPushButton:
        """Return the button of an action."""
        return self._buttons[name]
