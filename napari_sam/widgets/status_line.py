"""How things are going: a sentence, how much is done, and a button to stop it or to try again."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QGridLayout, QProgressBar, QPushButton, QWidget

from ..pending import Phase, Status
from .parts import ERROR_STYLE, SMALL_BUTTON, wrapped_text

BUSY = (Phase.LOADING, Phase.ENCODING, Phase.DECODING)
SENTENCES = {
    Phase.NO_IMAGE: "Open an image to begin.",
    Phase.LOADING: "Loading the model",
    Phase.ENCODING: "Encoding the image",
    Phase.READY: "Ready. Click on an object, or draw a box round it.",
    Phase.DECODING: "Outlining",
    Phase.FAILED: "Something failed.",
}
BAR_STYLE = """
QProgressBar { border: none; border-radius: 2px; background: rgba(127, 127, 127, 60); }
QProgressBar::chunk { border-radius: 2px; background: #2aa8ff; }
"""


class StatusLine(QWidget):
    """Shows a `Status`; errors stand out, and can be selected to be copied."""

    cancelled = Signal()
    retried = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._status = Status(Phase.NO_IMAGE)
        self._text, self._bar = wrapped_text(), QProgressBar()
        self._cancel, self._retry = QPushButton(), QPushButton()
        self._lay_out()
        self._cancel.clicked.connect(self.cancelled)
        self._retry.clicked.connect(self.retried)
        self.set_status(self._status)

    def value(self) -> Status:
        """Return what is shown."""
        return self._status

    def text(self) -> str:
        """Return the sentence that is shown."""
        return self._text.text()

    def set_status(self, status: Status, *, can_retry: bool = True) -> None:
        """Show how things are; `can_retry` offers to try again what failed."""
        self._status = status
        has_failed, is_busy = status.phase is Phase.FAILED, status.phase in BUSY
        self._text.setText(_sentence(status))
        self._text.setStyleSheet(ERROR_STYLE if has_failed else "")
        self._cancel.setVisible(is_busy)
        self._retry.setVisible(has_failed and can_retry)
        self._bar.setVisible(is_busy and (status.phase is not Phase.DECODING or status.fraction is not None))
        # A range of nothing makes the bar run to and fro.
        self._bar.setRange(0, 0 if status.fraction is None else 100)
        self._bar.setValue(round(100 * (status.fraction or 0.0)))

    def _lay_out(self) -> None:
        self._bar.setTextVisible(False)
        self._bar.setFixedHeight(5)
        self._bar.setStyleSheet(BAR_STYLE)
        self._cancel.setText("\N{MULTIPLICATION SIGN}")
        self._cancel.setFixedWidth(SMALL_BUTTON)
        self._cancel.setToolTip("Stop this; the next click goes on")
        self._retry.setText("  Try again  ")
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._text, 0, 0)
        layout.addWidget(self._cancel, 0, 1, Qt.AlignmentFlag.AlignTop)
        layout.addWidget(self._bar, 1, 0, 1, 2)
        layout.addWidget(self._retry, 2, 0, 1, 2, Qt.AlignmentFlag.AlignRight)
        layout.setColumnStretch(0, 1)
        layout.setHorizontalSpacing(0)
        # What lies below stays where it is while things come and go here.
        policy = self._bar.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self._bar.setSizePolicy(policy)
        self._text.setMinimumHeight(SMALL_BUTTON)
        self._cancel.setFixedHeight(SMALL_BUTTON)


def _sentence(status: Status) -> str:
    sentence = status.message or SENTENCES[status.phase]
    if status.fraction is not None:
        return f"{sentence}, {status.fraction:.0%}"
    return f"{sentence}\N{HORIZONTAL ELLIPSIS}" if status.phase in BUSY and sentence[-1] not in ".!?" else sentence
