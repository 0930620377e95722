"""The thread and its mailbox: what goes first, what is dropped, and how it ends."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
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


def test_a_job_waits_until_it_is_due_and_keeps_no_other_one_waiting(worker: Worker, outcomes: Outcomes) -> None:
    due = time.monotonic() + 0.2
    late = outcomes.job(lambda _predictor, _job: time.monotonic(), priority=Priority.DECODE)
    late.due = due
    worker.submit(late)
    worker.submit(outcomes.job(lambda _predictor, _job: time.monotonic(), priority=Priority.PREFETCH))
    (first, _), (second, _) = outcomes.wait_for(2)
    assert first < due <= second


def test_a_job_that_is_not_due_ends_with_the_worker(worker: Worker, outcomes: Outcomes) -> None:
    late = outcomes.job(lambda _predictor, _job: None)
    late.due = time.monotonic() + PATIENCE
    worker.submit(late)
    worker.stop()
    assert isinstance(outcomes.wait_for(1)[0][1], Cancelled)


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


def test_a_job_that_was_taken_back_is_not_begun(worker: Worker, outcomes: Outcomes) -> None:
    begun: list[bool] = []
    job = outcomes.job(lambda _predictor, _job: begun.append(True))
    job.cancel()
    worker.submit(job)
    assert isinstance(outcomes.wait_for(1)[0][1], Cancelled)
    assert begun == []


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
    assert ("fine", None) in results
    assert sum(isinstance(error, ZeroDivisionError) for _, error in results) == 1


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


# --- what overtakes what --------------------------------------------------------------------------------------------


class Blocks:
    """Work of several blocks, which notes each in `log`; those named in `held` wait in their first one."""

    def __init__(self, *held: str) -> None:
        self.log: list[str] = []
        self.begun = {name: threading.Event() for name in held}
        self.may_go_on = {name: threading.Event() for name in held}

    def of(self, name: str, count: int = 2) -> Any:
        def work(_predictor: object, job: Job) -> str:
            for block in range(count):
                self.log.append(f"{name}{block}")
                if block == 0 and name in self.begun:
                    self.begun[name].set()
                    assert self.may_go_on[name].wait(PATIENCE)
                if job.is_cancelled():
                    raise Cancelled(name)
            return name

        return work

    def wait_until_begun(self, name: str) -> None:
        assert self.begun[name].wait(PATIENCE)


def submitted_while_one_runs(worker: Worker, outcomes: Outcomes, first: Priority, *others: tuple[str, Priority]) -> Any:
    """Run a job "a" of three blocks, submit the others while it is in its first, and return what ran in which order."""
    blocks = Blocks("a")
    worker.submit(outcomes.job(blocks.of("a", count=3), priority=first))
    blocks.wait_until_begun("a")
    for name, priority in others:
        worker.submit(outcomes.job(blocks.of(name), priority=priority))
    blocks.may_go_on["a"].set()
    results = outcomes.wait_for(1 + len(others))
    assert all(error is None for _, error in results)
    return blocks.log


def test_a_newer_image_overtakes_an_older_one_which_then_goes_on(worker: Worker, outcomes: Outcomes) -> None:
    log = submitted_while_one_runs(worker, outcomes, Priority.ENCODE, ("b", Priority.ENCODE))
    assert log == ["a0", "b0", "b1", "a1", "a2"]


def test_of_several_images_the_newest_goes_first(worker: Worker, outcomes: Outcomes) -> None:
    names = [("b", Priority.ENCODE), ("c", Priority.ENCODE), ("d", Priority.PREFETCH), ("e", Priority.PREFETCH)]
    log = submitted_while_one_runs(worker, outcomes, Priority.ENCODE, *names)
    assert [entry[0] for entry in log if entry.endswith("1")] == ["c", "b", "a", "d", "e"]


def test_no_more_than_two_images_are_under_way_at_once(worker: Worker, outcomes: Outcomes) -> None:
    blocks = Blocks("a", "b")
    worker.submit(outcomes.job(blocks.of("a")))
    blocks.wait_until_begun("a")
    worker.submit(outcomes.job(blocks.of("b")))
    blocks.may_go_on["a"].set()
    blocks.wait_until_begun("b")
    worker.submit(outcomes.job(blocks.of("c")))
    blocks.may_go_on["b"].set()
    outcomes.wait_for(3)
    assert blocks.log == ["a0", "b0", "b1", "c0", "c1", "a1"]


def test_visible_images_and_prompts_overtake_prefetching(worker: Worker, outcomes: Outcomes) -> None:
    names = [("b", Priority.PREFETCH), ("c", Priority.ENCODE), ("d", Priority.DECODE)]
    log = submitted_while_one_runs(worker, outcomes, Priority.PREFETCH, *names)
    assert log == ["a0", "d0", "d1", "c0", "c1", "a1", "a2", "b0", "b1"]


def test_what_is_being_prefetched_is_not_begun_anew(worker: Worker, outcomes: Outcomes) -> None:
    blocks = Blocks("a")
    prefetch = outcomes.job(blocks.of("a"), priority=Priority.PREFETCH)
    shown = outcomes.job(blocks.of("b"), priority=Priority.ENCODE)
    prefetch.subject = shown.subject = "slice 3"
    worker.submit(prefetch)
    blocks.wait_until_begun("a")
    worker.submit(shown)
    blocks.may_go_on["a"].set()
    outcomes.wait_for(2)
    assert blocks.log == ["a0", "a1", "b0", "b1"]


def test_what_waits_to_be_prefetched_is_left_out_once_it_is_shown(worker: Worker, outcomes: Outcomes) -> None:
    blocks, other = Blocks("a"), Outcomes()
    prefetch = other.job(blocks.of("b"), priority=Priority.PREFETCH)
    shown, stranger = other.job(blocks.of("c")), outcomes.job(blocks.of("d"), priority=Priority.PREFETCH)
    prefetch.subject = shown.subject = stranger.subject = "slice 3"  # of other images for other mailboxes
    worker.submit(outcomes.job(blocks.of("a")))
    blocks.wait_until_begun("a")
    for job in (prefetch, stranger, shown):
        worker.submit(job)
    blocks.may_go_on["a"].set()
    assert [error is None for _, error in other.wait_for(2)] == [False, True]
    outcomes.wait_for(2)
    assert blocks.log == ["a0", "c0", "c1", "a1", "d0", "d1"]


def test_an_image_that_overtakes_another_can_be_cancelled_alone(worker: Worker, outcomes: Outcomes) -> None:
    blocks, other = Blocks("a", "b"), Outcomes()
    worker.submit(outcomes.job(blocks.of("a")))
    blocks.wait_until_begun("a")
    worker.submit(other.job(blocks.of("b")))
    blocks.may_go_on["a"].set()
    blocks.wait_until_begun("b")
    worker.cancel(other.mailbox)
    blocks.may_go_on["b"].set()
    assert isinstance(other.wait_for(1)[0][1], Cancelled)
    assert outcomes.wait_for(1) == [("a", None)]
    assert blocks.log == ["a0", "b0", "a1"]


def test_a_model_that_nobody_uses_is_let_go(outcomes: Outcomes) -> None:
    class Model:
        pass

    models: list[weakref.ref[Model]] = []

    def load(*_: object) -> Any:
        model = Model()
        models.append(weakref.ref(model))
        return model

    one = Worker(load)
    one.submit(outcomes.job(lambda *_: None))
    outcomes.wait_for(1)
    one.stop()
    one.join(PATIENCE)
    gc.collect()
    assert models[0]() is None
