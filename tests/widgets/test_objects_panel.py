"""Objects, classes, overlap, restoring and export in the dock, by its buttons and boxes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotating import SHAPE, Begin
from fakes import PATIENCE, FakePredictor
from napari.components import ViewerModel
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QPushButton, QTreeWidget

import napari_sam
from napari_sam.bridge.controller import Controller
from napari_sam.bridge.views import Views
from napari_sam.objects import Mode, Overlap
from napari_sam.widgets.objects_panel import EXPORTS, ObjectsPanel

PLACES = [(15, 20), (15, 70), (45, 45)]


@pytest.fixture
def start(predictor: FakePredictor, tmp_path: Path) -> Iterator[Begin]:
    made: list[Controller] = []

    def annotate(shape: tuple[int, ...] = SHAPE) -> Controller:
        viewer = ViewerModel()
        viewer.add_image(np.arange(np.prod(shape), dtype=np.uint16).reshape(shape))
        made.append(napari_sam.annotate(viewer, journal=tmp_path))
        return made[-1]

    yield annotate
    for controller in made:
        controller.close()


@pytest.fixture
def panel(qtbot: QtBot) -> ObjectsPanel:
    made = ObjectsPanel()
    qtbot.addWidget(made)
    return made


@pytest.fixture
def failures(panel: ObjectsPanel) -> list[str]:
    said: list[str] = []
    panel.failed.connect(lambda error: said.append(str(error)))
    return said


def commit(annotator: Controller, place: tuple[float, ...]) -> None:
    annotator.points.add([place])
    annotator.wait(PATIENCE)
    annotator.choose(0)
    annotator.commit_as_chosen()


def lines(panel: ObjectsPanel) -> list[list[str]]:
    table = panel.findChild(QTreeWidget)
    rows = (table.topLevelItem(row) for row in range(table.topLevelItemCount()))
    return [[row.text(column) for column in range(4)] for row in rows]


def press(panel: ObjectsPanel, text: str) -> None:
    button = next(each for each in panel.findChildren(QPushButton) if each.text().startswith(text))
    assert button.isEnabled(), button.toolTip()
    button.click()


def test_objects_are_listed_with_class_area_and_score(start: Any, panel: ObjectsPanel) -> None:
    annotator = start()
    panel.set_annotator(annotator)
    commit(annotator, PLACES[0])
    annotator.objects.add_class("nucleus")
    annotator.objects.current_class = "nucleus"
    commit(annotator, PLACES[1])
    area = str((annotator.labels.data == 1).sum())
    assert lines(panel) == [["1", "", area, "0.50"], ["2", "nucleus", area, "0.50"]]
    annotator.undo()
    assert len(lines(panel)) == 1
    panel.set_annotator(None)
    assert lines(panel) == []


def test_without_a_picked_object_the_buttons_say_why(start: Any, panel: ObjectsPanel) -> None:
    panel.set_annotator(start())
    for name in ("reopen", "extend", "delete"):
        assert not panel._list.button(name).isEnabled()
        assert "picked" in panel._list.button(name).toolTip()


def test_delete_removes_the_picked_object_and_undo_brings_it_back(start: Any, panel: ObjectsPanel) -> None:
    annotator = start()
    panel.set_annotator(annotator)
    for place in PLACES:
        commit(annotator, place)
    panel._list.setValue(2)
    press(panel, "Delete")
    assert set(np.unique(annotator.labels.data)) == {0, 1, 3}
    annotator.undo()
    assert [line[0] for line in lines(panel)] == ["1", "2", "3"]


def test_a_double_click_reopens_in_the_slice_where_the_object_lies(
    start: Any, panel: ObjectsPanel, qtbot: QtBot
) -> None:
    annotator = start((5, *SHAPE))
    panel.set_annotator(annotator)
    annotator.viewer.dims.set_current_step(0, 3)
    commit(annotator, (3, *PLACES[0]))
    annotator.viewer.dims.set_current_step(0, 0)
    panel._list.setValue(1)
    table = panel.findChild(QTreeWidget)
    table.itemActivated.emit(table.topLevelItem(0), 0)
    annotator.wait(PATIENCE)
    assert annotator.viewer.dims.current_step[0] == 3
    assert annotator.points.data.tolist() == [[3, *PLACES[0]]]
    assert annotator.preview.data.any()


def test_the_delete_key_works_in_the_list(start: Any, panel: ObjectsPanel, qtbot: QtBot) -> None:
    annotator = start()
    panel.set_annotator(annotator)
    commit(annotator, PLACES[0])
    panel._list.setValue(1)
    qtbot.keyClick(panel.findChild(QTreeWidget), Qt.Key.Key_Delete)
    assert not annotator.labels.data.any()


def test_extend_goes_on_under_the_id_until_it_is_pressed_again(start: Any, panel: ObjectsPanel) -> None:
    annotator = start((3, *SHAPE))
    annotator.viewer.dims.set_current_step(0, 0)
    panel.set_annotator(annotator)
    commit(annotator, (0, *PLACES[0]))
    panel._list.setValue(1)
    press(panel, "Extend")
    assert annotator.objects.selected == 1
    annotator.viewer.dims.set_current_step(0, 1)
    commit(annotator, (1, *PLACES[0]))
    assert set(np.unique(annotator.labels.data)) == {0, 1}
    press(panel, "Extend")
    assert annotator.objects.selected is None
    assert not panel._list.button("extend").isChecked()


def test_a_typed_class_is_made_and_given_to_the_picked_object(start: Any, panel: ObjectsPanel, qtbot: QtBot) -> None:
    annotator = start()
    panel.set_annotator(annotator)
    commit(annotator, PLACES[0])
    panel._list.setValue(1)
    line = panel._classes._box.lineEdit()
    line.setText("nucleus")
    qtbot.keyClick(line, Qt.Key.Key_Return)
    assert annotator.objects.current_class == "nucleus"
    assert lines(panel)[0][1] == "nucleus"
    panel._classes._box.activated.emit(0)
    assert annotator.objects.current_class == ""
    assert lines(panel)[0][1] == ""


def test_a_mode_that_comes_too_late_is_an_error_and_is_not_shown(
    start: Any, panel: ObjectsPanel, failures: list[str]
) -> None:
    annotator = start()
    panel.set_annotator(annotator)
    commit(annotator, PLACES[0])
    panel._mode.setCurrentIndex(1)
    panel._mode.activated.emit(1)
    assert "choose new labels" in failures[0]
    assert annotator.objects.mode is Mode.INSTANCE
    assert panel._mode.currentIndex() == 0


@pytest.mark.parametrize(("answer", "left"), [("Keep", {1}), ("Replace", {2}), ("Cancel", {1})])
def test_asking_about_earlier_objects(start: Any, panel: ObjectsPanel, answer: str, left: set[int]) -> None:
    annotator = start()
    panel.set_annotator(annotator)
    commit(annotator, PLACES[0])
    panel._overlap.activated.emit(2)
    assert annotator.overlap is Overlap.ASK
    commit(annotator, PLACES[0])
    assert "earlier objects (1)" in panel._overlaps.text()
    press(panel, answer)
    assert panel._overlaps.text() == ""
    assert set(np.unique(annotator.labels.data)) - {0} == left


def test_a_question_goes_when_the_prompts_change(start: Any, panel: ObjectsPanel) -> None:
    annotator = start()
    panel.set_annotator(annotator)
    commit(annotator, PLACES[0])
    annotator.overlap = Overlap.ASK
    commit(annotator, PLACES[0])
    annotator.points.add([(20, 20)])
    assert panel._overlaps.text() == ""


@pytest.mark.parametrize(("answer", "is_back"), [("Restore", True), ("Never", False)])
def test_an_annotation_that_was_cut_off_can_be_restored(
    start: Any, panel: ObjectsPanel, monkeypatch: pytest.MonkeyPatch, answer: str, is_back: bool
) -> None:
    first = start()
    commit(first, PLACES[0])
    before = first.labels.data.copy()
    monkeypatch.setattr("napari_sam.journal.is_open", lambda _path: False)
    monkeypatch.setattr("napari_sam.journal._lock", lambda _file: True)
    second = start()
    panel.set_annotator(second)
    assert "cut off" in panel._restore.text()
    press(panel, answer)
    assert (second.labels.data == before).all() == is_back
    assert panel._restore.text() == ""


def test_what_was_cut_off_is_offered_no_more_once_something_is_committed(
    start: Any, panel: ObjectsPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(start(), PLACES[0])
    monkeypatch.setattr("napari_sam.journal.is_open", lambda _path: False)
    annotator = start()
    panel.set_annotator(annotator)
    assert "cut off" in panel._restore.text()
    commit(annotator, PLACES[1])
    assert panel._restore.text() == ""


def test_an_annotation_of_a_newer_version_is_told_of(
    start: Any, panel: ObjectsPanel, failures: list[str], tmp_path: Path
) -> None:
    first = start()
    commit(first, PLACES[0])
    first.close()
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text().replace('"version":1', '"version":2'))
    panel.set_annotator(start())
    assert len(failures) == 1
    assert str(path) in failures[0]
    assert panel._complaint.text() == failures[0]
    assert panel._restore.text() == ""


def test_others_like_the_object_that_is_picked_are_looked_for(
    start: Any, panel: ObjectsPanel, failures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[int] = []
    monkeypatch.setattr(Views, "find_similar", lambda _views, object_id: wanted.append(object_id))
    annotator = start()
    panel.set_annotator(annotator)
    commit(annotator, PLACES[0])
    commit(annotator, PLACES[1])
    panel._list.setValue(2)
    press(panel, "Find alike")
    assert wanted == [2]
    assert failures == []


def test_what_cannot_be_done_is_said_below_the_list_until_something_is(
    start: Any, panel: ObjectsPanel, failures: list[str]
) -> None:
    annotator = start((3, *SHAPE))
    panel.set_annotator(annotator)
    commit(annotator, (annotator.viewer.dims.current_step[0], *PLACES[0]))
    annotator.viewer.dims.set_current_step(0, 0)
    annotator.wait(PATIENCE)
    panel._list.setValue(1)
    press(panel, "Find alike")
    assert panel._complaint.text() == failures[0]
    assert "no pixel in this slice" in failures[0]
    annotator.undo()
    assert panel._complaint.text() == ""


@pytest.mark.parametrize("name", list(EXPORTS))
def test_exports_write_files(
    start: Any, panel: ObjectsPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: list[str], name: str
) -> None:
    annotator = start()
    panel.set_annotator(annotator)
    commit(annotator, PLACES[0])
    chosen = tmp_path / EXPORTS[name][1]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(chosen), ""))
    press(panel, name)
    assert failures == []
    assert chosen.stat().st_size > 0
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "no" / "where.xyz"), ""))
    press(panel, name)
    assert len(failures) == 1


def test_a_double_click_goes_to_an_object_in_a_transposed_view(start: Any, panel: ObjectsPanel) -> None:
    annotator = start((5, *SHAPE))
    panel.set_annotator(annotator)
    annotator.viewer.dims.set_current_step(0, 3)
    commit(annotator, (3, *PLACES[0]))
    annotator.viewer.dims.order = (1, 0, 2)
    annotator.viewer.dims.set_current_step(1, SHAPE[0] - 1)
    panel._list.setValue(1)
    table = panel.findChild(QTreeWidget)
    table.itemActivated.emit(table.topLevelItem(0), 0)
    annotator.wait(PATIENCE)
    assert annotator.preview.data.any()
    row = annotator.viewer.dims.current_step[1]
    assert row == np.nonzero(annotator.labels.data)[1].max()
    table.itemActivated.emit(table.topLevelItem(0), 0)
    assert annotator.viewer.dims.current_step[1] == row
