"""What is pending, slice by slice: all prompts, the objects that they are about, and which of these is active."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from .pending import PendingObject, SliceState
from .prompt_rows import LOOSE, PromptView, Rows
from .reopening import is_reopened

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from .masks import Mask
    from .objects import Overlap
    from .pending import ImageSource

KEPT_EMBEDDINGS = 32


class Slices:
    """The slices of an image that were looked at, and which one is shown.

    `rows` are all prompts there are, in whatever slice; `shown` is the slice shown, None if there is none, and `view`
    are its prompts.
    """

    def __init__(self) -> None:
        self.rows: Rows = {}
        self.shown: SliceState | None = None
        self.view = PromptView()
        self._states: OrderedDict[Hashable, SliceState] = OrderedDict()
        self._touched: list[Hashable] = []

    def __iter__(self) -> Iterator[SliceState]:
        return iter(self._states.values())

    def get(self, key: Hashable) -> SliceState | None:
        """Return a slice that was looked at, None if it was not."""
        return self._states.get(key)

    def has_encoded(self, key: Hashable) -> bool:
        """Whether the embedding of a slice is at hand."""
        return key in self._states and self._states[key].embedding is not None

    def turn_to(self, source: ImageSource | None) -> None:
        """Show a slice, None for none; the embeddings of those seen last are kept."""
        self.view, self.shown = PromptView(), None
        if source is None:
            return
        self.shown = self._states.setdefault(source.key, SliceState(source))
        self.shown.source = source
        self._states.move_to_end(source.key)
        encoded = [state for state in self if state.embedding is not None]
        for state in encoded[:-KEPT_EMBEDDINGS]:
            state.embedding = None

    def clear(self) -> None:
        """Forget every slice; the prompts stay."""
        self._states.clear()
        self.shown = None

    def forget_answers(self) -> None:
        """Drop what one model said: another one is to be asked."""
        for state in self:
            state.embedding = None
            for record in state.objects.values():
                record.forget_answers()

    @property
    def active(self) -> Hashable | None:
        """The object placed, touched or re-opened last since the last commit, of those that are still there."""
        owners = {row.owner for row in self.rows.values() if not is_reopened(row.owner)}  # those are open in one slice
        there = owners | self.objects.keys()
        return next((key for key in reversed(self._touched) if key in there), None)

    @active.setter
    def active(self, key: Hashable | None) -> None:
        """Make an object active; None forgets which ones were."""
        self._touched = [] if key is None else [other for other in self._touched if other != key] + [key]

    @property
    def objects(self) -> dict[Hashable, PendingObject]:
        """The objects of the slice shown that are not committed, answered or not."""
        return {} if self.shown is None else self.shown.objects

    @property
    def active_object(self) -> PendingObject | None:
        """The object that candidates are about: the active one, else the loose points', else the one begun last."""
        objects = self.objects
        if self.active in objects:
            return objects[self.active]
        return objects.get(LOOSE) or (list(objects.values())[-1] if objects else None)

    @property
    def candidates(self) -> tuple[tuple[Mask, float], ...]:
        """The active object's candidates as (mask, score), in the decoder's order; empty if there are none."""
        record = self.active_object
        if record is None or record.answer is None:
            return ()
        result = record.answer.result
        return tuple(zip(result.masks, map(float, result.scores), strict=True))

    @property
    def chosen(self) -> int | None:
        """Index of the chosen candidate of the active object."""
        record = self.active_object
        return None if record is None or record.answer is None else record.answer.chosen

    def choose(self, index: int) -> None:
        """Choose a candidate of the active object; `IndexError` if there is none of that index."""
        record, count = self.active_object, len(self.candidates)
        if record is None or record.answer is None or not 0 <= index < count:
            raise IndexError(f"candidate {index} of {count}: choose one that `candidates` lists")
        record.answer.chosen = int(index)

    @property
    def has_prompts(self) -> bool:
        """Whether the slice shown has prompts, those that say nothing yet among them, or re-opened objects."""
        return bool(self.objects or self.view.rows)

    @property
    def masks(self) -> list[tuple[Mask, bool]]:
        """The chosen mask of every object of the slice shown, and whether the object is the active one."""
        active = self.active_object
        return [(one.answer.mask, one is active) for one in self.objects.values() if one.answer is not None]

    @property
    def to_begin_in(self) -> SliceState | None:
        """The slice shown, if a click would begin an object there; None if it would not, or it is not encoded."""
        is_beginning = self.active not in self.objects and LOOSE not in self.objects
        return self.shown if self.shown is not None and self.shown.embedding is not None and is_beginning else None

    @property
    def commit_wanted(self) -> Overlap | None:
        """How the slice shown is to be committed as soon as everything is answered; None if it is not."""
        return None if self.shown is None else self.shown.commit_wanted

    @commit_wanted.setter
    def commit_wanted(self, overlap: Overlap | None) -> None:
        if self.shown is not None:
            self.shown.commit_wanted = overlap
