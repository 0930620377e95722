"""The thread and its mailbox: what goes first, what is dropped, and how it ends."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fakes import PATIENCE

from napari_sam.errors import Cancelled, CheckpointError
from napari_sam.worker import Job, Mailbox, ModelChoice, Priority, Worker, WorkerPool


class Outcomes:
    """Collects what jobs deliver."""

    def __init__(self) -> None:
        self.mailbox = Mailbox()
        self.all: list[tuple[Any, Exception | None]] = []

    def job(self, work: Any, key: object = None, priority: Priority = Priority.ENCODE) -> Job:
        return Job(key or object(), priority, work, self._done, self.mailbox)

    def _done(self, result: Any, error: Exception | None) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.all.append((result, error))

    def wait_for(self, count: int) -> list[tuple[Any, Exception | None]]:
        while len(self.all) < count:
            assert self.mailbox.wait(PATIENCE), f"only {len(self.all)} of {count} outcomes came"
        return self.all


@pytest.fixture
def outcomes() -> Outcomes:
    return Outcomes()


@pytest.fixture
def worker() -> Iterator[Worker]:
    one = Worker(lambda *_: object())  # type: ignore[arg-type,return-value]
    yield one
    one.stop()
    one.join(PATIENCE)
    assert not one.is_alive()


def test_results_come_back_on_the_main_thread(worker: Worker, outcomes: Outcomes) -> None:
    worker.submit(outcomes.job(lambda _predictor, _job: threading.get_ident()))
    (result, error) = outcomes.wait_for(1)[0]
    assert error is None
    assert result != threading.get_ident()


def test_a_newer_job_replaces_a_queued_one_with_the_same_key(worker: Worker, outcomes: Outcomes) -> None:
    hold = threading.Event()
    worker.submit(outcomes.job(lambda *_: hold.wait(PATIENCE)))
    worker.submit(outcomes.job(lambda *_: "old", key="k"))
    worker.submit(outcomes.job(lambda *_: "new", key="k"))
    hold.set()
    results = outcomes.wait_for(3)
    assert [result for result, _ in results if result in ("old", "new")] == ["new"]
    assert sum(isinstance(error, Cancelled) for _, error in results) == 1


def test_decodes_are_answered_between_the_blocks_of_an_encoding(worker: Worker, outcomes: Outcomes) -> None:
    started, queued = threading.Event(), threading.Event()
    order: list[str] = []

    def encode(_predictor: object, job: Job) -> None:
        started.set()
        assert queued.wait(PATIENCE)
        assert not job.is_cancelled()
        order.append("encoded")

    worker.submit(outcomes.job(encode))
    assert started.wait(PATIENCE)
    worker.submit(outcomes.job(lambda *_: order.append("prefetched"), priority=Priority.PREFETCH))
    worker.submit(outcomes.job(lambda *_: order.append("decoded"), priority=Priority.DECODE))
    queued.set()
    outcomes.wait_for(3)
    assert order == ["decoded", "encoded", "prefetched"]


def test_a_running_job_hears_that_it_is_cancelled(worker: Worker, outcomes: Outcomes) -> None:
    started = threading.Event()

    def until_cancelled(_predictor: object, job: Job) -> None:
        started.set()
        while not job.is_cancelled():
            pass
        raise Cancelled("stopped")

    worker.submit(outcomes.job(until_cancelled))
    assert started.wait(PATIENCE)
    worker.cancel(outcomes.mailbox)
    assert isinstance(outcomes.wait_for(1)[0][1], Cancelled)


def test_a_failure_is_delivered_and_the_thread_goes_on(worker: Worker, outcomes: Outcomes) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("on purpose")

    worker.submit(outcomes.job(fail))
    worker.submit(outcomes.job(lambda *_: "fine"))
    results = outcomes.wait_for(2)
    assert isinstance(results[0][1], ZeroDivisionError)
    assert results[1] == ("fine", None)


def test_a_model_that_cannot_be_loaded_fails_every_job(outcomes: Outcomes) -> None:
    def broken(*_: object) -> Any:
        raise CheckpointError("no such file")

    worker = Worker(broken)
    worker.submit(outcomes.job(lambda *_: "never"))
    assert isinstance(outcomes.wait_for(1)[0][1], CheckpointError)
    worker.stop()
    worker.join(PATIENCE)


def test_the_bell_rings_for_every_letter() -> None:
    mailbox, rung = Mailbox(), []
    mailbox.bell = lambda: rung.append(threading.get_ident())
    mailbox.post(lambda: None)
    mailbox.post(lambda: None)
    assert len(rung) == 2


def test_the_pool_shares_a_worker_and_the_last_user_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelChoice, "load", lambda *_: object())
    pool, choice = WorkerPool(), ModelChoice()
    first, second = pool.acquire(choice), pool.acquire(choice)
    assert first is second
    pool.release(choice, first)
    assert first.is_alive()
    pool.release(choice, second)
    first.join(PATIENCE)
    assert not first.is_alive()


def test_a_worker_whose_model_failed_is_not_used_again(monkeypatch: pytest.MonkeyPatch, outcomes: Outcomes) -> None:
    def broken(*_: object) -> object:
        raise CheckpointError("not there yet")

    monkeypatch.setattr(ModelChoice, "load", broken)
    pool, choice = WorkerPool(), ModelChoice()
    failed = pool.acquire(choice)
    failed.submit(outcomes.job(lambda *_: None))
    outcomes.wait_for(1)
    monkeypatch.setattr(ModelChoice, "load", lambda *_: object())
    fresh = pool.acquire(choice)
    assert fresh is not failed
    for worker in (failed, fresh):
        pool.release(choice, worker)
        worker.join(PATIENCE)
        assert not worker.is_alive()


def test_the_interpreter_ends_while_a_job_runs() -> None:
    script = """
import threading
from napari_sam.worker import Job, Mailbox, Priority, Worker
started = threading.Event()
def work(_predictor, job):
    started.set()
    while not job.is_cancelled(): pass
worker = Worker(lambda *_: object())
worker.submit(Job("k", Priority.ENCODE, work, lambda *_: None, Mailbox()))
assert started.wait(20)
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0


def test_a_bell_that_is_taken_away_is_not_rung_any_more() -> None:
    mailbox, ringing, may_end = Mailbox(), threading.Event(), threading.Event()
    ended: list[bool] = []

    def bell() -> None:
        ringing.set()
        may_end.wait(5)
        ended.append(True)

    mailbox.bell = bell
    poster = threading.Thread(target=mailbox.post, args=(lambda: None,))
    poster.start()
    assert ringing.wait(5)
    threading.Timer(0.05, may_end.set).start()
    mailbox.bell = None  # waits for the one who rings
    assert ended
    poster.join()
