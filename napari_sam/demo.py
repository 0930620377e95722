"""`python -m napari_sam.demo`: the plugin on a sample picture, or, without a display, a mask written to a file."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from . import cli
from .samples import sample_path

FOLDER = Path("napari-sam-demo")
NUCLEUS = (65, 271)
"""Where a bright nucleus of the sample picture lies, (row, column)."""
LONGEST_TRIAL = 120
"""Seconds in which Qt can open a window where that is possible."""

# In a process of its own: where a library of the window system is missing, Qt ends the process instead of raising.
OPEN_A_WINDOW = "from qtpy.QtWidgets import QApplication, QLabel; app = QApplication([]); QLabel('napari').show()"


def main() -> int:
    """Open the viewer if there is a display and a Qt that works with it, else do the same job headless."""
    reason = why_no_window()
    if reason:
        print(f"{reason}: segmenting without a viewer.")
        return run_headless()
    run_viewer()
    return 0


def why_no_window() -> str:
    """Return what keeps a window from opening, or nothing."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "There is no display"
    if os.environ.get("QT_QPA_PLATFORM") == "offscreen":
        return "Qt is told to stay off the screen (QT_QPA_PLATFORM)"
    try:
        trial = subprocess.run(
            [sys.executable, "-c", OPEN_A_WINDOW], check=False, capture_output=True, text=True, timeout=LONGEST_TRIAL
        )
    except subprocess.TimeoutExpired:
        return f"Qt has opened no window in {LONGEST_TRIAL} s"
    if trial.returncode:
        said = trial.stderr.strip().splitlines() or [f"exit code {trial.returncode}"]
        return f"Qt cannot open a window ({said[-1]})"
    return ""


def run_viewer() -> None:
    """Open napari with a sample picture and the dock, until its window is closed."""
    import napari  # only here: headless needs none of it

    viewer = napari.Viewer()
    viewer.open_sample("napari-sam-live", "nuclei")
    viewer.window.add_plugin_dock_widget("napari-sam-live", "Segment Anything")
    print("Click on a nucleus. Close the window to end.")
    napari.run()


def run_headless() -> int:
    """Click on a nucleus of the sample picture with the console command, and return its exit code."""
    FOLDER.mkdir(exist_ok=True)
    arguments = ["segment", str(sample_path("nuclei.png")), "--point", "{},{}".format(*NUCLEUS), "--out"]
    arguments.append(str(FOLDER.resolve() / "nucleus.tif"))
    print("napari-sam", shlex.join(arguments))
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
