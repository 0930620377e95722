"""What an annotation works on: slices of an image, objects that are not committed yet, and how things are going."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from .masks import Mask
from .objects import Piece, Wanted

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .embedding import ImageEmbedding
    from .image_input import SharedLimits
    from .journal_format import Identified
    from .masks import MaskResult
    from .objects import Overlap
    from .prompt_rows import Rows
    from .prompts import MaskPrompt, Prompts


class Phase(Enum):
    """What an annotation is doing."""

    NO_IMAGE = "no image"
    LOADING = "loading model"
    ENCODING = "encoding"
    READY = "ready"
    DECODING = "decoding"
    FAILED = "failed"


@dataclass(frozen=True)
class Status:
    """What to tell a person: the phase, the share that is done (None if unknown), a sentence, and what failed."""

    phase: Phase
    fraction: float | None = None
    message: str = ""
    error: Exception | None = None


@dataclass(frozen=True, eq=False)
class ImageSource:
    """One slice of an image, as it was when it was chosen.

    `key` names the slice; `pixels` is (height, width) or (height, width, channels), read on the worker; `limits` are
    shared by all slices of a stack, None where a picture stands for itself; `identity` is by what the whole image is
    known again.
    """

    key: Hashable
    pixels: Any = field(repr=False)
    limits: SharedLimits | None = None
    identity: Identified | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])


@dataclass(eq=False)
class Answer:
    """What the model said to `prompts`, None for what was there before, and which candidate is chosen."""

    prompts: Prompts | None
    result: MaskResult
    chosen: int

    @property
    def mask(self) -> Mask:
        """The chosen candidate."""
        return self.result.masks[self.chosen]

    @property
    def score(self) -> float:
        """The predicted IoU of the chosen candidate."""
        return float(self.result.scores[self.chosen])


@dataclass(eq=False)
class PendingObject:
    """One object that is not committed yet: what is asked, the answer shown, and earlier answers by number of prompts.

    `embedding` holds the regions that were encoded for it, None if the whole image is all there is. `object_id` and
    `opened` are set for an object that was committed before and re-opened: its mask then, which counts as the answer to
    the prompts that it was committed with. `drawn` is the mask that belongs to the prompts themselves, the inside of an
    outline; `asked` has it, or an earlier answer.
    """

    asked: Prompts | None = None
    answer: Answer | None = None
    rows: tuple[int, ...] = ()
    object_id: int | None = None
    opened: Answer | None = None
    embedding: ImageEmbedding | None = None
    drawn: MaskPrompt = None
    _earlier: dict[tuple[int, int], Answer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.opened is not None and self.opened.prompts is not None:
            self._earlier[_size(self.opened.prompts)] = self.opened

    @property
    def is_answered(self) -> bool:
        """Whether the answer shown is to what is asked now."""
        return self.asked is None or (self.answer is not None and self.answer.prompts is self.asked)

    @property
    def is_as_it_was(self) -> bool:
        """Whether the object was re-opened, and nothing was asked about it since."""
        return self.opened is not None and self.answer is self.opened and self.asked in (None, self.opened.prompts)

    def ask(self, prompts: Prompts) -> bool:
        """Note what is asked now, starting from an earlier answer where one fits; False if that was asked already."""
        is_same_drawing = _same_pixels(self.drawn, prompts.mask)
        if self.asked is not None and self.asked.same_places(prompts) and is_same_drawing:
            return False
        if self.asked is not None and not is_same_drawing:
            self._earlier.clear()  # answers to another drawing are no start for this one
        self.drawn = prompts.mask
        known = self._earlier.get(_size(prompts))
        if known is not None and known.prompts is not None and known.prompts.same_places(prompts):
            self.asked, self.answer = known.prompts, known
        else:
            self.asked = replace(prompts, mask=self._start_for(prompts))
        return True

    def take(self, answer: Answer) -> None:
        """Show an answer; a candidate chosen by hand stays chosen when a better answer to the same prompts comes."""
        if (
            self.answer is not None
            and self.answer.prompts is answer.prompts
            and self.answer.chosen != self.answer.result.best
        ):
            answer.chosen = min(self.answer.chosen, len(answer.result.masks) - 1)
        self.answer = answer
        if answer.prompts is not None:
            self._earlier[_size(answer.prompts)] = answer

    def wanted(self, rows: Rows, object_id: int | None, *, is_whole: bool) -> Wanted | None:
        """Return what a commit would write under an id, None for a new one; None if there is no mask yet.

        `rows` are all prompts there are. See `Wanted`.
        """
        if self.answer is None:
            return None
        mine = {row_id: rows[row_id] for row_id in self.rows if row_id in rows}
        asked = None if self.asked is None else replace(self.asked, mask=self.drawn)
        piece = Piece(self.answer.score, asked, mine)
        return Wanted(self.answer.mask, object_id, is_whole, piece, self.rows, self.is_as_it_was)

    def start_again(self) -> bool:
        """Go back to the mask that the object was re-opened with; False if it was not."""
        self.asked, self.answer, self.rows = None, self.opened, ()
        self._earlier.clear()
        self.__post_init__()
        return self.opened is not None

    def forget_answers(self) -> None:
        """Ask the same afresh, of another model; what is shown stays until the new answer comes.

        An object that is as it was when it was re-opened stays so.
        """
        was_asked = self.asked is not None and not self.is_as_it_was
        self._earlier.clear()
        self.__post_init__()
        self.embedding = None
        if self.asked is not None and was_asked:
            self.asked = replace(self.asked, mask=self._first_mask)

    def _start_for(self, prompts: Prompts) -> MaskPrompt:
        """Return the mask to feed back: the chosen one of the largest earlier prompts that these extend."""
        fitting = [size for size, answer in self._earlier.items() if answer.prompts and prompts.extends(answer.prompts)]
        if fitting:
            return self._earlier[max(fitting)].mask
        return self._first_mask

    @property
    def _first_mask(self) -> MaskPrompt:
        """The mask to start from before anything is answered."""
        return self.drawn if self.drawn is not None or self.opened is None else self.opened.mask


def _same_pixels(one: MaskPrompt, other: MaskPrompt) -> bool:
    if isinstance(one, Mask) and isinstance(other, Mask):
        return one.bbox == other.bbox and np.array_equal(one.crop, other.crop)
    return one is other


def _size(prompts: Prompts) -> tuple[int, int]:
    return len(prompts.points), len(prompts.boxes)


@dataclass(eq=False)
class SliceState:
    """What is known of one slice; `commit_wanted` tells that it is to be committed once everything is answered."""

    source: ImageSource
    embedding: ImageEmbedding | None = None
    objects: dict[Hashable, PendingObject] = field(default_factory=dict)
    seconds: float = 0.0
    commit_wanted: Overlap | None = None
