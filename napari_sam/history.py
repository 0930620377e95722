"""Undo and redo: edits of prompts and commits, as values that can be turned round."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .errors import LabelsError

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from .geometry import Box
    from .masks import Mask
    from .prompt_rows import PromptRow


class LabelCanvas(Protocol):
    """Where objects are written: the ids of one slice at a time, in the slice's (row, column)."""

    def read(self, key: Any, box: Box) -> NDArray[np.integer]:
        """Return the ids inside a half-open box of the slice `key`."""

    def write(self, key: Any, box: Box, where: NDArray[np.bool_], object_id: int) -> None:
        """Give the pixels `where` inside the box the id `object_id`, 0 for background."""

    def next_id(self) -> int:
        """Return an id that nothing in the labels has, nor had since they were opened."""

    def one_step(self) -> AbstractContextManager[None]:
        """Make what is written inside one step of the layer's own history."""


@dataclass(frozen=True, eq=False)
class Write:
    """What a commit changed for one object in one slice: pixels that got its id, and pixels that lost it."""

    key: Hashable
    object_id: int
    gained_box: Box
    gained: NDArray[np.bool_] = field(repr=False)
    lost_box: Box = (0, 0, 0, 0)
    lost: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), bool), repr=False)

    @classmethod
    def of(cls, canvas: LabelCanvas, key: Hashable, object_id: int, mask: Mask, *, replacing: bool) -> Write:
        """Plan to write `mask` round other objects' pixels; `replacing` gives up what the object had before."""
        free = canvas.read(key, mask.bbox) == 0
        gained = mask.crop & free
        if not replacing:
            return cls(key, object_id, mask.bbox, gained)
        whole = (0, 0, *mask.shape)
        return cls(key, object_id, mask.bbox, gained, whole, (canvas.read(key, whole) == object_id) & ~np.asarray(mask))

    @property
    def is_empty(self) -> bool:
        """Whether no pixel would change."""
        return not (self.gained.any() or self.lost.any())

    def redo(self, canvas: LabelCanvas) -> None:
        """Write; only pixels that are still free, and only those that still hold the object's id are given up."""
        self._turn(canvas, self.lost_box, self.lost, self.object_id, 0)
        self._turn(canvas, self.gained_box, self.gained, 0, self.object_id)

    def undo(self, canvas: LabelCanvas) -> None:
        """Take back; only pixels that still hold the object's id, and only free ones get it again."""
        self._turn(canvas, self.gained_box, self.gained, self.object_id, 0)
        self._turn(canvas, self.lost_box, self.lost, 0, self.object_id)

    def _turn(self, canvas: LabelCanvas, box: Box, where: NDArray[np.bool_], old: int, new: int) -> None:
        if where.any():
            canvas.write(self.key, box, where & (canvas.read(self.key, box) == old), new)


@dataclass(frozen=True, eq=False)
class CommitStep:
    """Objects written together."""

    writes: tuple[Write, ...]

    def undo(self, canvas: LabelCanvas) -> None:
        """Take all of them back."""
        with canvas.one_step():
            for write in reversed(self.writes):
                write.undo(canvas)

    def redo(self, canvas: LabelCanvas) -> None:
        """Write all of them again, under the ids that they had."""
        with canvas.one_step():
            for write in self.writes:
                write.redo(canvas)


@dataclass(frozen=True, eq=False)
class PromptStep:
    """Rows that were added, changed or removed together: by id, (before, after), None where there was or is none."""

    changes: Mapping[int, tuple[PromptRow | None, PromptRow | None]]

    def before(self) -> dict[int, PromptRow | None]:
        """Return the rows to put back to undo this."""
        return {row_id: old for row_id, (old, _) in self.changes.items()}

    def after(self) -> dict[int, PromptRow | None]:
        """Return the rows to put back to redo this."""
        return {row_id: new for row_id, (_, new) in self.changes.items()}

    def only(self, rows: Collection[int]) -> PromptStep | None:
        """Return what this step did to `rows`, None if nothing."""
        left = {row_id: change for row_id, change in self.changes.items() if row_id in rows}
        return PromptStep(left) if left else None


Step = CommitStep | PromptStep


def write_objects(
    canvas: LabelCanvas, key: Hashable, objects: Mapping[Hashable, tuple[Mask, int | None]]
) -> dict[Hashable, Write]:
    """Write masks into the slice `key`, each under its own id or, if that is None, a new one; all of them or none.

    Earlier objects keep their pixels. A new object without a free pixel is not written and not returned.
    """
    writes: dict[Hashable, Write] = {}
    with canvas.one_step():
        try:
            for name, (mask, own_id) in objects.items():
                object_id = canvas.next_id() if own_id is None else own_id
                write = Write.of(canvas, key, object_id, mask, replacing=own_id is not None)
                if not write.is_empty or own_id is not None:
                    write.redo(canvas)
                    writes[name] = write
        except LabelsError:
            for write in reversed(writes.values()):
                write.undo(canvas)
            raise
    return writes


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
        """Forget the edits of rows other than those still `pending`: the commit that is noted next stands for them."""
        folded = (step.only(pending) if isinstance(step, PromptStep) else step for step in self._done)
        self._done = [step for step in folded if step is not None]

    def forget_commits(self) -> None:
        """Keep the edits of prompts alone: what commits wrote is out of reach."""
        self._done = [step for step in self._done if isinstance(step, PromptStep)]
        self._undone = [step for step in self._undone if isinstance(step, PromptStep)]

    def undo(self) -> Step | None:
        """Move one step back and return it, None if there is none."""
        if not self._done:
            return None
        self._undone.append(self._done.pop())
        return self._undone[-1]

    def redo(self) -> Step | None:
        """Move one step forward and return it, None if there is none."""
        if not self._undone:
            return None
        self._done.append(self._undone.pop())
        return self._done[-1]

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to do again."""
        return bool(self._undone)
