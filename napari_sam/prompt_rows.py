"""Prompts as rows: one point or shape of a layer, which row it is over time, and which object it belongs to.

Layers know rows by position, which shifts with every deletion. Here each row has an id that stays, so that history,
ownership and answers can speak of *this* point.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from numpy.typing import NDArray

    from .prompts import Prompts

OBJECT = "object"
"""The feature that names the object of a prompt."""

LOOSE: Hashable = "loose points"
"""The object of points that were placed while no box or shape was active."""


STROKES = ("path", "line")
"""The types of shape that are drawn along an object, or beside it, and not round it."""


@dataclass(frozen=True, eq=False)
class PromptRow:
    """One point or one shape, as its layer holds it.

    `kind` is "point" or the type of shape; `data` are layer coordinates, (d,) for a point, (vertices, d) for a shape;
    `features` is its line of the layer's table, None where a value is missing; `owner` is the object it belongs to.
    """

    kind: str
    data: NDArray[np.floating]
    features: Mapping[str, Any] = field(default_factory=dict)
    owner: Hashable = LOOSE

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, PromptRow)
            and self.owner == other.owner
            and self.kind == other.kind
            and self.features == other.features
            and _same_data(self, other)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def is_point(self) -> bool:
        """Whether this is a point and not a shape."""
        return self.kind == "point"

    def owned_by(self, owner: Hashable) -> PromptRow:
        """Return the same prompt as one of another object, whatever its table says."""
        return replace(self, owner=owner, features={**self.features, **dict.fromkeys(self.features.keys() & {OBJECT})})

    @property
    def joins_active(self) -> bool:
        """Whether this adds to the object at hand, as points and strokes do; a closed shape begins one."""
        return self.kind in ("point", *STROKES)

    @property
    def named_object(self) -> Hashable:
        """The value of its `object` feature, or None: the table names the object it belongs to."""
        value = self.features.get(OBJECT)
        return None if value is None or value != value else ("object", value)


Rows = dict[int, PromptRow]
"""Rows by id, in the order in which they were placed."""

_fresh_ids = itertools.count()


@dataclass(frozen=True)
class ObjectPrompts:
    """What is asked about one object in the slice shown, and the ids of the rows that ask it."""

    prompts: Prompts
    rows: tuple[int, ...]


@dataclass(frozen=True)
class PromptView:
    """The prompts of the slice shown.

    `rows` are the ids of all rows that lie in it, those that were left out among them; `note` says which were, and why.
    """

    objects: Mapping[Hashable, ObjectPrompts] = field(default_factory=dict)
    rows: tuple[int, ...] = ()
    note: str = ""


def fresh_rows(found: Sequence[PromptRow]) -> Rows:
    """Return rows under ids of their own."""
    return {next(_fresh_ids): row for row in found}


def align(known: Rows, found: Sequence[PromptRow], *, is_point: bool) -> Rows:
    """Give `found`, a layer's rows now, the ids that the same rows have in `known`; new ones get new ids.

    As many rows as before are the same ones, perhaps moved; more rows are the old ones and new ones at the end; of
    fewer, those that are missing were removed.
    """
    before = {row_id: row for row_id, row in known.items() if row.is_point == is_point}
    ids = list(before)
    if len(found) < len(ids):
        ids = _surviving_ids(before, found)
    ids += [next(_fresh_ids) for _ in range(len(found) - len(ids))]
    return dict(zip(ids, found, strict=True))


def _surviving_ids(before: Rows, found: Sequence[PromptRow]) -> list[int]:
    """Match the rows that are left, in order, with those that were there; what matches nothing counts as new."""
    remaining = iter(before.items())
    ids: list[int] = []
    for row in found:
        match = next((row_id for row_id, old in remaining if _same_data(old, row)), None)
        ids.append(next(_fresh_ids) if match is None else match)
    return ids


def own_owner(row_id: int, row: PromptRow) -> Hashable:
    """Return the object of a row that nobody claims: the one its table names, itself for a shape, the loose one."""
    if row.named_object is not None:
        return row.named_object
    return LOOSE if row.joins_active else ("shape", row_id)


def adopt(found: Rows) -> Rows:
    """Settle the owners of rows that were there before the annotation began."""
    return {row_id: replace(row, owner=own_owner(row_id, row)) for row_id, row in found.items()}


def assign_owners(
    known: Rows,
    found: Rows,
    active: Hashable | None,
    places: Callable[[PromptRow], NDArray[np.floating] | None] = lambda row: np.atleast_2d(row.data),
) -> tuple[Rows, Hashable | None]:
    """Settle which object each row belongs to, and which object is active now.

    A named object wins. Else a shape is an object of its own, which placing or moving it makes active; a new point or
    stroke belongs to the active object, or to the one that all loose ones form. A shape placed round that object takes
    it over. `places` gives a row's positions (n, d), in one frame for all rows; None for a row in a slice not shown.
    """
    rows: Rows = {}
    fresh_shapes = []
    for row_id, row in found.items():
        is_new = row_id not in known
        touched = is_new or not _same_data(known[row_id], row)
        if row.named_object is not None or (is_new and not row.joins_active):
            owner = own_owner(row_id, row)
        elif is_new:
            owner = LOOSE if active is None else active
        elif known[row_id].named_object is not None:  # its table names none any more
            owner = own_owner(row_id, row)
        else:
            owner = known[row_id].owner
        rows[row_id] = replace(row, owner=owner)
        if touched and (not row.joins_active or row.named_object is not None):
            active = owner
        if is_new and not row.joins_active and row.named_object is None:
            fresh_shapes.append(rows[row_id])
    for shape in fresh_shapes:
        rows = _take_over_loose_points(rows, shape, places)
    return rows, active


def _take_over_loose_points(
    rows: Rows, shape: PromptRow, places: Callable[[PromptRow], NDArray[np.floating] | None]
) -> Rows:
    """Let `shape` own the loose points if all positive ones lie in its box: a click, then a box, mean one object."""
    loose = {row_id: row for row_id, row in rows.items() if row.joins_active and row.owner == LOOSE}
    if not loose or (corners := places(shape)) is None:
        return rows
    here = {row_id: place for row_id, row in loose.items() if (place := places(row)) is not None}
    positive = [place for row_id, place in here.items() if polarity(loose[row_id]) == 1]
    low, high = corners.min(axis=0), corners.max(axis=0)
    if not positive or not all(((point >= low) & (point <= high)).all() for point in positive):
        return rows
    return rows | {row_id: replace(loose[row_id], owner=shape.owner) for row_id in here}


def polarity(row: PromptRow) -> int | None:
    """Return 1 if a point lies on its object, 0 if beside it, by the value of its `label`; None if that says neither.

    A point without a value lies on its object.
    """
    value = row.features.get("label")
    try:
        number = 1.0 if value is None else float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if number in (0, 1) else None


def _same_data(row: PromptRow, other: PromptRow) -> bool:
    return np.array_equal(row.data, other.data, equal_nan=True)


def changes(before: Rows, after: Rows) -> dict[int, tuple[PromptRow | None, PromptRow | None]]:
    """Return the rows that differ, as (before, after); None where there was or is none."""
    ids = sorted(before.keys() | after.keys())
    return {i: (before.get(i), after.get(i)) for i in ids if before.get(i) != after.get(i)}


def apply(rows: Rows, new: Mapping[int, PromptRow | None]) -> Rows:
    """Return `rows` with some replaced, added or, where None, removed; in the order in which they were first placed."""
    merged = {**rows, **new}
    return {row_id: row for row_id, row in sorted(merged.items()) if row is not None}
