"""What one annotation has asked its model and not heard back yet."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .errors import Cancelled
from .worker import Job, Mailbox, ModelChoice, Priority, Worker, pool

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from .predictor import Predictor


class Questions:
    """Open questions by key: of each key the newest alone, whose answer is taken; older ones are dropped.

    Parameters
    ----------
    choice
        The model to ask; its worker is shared with others who ask the same.
    mailbox
        Through which answers come to the main thread.
    on_settled
        Called on the main thread after each answer was taken, with None, or with what went wrong instead.
    on_progress
        Called on the main thread when `fraction` has changed.
    on_notice
        Called on the main thread with a sentence for the user.
    """

    def __init__(
        self,
        choice: ModelChoice,
        mailbox: Mailbox,
        on_settled: Callable[[Exception | None], None],
        on_progress: Callable[[], None],
        on_notice: Callable[[str], None],
    ) -> None:
        self.choice = choice
        self._mailbox, self._on_settled, self._on_progress = mailbox, on_settled, on_progress
        self._on_notice = on_notice
        self._worker: Worker | None = pool.acquire(choice)
        self._open: dict[Hashable, Job] = {}
        self._fraction: float | None = None

    def __contains__(self, key: Hashable) -> bool:
        return key in self._open

    def __len__(self) -> int:
        return len(self._open)

    @property
    def load_error(self) -> Exception | None:
        """Why the model could not be loaded, None if it is, or may still be."""
        return None if self._worker is None else self._worker.load_error

    @property
    def is_loading(self) -> bool:
        """Whether a question waits for the model itself."""
        return bool(self._open) and self._worker is not None and self._worker.is_loading

    @property
    def fraction(self) -> float | None:
        """The share that is done of what takes long, None if unknown: of the download, else of what runs."""
        return self._worker.load_fraction or None if self._worker is not None and self.is_loading else self._fraction

    def ask(
        self,
        key: Hashable,
        priority: Priority,
        work: Callable[[Predictor, Job], Any],
        take: Callable[[Any], None],
        meanwhile: Callable[[Any], None] | None = None,
        subject: Hashable = None,
        delay: float = 0.0,
    ) -> None:
        """Let the worker do `work`, and `take` its result on the main thread unless the same key is asked anew.

        Then the result goes to `meanwhile`, if it is there at all: something to show until the newer one comes. Work on
        the same `subject` is not begun twice, and none before `delay` seconds have passed.
        """
        if self._worker is None:
            return

        def done(result: Any, error: Exception | None) -> None:
            if self._open.get(key) is not job:
                if meanwhile is not None and error is None and key in self._open:
                    meanwhile(result)
                return
            del self._open[key]
            self._fraction = None
            try:
                if error is None:
                    take(result)
            finally:  # whatever those do who listen for results
                self._on_settled(None if isinstance(error, Cancelled) else error)

        def report(fraction: float) -> None:
            if self._open.get(key) is job:
                self._fraction = fraction
                self._on_progress()

        due = time.monotonic() + delay
        job = Job((id(self), key), priority, work, done, self._mailbox, report, self._on_notice, subject, due)
        self._open[key] = job
        self._fraction = None
        self._worker.submit(job)

    def drop(self, key: Hashable) -> None:
        """Take a question back; its answer will not be taken."""
        if (job := self._open.pop(key, None)) is not None:
            job.cancel()
            self._fraction = None

    def drop_all(self) -> None:
        """Take every question back."""
        for key in list(self._open):
            self.drop(key)

    def turn_to(self, choice: ModelChoice) -> None:
        """Ask another model from now on; or the same again, if it could not be loaded."""
        self.drop_all()
        former, worker = self.choice, self._worker
        self.choice = choice
        if worker is not None:
            # Taken before the other is given back, so that a model that both want stays loaded.
            self._worker = pool.acquire(choice)
            pool.release(former, worker)

    def close(self) -> bool:
        """Take everything back and let the model go; False if that was done before."""
        if self._worker is None:
            return False
        self.drop_all()
        self._worker.cancel(self._mailbox)
        pool.release(self.choice, self._worker)
        self._worker = None
        return True
