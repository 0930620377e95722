"""Decoding one object's prompts on an NVIDIA GPU as a captured graph, whose hundreds of kernels start at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .mask_decoder import ImageSide

if TYPE_CHECKING:
    from collections.abc import Callable

    from .sam import Sam

    Answer = tuple[Tensor, Tensor]
    Recorder = Callable[[Callable[[], Answer]], tuple[Callable[[], None], Answer]]

FIRST_ONES = 3
"""Prompts of a kind that are decoded as they come: to capture takes as long as several of them."""
_CAPTURING = Lock()
KEPT_KINDS = 8
"""Kinds of prompts whose graphs are kept; each holds what the decoder computes in between, some 50 MB for SAM."""


def record_cuda(work: Callable[[], Answer]) -> tuple[Callable[[], None], Answer]:
    """Capture what `work` does on the GPU; return what does it again, and where the answer then lies.

    A process captures one thing at a time, while nothing else of it uses the GPU.
    """
    with _CAPTURING:
        # A stream of our own: torch's for captures is one for all. Its context leaves it current where a capture fails.
        before, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        try:
            aside.wait_stream(before)
            with torch.cuda.stream(aside):  # libraries set themselves up in their first runs, which no graph may hold
                for _ in range(2):
                    work()
            before.wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
                answer = work()
        finally:
            torch.cuda.set_stream(before)
    return graph.replay, answer


@dataclass(frozen=True, eq=False)
class _Graph:
    """Where a graph reads its prompts, what runs it, and where its answer lies."""

    prompts: list[Tensor | None]
    replay: Callable[[], None]
    answer: Answer


class CapturedDecoder:
    """Answers as `Sam.decode` does, and prompts of a kind that is asked for again and again from a captured graph.

    A graph does again what was recorded, in the memory where it was recorded; what it reads is copied there. Its first
    answer is compared with that of `Sam.decode`. Where they differ, or nothing can be captured, no more graphs are made
    and `failure` says why. Threads may share it.

    Parameters
    ----------
    sam
        The network, whose weights stay what and where they are until `drop` is called.
    record
        What captures on this device.
    """

    def __init__(self, sam: Sam, record: Recorder = record_cuda) -> None:
        self._sam, self._record = sam, record
        self._lock = Lock()
        self._asked: Counter[Any] = Counter()
        self._graphs: dict[Any, _Graph] = {}
        self._place: ImageSide | None = None
        self._there: ImageSide | None = None
        self.failure = ""

    def decode(
        self, side: ImageSide, points: Tensor | None, labels: Tensor | None, boxes: Tensor | None, *, multimask: bool
    ) -> Answer:
        """Decode the prompts of one object; arguments and result are those of `Sam.decode`, of batch 1."""
        prompts = [points, labels, boxes]
        kind = (multimask, *(None if value is None else value.shape for value in prompts))
        with self._lock:
            graph = self._graph(kind, side, prompts, multimask=multimask)
            if graph is not None:
                return self._replayed(graph, side, prompts)
        return self._sam.decode(side, *prompts, multimask=multimask)

    def drop(self) -> None:
        """Hold no memory from now on, and no graphs: the weights go elsewhere, or others need the memory."""
        with self._lock:
            self.failure = "the memory was needed"
            self._graphs.clear()
            self._place = self._there = None

    def _graph(self, kind: Any, side: ImageSide, prompts: list[Tensor | None], *, multimask: bool) -> _Graph | None:
        """Return the graph for a kind of prompts, captured if it is time for that, None where there is none."""
        self._asked[kind] += 1
        if not self._fits(side):
            return None
        graph = self._graphs.pop(kind, None)
        if graph is None:
            if self.failure or self._asked[kind] <= FIRST_ONES:
                return None
            try:
                graph = self._captured(side, prompts, multimask=multimask)
            except RuntimeError as error:
                # Too little memory, or something that no graph can hold: it goes without as well.
                self.failure = str(error) or type(error).__name__
                return None
        self._graphs[kind] = graph  # behind all others: the first one is the one not used longest
        if len(self._graphs) > KEPT_KINDS:
            self._graphs.pop(next(iter(self._graphs)))
        return graph

    def _captured(self, side: ImageSide, prompts: list[Tensor | None], *, multimask: bool) -> _Graph:
        if self._place is None:
            self._place = ImageSide(side.grid, *(torch.empty_like(value) for value in _tensors(side)))
        self._bring(side)
        place, own = self._place, [None if value is None else torch.zeros_like(value) for value in prompts]
        graph = _Graph(own, *self._record(lambda: self._sam.decode(place, *own, multimask=multimask)))
        # With other prompts than were recorded: a graph that does not read them shows here.
        expected, answer = self._sam.decode(side, *prompts, multimask=multimask), self._replayed(graph, side, prompts)
        for ours, reference in zip(answer, expected, strict=True):
            if not torch.allclose(ours, reference, rtol=1e-3, atol=1e-3, equal_nan=True):
                raise RuntimeError("the captured graph gives another answer")
        return graph

    def _replayed(self, graph: _Graph, side: ImageSide, prompts: list[Tensor | None]) -> Answer:
        self._bring(side)
        for own, value in zip(graph.prompts, prompts, strict=True):
            if own is not None and value is not None:
                own.copy_(value)
        graph.replay()
        logits, scores = graph.answer
        return logits.clone(), scores.clone()  # the next one overwrites them

    def _fits(self, side: ImageSide) -> bool:
        """Whether there is a place for it: all regions of a model have the same size."""
        return self._place is None or all(
            value.shape == place.shape and value.device == place.device
            for value, place in zip(_tensors(side), _tensors(self._place), strict=True)
        )

    def _bring(self, side: ImageSide) -> None:
        """Bring an image's side to where the graphs read it, if it is not there."""
        if self._there is side or self._place is None:
            return
        self._there = None
        for place, value in zip(_tensors(self._place), _tensors(side), strict=True):
            place.copy_(value)
        self._there = side


def _tensors(side: ImageSide) -> list[Tensor]:
    return [getattr(side, each.name) for each in fields(side) if each.name != "grid"]
