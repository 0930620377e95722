"""Make the README's picture: the plugin at work on a photograph that scikit-image ships.

`python docs/screenshot.py` needs a display: without one, `xvfb-run -a -s "-screen 0 1600x1000x24" python ...`.
"""

from __future__ import annotations

from pathlib import Path

import napari
from qtpy.QtWidgets import QApplication
from skimage import data
from skimage.io import imsave

TARGET = Path(__file__).parent / "images" / "plugin.png"
COMMITTED = [(75, 164), (53, 103), (60, 220), (127, 163), (127, 105), (193, 168)]
PENDING = (190, 104)


def main() -> None:
    """Click on some coins, commit them, click on one more, and save what the window shows."""
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    viewer.add_image(data.coins(), name="coins")
    _, dock = viewer.window.add_plugin_dock_widget("napari-sam-live", "Segment Anything")
    annotator = dock.annotator
    for place in COMMITTED:
        annotator.points.add([place])
        annotator.wait(60)
        annotator.commit()
    annotator.points.add([PENDING])
    annotator.wait(60)
    for _ in range(5):
        QApplication.processEvents()  # the window lays itself out round the dock
    TARGET.parent.mkdir(exist_ok=True)
    imsave(TARGET, viewer.screenshot(canvas_only=False, flash=False)[..., :3], check_contrast=False)
    viewer.close()


if __name__ == "__main__":
    main()
