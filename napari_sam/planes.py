"""Planes of an n-dimensional array, and how many pixels each object has in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class SliceKey:
    """One plane of an n-dimensional layer.

    `displayed` are the layer's axes shown as (rows, columns); `index` has one entry per axis, the position of the
    plane, None for the two displayed ones.
    """

    displayed: tuple[int, int]
    index: tuple[int | None, ...]

    def plane_of(self, data: Any) -> Any:
        """Return the plane (rows, columns, ...) of an array with the layer's axes; a view where slicing gives one."""
        plane = data[tuple(slice(None) if at is None else at for at in self.index)]
        return plane.swapaxes(0, 1) if self.is_transposed else plane

    def neighbours(self, shape: tuple[int, ...], former: SliceKey | None) -> list[SliceKey]:
        """Return the planes before and after this one in an array of `shape`, the one that comes next in front.

        Along the axis on which one came here from `former`, else along the last one that is not displayed.
        """
        axes = [axis for axis, at in enumerate(self.index) if at is not None and shape[axis] > 1]
        if not axes:
            return []
        moved = [] if former is None else [axis for axis in axes if former.index[axis] not in (None, self.index[axis])]
        axis = (moved or axes)[-1]
        here = self.index[axis] or 0
        step = -1 if moved and former is not None and here < (former.index[axis] or 0) else 1
        return [
            replace(self, index=(*self.index[:axis], place, *self.index[axis + 1 :]))
            for place in (here + step, here - step)
            if 0 <= place < shape[axis]
        ]

    @property
    def is_transposed(self) -> bool:
        """Whether rows are a later axis of the layer than columns."""
        return self.displayed[0] > self.displayed[1]

    def coordinates(self, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> tuple[NDArray[np.intp], ...]:
        """Return plane pixels as index arrays into the layer's data, one per axis."""
        return tuple(
            rows if axis == self.displayed[0] else cols if axis == self.displayed[1] else np.full_like(rows, at or 0)
            for axis, at in enumerate(self.index)
        )

    def holds(self, position: NDArray[np.floating]) -> bool:
        """Whether a data position (d,) lies in this plane.

        One with fewer axes than the layer lies in every plane that shows these, and one that is not a number in all.
        """
        missing = len(self.index) - len(position)
        return missing <= min(self.displayed) and all(
            at is None or axis < missing or not abs(np.round(position[axis - missing]) - at) > 0
            for axis, at in enumerate(self.index)
        )

    def in_plane(self, positions: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the (row, column) part of positions (..., d) in data coordinates."""
        missing = len(self.index) - positions.shape[-1]
        return positions[..., [axis - missing for axis in self.displayed]]


Position = tuple[int, ...]
"""Where a plane stands along the axes before the last two; () in a picture of two dimensions."""

DENSE_IDS = 1 << 22
"""Ids up to here are counted in a table, larger ones by sorting."""


def plane_at(position: Position) -> SliceKey:
    """Return the plane of the last two axes at `position`."""
    rows = len(position)
    return SliceKey((rows, rows + 1), (*position, None, None))


class Census:
    """How many pixels each object has in each plane of the last two axes of an array.

    Changes that are told are added and taken off; planes whose changes nobody could tell are counted anew when asked.

    Parameters
    ----------
    is_empty
        Whether all pixels of the array are 0 to begin with; else everything is counted when first asked.
    """

    def __init__(self, *, is_empty: bool) -> None:
        self._counts: dict[Position, dict[int, int]] = {}
        self._stale: set[Position] = set()
        self._is_stale = not is_empty

    def note(self, position: Position, lost: NDArray[np.integer], gained: NDArray[np.integer]) -> None:
        """Pixels of a plane had the ids `lost` (n,) and have the ids `gained` (n,) now."""
        counts = self._counts.setdefault(position, {})
        for ids, sign in ((lost, -1), (gained, 1)):
            for object_id, number in count(ids).items():
                counts[object_id] = counts.get(object_id, 0) + sign * number

    def forget(self, position: Position | None = None) -> None:
        """Count a plane anew when asked next, None: all of them."""
        if position is None:
            self._is_stale = True
        else:
            self._stale.add(position)

    def areas(self, data: NDArray[np.integer]) -> dict[int, dict[Position, int]]:
        """Return the number of pixels of each object in each plane where it has some, ids in rising order."""
        if self._is_stale:
            self._counts, self._stale = {}, set(np.ndindex(data.shape[:-2]))
        for position in self._stale:
            self._counts[position] = count(np.asarray(data[position]))
        self._stale, self._is_stale = set(), False
        areas: dict[int, dict[Position, int]] = {}
        for position in sorted(self._counts):
            for object_id, area in self._counts[position].items():
                if area > 0:
                    areas.setdefault(object_id, {})[position] = area
        return dict(sorted(areas.items()))


def count(ids: NDArray[np.integer]) -> dict[int, int]:
    """Return how often each id above 0 occurs."""
    inside = np.flatnonzero(ids.any(axis=tuple(range(1, ids.ndim))))
    if not inside.size:
        return {}
    ids = ids[inside[0] : inside[-1] + 1]
    ids = ids[ids > 0]
    if not ids.size:
        return {}
    if int(ids.max()) < DENSE_IDS:
        numbers = np.bincount(ids)
        return {int(object_id): int(numbers[object_id]) for object_id in np.flatnonzero(numbers)}
    found, numbers = np.unique(ids, return_counts=True)
    return dict(zip(found.tolist(), numbers.tolist(), strict=True))
