"""What a commit would write of what is pending: under which id, and in the place of what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .objects import Mode
from .reopening import key_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from .object_table import ObjectTable
    from .objects import Wanted
    from .pending import PendingObject
    from .slices import Slices


def wanted_of(pending: Mapping[Hashable, PendingObject], slices: Slices, table: ObjectTable) -> dict[Hashable, Wanted]:
    """Return what a commit would write of `pending` objects of the slice shown, by their keys, of those with a mask."""
    found = {key: _wanted(record, slices, table) for key, record in pending.items()}
    return {key: wanted for key, wanted in found.items() if wanted is not None}


def _wanted(record: PendingObject, slices: Slices, table: ObjectTable) -> Wanted | None:
    object_id = record.object_id
    if object_id is not None or record is not slices.active_object or slices.shown is None:
        return record.wanted(slices.rows, object_id, is_whole=object_id is not None)
    is_open = table.selected is not None and key_of(table.selected) in slices.objects
    extended = None if is_open else table.extends(slices.shown.source.key)
    return record.wanted(slices.rows, extended, is_whole=extended is not None and table.mode is Mode.INSTANCE)
