"""Make the pictures of the tour, docs/tour.md, from the plugin at work on its own samples.

`python docs/tour.py` needs a display: without one, `xvfb-run -a -s "-screen 0 1600x1000x24" python docs/tour.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import napari
import numpy as np
from mouse import Mouse
from PIL import Image
from qtpy.QtCore import QCoreApplication, QEventLoop
from qtpy.QtWidgets import QPushButton

from napari_sam.bridge.tools import Tool

if TYPE_CHECKING:
    from collections.abc import Callable

TARGET = Path(__file__).parent / "images"
SIZE = (1240, 740)
QUALITY = 80
PATIENCE = 120


class Tour:
    """A viewer with the dock, one sample, and what a visitor does with them."""

    def __init__(self, sample: str) -> None:
        self.viewer = napari.Viewer()
        self.viewer.window.resize(*SIZE)
        _, self.dock = self.viewer.window.add_plugin_dock_widget("napari-sam-live", "Segment Anything")
        self.viewer.open_sample("napari-sam-live", sample)
        self.annotator = self.dock.annotator
        self.annotator.hover.wanted = True
        self.mouse = Mouse(self.viewer)
        self.wait()

    def wait(self) -> None:
        """Let everything be answered and drawn."""
        self.annotator.wait(PATIENCE)
        for _ in range(5):
            QCoreApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 50)

    def world(self, row: float, col: float) -> tuple[float, float]:
        """Return where a pixel of the image lies on the canvas."""
        image = self.annotator.image_layer
        place = image.data_to_world((*self.viewer.dims.current_step[: image.ndim - 2], row, col))
        return float(place[-2]), float(place[-1])

    def zoom(self, row: float, col: float, zoom: float) -> None:
        """Look at a part of the image, so many pixels of the screen for each of its own."""
        camera = self.viewer.scene.camera
        camera.center, camera.zoom = self.world(row, col), zoom / self.annotator.image_layer.scale[-1]

    def hover(self, row: float, col: float) -> None:
        """Rest the mouse on a place."""
        self.mouse.move(self.world(row, col))
        if self.annotator.hover.mask is None and not self.annotator.mailbox.wait(PATIENCE):
            raise TimeoutError("nothing is shown under the cursor")

    def click(self, *places: tuple[float, float], button: int = 1) -> None:
        """Click on places, with the left button or (2) the right one."""
        for place in places:
            self.mouse.click(self.world(*place), button=button)
            self.wait()

    def commit(self, *places: tuple[float, float]) -> None:
        """Click on each of several objects and commit it."""
        for place in places:
            self.click(place)
            self.annotator.commit_as_chosen()

    def press(self, text: str) -> None:
        """Press a button of the dock."""
        next(each for each in self.dock.findChildren(QPushButton) if each.text().startswith(text)).click()
        self.wait()

    def save(self, name: str) -> None:
        """Save what the window shows."""
        self.wait()
        picture = self.viewer.screenshot(canvas_only=False, flash=False)[..., :3]
        Image.fromarray(np.ascontiguousarray(picture)).save(TARGET / f"tour_{name}.jpg", quality=QUALITY, optimize=True)

    def close(self) -> None:
        """End it."""
        self.annotator.close()
        self.viewer.close()


def nuclei() -> None:
    """Hover, click, correct, commit, sort into classes."""
    tour = Tour("nuclei")
    tour.zoom(150, 300, 2.2)
    tour.hover(206, 276)
    tour.save("hover")
    tour.click((139, 312))
    tour.save("click")
    tour.click((160, 332), button=2)
    tour.save("correct")
    tour.annotator.clear()
    objects = tour.annotator.objects
    objects.add_class("bright", "#e69f00")
    objects.add_class("dim", "#56b4e9")
    objects.current_class = "bright"
    tour.commit((106, 422), (80, 381), (206, 276), (66, 271))
    objects.current_class = "dim"
    tour.commit((131, 367), (218, 235), (245, 333))
    tour.save("objects")
    tour.close()


def tissue() -> None:
    """Outline with a box and a lasso, correct with a scribble."""
    tour = Tour("tissue")
    tour.annotator.tools.take(Tool.BOX)
    tour.annotator.shapes.add_rectangles([[(62, 68), (130, 154)], [(280, 78), (356, 160)], [(98, 290), (182, 370)]])
    tour.wait()
    tour.save("boxes")
    tour.close()


def stack() -> None:
    """Commit an object, and go on with it in the next slice; look at what the model sees."""
    tour = Tour("blobs")
    step = tour.viewer.dims.set_current_step
    step(0, 3)
    tour.wait()
    tour.commit((125, 173))
    tour.annotator.objects.select(1)
    step(0, 4)
    tour.wait()
    tour.click((126, 173))
    tour.save("stack")
    tour.annotator.commit_as_chosen()
    tour.press("\N{HORIZONTAL ELLIPSIS}")
    tour.press("Show embedding")
    tour.save("model")
    tour.close()


PARTS: tuple[Callable[[], Any], ...] = (nuclei, tissue, stack)

if __name__ == "__main__":
    TARGET.mkdir(exist_ok=True)
    for part in PARTS:
        part()
        print(part.__name__, flush=True)  # noqa: T201
