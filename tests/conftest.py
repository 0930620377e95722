"""What every test may rely on: a Qt that works, no display, no network, nobody's settings, nothing left running."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_HOME = tempfile.mkdtemp(prefix="napari-sam-tests-")
os.environ["NAPARI_CONFIG"] = ""  # else napari's own fixtures write into the settings of whoever runs the tests
os.environ["XDG_CACHE_HOME"] = str(Path(_HOME, "cache"))
os.environ["XDG_CONFIG_HOME"] = str(Path(_HOME, "config"))
os.environ["NAPARI_SAM_JOURNALS"] = str(Path(_HOME, "journals"))
os.environ["XDG_DATA_HOME"] = str(Path(_HOME, "data"))
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("OMP_NUM_THREADS", "2")  # torch's threads, said before it is imported: most tests need no torch

import gc
import shutil
import socket
import threading

import pytest
from fakes import FakePredictor

# Without a working Qt napari opens a stub of a window and every test of the viewer passes. It must fail here instead.
from qtpy.QtCore import QCoreApplication, QEvent, QThreadPool
from qtpy.QtWidgets import QApplication, QWidget

from napari_sam.worker import ModelChoice

OFFSCREEN = os.environ["QT_QPA_PLATFORM"] == "offscreen"
PATIENCE = 10.0
"""Seconds that a test's threads have to end after it."""


class AnswersForOpenGL:
    """Stands in for OpenGL, which Qt's offscreen platform lacks: answers the three questions that napari asks of it."""

    GL_EXTENSIONS, GL_MAX_TEXTURE_SIZE, GL_MAX_3D_TEXTURE_SIZE = 1, 2, 32883

    def glGetParameter(self, name: int) -> str | int:
        return {1: "GL_ARB_texture_float", 2: 16384, 32883: 2048}[name]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a window where there is none, so that plain `pytest` works everywhere."""
    if OFFSCREEN:
        without = [item for item in items if not item.get_closest_marker("pixels")]
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("pixels")])
        items[:] = without


def pytest_sessionfinish() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _opengl() -> Iterator[None]:
    import napari._vispy.utils.gl as napari_gl

    with pytest.MonkeyPatch.context() as patch:
        if OFFSCREEN:
            patch.setattr(napari_gl, "gl", AnswersForOpenGL())
        yield


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that reaches out."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else "localhost"
        if host not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to connect to {address}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    """Fail a test that leaves a thread behind, or work in Qt's pool."""
    before = set(threading.enumerate())
    yield
    new = [thread for thread in threading.enumerate() if thread not in before and not _is_shared(thread)]
    for thread in new:
        thread.join(PATIENCE / len(new))
    left = [thread.name for thread in new if thread.is_alive()]
    assert not left, f"threads left running: {left}"
    assert QThreadPool.globalInstance().waitForDone(int(1000 * PATIENCE)), "work left in Qt's thread pool"


def _is_shared(thread: threading.Thread) -> bool:
    """Whether it belongs to a pool that a library keeps for the whole process."""
    return thread.name.startswith(("ThreadPoolExecutor-", "pytest_timeout", "tqdm"))


@pytest.fixture(autouse=True)
def _no_window_left() -> Iterator[None]:
    """Fail a test that leaves a window or a widget without a parent behind."""
    before = _windows()
    yield
    if _windows() - before:
        gc.collect()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    left = _windows() - before
    assert not left, f"widgets left behind: {left}"


def _windows() -> set[QWidget]:
    widgets = QApplication.topLevelWidgets() if QApplication.instance() else []
    return {widget for widget in widgets if widget.parent() is None}


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> FakePredictor:
    """The stand-in that answers for every model, in place of a network."""
    fake = FakePredictor()
    monkeypatch.setattr(ModelChoice, "load", lambda *_: fake)
    return fake


@pytest.fixture(scope="session")
def toy_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint file of the smallest ViT, its weights drawn at random."""
    import torch

    from napari_sam.models import SPECS, build_sam

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "toy.pth"
    torch.save(build_sam(SPECS["toy_vit"]).state_dict(), path)
    return path
