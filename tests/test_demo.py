"""`python -m napari_sam.demo`: the headless job with the shipped model, the window, and the choice between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import napari
import numpy as np
import pytest
from skimage.filters import threshold_local
from skimage.io import imread
from skimage.measure import label

from napari_sam import cli, demo
from napari_sam.samples import sample_path


def test_needs_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert demo.why_no_window() == "There is no display"


def test_sees_a_display_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":987")
    monkeypatch.setenv("QT_QPA_PLATFORM", "xcb")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert demo.why_no_window().startswith("Qt cannot open a window (")


def test_gives_up_a_display_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":987")
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    monkeypatch.setattr(demo, "OPEN_A_WINDOW", "import time; time.sleep(60)")
    monkeypatch.setattr(demo, "LONGEST_TRIAL", 0.1)
    assert demo.why_no_window() == "Qt has opened no window in 0.1 s"


@pytest.mark.pixels
def test_sees_a_display_that_answers() -> None:
    assert demo.why_no_window() == ""


def test_without_display_writes_a_nucleus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "why_no_window", lambda: "There is no display")
    assert demo.main() == 0
    mask, shown = tmp_path / demo.FOLDER / "nucleus.tif", tmp_path / demo.FOLDER / "nucleus_outline.png"
    said = capsys.readouterr().out
    assert str(mask) in said
    assert str(shown) in said
    assert imread(shown).shape == (512, 512, 3)
    assert iou(imread(mask) > 0, nucleus()) > 0.7


def nucleus() -> np.ndarray:
    """Return the pixels of the demo's nucleus: what is bright beside its surroundings, and joined to the click."""
    image = imread(sample_path("nuclei.png")).astype(float)
    parts = label(image > threshold_local(image, 101), connectivity=1)
    return parts == parts[demo.NUCLEUS]


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


def test_failure_gives_its_exit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "why_no_window", lambda: "There is no display")
    monkeypatch.setattr(cli, "main", lambda arguments: 2)
    assert demo.main() == 2


def test_with_display_opens_the_sample_and_the_dock(
    make_napari_viewer: Callable[..., napari.Viewer], monkeypatch: pytest.MonkeyPatch
) -> None:
    viewers: list[napari.Viewer] = []
    monkeypatch.setattr(demo, "why_no_window", lambda: "")
    monkeypatch.setattr(napari, "Viewer", lambda: viewers.append(make_napari_viewer()) or viewers[0])
    monkeypatch.setattr(napari, "run", lambda: None)
    assert demo.main() == 0
    (viewer,) = viewers
    assert "nuclei" in viewer.layers
    assert any("Segment Anything" in name for name in viewer.window.dock_widgets)
