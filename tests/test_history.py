"""Steps as values: what they write, what they take back, and what they leave alone."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import ArrayCanvas, disk

from napari_sam.errors import LabelsError
from napari_sam.geometry import Frame, whole
from napari_sam.history import Change, History, Patch, Step
from napari_sam.ledger import Ledger
from napari_sam.masks import Mask
from napari_sam.objects import Mode, Overlap, Wanted
from napari_sam.planes import plane_at
from napari_sam.prompt_rows import PromptRow

SHAPE = (40, 60)
KEY = plane_at(())


def mask_at(row: int, col: int, radius: int = 6) -> Mask:
    return Mask.of_pixels(disk(SHAPE, np.array([(row, col)]), radius), Frame(SHAPE, whole(SHAPE), 256))


@pytest.fixture
def canvas() -> ArrayCanvas:
    return ArrayCanvas(*SHAPE)


@pytest.fixture
def done() -> list[tuple[str, list[Change]]]:
    return []


@pytest.fixture
def ledger(canvas: ArrayCanvas, done: list[tuple[str, list[Change]]]) -> Ledger:
    return Ledger(canvas, lambda kind, _step, changes: done.append((kind, changes)))


def commit(ledger: Ledger, *masks: Mask, overlap: Overlap = Overlap.KEEP) -> list[int]:
    return list(ledger.commit(KEY, {i: Wanted(mask) for i, mask in enumerate(masks)}, overlap, {}).values())


# Patches


def patch(canvas: ArrayCanvas, object_id: int, mask: Mask, *, is_whole: bool = False, takes: bool = False) -> Patch:
    made = Patch.of_mask(canvas, KEY, object_id, mask, is_whole=is_whole, takes_others=takes)
    made.turn(canvas)
    return made


def test_a_patch_keeps_earlier_objects(canvas: ArrayCanvas) -> None:
    patch(canvas, 1, mask_at(20, 20))
    before = canvas.data.copy()
    patch(canvas, 2, mask_at(20, 26))
    assert (canvas.data[before == 1] == 1).all()
    assert (canvas.data == 2).any()


def test_a_patch_that_takes_others_gives_them_back(canvas: ArrayCanvas) -> None:
    patch(canvas, 1, mask_at(20, 20))
    before = canvas.data.copy()
    taking = patch(canvas, 2, mask_at(20, 26), takes=True)
    assert (canvas.data == 2).sum() == mask_at(20, 26).area
    taking.turn(canvas, back=True)
    assert (canvas.data == before).all()


def test_undo_leaves_pixels_that_a_brush_has_changed_since(canvas: ArrayCanvas) -> None:
    made = patch(canvas, 1, mask_at(20, 20))
    canvas.data[20, 20] = 7
    made.turn(canvas, back=True)
    assert canvas.data[20, 20] == 7
    assert not (canvas.data == 1).any()


def test_redo_does_not_paint_over_what_came_meanwhile(canvas: ArrayCanvas) -> None:
    made = patch(canvas, 1, mask_at(20, 20))
    made.turn(canvas, back=True)
    canvas.data[18, :] = 9
    made.turn(canvas)
    assert (canvas.data[18] == 9).all()
    assert canvas.data[20, 20] == 1


def test_a_whole_patch_gives_up_old_pixels_and_undo_returns_them(canvas: ArrayCanvas) -> None:
    patch(canvas, 1, mask_at(20, 20))
    before = canvas.data.copy()
    made = patch(canvas, 1, mask_at(20, 24), is_whole=True)
    assert (canvas.data == 1).sum() == mask_at(20, 24).area
    assert canvas.data[20, 14] == 0
    made.turn(canvas, back=True)
    assert (canvas.data == before).all()


def test_a_patch_under_another_object_is_empty(canvas: ArrayCanvas) -> None:
    patch(canvas, 1, mask_at(20, 20, 8))
    assert Patch.of_mask(canvas, KEY, 2, mask_at(20, 20, 4), is_whole=False, takes_others=False).is_empty


# History


def step(*row_ids: int) -> Step:
    row = PromptRow("point", np.zeros(2))
    return Step("prompts", dict.fromkeys(row_ids, (None, row)))


def test_a_commit_folds_the_edits_of_its_rows_alone(ledger: Ledger) -> None:
    ledger.note_prompts(step(1).rows)
    ledger.note_prompts(step(2, 3).rows)
    rows = {row_id: PromptRow("point", np.zeros(2)) for row_id in (1, 2, 3)}
    ledger.commit(KEY, {"a": Wanted(mask_at(20, 20), rows=(1, 2))}, Overlap.KEEP, rows)
    assert ledger.undo().kind == "commit"  # type: ignore[union-attr]
    left = ledger.undo()
    assert left is not None
    assert set(left.rows) == {3}
    assert ledger.undo() is None


def test_a_new_step_drops_what_could_be_redone() -> None:
    history = History()
    history.push(step(1))
    history.undo()
    assert history.next is not None
    history.push(step(2))
    assert history.next is None


# The ledger


def test_undo_and_redo_tell_what_did_change(
    ledger: Ledger, canvas: ArrayCanvas, done: list[tuple[str, list[Change]]]
) -> None:
    commit(ledger, mask_at(20, 20), mask_at(20, 30))
    canvas.data[20, 20] = 9
    ledger.undo()
    ledger.redo()
    assert [kind for kind, _ in done] == ["commit", "undo", "redo"]
    areas = [sum(int(change.where.sum()) for change in changes) for _, changes in done]
    assert areas[0] - 1 == areas[1] == areas[2]


def test_a_deletion_is_of_all_slices_and_comes_back(done: list[tuple[str, list[Change]]]) -> None:
    canvas = ArrayCanvas(3, *SHAPE)
    ledger = Ledger(canvas, lambda *_: None)
    for z in (0, 2):
        ledger.commit(plane_at((z,)), {"a": Wanted(mask_at(20, 20), 5, is_whole=True)}, Overlap.KEEP, {})
    before = canvas.data.copy()
    assert ledger.objects()[5].slices == ((0,), (2,))
    ledger.delete(5, {})
    assert not canvas.data.any()
    assert ledger.records == {}
    ledger.undo()
    assert (canvas.data == before).all()
    assert set(ledger.records) == {5}


@pytest.mark.parametrize("turn", ["undo", "redo"])
def test_a_step_that_cannot_be_turned_changes_nothing(
    ledger: Ledger, canvas: ArrayCanvas, monkeypatch: pytest.MonkeyPatch, turn: str
) -> None:
    commit(ledger, mask_at(20, 20), mask_at(20, 40))
    if turn == "redo":
        ledger.undo()
    before, steps = canvas.data.copy(), (ledger.history.last, ledger.history.next)
    write, calls = canvas.write, []

    def fail_once(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise LabelsError("no room")
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(canvas, "write", fail_once)
    with pytest.raises(LabelsError, match="no room"):
        getattr(ledger, turn)()
    assert (canvas.data == before).all()
    assert (ledger.history.last, ledger.history.next) == steps


def test_semantic_commits_of_a_class_are_one_object(ledger: Ledger, canvas: ArrayCanvas) -> None:
    ledger.mode = Mode.SEMANTIC
    ledger.set_classes((ledger.new_class("cell", None), ledger.new_class("gap", None)), {})
    ledger.current_class = "gap"
    assert commit(ledger, mask_at(20, 20)) == commit(ledger, mask_at(20, 40)) == [2]
    assert ledger.objects()[2].class_name == "gap"
    assert (canvas.data == 2).sum() == 2 * mask_at(20, 20).area
    ledger.set_class(2, "cell", ledger.classes)
    assert set(ledger.objects()) == {1}
    ledger.undo()
    assert set(ledger.objects()) == {2}
