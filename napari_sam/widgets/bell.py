"""The bell: how the worker's thread makes Qt's event loop empty the mailbox, and how a closing window is noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import QApplication, QWidget

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..worker import Mailbox


class Bell(QObject):
    """Lives in the main thread, may be rung from any; a child of the window that it watches."""

    rung = Signal()

    def __init__(self, window: QWidget, mailbox: Mailbox, close: Callable[[], None]) -> None:
        super().__init__(window)
        self._window, self._mailbox, self._close = window, mailbox, close
        self.rung.connect(mailbox.deliver, Qt.ConnectionType.QueuedConnection)  # type: ignore[call-arg]
        window.installEventFilter(self)
        window.destroyed.connect(self._end)
        if (app := QApplication.instance()) is not None:
            app.aboutToQuit.connect(self._end)

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Close with the window; whether it really closes is known only after it has handled the event."""
        if event.type() == QEvent.Type.Close:
            self._mailbox.post(self._end_if_gone)
        return False

    def _end_if_gone(self) -> None:
        if not self._window.isVisible():
            self._end()

    def _end(self) -> None:
        self._mailbox.bell = None
        self._close()


def hang_bell(window: Any, mailbox: Mailbox, close: Callable[[], None]) -> None:
    """Make `mailbox` ring in the event loop of a napari `window`, and call `close` when that window is gone."""
    bell = Bell(window.main_menu.window(), mailbox, close)
    mailbox.bell = bell.rung.emit
