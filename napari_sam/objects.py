"""What is known of objects beyond their pixels, as values: classes, scores, prompts; and what a commit is to write."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from .masks import Mask
    from .planes import Position
    from .prompt_rows import Rows
    from .prompts import Prompts

CLASS_COLOURS = (
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#f0e442",
    "#0072b2",
    "#d55e00",
    "#cc79a7",
    "#999999",
)
"""Given to classes in turn: the colours of Okabe and Ito, told apart by colour-blind people too."""


class Mode(Enum):
    """What the numbers in the labels mean."""

    INSTANCE = "instance"
    """Each object has an id of its own."""
    SEMANTIC = "semantic"
    """A pixel holds the value of its class; all that is committed as one class is one object."""


class Overlap(Enum):
    """What a commit does with pixels that belong to earlier objects."""

    KEEP = "keep"
    REPLACE = "replace"
    ASK = "ask"


@dataclass(frozen=True)
class OverlapQuestion:
    """A commit would meet earlier objects: their ids, and how many of their pixels it would take."""

    object_ids: tuple[int, ...]
    pixels: int


@dataclass(frozen=True)
class ObjectClass:
    """A kind of object: its name, its colour as "#rrggbb", and the value of its pixels in semantic labels."""

    name: str
    colour: str
    value: int


@dataclass(frozen=True, eq=False)
class Piece:
    """How an object came to be in one slice: the score of its mask, and the prompts that asked for it, if any.

    `prompts` are in image pixels, `rows` the same as their layers held them.
    """

    score: float | None = None
    prompts: Prompts | None = None
    rows: Rows = field(default_factory=dict, repr=False)


@dataclass(frozen=True, eq=False)
class ObjectRecord:
    """What is known of one object: its class, "" for none, and its pieces by slice."""

    class_name: str = ""
    pieces: Mapping[Hashable, Piece] = field(default_factory=dict)

    @property
    def score(self) -> float | None:
        """Mean of the scores of its pieces; None if there is none."""
        scores = [piece.score for piece in self.pieces.values() if piece.score is not None]
        return fmean(scores) if scores else None

    def with_piece(self, key: Hashable, piece: Piece) -> ObjectRecord:
        """Return a record with another piece in the slice `key`."""
        return replace(self, pieces={**self.pieces, key: piece})


@dataclass(frozen=True)
class LabelledObject:
    """One line of the object table, as the labels are now.

    `area` counts pixels in all slices; `score` is the mean predicted IoU of what was committed, None for an object that
    was drawn by hand or was there before; `slices` are the planes where it lies, by their position along the axes
    before the last two, `((),)` in a picture of two dimensions.
    """

    id: int
    class_name: str
    area: int
    score: float | None
    slices: tuple[Position, ...]


@dataclass(frozen=True, eq=False)
class Wanted:
    """A mask to write: under `object_id`, None for a new one; `is_whole` if it replaces what that had in the slice.

    `piece` is what to note of it, and `rows` are the ids of the prompts that go with it. `is_as_it_was` tells that it
    was re-opened, and that nobody asked for a change since.
    """

    mask: Mask
    object_id: int | None = None
    is_whole: bool = False
    piece: Piece = field(default_factory=Piece)
    rows: tuple[int, ...] = ()
    is_as_it_was: bool = False


def class_of(object_id: int, records: Mapping[int, ObjectRecord], classes: Sequence[ObjectClass], mode: Mode) -> str:
    """Return the name of an object's class, "" for none."""
    if mode is Mode.SEMANTIC:
        return next((one.name for one in classes if one.value == object_id), "")
    return records.get(object_id, ObjectRecord()).class_name


def tabulate(
    areas: Mapping[int, Mapping[Position, int]],
    records: Mapping[int, ObjectRecord],
    classes: Sequence[ObjectClass],
    mode: Mode,
) -> dict[int, LabelledObject]:
    """Return a line for each object that has pixels, by id in the order of `areas`."""
    return {
        object_id: LabelledObject(
            object_id,
            class_of(object_id, records, classes, mode),
            sum(there.values()),
            records.get(object_id, ObjectRecord()).score,
            tuple(there),
        )
        for object_id, there in areas.items()
    }
