"""Neighbours of the slice shown are encoded while nobody waits, and found when they are shown."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from fakes import PATIENCE
from napari.components import ViewerModel
from toys import make_predictor

import napari_sam
import napari_sam.prefetch
from napari_sam.bridge.image_source import LazyPlane
from napari_sam.embedding_cache import EmbeddingCache
from napari_sam.pending import ImageSource, Phase
from napari_sam.planes import SliceKey
from napari_sam.prefetch import Prefetch
from napari_sam.worker import Job, Mailbox, ModelChoice, Priority, pool


@pytest.mark.parametrize(
    ("here", "former", "expected"),
    [
        ((None, None), None, []),
        ((3, None, None), None, [4, 2]),
        ((3, None, None), (2, None, None), [4, 2]),
        ((3, None, None), (7, None, None), [2, 4]),
        ((0, None, None), None, [1]),
        ((9, None, None), (8, None, None), [8]),
    ],
)
def test_the_slice_that_comes_next_is_the_first_neighbour(here: Any, former: Any, expected: list[int]) -> None:
    displayed = (len(here) - 2, len(here) - 1)
    key = SliceKey(displayed, here)
    before = None if former is None else SliceKey(displayed, former)
    found = key.neighbours((10, 20, 30)[-len(here) :], before)
    assert [neighbour.index[0] for neighbour in found] == expected
    assert all(neighbour.index[1:] == here[1:] for neighbour in found)


def test_neighbours_lie_along_the_axis_that_was_moved() -> None:
    here = SliceKey((2, 3), (5, 5, None, None))
    assert [n.index[:2] for n in here.neighbours((9, 9, 4, 4), None)] == [(5, 6), (5, 4)]
    assert [n.index[:2] for n in here.neighbours((9, 9, 4, 4), SliceKey((2, 3), (6, 5, None, None)))] == [
        (4, 5),
        (6, 5),
    ]
    assert [n.index[:2] for n in here.neighbours((9, 1, 4, 4), None)] == [(6, 5), (4, 5)]


class Encoder:
    """Counts what a toy model's encoder computes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cache: EmbeddingCache | None) -> None:
        self.count = 0
        self._changed = threading.Condition()
        predictor = make_predictor(cache=cache)
        encode = predictor._sam.encode

        def counted(pixels: torch.Tensor, *arguments: Any) -> torch.Tensor:
            features = encode(pixels, *arguments)
            with self._changed:
                self.count += len(pixels)
                self._changed.notify()
            return features

        monkeypatch.setattr(predictor._sam, "encode", counted)
        monkeypatch.setattr(ModelChoice, "load", lambda *_: predictor)

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, PATIENCE), f"{self.count}, not {count}"
            assert self.count == count


class LazyStack:
    """A stack that tells which of its planes were read."""

    def __init__(self, planes: int) -> None:
        self.data = np.random.default_rng(0).integers(0, 255, (planes, 40, 50), np.uint8)
        self.shape, self.dtype, self.ndim = self.data.shape, self.data.dtype, 3
        self.read: list[int] = []

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, tuple) and isinstance(index[0], int):
            self.read.append(index[0])
        return self.data[index]

    def source(self, at: int) -> ImageSource:
        key = SliceKey((1, 2), (at, None, None))
        return ImageSource(key, LazyPlane(self, key))


def test_going_on_to_a_neighbour_encodes_nothing_but_its_own_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, viewer = Encoder(monkeypatch, EmbeddingCache()), ViewerModel()
    viewer.add_image(np.random.default_rng(0).integers(0, 255, (6, 40, 50), np.uint8))
    viewer.dims.set_current_step(0, 2)
    annotator = napari_sam.annotate(viewer)
    annotator.wait(PATIENCE)
    encoder.wait_for(3)  # the slice shown, and one on each side
    viewer.dims.set_current_step(0, 3)
    annotator.wait(PATIENCE)
    encoder.wait_for(4)
    annotator.points.add([(3, 20, 20)])
    annotator.wait(PATIENCE)
    assert len(annotator.candidates) == 3
    viewer.dims.set_current_step(0, 2)  # back: nothing is new
    annotator.wait(PATIENCE)
    annotator.close()
    assert encoder.count == 4


def test_nothing_is_prefetched_that_could_not_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    Encoder(monkeypatch, cache=None)
    stack, done = LazyStack(5), threading.Event()
    choice, mailbox = ModelChoice(), Mailbox()
    prefetch = Prefetch(choice, mailbox, lambda _notice: None)
    prefetch.around(None, [stack.source(2)])
    worker = pool.acquire(choice)
    worker.submit(Job("last", Priority.PREFETCH, lambda *_: done.set(), lambda *_: None, mailbox))
    assert done.wait(PATIENCE)
    pool.release(choice, worker)
    prefetch.close()
    assert stack.read == []


def test_only_the_neighbouring_planes_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, stack, mailbox = Encoder(monkeypatch, EmbeddingCache()), LazyStack(9), Mailbox()
    prefetch = Prefetch(ModelChoice(), mailbox, lambda _notice: None)
    prefetch.around(None, [stack.source(4), stack.source(2)])
    encoder.wait_for(2)
    prefetch.close()
    assert list(dict.fromkeys(stack.read)) == [4, 2]


def test_of_slices_passed_by_none_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, stack = Encoder(monkeypatch, EmbeddingCache()), LazyStack(20)
    worker, may_go_on = pool.acquire(ModelChoice()), threading.Event()
    worker.submit(Job("hold", Priority.ENCODE, lambda *_: may_go_on.wait(PATIENCE), lambda *_: None, Mailbox()))
    prefetch = Prefetch(ModelChoice(), Mailbox(), lambda _notice: None)
    sources = [stack.source(at) for at in range(20)]
    for shown in range(1, 9):
        prefetch.around(sources[shown], [sources[shown + 1], sources[shown - 1]])
    may_go_on.set()
    encoder.wait_for(3)
    prefetch.close()
    pool.release(ModelChoice(), worker)
    assert set(stack.read) == {7, 8, 9}  # 8 would have been left out had it been asked for by who shows it


def test_what_was_prefetched_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, stack, mailbox = Encoder(monkeypatch, EmbeddingCache()), LazyStack(9), Mailbox()
    sources = [stack.source(at) for at in range(9)]
    prefetch = Prefetch(ModelChoice(), mailbox, lambda _notice: None, lambda key: key is sources[4].key)
    for neighbours, count in (([3, 2], 2), ([2, 4], 2), ([2, 5], 3)):
        prefetch.around(None, [sources[at] for at in neighbours])
        encoder.wait_for(count)
        mailbox.deliver()
    assert list(dict.fromkeys(stack.read)) == [3, 2, 5]
    prefetch.forget()  # the image has other pixels now
    stack.read.clear()
    stack.data = stack.data // 2
    prefetch.around(None, sources[2:3])
    encoder.wait_for(4)
    prefetch.close()
    assert set(stack.read) == {2}


def test_waiting_does_not_wait_for_prefetching(monkeypatch: pytest.MonkeyPatch) -> None:
    Encoder(monkeypatch, EmbeddingCache())
    viewer, may_go_on = ViewerModel(), threading.Event()
    prefetched = napari_sam.prefetch._encoding

    def held(source: ImageSource) -> Any:
        return lambda *arguments: may_go_on.wait(PATIENCE) and prefetched(source)(*arguments)

    monkeypatch.setattr(napari_sam.prefetch, "_encoding", held)
    viewer.add_image(np.zeros((3, 40, 50), np.uint8))
    annotator = napari_sam.annotate(viewer)
    annotator.wait(PATIENCE)  # while the neighbour cannot be done
    assert annotator.status.phase is Phase.READY
    may_go_on.set()
    annotator.close()


def test_what_the_user_should_know_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    mailbox, source = Mailbox(), ImageSource("slice", np.zeros((20, 30), np.uint8))

    class Speaking:
        keeps_embeddings = True

        def __init__(self, notify: Any) -> None:
            self.notify = notify

        def encode(self, *_: Any, **__: Any) -> None:
            self.notify("the disk is full")

    monkeypatch.setattr(ModelChoice, "load", lambda _choice, _progress, _cancelled, notify: Speaking(notify))
    prefetch = Prefetch(ModelChoice(), mailbox, said.append)
    prefetch.around(None, [source])
    assert mailbox.wait(PATIENCE)
    prefetch.close()
    assert said == ["the disk is full"]
