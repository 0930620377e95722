"""One long-lived thread per model, and the mailbox that brings its results to the main thread.

Decoding goes first, then encoding of what is visible, the newest first, then prefetching; a newer job replaces an
older one with the same key. Between the blocks of an encoding, waiting decodes of other images are answered, and a
newer image is encoded, after which the older one goes on. torch is imported inside the thread, as part of its first
job: loading the model.
"""

from __future__ import annotations

import atexit
import itertools
import queue
import sys
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from .embedding_cache import shared_cache
from .errors import Cancelled

if TYPE_CHECKING:
    from .predictor import Predictor

Letter = Callable[[], None]


class Mailbox:
    """Finished work on its way to the main thread: a thread-safe queue of calls.

    Whoever has an event loop hands over a *bell*, any callable that is safe in every thread and makes the main thread
    call `deliver` soon. Without one, `wait` and `deliver` are called by hand.
    """

    def __init__(self) -> None:
        self._letters: queue.SimpleQueue[Letter] = queue.SimpleQueue()
        self._bell: Callable[[], None] | None = None
        self._ringing = threading.RLock()

    @property
    def bell(self) -> Callable[[], None] | None:
        """What `post` rings; once another is set, the former is not rung any more, in no thread."""
        return self._bell

    @bell.setter
    def bell(self, bell: Callable[[], None] | None) -> None:
        with self._ringing:
            self._bell = bell

    def post(self, letter: Letter) -> None:
        """Leave a call for the main thread; from any thread."""
        self._letters.put(letter)
        with self._ringing:
            if self._bell is not None:
                self._bell()

    def deliver(self) -> None:
        """Make all waiting calls; main thread only."""
        while True:
            try:
                letter = self._letters.get_nowait()
            except queue.Empty:
                return
            letter()

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for a call and make it and all that follow; False if none came."""
        try:
            letter = self._letters.get(timeout=max(0.0, timeout))
        except queue.Empty:
            return False
        letter()
        self.deliver()
        return True


class Priority(IntEnum):
    """What goes first."""

    DECODE = 0
    ENCODE = 1
    PREFETCH = 2


@dataclass(eq=False)
class Job:
    """Something for the worker thread to do, and what to do with the outcome on the main thread.

    `work(predictor, job)` runs on the worker; it hands `job.progress` and `job.is_cancelled` on to what takes long.
    `done(result, error)` is called on the main thread, exactly once, unless the worker is stopped first; `error` is
    `Cancelled` for a job that was cancelled or replaced. Jobs of one mailbox with the same `subject` make the same
    thing: the later one takes the place of one that waits, and does not overtake one that runs. A job is not begun
    before it is `due`, on the clock of `time.monotonic`.
    """

    key: Hashable
    priority: Priority
    work: Callable[[Predictor, Job], Any]
    done: Callable[[Any, Exception | None], None]
    mailbox: Mailbox
    on_progress: Callable[[float], None] | None = None
    on_notice: Callable[[str], None] | None = None
    subject: Hashable = None
    due: float = 0.0
    _cancelled: threading.Event = field(default_factory=threading.Event)
    between_blocks: Callable[[], None] | None = None

    def cancel(self) -> None:
        """Ask the job to end; it does so at the next block, or never starts."""
        self._cancelled.set()

    def is_cancelled(self) -> bool:
        """Let what is more urgent go first, then tell whether to stop; called on the worker, between blocks."""
        if self.between_blocks is not None:
            self.between_blocks()
        return self._cancelled.is_set()

    def makes_the_same_as(self, other: Job) -> bool:
        """Whether the two have a subject, and share it."""
        return self.subject is not None and (self.mailbox, self.subject) == (other.mailbox, other.subject)

    @property
    def is_stopped(self) -> bool:
        """Whether it was asked to end."""
        return self._cancelled.is_set()

    def progress(self, fraction: float) -> None:
        """Report the share of the work that is done, 0 to 1; called on the worker."""
        if self.on_progress is not None:
            self.mailbox.post(partial(self.on_progress, fraction))

    def notify(self, message: str) -> None:
        """Tell the user something; called on the worker."""
        if self.on_notice is not None:
            self.mailbox.post(partial(self.on_notice, message))

    def finish(self, result: Any, error: Exception | None) -> None:
        """Send the outcome to the main thread."""
        self.mailbox.post(partial(self.done, result, error))


Loader = Callable[[Callable[[float], None], Callable[[], bool], Callable[[str], None]], "Predictor"]
"""Makes the predictor, given a progress callback, a question whether to stop, and whom to tell what matters."""


class Worker:
    """The thread of one model.

    `load` runs on the thread before anything else; where it fails, every job ends with its error.
    """

    def __init__(self, load: Loader, name: str = "napari-sam") -> None:
        self._load = load
        self._jobs: list[tuple[Priority, int, Job]] = []
        self._running: list[Job] = []  # the last one runs, the others wait for it between two of their blocks
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._stopping = False
        self._loaded = threading.Event()
        self.load_error: Exception | None = None
        self.load_fraction = 0.0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        _threads.append(self)
        self._thread.start()

    @property
    def is_loading(self) -> bool:
        """Whether the model is not there yet."""
        return not self._loaded.is_set()

    def submit(self, job: Job) -> None:
        """Queue a job; queued and running ones with the same key are cancelled. After `stop` it ends at once."""
        with self._changed:
            if self._stopping:
                return job.finish(None, self.load_error or Cancelled("the model was let go"))
            self._cancel_queued(job.makes_the_same_as)
            self._cancel_where(lambda other: other.key == job.key)
            self._jobs.append((job.priority, next(self._order), job))
            return self._changed.notify()

    def cancel(self, mailbox: Mailbox) -> None:
        """Cancel every job whose outcome would go to `mailbox`."""
        with self._changed:
            self._cancel_where(lambda job: job.mailbox is mailbox)

    def stop(self) -> None:
        """End the thread at the next block, without waiting for it; what is queued is dropped."""
        with self._changed:
            self._stopping = True
            self._cancel_where(lambda _job: True)
            self._changed.notify()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended."""
        self._thread.join(timeout)

    def is_alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def _cancel_where(self, chosen: Callable[[Job], bool]) -> None:
        self._cancel_queued(chosen)
        for job in filter(chosen, self._running):
            job.cancel()

    def _cancel_queued(self, chosen: Callable[[Job], bool]) -> None:
        queued = [job for _, _, job in self._jobs if chosen(job)]
        self._jobs = [entry for entry in self._jobs if entry[2] not in queued]
        for job in queued:
            job.cancel()
            job.finish(None, Cancelled("a newer request took its place"))

    def _run(self) -> None:
        predictor = self._load_predictor()
        while (job := self._take(lambda _job: True, block=True)) is not None:
            self._perform(job, predictor)
            # Holding it would hold the annotator behind it until the next job comes.
            del job
        del predictor
        _release_memory()

    def _load_predictor(self) -> Predictor | None:
        try:
            return self._load(self._note_progress, lambda: self._stopping, self._notify)
        except Exception as error:  # noqa: BLE001  delivered to whoever asks for something
            self.load_error = error
            return None
        finally:
            self._loaded.set()

    def _note_progress(self, fraction: float) -> None:
        self.load_fraction = fraction
        for job in self._one_of_each_user():
            job.progress(0.0)

    def _notify(self, message: str) -> None:
        """Tell whoever is served, or waits for the model."""
        for job in self._running[-1:] or self._one_of_each_user():
            job.notify(message)

    def _one_of_each_user(self) -> list[Job]:
        with self._changed:
            return list({id(job.mailbox): job for _, _, job in self._jobs}.values())

    def _take(self, allowed: Callable[[Job], bool], *, block: bool) -> Job | None:
        """Remove and return the most urgent job that may run; None without one, or if the worker is stopping."""
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                if urgent := [entry for entry in self._jobs if entry[2].due <= now and allowed(entry[2])]:
                    entry = min(urgent, key=_urgency)
                    self._jobs.remove(entry)
                    return entry[2]
                if not block:
                    break
                self._changed.wait(min((job.due - now for _, _, job in self._jobs), default=None))
            return None

    def _may_overtake(self, job: Job) -> bool:
        """Whether a job may go before what is running: decodes always, and once a newer image an older one."""
        running = self._running[-1]
        if job.priority is Priority.DECODE or len(self._running) > 1:
            return job.priority is Priority.DECODE
        return job.priority is Priority.ENCODE and not job.makes_the_same_as(running) and not running.is_stopped

    def _perform(self, job: Job, predictor: Predictor | None) -> None:
        if predictor is None:
            job.finish(None, self.load_error)
            return
        if job.is_stopped:
            job.finish(None, Cancelled("it was taken back"))
            return

        def let_pass() -> None:
            while (urgent := self._take(self._may_overtake, block=False)) is not None:
                self._perform(urgent, predictor)

        if job.priority > Priority.DECODE:
            job.between_blocks = let_pass
        with self._changed:
            self._running.append(job)
        try:
            result, error = job.work(predictor, job), None
        except Exception as failure:  # noqa: BLE001  delivered to the main thread
            result, error = None, failure
        with self._changed:
            self._running.pop()
        job.finish(result, error)


def _urgency(entry: tuple[Priority, int, Job]) -> tuple[int, int]:
    """Sort decodes and prefetches in the order in which they came, of encodings the newest first."""
    priority, order, _ = entry
    return priority, -order if priority is Priority.ENCODE else order


def _release_memory() -> None:
    """Give back to the device what a model held that nobody uses any more; a fake one has brought no torch along."""
    if (placement := sys.modules.get(f"{__package__}.models.placement")) is not None:
        placement.release_memory()


_threads: list[Worker] = []


@atexit.register
def _stop_all() -> None:
    """End every worker before the interpreter goes: a daemon thread inside torch would abort it."""
    for worker in _threads:
        worker.stop()
    deadline = time.monotonic() + 30
    for worker in _threads:
        worker.join(max(0.0, deadline - time.monotonic()))


@dataclass(frozen=True)
class ModelChoice:
    """Which model computes where, and in which numbers; the words are `load_predictor`'s."""

    model: str = "default"
    device: str = "auto"
    precision: str = "auto"
    profile: str | None = None

    def load(
        self, progress: Callable[[float], None], cancelled: Callable[[], bool], notify: Callable[[str], None]
    ) -> Predictor:
        """Load the predictor, in the thread that calls this; it shares this process's embedding cache."""
        from .predictor import load_predictor  # imports torch

        return load_predictor(
            self.model,
            self.device,
            self.precision,
            progress,
            cancelled,
            profile=self.profile,
            cache=shared_cache(),
            notify=notify,
        )


class WorkerPool:
    """The workers in use: one per `ModelChoice`, counted by its users."""

    def __init__(self) -> None:
        self._shared: dict[ModelChoice, tuple[Worker, int]] = {}

    def acquire(self, choice: ModelChoice) -> Worker:
        """Return the worker of `choice`, started if nobody uses it yet or its model could not be loaded."""
        _threads[:] = [worker for worker in _threads if worker.is_alive()]
        worker, users = self._shared.get(choice, (None, 0))
        if worker is None or worker.load_error is not None:
            worker, users = Worker(choice.load, name=f"napari-sam {choice.model}"), 0
        self._shared[choice] = worker, users + 1
        return worker

    def release(self, choice: ModelChoice, worker: Worker) -> None:
        """Give back what `acquire` returned; the last user ends the thread, without waiting for it."""
        shared, users = self._shared.get(choice, (None, 0))
        if shared is not worker:
            worker.stop()
        elif users <= 1:
            del self._shared[choice]
            worker.stop()
        else:
            self._shared[choice] = worker, users - 1


pool = WorkerPool()
