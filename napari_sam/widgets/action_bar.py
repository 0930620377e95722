"""Commit, clear, undo, redo."""

from __future__ import annotations

from ..bridge.keys import in_words, keys_in_use
from .parts import Buttons

BUTTONS = {
    "commit": ("Commit", "Write the outlined objects into the labels."),
    "clear": ("Clear", "Remove the clicks and boxes of this slice."),
    "undo": ("Undo", "Take back the last click, box or commit."),
    "redo": ("Redo", "Do again what was undone last."),
}


class ActionBar(Buttons):
    """Buttons that ask for what a controller's method of the same name does."""

    def __init__(self) -> None:
        keys = keys_in_use()
        super().__init__(
            {name: (text, f"{purpose}\nKey: {in_words(keys[name])}") for name, (text, purpose) in BUTTONS.items()}, 4
        )
