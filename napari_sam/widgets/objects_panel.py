"""What was committed: objects and classes, how commits treat earlier objects, restoring, and export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from ..bridge.export import export_journal, export_labels, export_objects
from ..bridge.objects import go_to_object
from ..errors import JournalError, NapariSamError
from ..journal import Recorded, Unreadable, dismiss
from ..objects import Mode, Overlap, OverlapQuestion
from .class_picker import ClassPicker
from .object_list import ObjectList
from .parts import Complaint, Section, explain, narrow
from .question import Question

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..bridge.controller import Controller

MODES = {Mode.INSTANCE: "one id for each object", Mode.SEMANTIC: "one value for each class"}
OVERLAPS = {
    Overlap.KEEP: "keep earlier objects",
    Overlap.REPLACE: "replace earlier objects",
    Overlap.ASK: "ask about earlier objects",
}
EXPORTS = {
    "Labels": ("The labels as OME-TIFF", "labels.ome.tif", "OME-TIFF (*.tif *.tiff)", export_labels),
    "Table": ("The objects as a table: class, area, score, place", "objects.csv", "CSV (*.csv)", export_objects),
    "Journal": ("All that was done: prompts, models, masks", "journal.jsonl", "Journal (*.jsonl)", export_journal),
}
NO_IMAGE = "no image is being annotated."


class ObjectsPanel(QWidget):
    """Shows what one annotation holds, and hands on what is asked; `failed` tells what is not possible."""

    failed = Signal(object)
    overlap_picked = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._shown: Controller | None = None
        self._recorded: Recorded | None = None
        self._title, self._classes, self._list = QLabel("Objects"), ClassPicker(), ObjectList()
        self._mode, self._overlap, self._complaint = _box(MODES), _box(OVERLAPS), Complaint()
        self._overlaps = Question({"keep": "Keep", "replace": "Replace", "": "Cancel"})
        self._restore = Question({"restore": "Restore", "dismiss": "Never", "": "Not now"})
        self._exports = {name: QPushButton(f"{name}\N{HORIZONTAL ELLIPSIS}") for name in EXPORTS}
        self._lay_out()
        self._connect_parts()
        self.set_annotator(None)

    def set_annotator(self, annotator: Controller | None) -> None:
        """Show another annotation, or none."""
        if self._shown is not None:
            for signal, answer in self._connections(self._shown):
                signal.disconnect(answer)
        self._shown = annotator
        if annotator is not None:
            for signal, answer in self._connections(annotator):
                signal.connect(answer)
        self._overlaps.ask("")
        self._complaint.setText("")
        self._offer_to_restore()
        self.refresh()

    def refresh(self) -> None:
        """Read the objects again."""
        annotator = self._shown
        self._classes.setEnabled(annotator is not None)
        self._list.setEnabled(annotator is not None)
        self._show_choices()
        if annotator is None:
            self._list.set_objects((), {})
            self._classes.set_classes((), "", needs_class=False)
        else:
            objects, table = list(annotator.objects), annotator.objects
            self._list.set_objects(objects, {one.name: one.colour for one in table.classes}, table.selected)
            needs_class = table.mode is Mode.SEMANTIC
            self._classes.set_classes(table.classes, table.current_class, needs_class=needs_class)
            self._title.setText(f"Objects ({len(objects)})")
        for name, button in self._exports.items():
            explain(button, EXPORTS[name][0], "" if annotator is not None else NO_IMAGE)

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.addWidget(self._title)
        head.addWidget(self._classes, 1)
        exports = QHBoxLayout()
        exports.addWidget(QLabel("Export"))
        for button in self._exports.values():
            exports.addWidget(button, 1)
        ways = QWidget()
        ways_layout = QVBoxLayout(ways)
        ways_layout.setContentsMargins(0, 0, 0, 0)
        ways_layout.addWidget(self._overlap)
        ways_layout.addWidget(self._mode)
        self._mode.setToolTip("What the numbers in the labels mean; fixed once something is committed")
        self._overlap.setToolTip("What a commit does with pixels that belong to an earlier object")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._restore)
        layout.addWidget(self._overlaps)
        layout.addLayout(head)
        layout.addWidget(self._list)
        layout.addWidget(self._complaint)
        layout.addWidget(Section("When committing", ways, "What a commit writes, and over what"))
        layout.addLayout(exports)

    def _connect_parts(self) -> None:
        self._list.asked.connect(self._on_object_asked)
        self._classes.changed.connect(self._on_class_picked)
        self._classes.added.connect(self._on_class_added)
        self._classes.coloured.connect(self._on_class_coloured)
        self._mode.activated.connect(self._on_mode_picked)
        self._overlap.activated.connect(self._on_overlap_picked)
        self._overlaps.answered.connect(self._on_overlap_answered)
        self._restore.answered.connect(self._on_restore_answered)
        for name, button in self._exports.items():
            button.clicked.connect(lambda _checked=False, name=name: self._on_export_asked(name))

    def _connections(self, annotator: Controller) -> list[tuple[Any, Callable[..., None]]]:
        events = annotator.events
        return [
            (events.objects_changed, self._on_objects_changed),
            (events.overlap_asked, self._on_overlap_asked),
            (events.status_changed, self._on_status_changed),
        ]

    # What people pick

    def _on_object_asked(self, name: str, object_id: int) -> None:
        if (annotator := self._shown) is None:
            return
        if name == "delete":
            self._try(lambda: annotator.objects.delete(object_id))
        elif name == "extend":
            is_extended = annotator.objects.selected == object_id
            self._try(lambda: annotator.objects.select(None if is_extended else object_id))
            self.refresh()
        elif name == "similar":
            self._try(lambda: annotator.views.find_similar(object_id))
        else:
            self._try(lambda: go_to_object(annotator, object_id))
            self._try(lambda: annotator.reopen(object_id))

    def _on_class_picked(self, name: str) -> None:
        if (annotator := self._shown) is None:
            return
        picked = self._list.value()

        def choose() -> None:
            annotator.objects.current_class = name
            if picked is not None and annotator.objects.mode is Mode.INSTANCE:
                annotator.objects.set_class(picked, name)

        self._try(choose)
        self.refresh()

    def _on_class_added(self, name: str) -> None:
        if (annotator := self._shown) is not None:
            self._try(lambda: annotator.objects.add_class(name))
            self._on_class_picked(name)

    def _on_class_coloured(self, name: str, colour: str) -> None:
        if (annotator := self._shown) is not None:
            self._try(lambda: annotator.objects.set_colour(name, colour))

    def _on_mode_picked(self, index: int) -> None:
        if (annotator := self._shown) is not None:
            self._try(lambda: annotator.objects.set_mode(list(MODES)[index]))
        self.refresh()

    def _on_overlap_picked(self, index: int) -> None:
        if self._shown is not None:
            self._shown.overlap = list(OVERLAPS)[index]
            self.overlap_picked.emit(self._shown.overlap)

    def _on_overlap_answered(self, answer: str) -> None:
        if (annotator := self._shown) is not None and answer:
            self._try(lambda: annotator.commit(answer))

    def _on_restore_answered(self, answer: str) -> None:
        annotator, recorded = self._shown, self._recorded
        if annotator is None or recorded is None:
            return
        if answer == "restore":
            self._try(lambda: annotator.journal.restore(recorded))
        elif answer == "dismiss":
            self._try(lambda: dismiss(recorded))
        self.refresh()

    def _on_export_asked(self, name: str) -> None:
        if (annotator := self._shown) is None:
            return
        about, file, kinds, export = EXPORTS[name]
        path, _ = QFileDialog.getSaveFileName(self, about, f"{annotator.image_layer.name}_{file}", kinds)
        if path:
            self._try(lambda: export(annotator, path))

    def _try(self, call: Callable[[], Any]) -> None:
        self._complaint.setText("")
        try:
            call()
        except NapariSamError as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        self._complaint.setText(str(error))
        self.failed.emit(error)

    # What happens elsewhere

    def _on_objects_changed(self) -> None:
        self._complaint.setText("")
        if self._shown is not None and self._shown.journal.path is not None:
            self._restore.ask("")  # what was begun anew cannot go on with something earlier
        self.refresh()

    def _on_overlap_asked(self, question: OverlapQuestion) -> None:
        ids = ", ".join(map(str, question.object_ids[:5])) + (" and more" if len(question.object_ids) > 5 else "")
        self._overlaps.ask(f"{question.pixels} pixels belong to earlier objects ({ids}). Keep or replace them?")

    def _on_status_changed(self) -> None:
        if self._shown is not None and self._shown.overlap_question is None:
            self._overlaps.ask("")

    # What is shown

    def _offer_to_restore(self) -> None:
        """Offer the latest annotation of this image that was cut off, unless this one has begun already."""
        self._recorded = None
        if (annotator := self._shown) is not None and annotator.journal.path is None and not len(annotator.objects):
            try:
                found = annotator.journal.found()
                self._recorded = next((one for one in found if isinstance(one, Recorded) and not one.is_finished), None)
                if found and isinstance(found[0], Unreadable):
                    self._complain(found[0].error)
            except (JournalError, OSError) as error:
                self._complain(error)
        if self._recorded is None:
            self._restore.ask("")
        else:
            time = self._recorded.last_time.replace("T", " ")[:16]
            self._restore.ask(f"An annotation of this image was cut off ({time}). Go on with it?")

    def _show_choices(self) -> None:
        annotator = self._shown
        for box in (self._mode, self._overlap):
            box.setEnabled(annotator is not None)
        if annotator is not None:
            self._mode.setCurrentIndex(list(MODES).index(annotator.objects.mode))
            self._overlap.setCurrentIndex(list(OVERLAPS).index(annotator.overlap))


def _box(choices: Mapping[Any, str]) -> QComboBox:
    box = QComboBox()
    box.addItems(list(choices.values()))
    narrow(box)
    return box
