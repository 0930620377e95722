"""Every step is in the journal, which rebuilds the labels pixel for pixel."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from annotating import Begin, crash, put, work
from numpy.typing import NDArray

from napari_sam.journal import journal_folder, read_journal


def test_a_journal_rebuilds_the_labels(begin: Begin) -> None:
    annotator = begin()
    work(annotator)
    assert annotator.journal.path is not None
    recorded = read_journal(annotator.journal.path)
    assert (recorded.labels() == annotator.labels.data).all()
    assert annotator.labels.data.any()
    assert not recorded.is_finished
    assert recorded.entries[0]["model"] == {
        "name": "default",
        "device": "auto",
        "precision": "auto",
        "weights": "fake",
    }
    annotator.close()
    assert read_journal(recorded.path).is_finished


def test_prompts_and_scores_are_in_the_journal(begin: Begin) -> None:
    annotator = begin()
    put(annotator, 1, 20, 30)
    assert annotator.journal.path is not None
    (piece,) = read_journal(annotator.journal.path).objects()[1].pieces.values()
    assert piece.prompts is not None
    assert piece.prompts.points.tolist() == [[20, 30]]
    assert piece.score == pytest.approx(0.9)
    assert [row.data.tolist() for row in piece.rows.values()] == [[1, 20, 30]]


def test_edits_by_hand_are_journalled_and_so_is_taking_them_back(begin: Begin) -> None:
    annotator = begin()
    layer = annotator.labels

    def same() -> bool:
        path = annotator.journal.path
        assert path is not None
        rebuilt = read_journal(path)
        areas = {one.id: one.area for one in rebuilt.table(layer.data)}
        return bool((rebuilt.labels() == layer.data).all()) and {one.id: one.area for one in annotator.objects} == areas

    put(annotator, 1, 20, 20)
    layer.brush_size = 9
    layer.paint((1, 22, 33), 5)
    assert same()
    with layer.block_history():
        layer.paint((1, 22, 35), 6)
        layer.paint((1, 24, 35), 0)
    assert same()
    layer.n_edit_dimensions = 3
    layer.paint((2, 40, 60), 70)
    assert len(np.unique(np.nonzero(layer.data == 70)[0])) > 1
    assert same()
    layer.fill((2, 40, 60), 71)
    assert same()
    layer.data_setitem((np.array([0, 3]), np.array([1, 2]), np.array([3, 4])), [7, 8])
    assert same()
    before = layer.data.copy()
    for _ in range(4):
        layer.undo()
        assert same()
    assert (layer.data != before).any()
    for _ in range(4):
        layer.redo()
        assert same()
    assert (layer.data == before).all()
    for _ in range(6):
        layer.undo()  # the commit, too
    assert not layer.data.any()
    assert same()
    annotator.undo()
    put(annotator, 1, 50, 80)
    assert same()


def test_other_labels_get_a_journal_of_their_own(begin: Begin, folder: Path) -> None:
    annotator = begin()
    put(annotator, 1, 20, 20)
    first = annotator.journal.path
    annotator.set_labels(None)
    put(annotator, 1, 40, 40)
    assert annotator.journal.path != first
    assert len(list(folder.iterdir())) == 2


def test_two_viewers_on_one_image_keep_a_journal_each(begin: Begin) -> None:
    both = [begin() for _ in range(2)]
    for annotator, col in zip(both, (20, 60), strict=True):
        put(annotator, 1, 20, col)
    for annotator in both:
        assert annotator.journal.path is not None
        assert (read_journal(annotator.journal.path).labels() == annotator.labels.data).all()
        annotator.close()
    third = begin()
    assert len(third.journal.earlier()) == 2


def test_other_pixels_of_the_image_begin_another_journal(begin: Begin, pixels: NDArray[np.uint16]) -> None:
    annotator = begin()
    put(annotator, 1, 20, 20)
    annotator.objects.set_class(1, "cell")
    annotator.viewer.dims.set_current_step(0, 2)
    put(annotator, 2, 20, 20)
    first = annotator.journal.path
    annotator.image_layer.data = pixels + 1
    annotator.objects.set_class(1, "nucleus")
    annotator.viewer.dims.set_current_step(0, 1)
    put(annotator, 1, 40, 60)
    assert annotator.journal.path != first
    recorded = read_journal(annotator.journal.path)  # type: ignore[arg-type]
    assert (recorded.labels() == annotator.labels.data).all()
    assert recorded.table(recorded.labels()) == list(annotator.objects)
    assert recorded.is_partial
    crash(annotator)
    second = begin(pixels + 1, restore=True)
    assert (second.labels.data == annotator.labels.data).all()
    second.undo()
    second.undo()
    assert [(one.id, one.class_name) for one in second.objects] == [(1, "cell"), (2, "")]
    assert not second.can_undo


def test_labels_that_were_replaced_are_rebuilt_where_work_went_on(begin: Begin) -> None:
    annotator = begin()
    put(annotator, 1, 20, 20)
    data = annotator.labels.data.copy()
    data[1, 50:] = 9
    annotator.labels.data = data
    put(annotator, 1, 40, 60)
    recorded = read_journal(annotator.journal.path)  # type: ignore[arg-type]
    assert (recorded.labels() == annotator.labels.data).all()


def test_what_is_undone_on_hidden_labels_is_journalled_too(begin: Begin) -> None:
    annotator = begin()
    layer = annotator.labels
    put(annotator, 1, 20, 20)
    layer.data_setitem((np.array([1]), np.array([40]), np.array([60])), 7)
    layer.visible = False
    layer.undo()  # napari's own, of which it does not tell
    put(annotator, 1, 40, 60, choose=0)
    recorded = read_journal(annotator.journal.path)  # type: ignore[arg-type]
    assert [entry["kind"] for entry in recorded.entries] == ["commit", "edit", "edit", "commit"]
    assert (recorded.labels() == layer.data).all()
    assert set(np.unique(layer.data)) == {0, 1, 8}
    layer.undo()
    annotator.close()
    assert (read_journal(recorded.path).labels() == layer.data).all()
    assert set(np.unique(layer.data)) == {0, 1}


def test_where_journals_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert journal_folder(False) is None
    assert journal_folder() == Path(os.environ["NAPARI_SAM_JOURNALS"])
    assert journal_folder("beside", str(tmp_path / "image.tif")) == tmp_path
    assert journal_folder("beside") == journal_folder()
    assert journal_folder(str(tmp_path)) == tmp_path
    monkeypatch.delenv("NAPARI_SAM_JOURNALS")
    assert journal_folder().name == "journals"  # type: ignore[union-attr]


def test_no_journal_where_none_is_wanted(begin: Begin) -> None:
    annotator = begin(journal=False)
    put(annotator, 1, 20, 20)
    assert annotator.journal.path is None
    assert annotator.journal.earlier() == []
