"""What several widgets have in common."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, QSize, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QFrame,
    QGridLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

SMALL_BUTTON = 28
"""Width of a button with one sign on it."""
ERROR_STYLE = "QLabel { background: #a5182c; color: white; border-radius: 3px; padding: 5px; }"
TITLE_STYLE = "QToolButton { border: none; padding: 2px 0; font-weight: bold; } QToolButton:focus { color: #2aa8ff; }"
COLUMN_HEIGHT = 240
"""The least height of a column that scrolls."""


def narrow(box: QComboBox) -> None:
    """Let a box be narrower than its longest choice, and leave its choice alone while the column is scrolled."""
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(6)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)  # not by the wheel
    box.installEventFilter(_LeavesTheWheel(box))


def explain(button: QAbstractButton, purpose: str, obstacle: str) -> None:
    """Enable a button, or disable it and let its tooltip say why."""
    button.setEnabled(not obstacle)
    button.setToolTip(f"{purpose}\nNot now: {obstacle}" if obstacle else purpose)


def wrapped_text(style: str = "") -> QLabel:
    """Return a label for sentences as they are, which can be selected to be copied."""
    label = QLabel()
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    flags = Qt.TextInteractionFlag
    label.setTextInteractionFlags(flags.TextSelectableByMouse | flags.TextSelectableByKeyboard)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    label.setStyleSheet(style)
    return label


class Complaint(QWidget):
    """What is wrong with what stands above it; takes no room while nothing is."""

    def __init__(self) -> None:
        super().__init__()
        self._text = wrapped_text(ERROR_STYLE)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._text)
        self.hide()

    def text(self) -> str:
        """Return what is wrong, nothing if nothing is."""
        return self._text.text()

    def setText(self, text: str) -> None:
        """Say what is wrong, or with nothing that it no longer is."""
        self._text.setText(text)
        self.setVisible(bool(text))


class Buttons(QWidget):
    """Buttons by name, with their texts and purposes, so many to a row; `asked` tells the name of the one pressed."""

    asked = Signal(str)

    def __init__(self, buttons: Mapping[str, tuple[str, str]], columns: int) -> None:
        super().__init__()
        self._purposes = {name: purpose for name, (_, purpose) in buttons.items()}
        self._buttons: dict[str, QPushButton] = {}
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for place, (name, (text, _)) in enumerate(buttons.items()):
            button = self._buttons[name] = QPushButton(text)
            button.clicked.connect(partial(self._ask, name))
            layout.addWidget(button, place // columns, place % columns)
        for column in range(columns):
            layout.setColumnStretch(column, 1)

    def set_obstacles(self, obstacles: Mapping[str, str]) -> None:
        """Say for each button why it cannot be pressed now; nothing enables it."""
        for name, button in self._buttons.items():
            explain(button, self._purposes[name], obstacles[name])

    def set_obstacle(self, obstacle: str) -> None:
        """Say why none of them can be pressed now; nothing enables them."""
        self.set_obstacles(dict.fromkeys(self._buttons, obstacle))

    def button(self, name: str) -> QPushButton:
        """Return a button by its name."""
        return self._buttons[name]

    def _ask(self, name: str, *_: object) -> None:
        self.asked.emit(name)


class Section(QWidget):
    """A title that folds away what stands below it."""

    def __init__(self, title: str, content: QWidget, purpose: str) -> None:
        super().__init__()
        self._title, self._content = QToolButton(), content
        self._title.setText(title)
        self._title.setToolTip(purpose)
        self._title.setCheckable(True)
        self._title.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._title.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._title.setStyleSheet(TITLE_STYLE)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self._title)
        layout.addWidget(content)
        self._title.toggled.connect(self._on_toggled)
        self._on_toggled(is_open=False)

    def is_open(self) -> bool:
        """Return whether the content shows."""
        return self._title.isChecked()

    def _on_toggled(self, is_open: bool) -> None:
        self._title.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
        self._content.setVisible(is_open)


class Column(QScrollArea):
    """A column of widgets, never narrower than they need, that scrolls where the screen is lower than they are."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def minimumSizeHint(self) -> QSize:
        """Return the width that the content and the scroll bar need."""
        return QSize(self._width(), COLUMN_HEIGHT)

    def sizeHint(self) -> QSize:
        """Ask for the content's height."""
        content = self.widget()
        return QSize(self._width(), COLUMN_HEIGHT if content is None else content.sizeHint().height())

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Tell the layouts round us when the content needs another size."""
        if event.type() == QEvent.Type.LayoutRequest and watched is self.widget():
            self.updateGeometry()
        return super().eventFilter(watched, event)

    def _width(self) -> int:
        content, bar = self.widget(), self.verticalScrollBar()
        needed = 0 if content is None else content.minimumSizeHint().expandedTo(content.minimumSize()).width()
        return needed + (0 if bar is None else bar.sizeHint().width())


class _LeavesTheWheel(QObject):
    """Hands the wheel over a box that has not the focus to whatever scrolls."""

    def eventFilter(self, box: Any, event: Any) -> bool:
        """Filter the wheel alone."""
        if event.type() == QEvent.Type.Wheel and not box.hasFocus():
            event.ignore()
            return True
        return False
