"""The objects that the labels hold: a table to pick from, and what can be done with the one that is picked."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from .parts import Buttons

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..objects import LabelledObject

COLUMNS = ("Id", "Class", "Pixels", "Score")
ID, CLASS, AREA, SCORE = range(4)
HEIGHT = 130
REOPEN = """Make the object pending again, its prompts too: click to change it, then commit.
Enter, or a double click in the list, does the same."""
BUTTONS = {
    "reopen": ("Re-open", REOPEN),
    "extend": ("Extend", "Let what you commit next, here or in other slices, go on under this object's id."),
    "similar": ("Find alike", "Propose the objects of this slice that look like it, to be corrected and committed."),
    "delete": ("Delete", "Remove the object from all slices.\nKey: Delete"),
}
NOTHING_COMMITTED = "What you commit is listed here, to be opened again, extended or deleted."
NOTHING_PICKED = "no object is picked in the list."


class ObjectList(QWidget):
    """Shows objects; says what was asked for one of them."""

    asked = Signal(str, int)

    def __init__(self) -> None:
        super().__init__()
        self._table = _Table()
        self._buttons = Buttons(BUTTONS, 2)
        self._lay_out()
        self._table.itemSelectionChanged.connect(self._show_obstacles)
        self._table.itemActivated.connect(partial(self._ask, "reopen"))
        self._table.delete_pressed.connect(partial(self._ask, "delete"))
        self._buttons.asked.connect(self._ask)
        self._show_obstacles()

    def value(self) -> int | None:
        """Return the id of the object that is picked."""
        items = self._table.selectedItems()
        return int(items[0].data(ID, Qt.ItemDataRole.DisplayRole)) if items else None

    def setValue(self, object_id: int | None) -> None:
        """Pick an object, without telling."""
        for row in range(self._table.topLevelItemCount()):
            if (item := self._table.topLevelItem(row)) is not None:
                item.setSelected(item.data(ID, Qt.ItemDataRole.DisplayRole) == object_id)

    def set_objects(
        self, objects: Iterable[LabelledObject], colours: Mapping[str, str], extended: int | None = None
    ) -> None:
        """Show these objects, with the colour of their class; `extended` is the one that the next commit goes on."""
        picked = self.value()
        self._table.setSortingEnabled(False)
        self._table.clear()
        self._table.addTopLevelItems([_line(one, colours, is_extended=one.id == extended) for one in objects])
        self._table.setSortingEnabled(True)
        self.setValue(picked)
        self.button("extend").setChecked(extended is not None)
        self._show_obstacles()

    def button(self, name: str) -> QPushButton:
        """Return the button of an action."""
        return self._buttons.button(name)

    def _lay_out(self) -> None:
        self._table.setFixedHeight(HEIGHT)
        self.button("extend").setCheckable(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self._table)
        layout.addWidget(self._buttons)

    def _ask(self, name: str, *_: object) -> None:
        if (object_id := self.value()) is not None:
            self.asked.emit(name, object_id)

    def _show_obstacles(self) -> None:
        self._buttons.set_obstacle(NOTHING_PICKED if self.value() is None else "")


class _Table(QTreeWidget):
    """The lines; tells of the one key that trees leave unused."""

    delete_pressed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setColumnCount(len(COLUMNS))
        self.setHeaderLabels(COLUMNS)
        self.setRootIsDecorated(False)
        self.setUniformRowHeights(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setSortingEnabled(True)
        self.sortByColumn(ID, Qt.SortOrder.AscendingOrder)
        if (header := self.header()) is not None:
            header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            header.setSectionResizeMode(CLASS, QHeaderView.ResizeMode.Stretch)
            header.setStretchLastSection(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def paintEvent(self, event: Any) -> None:
        """Say in the empty table what it is for."""
        super().paintEvent(event)
        if (viewport := self.viewport()) is not None and not self.topLevelItemCount():
            painter = QPainter(viewport)
            colour = self.palette().text().color()
            colour.setAlpha(150)
            painter.setPen(colour)
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(viewport.rect().adjusted(8, 8, -8, -8), flags, NOTHING_COMMITTED)

    def keyPressEvent(self, event: object) -> None:
        """Take Delete, and leave the rest to Qt."""
        if event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):  # type: ignore[attr-defined]
            self.delete_pressed.emit()
        else:
            super().keyPressEvent(event)  # type: ignore[arg-type]


def _line(one: LabelledObject, colours: Mapping[str, str], *, is_extended: bool) -> QTreeWidgetItem:
    item = QTreeWidgetItem()
    # Numbers as numbers: they sort as such.
    item.setData(ID, Qt.ItemDataRole.DisplayRole, int(one.id))
    item.setData(AREA, Qt.ItemDataRole.DisplayRole, int(one.area))
    if one.score is not None:
        item.setText(SCORE, f"{one.score:.2f}")  # as many digits each, which sort as numbers do
    item.setText(CLASS, one.class_name)
    if one.class_name in colours:
        item.setIcon(CLASS, swatch(colours[one.class_name]))
    slices = f" in {len(one.slices)} slices" if len(one.slices) > 1 else ""
    for column in range(len(COLUMNS)):
        item.setToolTip(column, f"Object {one.id}: {one.area} px{slices}")
        font = item.font(column)
        font.setBold(is_extended)
        item.setFont(column, font)
    return item


def swatch(colour: str) -> QIcon:
    """Return a small square of a colour."""
    pixmap = QPixmap(12, 12)
    pixmap.fill(QColor(colour))
    return QIcon(pixmap)
