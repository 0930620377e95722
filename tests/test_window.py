"""The tests' own ground: a viewer opens on every platform that they run on; pixels show where there is a window."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from napari import Viewer


def test_viewer_takes_layers_on_any_platform(make_napari_viewer: Callable[..., Viewer]) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(np.eye(8))
    viewer.add_labels(np.eye(8, dtype=np.uint8))
    viewer.add_points([(2, 2)])
    viewer.add_shapes([[(1, 1), (5, 5)]], shape_type="rectangle")
    assert len(viewer.layers) == 4


@pytest.mark.pixels
def test_window_shows_pixels(make_napari_viewer: Callable[..., Viewer]) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.add_image(np.full((8, 8), 255, np.uint8), contrast_limits=(0, 255))
    picture = viewer.screenshot(canvas_only=True, flash=False)
    centre = picture[picture.shape[0] // 2, picture.shape[1] // 2, :3]
    assert (centre == 255).all()
