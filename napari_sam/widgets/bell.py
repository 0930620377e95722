"""The bell: how the worker's thread makes Qt's event loop empty the mailbox, and how a closing window is noticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import QApplication

if TYPE_CHECKING:
    from ..worker import Mailbox


class Bell(QObject):
    """Lives in the main thread; may be rung from any."""

    rung = Signal()

    def __init__(self, window: QObject, mailbox: Mailbox, close: Callable[[], None]) -> None:
        super().__init__(window)
        self._mailbox, self._close = mailbox, close
        self.rung.connect(mailbox.deliver, Qt.ConnectionType.QueuedConnection)
        window.installEventFilter(self)
        window.destroyed.connect(self._on_window_destroyed)
        QApplication.instance().aboutToQuit.connect(self._on_window_destroyed)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802  Qt's name
        """Close with the window; whether it really closes is known only after it has handled the event."""
        if event.type() == QEvent.Type.Close:
            self._mailbox.post(lambda: None if watched.isVisible() else self._end())  # type: ignore[attr-defined]
        return False

    def _on_window_destroyed(self) -> None:
        self._end()

    def _end(self) -> None:
        self._mailbox.bell = None
        self._close()


def hang_bell(window: Any, mailbox: Mailbox, close: Callable[[], None]) -> None:
    """Make `mailbox` ring in the event loop of a napari `window`, and call `close` when that window is gone."""
    bell = Bell(window.main_menu.window(), mailbox, close)
    mailbox.bell = bell.rung.emit
