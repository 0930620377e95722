"""Commit, clear, undo, redo."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QPushButton, QWidget

from ..bridge.keys import in_words, keys_in_use
from .parts import explain

if TYPE_CHECKING:
    from collections.abc import Mapping

BUTTONS = {
    "commit": ("Commit", "Write the outlined objects into the labels."),
    "clear": ("Clear", "Remove the clicks and boxes of this slice."),
    "undo": ("Undo", "Take back the last click, box or commit."),
    "redo": ("Redo", "Do again what was undone last."),
}


class ActionBar(QWidget):
    """Buttons that ask for what a controller's method of the same name does."""

    asked = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._buttons: dict[str, QPushButton] = {}
        self._keys = keys_in_use()
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
            explain(button, f"{BUTTONS[name][1]}\nKey: {in_words(self._keys[name])}", obstacles[name])

    def button(self, name: str) -> QPushButton:
        """Return the button of an action."""
        return self._buttons[name]
