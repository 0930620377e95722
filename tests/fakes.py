"""Stand-ins for the slow parts: a predictor that answers with disks, and labels that are a plain array."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from napari_sam.embedding import ImageEmbedding, RegionEmbedding
from napari_sam.errors import Cancelled
from napari_sam.export import Grid
from napari_sam.geometry import Box, Frame, whole
from napari_sam.history import Change
from napari_sam.image_input import resolve_rule
from napari_sam.masks import Mask, MaskResult
from napari_sam.planes import Census, Position, SliceKey, plane_at
from napari_sam.prompts import Prompts

PATIENCE = 20.0
"""Seconds after which a test gives up waiting."""
BLOCKS = 4


class FakePredictor:
    """Answers a click with three disks of 4, 8 and 16 px, a box with the box; notes what it was asked, and where.

    Clear `may_encode` or `may_decode` to hold the worker there, set `failure` or `decode_failure` to make it fail.
    """

    keeps_embeddings = False

    def __init__(self) -> None:
        self.may_encode, self.may_decode = threading.Event(), threading.Event()
        self.may_encode.set()
        self.may_decode.set()
        self.encoding = threading.Event()
        self.failure: Exception | None = None
        self.decode_failure: Exception | None = None
        self.encoded: list[np.ndarray[Any, Any]] = []
        self.asked: list[Prompts] = []
        self.threads: set[int] = set()
        self.blocks = 0
        self.weights = "fake"

    def encode(self, image: Any, limits: Any = None, progress: Any = None, cancelled: Any = None) -> ImageEmbedding:
        self.threads.add(threading.get_ident())
        self.encoding.set()
        for block in range(BLOCKS):
            while not self.may_encode.wait(0.005):
                self._stop_if(cancelled)
            self._stop_if(cancelled)
            self.blocks += 1
            progress((block + 1) / BLOCKS)
        if self.failure is not None:
            raise self.failure
        rule = resolve_rule(image, limits=limits)
        self.encoded.append(np.asarray(image[:, :]))
        frame = Frame(rule.shape, whole(rule.shape), 1024)
        return ImageEmbedding(rule, (RegionEmbedding(frame, None),), self.weights)

    def refine(self, embedding: ImageEmbedding, image: Any, prompts: Prompts, **_: Any) -> ImageEmbedding:
        return embedding

    def decode(self, embedding: ImageEmbedding, prompts: Prompts) -> MaskResult:
        self.threads.add(threading.get_ident())
        assert self.may_decode.wait(PATIENCE)
        if self.decode_failure is not None:
            raise self.decode_failure
        self.asked.append(prompts)
        frame = embedding.regions[0].frame
        if len(prompts.boxes):
            row0, col0, row1, col1 = prompts.boxes[0].astype(int)
            picture = np.zeros(embedding.shape, bool)
            picture[row0 : row1 + 1, col0 : col1 + 1] = True
            pictures = [picture]
        else:
            radii = (4, 8, 16) if prompts.is_single_click else (8,)
            pictures = [disk(embedding.shape, prompts.positive, radius) for radius in radii]
        masks = tuple(Mask.of_pixels(picture, frame) for picture in pictures)
        return MaskResult(masks, np.linspace(0.5, 0.9, len(masks)).astype(np.float32))

    def decode_best(self, embedding: ImageEmbedding, prompts: Prompts) -> Mask:
        result = self.decode(embedding, prompts)
        return result.masks[result.best]

    def _stop_if(self, cancelled: Any) -> None:
        if cancelled():
            raise Cancelled("cancelled")


def disk(shape: tuple[int, int], centres: np.ndarray[Any, Any], radius: float) -> np.ndarray[Any, Any]:
    """Return the pixels within `radius` of any of `centres` (n, 2)."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    picture = np.zeros(shape, bool)
    for row, col in centres:
        picture |= (rows - row) ** 2 + (cols - col) ** 2 <= radius**2
    return picture


class ArrayCanvas:
    """Labels as a plain array, a plane of its last two axes by its key."""

    was_empty = True
    grid = Grid()

    def __init__(self, *shape: int) -> None:
        self.data = np.zeros(shape, np.uint16)
        self.on_edited: Callable[[list[Change] | None], None] = lambda _changes: None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    def box_of(self, key: SliceKey) -> Box:
        return 0, 0, *key.plane_of(self.data).shape

    def restore(self, paint: Callable[[Any], object], largest: int) -> None:
        paint(self.data)

    def read(self, key: SliceKey, box: Box) -> np.ndarray[Any, Any]:
        row0, col0, row1, col1 = box
        return key.plane_of(self.data)[row0:row1, col0:col1]

    def write(self, key: SliceKey, box: Box, where: Any, ids: Any) -> None:
        row0, col0, row1, col1 = box
        key.plane_of(self.data)[row0:row1, col0:col1][where] = ids[where]

    def next_id(self) -> int:
        return int(self.data.max()) + 1

    def one_step(self) -> Any:
        return nullcontext()

    def areas(self) -> dict[int, dict[Position, int]]:
        return Census(is_empty=False).areas(self.data)

    def places(self, object_id: int) -> list[tuple[SliceKey, Box]]:
        whole = (0, 0, *self.data.shape[-2:])
        return [(plane_at(position), whole) for position in self.areas().get(object_id, {})]
