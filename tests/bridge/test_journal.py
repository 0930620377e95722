"""Nothing is lost: what was committed is in the journal, and comes back pixel for pixel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
from fakes import PATIENCE, FakePredictor
from napari.components import ViewerModel

import napari_sam
from napari_sam.bridge.controller import Controller
from napari_sam.bridge.registry import open_controllers
from napari_sam.errors import JournalError, LabelsError
from napari_sam.journal import dismiss, journal_folder, read_journal
from napari_sam.worker import ModelChoice

SHAPE = (4, 60, 90)


@pytest.fixture(autouse=True)
def _predictor(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakePredictor()
    monkeypatch.setattr(ModelChoice, "load", lambda *_: fake)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journals"


@pytest.fixture
def viewers() -> Iterator[list[ViewerModel]]:
    made: list[ViewerModel] = []
    yield made
    for viewer in made:
        for controller in open_controllers(viewer):
            controller.close()


@pytest.fixture
def pixels() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 4000, SHAPE, dtype=np.uint16)


def annotate(viewers: list[ViewerModel], data: Any, folder: Path, z: int = 1, **options: Any) -> Controller:
    viewer = ViewerModel()
    viewers.append(viewer)
    image = viewer.add_image(data, contrast_limits=(0, 4000))
    viewer.dims.set_current_step(0, z)
    if "labels" in options:
        options["labels"] = viewer.add_labels(options["labels"])
    return napari_sam.annotate(viewer, image, journal=folder, **options)


def put(annotator: Controller, *place: float, overlap: str = "keep") -> None:
    annotator.points.add([place])
    annotator.wait(PATIENCE)
    annotator.commit(overlap)


def crash(annotator: Controller) -> Path:
    """End an annotation without its journal hearing of it, as kill does."""
    path, writing = annotator.journal.path, annotator.journal._journal
    assert path is not None
    assert writing is not None
    assert writing._file is not None
    writing._file.close()
    writing._file = None
    annotator.close()
    return path


def work(annotator: Controller) -> None:
    """Something of everything."""
    put(annotator, 1, 20, 20)
    put(annotator, 1, 20, 30, overlap="replace")
    annotator.objects.set_class(2, "nucleus")
    annotator.viewer.dims.set_current_step(0, 2)
    annotator.objects.select(2)
    put(annotator, 2, 30, 30)
    put(annotator, 2, 50, 80)
    annotator.objects.delete(1)
    put(annotator, 2, 10, 80)
    annotator.undo()
    annotator.viewer.dims.order = (1, 0, 2)
    annotator.viewer.dims.set_current_step(1, 40)
    put(annotator, 2, 40, 60, overlap="replace")
    annotator.undo()
    annotator.redo()


def ids_of(annotator: Controller) -> set[int]:
    return {one.id for one in annotator.objects}


def table(annotator: Controller) -> list[Any]:
    return list(annotator.objects)


def test_a_journal_rebuilds_the_labels(viewers: list[ViewerModel], pixels: Any, folder: Path) -> None:
    annotator = annotate(viewers, pixels, folder)
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


def test_after_a_crash_everything_comes_back(viewers: list[ViewerModel], pixels: Any, folder: Path) -> None:
    first = annotate(viewers, pixels, folder)
    work(first)
    labels, objects = first.labels.data.copy(), table(first)
    path = crash(first)
    plain = annotate(viewers, pixels, folder)
    assert not plain.labels.data.any()
    assert [one.path for one in plain.journal.unfinished()] == [path]
    plain.close()
    second = annotate(viewers, pixels, folder, restore=True)
    assert (second.labels.data == labels).all()
    assert table(second) == objects
    assert [one.name for one in second.objects.classes] == ["nucleus"]
    assert "objects are back" in second.status.message
    second.reopen(2)
    second.wait(PATIENCE)
    assert second.points.data.tolist() == [[1, 20, 30]]
    second.commit()
    put(second, 1, 50, 10)
    crash(second)
    third = annotate(viewers, pixels, folder, restore=path)
    assert (third.labels.data == second.labels.data).all()
    assert not read_journal(path).is_partial


def test_what_was_done_before_a_crash_is_undone_step_by_step(
    viewers: list[ViewerModel], pixels: Any, folder: Path
) -> None:
    first = annotate(viewers, pixels, folder)
    work(first)
    former = undone_states(first)
    assert len(former) == 8
    assert not former[-1][1]
    while first.can_redo:
        first.redo()
    crash(first)
    second = annotate(viewers, pixels, folder, restore=True)
    assert undone_states(second) == former
    for labels, objects in reversed(former[:-1]):
        second.redo()
        assert (second.labels.data.tolist(), table(second)) == (labels, objects)
    put(second, 2, 5, 5)
    second.undo()
    crash(second)
    third = annotate(viewers, pixels, folder, restore=True)
    assert not third.can_redo
    assert undone_states(third) == former


def undone_states(annotator: Controller) -> list[Any]:
    """Return labels and objects as they are, and after each step that is undone."""
    states = [(annotator.labels.data.tolist(), table(annotator))]
    while annotator.can_undo:
        annotator.undo()
        states.append((annotator.labels.data.tolist(), table(annotator)))
    return states


def test_strokes_made_before_restoring_are_journalled_where_work_goes_on(
    viewers: list[ViewerModel], pixels: Any, folder: Path
) -> None:
    first = annotate(viewers, pixels, folder)
    put(first, 1, 20, 20)
    path = crash(first)
    second = annotate(viewers, pixels, folder)
    second.labels.data_setitem((np.array([1]), np.array([59]), np.array([89])), 3)
    second.journal.restore(second.journal.unfinished()[0])
    put(second, 1, 40, 60)
    assert second.journal.path == path
    assert (read_journal(path).labels() == second.labels.data).all()
    assert ids_of(second) == {1, 3, 4}


def test_prompts_and_scores_are_in_the_journal(viewers: list[ViewerModel], pixels: Any, folder: Path) -> None:
    annotator = annotate(viewers, pixels, folder)
    put(annotator, 1, 20, 30)
    assert annotator.journal.path is not None
    (piece,) = read_journal(annotator.journal.path).objects()[1].pieces.values()
    assert piece.prompts is not None
    assert piece.prompts.points.tolist() == [[20, 30]]
    assert piece.score == pytest.approx(0.9)
    assert [row.data.tolist() for row in piece.rows.values()] == [[1, 20, 30]]


def test_an_open_journal_is_offered_to_nobody(viewers: list[ViewerModel], pixels: Any, folder: Path) -> None:
    first = annotate(viewers, pixels, folder)
    put(first, 1, 20, 20)
    second = annotate(viewers, pixels, folder)
    assert second.journal.earlier() == []
    with pytest.raises(JournalError, match="another annotation is writing"):
        second.journal.restore(read_journal(first.journal.path))  # type: ignore[arg-type]
    first.close()
    assert len(second.journal.earlier()) == 1
    assert second.journal.unfinished() == []


def test_a_dismissed_journal_is_not_offered_again(viewers: list[ViewerModel], pixels: Any, folder: Path) -> None:
    first = annotate(viewers, pixels, folder)
    put(first, 1, 20, 20)
    crash(first)
    second = annotate(viewers, pixels, folder)
    dismiss(second.journal.unfinished()[0])
    assert second.journal.unfinished() == []
    assert len(second.journal.earlier()) == 1


def test_another_image_is_refused(viewers: list[ViewerModel], pixels: Any, folder: Path) -> None:
    first = annotate(viewers, pixels, folder)
    put(first, 1, 20, 20)
    path = crash(first)
    assert annotate(viewers, pixels + 1, folder).journal.earlier() == []
    with pytest.raises(JournalError, match="about another image"):
        annotate(viewers, pixels + 1, folder, restore=path)
    with pytest.raises(JournalError, match="cannot read the journal"):
        annotate(viewers, pixels, folder, restore=folder / "none.jsonl")
    nothing = annotate(viewers, pixels[:2], folder, restore=True)
    assert not nothing.labels.data.any()


def test_a_lazy_image_is_the_same_image(viewers: list[ViewerModel], pixels: Any, folder: Path) -> None:
    first = annotate(viewers, dask.array.from_array(pixels, chunks=(1, 16, 16)), folder)
    put(first, 1, 20, 20)
    crash(first)
    assert annotate(viewers, pixels, folder, restore=True).labels.data.any()


def test_what_bound_labels_held_is_rebuilt_too(viewers: list[ViewerModel], pixels: Any, folder: Path) -> None:
    labels = np.zeros(SHAPE, np.int32)
    labels[1, 20:40, 20:40] = 70000
    first = annotate(viewers, pixels, folder, labels=labels.copy())
    put(first, 1, 20, 25, overlap="replace")
    put(first, 1, 20, 70)
    path = crash(first)
    assert (read_journal(path).labels() == first.labels.data).all()
    assert read_journal(path).is_partial
    second = annotate(viewers, pixels, folder, labels=labels.copy(), restore=True)
    assert (second.labels.data == first.labels.data).all()
    narrow = np.zeros(SHAPE, np.uint16)
    second.close()
    with pytest.raises(LabelsError, match="wider type"):
        annotate(viewers, pixels, folder, labels=narrow, restore=True)
    assert not narrow.any()


def test_a_journal_that_does_not_fit_stays_unfinished(viewers: list[ViewerModel], pixels: Any, folder: Path) -> None:
    first = annotate(viewers, pixels, folder, labels=np.full(SHAPE, 70000, np.int32))
    put(first, 1, 20, 25, overlap="replace")
    path = crash(first)
    with pytest.raises(LabelsError, match="wider type"):
        annotate(viewers, pixels, folder, labels=np.zeros(SHAPE, np.uint16), restore=True)
    second = annotate(viewers, pixels, folder)
    assert [one.path for one in second.journal.unfinished()] == [path]


def test_what_bound_labels_held_finds_room(viewers: list[ViewerModel], pixels: Any, folder: Path) -> None:
    labels = np.zeros(SHAPE, np.int32)
    labels[1, 20:22, 20:22], labels[1, 50:, 80:] = 5, 70000
    first = annotate(viewers, pixels, folder, labels=labels)
    first.reopen(5)
    put(first, 1, 20, 20)
    crash(first)
    second = annotate(viewers, pixels, folder, restore=True)
    assert (second.labels.data == first.labels.data).all()


def test_restoring_over_commits_is_refused(viewers: list[ViewerModel], pixels: Any, folder: Path) -> None:
    crash_of = annotate(viewers, pixels, folder)
    put(crash_of, 1, 20, 20)
    crash(crash_of)
    second = annotate(viewers, pixels, folder)
    put(second, 1, 40, 40)
    before = second.labels.data.copy()
    with pytest.raises(LabelsError, match="committed here already"):
        second.journal.restore(second.journal.unfinished()[0])
    assert (second.labels.data == before).all()


def test_other_labels_get_a_journal_of_their_own(viewers: list[ViewerModel], pixels: Any, folder: Path) -> None:
    annotator = annotate(viewers, pixels, folder)
    put(annotator, 1, 20, 20)
    first = annotator.journal.path
    annotator.set_labels(None)
    put(annotator, 1, 40, 40)
    assert annotator.journal.path != first
    assert len(list(folder.iterdir())) == 2


def test_a_torn_last_line_is_ignored_and_gone_on_after(viewers: list[ViewerModel], pixels: Any, folder: Path) -> None:
    first = annotate(viewers, pixels, folder)
    put(first, 1, 20, 20)
    before = first.labels.data.copy()
    put(first, 1, 40, 60)
    path = crash(first)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 40])
    second = annotate(viewers, pixels, folder, restore=True)
    assert (second.labels.data == before).all()
    put(second, 1, 40, 60)
    assert (read_journal(path).labels() == second.labels.data).all()


def test_a_journal_that_is_cut_anywhere_gives_what_was_whole(
    viewers: list[ViewerModel], pixels: Any, folder: Path
) -> None:
    first = annotate(viewers, pixels, folder)
    work(first)
    path = crash(first)
    content, known = path.read_bytes(), read_journal(path).entries
    for end in range(0, len(content), 97):
        path.write_bytes(content[:end])
        lines = content[:end].count(b"\n")
        if not lines:
            with pytest.raises(JournalError, match="is no journal"):
                read_journal(path)
            continue
        recorded = read_journal(path).check()
        assert recorded.entries == known[: lines - 1]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"shape":[4', '"shop":[4'),
        ('"mask":"', '"mask":"!!'),
        ('"pixels":[{"id"', '"pixels":[{"di"'),
        ('"box":[', '"box":[1,'),
        ('"kind":"point"', '"kin":"point"'),
        ('"model":{', '"modell":{'),
    ],
)
def test_a_damaged_journal_changes_nothing(
    viewers: list[ViewerModel], pixels: Any, folder: Path, old: str, new: str
) -> None:
    first = annotate(viewers, pixels, folder)
    put(first, 1, 20, 20)
    put(first, 1, 40, 60)
    path = crash(first)
    content = path.read_text()
    assert old in content
    path.write_text(new.join(content.rsplit(old, 1)))
    second = annotate(viewers, pixels, folder)
    with pytest.raises(JournalError, match="damaged"):
        second.journal.restore(read_journal(path))
    assert not second.labels.data.any()
    put(second, 1, 20, 20)
    assert second.journal.path != path


def test_two_viewers_on_one_image_keep_a_journal_each(viewers: list[ViewerModel], pixels: Any, folder: Path) -> None:
    both = [annotate(viewers, pixels, folder) for _ in range(2)]
    for annotator, col in zip(both, (20, 60), strict=True):
        put(annotator, 1, 20, col)
    for annotator in both:
        assert annotator.journal.path is not None
        assert (read_journal(annotator.journal.path).labels() == annotator.labels.data).all()
        annotator.close()
    third = annotate(viewers, pixels, folder)
    assert len(third.journal.earlier()) == 2


def test_other_pixels_of_the_image_begin_another_journal(viewers: list[ViewerModel], pixels: Any, folder: Path) -> None:
    annotator = annotate(viewers, pixels, folder)
    put(annotator, 1, 20, 20)
    first = annotator.journal.path
    annotator.image_layer.data = pixels + 1
    put(annotator, 1, 40, 60)
    assert annotator.journal.path != first
    recorded = read_journal(annotator.journal.path)  # type: ignore[arg-type]
    assert (recorded.labels() == annotator.labels.data).all()
    assert recorded.is_partial


def test_labels_that_were_replaced_are_rebuilt_where_work_went_on(
    viewers: list[ViewerModel], pixels: Any, folder: Path
) -> None:
    annotator = annotate(viewers, pixels, folder)
    put(annotator, 1, 20, 20)
    data = annotator.labels.data.copy()
    data[1, 50:] = 9
    annotator.labels.data = data
    put(annotator, 1, 40, 60)
    recorded = read_journal(annotator.journal.path)  # type: ignore[arg-type]
    assert (recorded.labels() == annotator.labels.data).all()


def test_going_on_with_other_weights_is_said(
    viewers: list[ViewerModel], pixels: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = annotate(viewers, pixels, folder)
    put(first, 1, 20, 20)
    crash(first)
    second = annotate(viewers, pixels, folder, restore=True)
    said: list[str] = []
    second.events.warned.connect(said.append)
    put(second, 1, 40, 60)
    assert said == []
    other = FakePredictor()
    other.weights = "another"
    monkeypatch.setattr(ModelChoice, "load", lambda *_: other)
    second.set_model(ModelChoice("another"))
    put(second, 1, 50, 10)
    assert len(said) == 1
    assert "other weights" in said[0]
    assert read_journal(second.journal.path).models == {"fake": "default", "another": "another"}  # type: ignore[arg-type]


def test_classes_are_steps_after_restoring_too(viewers: list[ViewerModel], pixels: Any, folder: Path) -> None:
    first = annotate(viewers, pixels, folder)
    put(first, 1, 20, 20)
    first.objects.set_class(1, "cell")
    crash(first)
    second = annotate(viewers, pixels, folder, restore=True)
    second.objects.set_class(1, "gap")
    second.undo()
    assert second.objects[1].class_name == "cell"
    second.undo()
    assert second.objects[1].class_name == ""
    second.redo()
    second.redo()
    path = crash(second)
    assert annotate(viewers, pixels, folder, restore=path).objects[1].class_name == "gap"


def test_a_journal_that_cannot_be_written_is_said_once(viewers: list[ViewerModel], pixels: Any, tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    annotator = annotate(viewers, pixels, blocked / "journals")
    said: list[str] = []
    annotator.events.warned.connect(said.append)
    put(annotator, 1, 20, 20)
    put(annotator, 1, 40, 60)
    assert len(annotator.objects) == 2
    assert len(said) == 1
    assert "cannot write the journal" in said[0]
    blocked.unlink()
    put(annotator, 1, 50, 10)
    recorded = read_journal(annotator.journal.path)  # type: ignore[arg-type]
    assert (recorded.labels() == annotator.labels.data).all()


def test_a_full_disk_leaves_no_torn_line(
    viewers: list[ViewerModel], pixels: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotator = annotate(viewers, pixels, folder)
    put(annotator, 1, 20, 20)
    writing = annotator.journal._journal
    assert writing is not None
    file = writing._file
    assert file is not None

    class Full:
        def __getattr__(self, name: str) -> Any:
            return getattr(file, name)

        def write(self, rest: Any) -> int:
            if len(rest) > 50:
                return file.write(rest[:50])
            raise OSError(28, "No space left on device")

    before = writing.path.read_bytes()
    writing._file = Full()  # type: ignore[assignment]
    put(annotator, 1, 40, 60)
    assert writing.path.read_bytes().startswith(before)
    assert len(writing.path.read_bytes().splitlines()) == len(before.splitlines())
    writing._file = file
    put(annotator, 1, 50, 10)
    assert (read_journal(writing.path).labels() == annotator.labels.data).all()


def test_where_journals_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert journal_folder(False) is None
    assert journal_folder() == Path(os.environ["NAPARI_SAM_JOURNALS"])
    assert journal_folder("beside", str(tmp_path / "image.tif")) == tmp_path
    assert journal_folder("beside") == journal_folder()
    assert journal_folder(str(tmp_path)) == tmp_path
    monkeypatch.delenv("NAPARI_SAM_JOURNALS")
    assert journal_folder().name == "journals"  # type: ignore[union-attr]


def test_no_journal_where_none_is_wanted(viewers: list[ViewerModel], pixels: Any) -> None:
    annotator = annotate(viewers, pixels, False)  # type: ignore[arg-type]
    put(annotator, 1, 20, 20)
    assert annotator.journal.path is None
    assert annotator.journal.earlier() == []


@pytest.mark.parametrize("text", ["", "no json\n", '{"format": "another"}\n'])
def test_files_that_are_no_journals(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    with pytest.raises(JournalError, match="is no journal"):
        read_journal(path)


def test_journals_of_later_versions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"format": "napari-sam-live journal", "version": 2}\n')
    with pytest.raises(JournalError, match="update napari-sam-live"):
        read_journal(path)


def test_edits_by_hand_are_journalled_and_so_is_taking_them_back(
    viewers: list[ViewerModel], pixels: Any, folder: Path
) -> None:
    annotator = annotate(viewers, pixels, folder)
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
