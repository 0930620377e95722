"""What a user does to the dock, and where its parts are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from annotating import SHAPE
from fakes import PATIENCE
from napari import Viewer
from napari.layers import Image
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication, QComboBox, QPushButton

from napari_sam.bridge.controller import Controller
from napari_sam.widgets.dock import SegmentAnythingDock

LEFT = Qt.MouseButton.LeftButton
WAIT = int(1000 * PATIENCE)

Opener = Callable[[], SegmentAnythingDock]


def new_image(viewer: Viewer, name: str = "image") -> Image:
    return viewer.add_image(np.zeros(SHAPE, np.uint8), name=name)


def annotator_of(widget: SegmentAnythingDock) -> Controller:
    annotator = widget.annotator
    assert annotator is not None
    annotator.wait(PATIENCE)
    return annotator


def press(qtbot: QtBot, widget: SegmentAnythingDock, text: str) -> None:
    found = next(each for each in widget.findChildren(QPushButton) if each.text().strip().startswith(text))
    assert found.isEnabled(), found.toolTip()
    qtbot.mouseClick(found, LEFT)


def boxes(widget: SegmentAnythingDock) -> dict[str, QComboBox]:
    names = ("image", "model", "device", "precision", "profile", "labels")
    order = widget._image, widget._model, widget._model.details, widget._labels
    return dict(zip(names, (box for part in order for box in part.findChildren(QComboBox)), strict=True))


def names(box: QComboBox) -> list[str]:
    return [box.itemText(row) for row in range(box.count())]


def drop(widget: SegmentAnythingDock, *files: Path) -> bool:
    """Drag files over the dock and, where it takes them, drop them; return whether it did."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(file)) for file in files])
    copy, keys = Qt.DropAction.CopyAction, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(QPoint(5, 5), copy, data, LEFT, keys)
    QApplication.sendEvent(widget, enter)
    if enter.isAccepted():
        QApplication.sendEvent(widget, QDropEvent(QPointF(5, 5), copy, data, LEFT, keys))
    return enter.isAccepted()
