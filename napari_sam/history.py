"""Undo and redo: edits of prompts, pixels and objects, as values that can be turned round."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from .export import Grid
    from .geometry import Box
    from .masks import Mask
    from .objects import ObjectClass, ObjectRecord
    from .planes import Position
    from .prompt_rows import PromptRow

NO_BOX = (0, 0, 0, 0)


class LabelCanvas(Protocol):
    """Where objects are written: the ids of one slice at a time, in the slice's (row, column).

    `was_empty` tells whether all that the labels hold is in the journal that is kept of them; `on_edited` is called
    after others than us have changed pixels, with what they changed, None if nobody can tell.
    """

    was_empty: bool
    on_edited: Callable[[list[Change] | None], None]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the labels."""

    @property
    def grid(self) -> Grid:
        """How their axes lie in the world."""

    def read(self, key: Any, box: Box) -> NDArray[np.integer]:
        """Return the ids inside a half-open box of the slice `key`."""

    def write(self, key: Any, box: Box, where: NDArray[np.bool_], ids: NDArray[np.integer]) -> None:
        """Give the pixels `where` inside the box the `ids` (of the box's shape) that stand there, 0 for background."""

    def box_of(self, key: Any) -> Box:
        """Return the box of a whole slice."""

    def restore(self, paint: Callable[[NDArray[np.integer]], object], largest: int) -> None:
        """Let `paint` change any ids of the whole array in place, to such up to `largest`."""

    def next_id(self) -> int:
        """Return an id that nothing in the labels has, nor had since they were opened."""

    def one_step(self) -> AbstractContextManager[None]:
        """Make what is written inside one step of the layer's own history."""

    def areas(self) -> Mapping[int, Mapping[Position, int]]:
        """Return the number of pixels of each object in each plane of the last two axes where it has some."""

    def places(self, object_id: int) -> list[tuple[Any, Box]]:
        """Return the planes of the last two axes that hold an object, and its box there."""


@dataclass(frozen=True, eq=False)
class Change:
    """Pixels of one slice that did change: where, the ids that they have now, and those that they had.

    The three are of the box's shape.
    """

    key: Any
    box: Box
    where: NDArray[np.bool_] = field(repr=False)
    ids: NDArray[np.integer] = field(repr=False)
    former: NDArray[np.integer] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Patch:
    """What a step does to pixels of one slice: the ids in a box `before` and `after`, alike where it does nothing."""

    key: Any
    box: Box
    before: NDArray[np.integer] = field(repr=False)
    after: NDArray[np.integer] = field(repr=False)

    @classmethod
    def of_mask(
        cls, canvas: LabelCanvas, key: Any, object_id: int, mask: Mask, *, is_whole: bool, takes_others: bool
    ) -> Patch:
        """Plan to write `mask` under an id.

        `is_whole` gives up what the object had in the slice before; `takes_others` takes pixels of other objects, which
        else keep them.
        """
        box = mask.bbox
        if is_whole:
            box = _union(box, box_round(canvas.read(key, (0, 0, *mask.shape)) == object_id))
        before = canvas.read(key, box).copy()
        inside = np.zeros(before.shape, bool)
        (row0, col0, row1, col1), (top, left) = mask.bbox, box[:2]
        inside[row0 - top : row1 - top, col0 - left : col1 - left] = mask.crop
        after = before.astype(np.promote_types(before.dtype, np.min_scalar_type(object_id)))
        if is_whole:
            after[before == object_id] = 0
        after[inside if takes_others else inside & ((before == 0) | (before == object_id))] = object_id
        return cls(key, box, before, after)

    @classmethod
    def of_id(cls, canvas: LabelCanvas, key: Any, box: Box, object_id: int, new_id: int) -> Patch:
        """Plan to give all pixels of an object inside a box another id, 0 for background."""
        before = canvas.read(key, box).copy()
        after = before.astype(np.promote_types(before.dtype, np.min_scalar_type(new_id)))
        after[before == object_id] = new_id
        return cls(key, box, before, after)

    @property
    def is_empty(self) -> bool:
        """Whether no pixel would change."""
        return bool((self.before == self.after).all())

    def turn(self, canvas: LabelCanvas, *, back: bool = False) -> Change | None:
        """Do or, `back`, undo it, at those pixels alone that still are as it found or left them; None if at none."""
        old, new = (self.after, self.before) if back else (self.before, self.after)
        if not old.size:
            return None
        where = (canvas.read(self.key, self.box) == old) & (old != new)
        if not where.any():
            return None
        canvas.write(self.key, self.box, where, new)
        return Change(self.key, self.box, where, new, old)


class Writing:
    """Patches that are being written together."""

    def __init__(self, canvas: LabelCanvas) -> None:
        self._canvas = canvas
        self._turned: list[tuple[Patch, bool]] = []
        self.changes: list[Change] = []

    @property
    def patches(self) -> list[Patch]:
        """What was written, in this order."""
        return [patch for patch, _ in self._turned]

    def turn(self, patch: Patch, *, back: bool = False) -> None:
        """Do or, `back`, undo a patch."""
        self._turned.append((patch, back))
        if (change := patch.turn(self._canvas, back=back)) is not None:
            self.changes.append(change)

    def take_back(self) -> None:
        """Put all pixels back, those of a patch that failed half way, too."""
        for patch, back in reversed(self._turned):
            with suppress(Exception):  # of those who listen to the layer: the pixels are back by then
                patch.turn(self._canvas, back=not back)


@contextmanager
def all_or_nothing(canvas: LabelCanvas) -> Iterator[Writing]:
    """Make what is written inside one step of the layer's own history; if anything fails, nothing was written."""
    writing = Writing(canvas)
    try:
        with canvas.one_step():
            yield writing
    except BaseException:  # Ctrl+C in the middle, too; it is raised again
        with suppress(Exception), canvas.one_step():
            writing.take_back()
        raise


@dataclass(frozen=True, eq=False)
class Step:
    """What is undone and redone together, each part as (before, after), None where there was or is none.

    `rows` are prompts by their id, `patches` pixels, `records` what is known of objects by their id, `classes` all
    classes. `opened` is the id of an object that this step re-opened, and the slice where.
    """

    kind: str
    rows: Mapping[int, tuple[PromptRow | None, PromptRow | None]] = field(default_factory=dict)
    patches: tuple[Patch, ...] = ()
    records: Mapping[int, tuple[ObjectRecord | None, ObjectRecord | None]] = field(default_factory=dict)
    classes: tuple[tuple[ObjectClass, ...], tuple[ObjectClass, ...]] | None = None
    opened: tuple[int, Any] | None = None

    @property
    def is_of_prompts(self) -> bool:
        """Whether it is about prompts alone."""
        return not self.patches and not self.records and self.classes is None

    def rows_to_put(self, *, back: bool) -> dict[int, PromptRow | None]:
        """Return the rows to put back to redo this or, `back`, to undo it."""
        return {row_id: before if back else after for row_id, (before, after) in self.rows.items()}

    def only(self, rows: Collection[int]) -> Step | None:
        """Return what this step did besides prompts, and to `rows`; None if nothing."""
        left = replace(self, rows={row_id: change for row_id, change in self.rows.items() if row_id in rows})
        return None if left.is_of_prompts and not left.rows else left


class History:
    """What was done and what can be done again, unlimited."""

    def __init__(self) -> None:
        self._done: list[Step] = []
        self._undone: list[Step] = []

    def push(self, step: Step) -> None:
        """Note something that was done; what could be redone no longer can."""
        self._done.append(step)
        self._undone.clear()

    def fold(self, pending: Collection[int]) -> None:
        """Forget the edits of rows other than those still `pending`, and what could be redone."""
        self._done = [left for step in self._done if (left := step.only(pending)) is not None]
        self._undone.clear()

    def forget_objects(self) -> None:
        """Keep the edits of prompts alone: what was written is out of reach."""
        self._done = [step for step in self._done if step.is_of_prompts]
        self._undone = [step for step in self._undone if step.is_of_prompts]

    def go_on_from(self, steps: list[Step]) -> None:
        """Put the steps of an earlier annotation first; of this one, the edits of prompts alone are kept."""
        self.forget_objects()
        self._done[:0] = steps

    @property
    def last(self) -> Step | None:
        """The step that `undo` takes back, None if there is none."""
        return self._done[-1] if self._done else None

    @property
    def next(self) -> Step | None:
        """The step that `redo` does again, None if there is none."""
        return self._undone[-1] if self._undone else None

    def undo(self) -> None:
        """Move one step back."""
        self._undone.append(self._done.pop())

    def redo(self) -> None:
        """Move one step forward."""
        self._done.append(self._undone.pop())


def box_round(picture: NDArray[np.bool_]) -> Box:
    """Return the half-open box of what is true, all 0 if nothing is."""
    rows, cols = np.flatnonzero(picture.any(axis=1)), np.flatnonzero(picture.any(axis=0))
    if not len(rows):
        return NO_BOX
    return int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1


def _union(box: Box, other: Box) -> Box:
    """Return the smallest box round two, either of which may be empty."""
    if NO_BOX in (box, other):
        return other if box == NO_BOX else box
    return min(box[0], other[0]), min(box[1], other[1]), max(box[2], other[2]), max(box[3], other[3])
