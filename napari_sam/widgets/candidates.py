"""The masks that are offered for the active object, as small pictures with their scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QLabel, QToolButton, QWidget

from ..bridge.keys import in_words, keys_in_use

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ..masks import Mask

MOST = 3
SIDE = 64
DETAIL = 2
"""Pixels of a picture for each of the dock's, for screens that show them."""
INSIDE, OUTSIDE = 0xFF2AA8FF, 0xFF0E1014
STYLE = """
QToolButton { border: 2px solid transparent; border-radius: 4px; padding: 2px; }
QToolButton:hover, QToolButton:focus { border-color: #7f8794; }
QToolButton:checked { border-color: #2aa8ff; font-weight: bold; }
"""


class CandidateStrip(QWidget):
    """Shows candidates in their order, the chosen one pressed."""

    chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._key = in_words(keys_in_use()["next_candidate"])
        self._group = QButtonGroup(self)
        self._buttons = [QToolButton() for _ in range(MOST)]
        self._hint = QLabel()
        self._lay_out()
        self._group.idClicked.connect(self.chosen)
        self.set_candidates((), None)

    def value(self) -> int | None:
        """Return the index of the chosen candidate."""
        return None if self._group.checkedId() < 0 else self._group.checkedId()

    def set_candidates(self, candidates: Sequence[tuple[Mask, float]], chosen: int | None) -> None:
        """Show (mask, score) pairs, at most three, and which of them is chosen."""
        candidates = candidates[:MOST]
        self._hint.setVisible(not candidates)
        self._group.setExclusive(False)  # else the last pressed button could not be released
        pictures = thumbnails([mask for mask, _ in candidates])
        for index, button in enumerate(self._buttons):
            button.setVisible(index < len(candidates))
            button.setChecked(index == chosen)
            if index < len(candidates):
                mask, score = candidates[index]
                button.setIcon(_icon(pictures[index]))
                button.setText(f"{score:.2f}")
                button.setToolTip(
                    f"Candidate {index + 1} of {len(candidates)}: {mask.area} px, predicted IoU {score:.2f}\n"
                    f"Key: {self._key} chooses the next one."
                )
        self._group.setExclusive(True)

    def set_hint(self, hint: str) -> None:
        """Say what to do while there is no candidate."""
        self._hint.setText(hint)

    def _lay_out(self) -> None:
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self._hint, 1, Qt.AlignmentFlag.AlignTop)
        self._hint.setWordWrap(True)
        self.setStyleSheet(STYLE)
        for index, button in enumerate(self._buttons):
            button.setCheckable(True)
            button.setIconSize(QSize(SIDE, SIDE))
            button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
            button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            self._group.addButton(button, index)
            layout.addWidget(button)
        layout.addStretch(0)
        self.setFixedHeight(SIDE + self.fontMetrics().height() + 20)  # as high without candidates as with


def thumbnails(masks: Sequence[Mask]) -> list[NDArray[np.bool_]]:
    """Return a small square picture of each mask, all of the same part of the image: the box of all of them."""
    boxes = np.array([mask.bbox for mask in masks if mask.area]).reshape(-1, 4)
    if not len(boxes):
        return [np.zeros((1, 1), bool) for _ in masks]
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    side = 1.2 * (high - low).max()
    start = (low + high - side) / 2
    positions = np.floor(start[:, None] + (np.arange(SIDE * DETAIL) + 0.5) * side / (SIDE * DETAIL)).astype(int)
    return [_sample(mask, positions[0], positions[1]) for mask in masks]


def _sample(mask: Mask, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return the pixels of a mask at `rows` and `cols`, which may lie outside the image."""
    row0, col0, row1, col1 = mask.bbox
    picture = np.zeros((len(rows), len(cols)), bool)
    in_rows, in_cols = (rows >= row0) & (rows < row1), (cols >= col0) & (cols < col1)
    picture[np.ix_(in_rows, in_cols)] = mask.crop[np.ix_(rows[in_rows] - row0, cols[in_cols] - col0)]
    return picture


def _icon(picture: NDArray[np.bool_]) -> QIcon:
    pixels = np.ascontiguousarray(np.where(picture, np.uint32(INSIDE), np.uint32(OUTSIDE)))
    height, width = pixels.shape
    image = QImage(pixels.tobytes(), width, height, 4 * width, QImage.Format.Format_RGB32)
    return QIcon(QPixmap.fromImage(image.copy()))  # else the icon would read the array when that is gone
