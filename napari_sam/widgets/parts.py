"""What several widgets do alike."""

from __future__ import annotations

from qtpy.QtWidgets import QAbstractButton, QComboBox, QSizePolicy

SMALL_BUTTON = 28
"""Width of a button with one sign on it."""


def narrow(box: QComboBox) -> None:
    """Let a box be narrower than its longest choice; a long name is cut, not the dock."""
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(6)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)


def explain(button: QAbstractButton, purpose: str, obstacle: str) -> None:
    """Enable a button, or disable it and let its tooltip say why."""
    button.setEnabled(not obstacle)
    button.setToolTip(f"{purpose}\nNot now: {obstacle}" if obstacle else purpose)
