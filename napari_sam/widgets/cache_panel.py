"""How much is kept of what was encoded: a sentence, a box to tick and a button to clear it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from .. import embedding_cache
from ..embedding_cache import CacheSettings
from .parts import Complaint, explain, wrapped_text

KEEP = "Keep embeddings on disk"
ABOUT = (
    "What the encoder made of an image is kept, so that the image need not be encoded again: features, no pixels and "
    "no names, in the folder\n{}"
)
CLEAR = "Remove all that is kept, on disk and in memory; images are encoded again when they are needed"


class CachePanel(QWidget):
    """Shows and sets what `napari-sam cache` does."""

    def __init__(self) -> None:
        super().__init__()
        self._keep, self._clear = QCheckBox(KEEP), QPushButton("Empty")
        self._usage, self._complaint = wrapped_text(), Complaint()
        row = QHBoxLayout()
        row.addWidget(self._keep, 1)
        row.addWidget(self._clear)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self._usage)
        layout.addWidget(self._complaint)
        self._keep.setToolTip(ABOUT.format(embedding_cache.embeddings_folder()))
        self._keep.clicked.connect(self._on_keep_picked)
        self._clear.clicked.connect(self._on_clear_asked)

    def usage(self) -> str:
        """Return what is said of how much is kept."""
        return self._usage.text()

    def complaint(self) -> str:
        """Return what could not be done."""
        return self._complaint.text()

    def refresh(self) -> None:
        """Look again how much is kept."""
        settings = CacheSettings.load()
        here = embedding_cache.shared_cache().usage()
        stored = embedding_cache.DiskStore(embedding_cache.embeddings_folder(), settings.disk_budget).usage()
        entries, size = stored
        words = "1 embedding" if entries == 1 else f"{entries} embeddings"
        self._usage.setText(
            f"{words} on disk, {_megabytes(size)} of {_megabytes(settings.disk_budget)}; "
            f"{_megabytes(here.memory_bytes)} in memory."
        )
        self._keep.setChecked(settings.on_disk)
        explain(self._clear, CLEAR, "" if entries or here.memory_bytes else "nothing is kept.")

    def showEvent(self, event: Any) -> None:
        """Look when somebody does."""
        super().showEvent(event)
        self.refresh()

    def _on_keep_picked(self, wanted: bool) -> None:
        self._complaint.setText("")
        try:
            embedding_cache.configure(replace(CacheSettings.load(), on_disk=wanted))
        except OSError as error:
            self._complaint.setText(
                f"{embedding_cache.settings_path()} cannot be written ({error.strerror or error}): make it writable."
            )
        self.refresh()

    def _on_clear_asked(self) -> None:
        self._complaint.setText("")
        embedding_cache.clear()
        self.refresh()


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.0f} MB" if size < 2**30 else f"{size / 2**30:.1f} GB"
