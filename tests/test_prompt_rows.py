"""Which row is which over time, and which object it belongs to."""

from __future__ import annotations

import numpy as np

from napari_sam.prompt_rows import LOOSE, PromptRow, adopt, align, apply, assign_owners, changes


def point(row: float, col: float, **features: object) -> PromptRow:
    return PromptRow("point", np.array([row, col], float), features)


def box(row0: float, col0: float, row1: float, col1: float, **features: object) -> PromptRow:
    corners = np.array([(row0, col0), (row0, col1), (row1, col1), (row1, col0)], float)
    return PromptRow("rectangle", corners, features)


def aligned(known: dict[int, PromptRow], *found: PromptRow) -> dict[int, PromptRow]:
    points = align(known, [row for row in found if row.is_point], is_point=True)
    shapes = align(known, [row for row in found if not row.is_point], is_point=False)
    return dict(sorted((points | shapes).items()))


def place(known: dict[int, PromptRow], active: object, *found: PromptRow) -> tuple[dict[int, PromptRow], object]:
    return assign_owners(known, aligned(known, *found), active)


def owners(rows: dict[int, PromptRow]) -> list[object]:
    return [row.owner for row in rows.values()]


def test_rows_keep_their_ids_when_one_before_them_is_removed() -> None:
    first = aligned({}, point(1, 1), point(2, 2), point(3, 3))
    ids = list(first)
    assert list(aligned(first, point(1, 1), point(3, 3))) == [ids[0], ids[2]]


def test_a_moved_row_keeps_its_id_and_a_new_one_gets_another() -> None:
    first = aligned({}, point(1, 1))
    second = aligned(first, point(1, 5), point(9, 9))
    assert next(iter(second)) == next(iter(first))
    assert len(second) == 2


def test_points_belong_to_the_box_placed_last() -> None:
    rows, active = place({}, None, box(0, 0, 10, 10))
    rows, active = place(rows, active, *rows.values(), point(20, 20))
    assert rows[max(rows)].owner == active != LOOSE


def test_touching_a_box_makes_it_active_again() -> None:
    rows, active = place({}, None, box(0, 0, 10, 10))
    rows, active = place(rows, active, box(0, 0, 10, 10), box(20, 20, 30, 30))
    second = active
    rows, active = place(rows, active, box(1, 1, 10, 10), box(20, 20, 30, 30))
    assert active != second
    rows, _ = place(rows, active, *rows.values(), point(50, 50))
    assert rows[max(rows)].owner == active


def test_a_box_round_the_loose_points_takes_them_over() -> None:
    rows, active = place({}, None, point(5, 5), point(50, 50, label=0))
    assert owners(rows) == [LOOSE, LOOSE]
    rows, active = place(rows, active, *rows.values(), box(0, 0, 10, 10))
    assert set(owners(rows)) == {active}


def test_a_box_elsewhere_leaves_the_loose_points_alone() -> None:
    rows, active = place({}, None, point(5, 5))
    rows, active = place(rows, active, *rows.values(), box(20, 20, 30, 30))
    assert owners(rows) == [LOOSE, active]


def test_named_objects_join_points_and_boxes() -> None:
    rows, _ = place({}, None, point(5, 5, object=3), point(6, 6, object=4), box(0, 0, 9, 9, object=3))
    assert owners(rows) == [("object", 3), ("object", 4), ("object", 3)]


def test_an_empty_name_is_none() -> None:
    rows = adopt(aligned({}, point(5, 5, object=float("nan")), point(6, 6, object=None), box(0, 0, 9, 9)))
    assert owners(rows)[:2] == [LOOSE, LOOSE]


def test_adopted_boxes_take_nothing_over() -> None:
    rows = adopt(aligned({}, point(5, 5), box(0, 0, 9, 9)))
    assert len(set(owners(rows))) == 2


def test_changes_turned_round_give_the_rows_before() -> None:
    before = aligned({}, point(1, 1), point(2, 2))
    after = aligned(before, point(1, 1), point(2, 7), point(3, 3))
    difference = changes(before, after)
    assert apply(after, {row_id: old for row_id, (old, _) in difference.items()}) == before
    assert apply(before, {row_id: new for row_id, (_, new) in difference.items()}) == after
