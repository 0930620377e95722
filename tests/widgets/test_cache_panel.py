"""The dock's part about what is kept of encoded images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QPushButton

from napari_sam import embedding_cache
from napari_sam.embedding_cache import CacheSettings, shared_cache
from napari_sam.widgets.cache_panel import CachePanel

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "config" / "cache.json"
    monkeypatch.setattr(embedding_cache, "settings_path", lambda: path)
    monkeypatch.setenv(embedding_cache.FOLDER_VARIABLE, str(tmp_path / "store"))
    shared_cache.cache_clear()
    yield path
    shared_cache.cache_clear()


@pytest.fixture
def panel(qtbot: QtBot) -> CachePanel:
    shared_cache().put("a", np.zeros(1 << 19, np.float32))
    made = CachePanel()
    qtbot.addWidget(made)
    made.show()
    return made


def test_it_says_how_much_is_kept_and_clears_it(panel: CachePanel, qtbot: QtBot) -> None:
    assert panel.usage() == "1 embedding on disk, 2 MB of 2.0 GB; 2 MB in memory."
    clear = panel.findChild(QPushButton)
    qtbot.mouseClick(clear, LEFT)
    assert panel.usage() == "0 embeddings on disk, 0 MB of 2.0 GB; 0 MB in memory."
    assert shared_cache().get("a") is None
    assert not clear.isEnabled()


def test_the_store_is_turned_off_for_good_and_on_again(panel: CachePanel) -> None:
    box = panel.findChild(QCheckBox)
    assert box.isChecked()
    box.click()
    assert not CacheSettings.load().on_disk
    shared_cache().put("b", np.zeros(8, np.float32))
    assert shared_cache().disk is None
    assert panel.usage().startswith("1 embedding on disk")  # it still is there, and can be cleared
    box.click()
    assert CacheSettings.load().on_disk
    assert shared_cache().disk is not None


def test_settings_that_cannot_be_written_are_said_and_the_box_shows_how_it_is(
    panel: CachePanel, settings: Path
) -> None:
    settings.parent.write_text("a file where the folder should be")
    box = panel.findChild(QCheckBox)
    box.click()
    assert str(settings) in panel.complaint()
    assert box.isChecked() is CacheSettings.load().on_disk
