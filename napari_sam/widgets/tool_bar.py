"""What the next click on the canvas means."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from ..bridge.keys import in_words, keys_in_use
from ..bridge.tools import Tool
from .parts import explain

BUTTONS = {
    Tool.POSITIVE: (
        "+ Point",
        "positive_points",
        "Click on the object.\nA right click, or Ctrl and a click, says where it is not.",
    ),
    Tool.NEGATIVE: ("\N{MINUS SIGN} Point", "negative_points", "Click where the object is not."),
    Tool.BOX: ("Box", "boxes", "Drag a box round the object; clicks then correct its mask."),
    Tool.LASSO: ("Lasso", "lassos", "Draw round the object; clicks then correct its mask."),
    Tool.SCRIBBLE: (
        "Scribble",
        "scribbles",
        "Draw a stroke on the object.\nWith the right button, or Ctrl, or while \N{MINUS SIGN} is chosen, beside it.",
    ),
}
ROWS = ((Tool.POSITIVE, Tool.NEGATIVE), (Tool.BOX, Tool.LASSO, Tool.SCRIBBLE))


class ToolBar(QWidget):
    """One button for each tool; none is pressed while the canvas does something else."""

    changed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._keys = {name: in_words(key) for name, key in keys_in_use().items()}
        self._buttons = {
            tool: QPushButton(f"{text}  {self._keys[action]}") for tool, (text, action, _) in BUTTONS.items()
        }
        self._group = QButtonGroup(self)
        self._group.setExclusive(False)  # else none could be pressed
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for tools in ROWS:
            row = QHBoxLayout()
            layout.addLayout(row)
            for button in (self._buttons[tool] for tool in tools):
                button.setCheckable(True)
                self._group.addButton(button)
                row.addWidget(button, 1)
        self._group.buttonClicked.connect(self._on_button_clicked)

    def value(self) -> Tool | None:
        """Return the tool whose button is pressed."""
        return next((tool for tool, button in self._buttons.items() if button.isChecked()), None)

    def setValue(self, tool: Tool | None) -> None:
        """Press a tool's button, or none, without telling."""
        for each, button in self._buttons.items():
            button.setChecked(each is tool)

    def set_obstacle(self, obstacle: str) -> None:
        """Say why no tool can be used now; nothing enables them."""
        for tool, button in self._buttons.items():
            _, action, purpose = BUTTONS[tool]
            toggle = self._keys["toggle_polarity"]
            explain(
                button,
                f"{purpose}\nKey: {self._keys[action]}; {toggle} changes between + and \N{MINUS SIGN}.",
                obstacle,
            )

    def _on_button_clicked(self, clicked: QPushButton) -> None:
        tool = next(tool for tool, button in self._buttons.items() if button is clicked)
        self.setValue(tool)
        self.changed.emit(tool)
