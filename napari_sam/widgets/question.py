"""A question in the dock: a sentence, and a button for each answer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout

if TYPE_CHECKING:
    from collections.abc import Mapping

STYLE = "Question { border: 1px solid #2aa8ff; border-radius: 3px; }"


class Question(QFrame):
    """Is hidden until something is asked; `answered` tells the name of the answer."""

    answered = Signal(str)

    def __init__(self, answers: Mapping[str, str]) -> None:
        super().__init__()
        self._text = QLabel()
        self._text.setWordWrap(True)
        self._text.setTextFormat(Qt.TextFormat.PlainText)
        self.setStyleSheet(STYLE)
        row = QHBoxLayout()
        for name, text in answers.items():
            button = QPushButton(text)
            button.clicked.connect(partial(self._answer, name))
            row.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self._text)
        layout.addLayout(row)
        self.hide()

    def text(self) -> str:
        """Return what is asked, nothing if nothing is."""
        return self._text.text()

    def ask(self, text: str) -> None:
        """Ask, or with an empty text take the question back."""
        self._text.setText(text)
        self.setVisible(bool(text))

    def _answer(self, name: str, *_: object) -> None:
        self.ask("")
        self.answered.emit(name)
