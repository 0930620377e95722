"""The bell: how the worker's thread makes Qt's event loop empty the mailbox, and how a closing window is noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, Qt, Signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QWidget

    from ..worker import Mailbox


class Bell(QObject):
    """Lives in the main thread, may be rung from any; a child of the window that it watches."""

    rung = Signal()

    def __init__(self, window: QWidget, mailbox: Mailbox, close: Callable[[], None]) -> None:
        super().__init__(window)
        self._window, self._mailbox, self._close = window, mailbox, close
        self.rung.connect(mailbox.deliver, Qt.ConnectionType.QueuedConnection)  # type: ignore[call-arg]
        window.installEventFilter(self)
        mailbox.bell = self.rung.emit
        self.rung.emit()  # for what came before

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Close with the window; whether it really closes is known only after it has handled the event."""
        if event.type() == QEvent.Type.Close:
            self._mailbox.post(self._close_if_gone)
        elif event.type() == QEvent.Type.DeferredDelete:  # Qt deletes the window next, and this bell with it
            self._close()
        return False

    def take_down(self) -> None:
        """Ring and watch no more, and let go of everybody."""
        self._mailbox.bell = None
        self._window.removeEventFilter(self)
        self.rung.disconnect()
        self.deleteLater()

    def _close_if_gone(self) -> None:
        if self._mailbox.bell is not None and not self._window.isVisible():  # else taken down meanwhile
            self._close()


def hang_bell(window: Any, mailbox: Mailbox, close: Callable[[], None]) -> Callable[[], None]:
    """Make `mailbox` ring in the event loop of a napari `window`, and call `close` when that is gone.

    Returns how to take the bell down again.
    """
    return Bell(window.main_menu.window(), mailbox, close).take_down
