"""How an annotation begins and how it ends: its four layers, and what it leaves behind."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from annotating import SHAPE, click
from fakes import FakePredictor
from napari.components import ViewerModel
from napari.layers import Image, Layer

import napari_sam
from napari_sam.bridge.controller import Controller
from napari_sam.bridge.registry import find_controller, open_controllers
from napari_sam.errors import ImageError, LabelsError
from napari_sam.worker import ModelChoice

# The beginning


def test_the_four_layers_lie_on_the_image(annotator: Controller, viewer: ViewerModel, image: Image) -> None:
    for layer in (annotator.points, annotator.shapes, annotator.preview, annotator.labels):
        assert any(layer is other for other in viewer.layers)
        assert tuple(layer.scale) == (2, 3)
        assert tuple(layer.translate) == (10, -20)
    assert viewer.layers.selection.active is annotator.points
    assert annotator.points.mode == "add"


def test_moving_the_image_moves_the_layers(annotator: Controller, image: Image) -> None:
    image.scale, image.translate = (4, 4), (7, 7)
    for layer in (annotator.points, annotator.shapes, annotator.preview, annotator.labels):
        assert tuple(layer.scale) == (4, 4)
        assert tuple(layer.translate) == (7, 7)


def test_the_image_is_never_changed(annotator: Controller, image: Image) -> None:
    before = image.data.copy()
    click(annotator, 20, 30)
    annotator.commit()
    assert (image.data == before).all()
    assert tuple(image.scale) == (2, 3)


def test_annotating_twice_is_the_same_annotation(annotator: Controller, viewer: ViewerModel, image: Image) -> None:
    assert napari_sam.annotate(viewer, image) is annotator
    with pytest.raises(ValueError, match="annotated with other labels"):
        napari_sam.annotate(
            viewer, image, labels=annotator.labels.__class__(np.zeros(SHAPE, int), scale=(2, 3), translate=(10, -20))
        )


def test_two_viewers_do_not_share_anything(annotator: Controller, predictor: FakePredictor) -> None:
    other = ViewerModel()
    other.add_image(np.zeros(SHAPE))
    second = napari_sam.annotate(other)
    click(second, 20, 30)
    assert annotator.candidates == ()
    assert len(annotator.points.data) == 0
    second.close()


def test_a_viewer_without_images_is_refused(viewer: ViewerModel) -> None:
    with pytest.raises(ImageError, match="open an image first"):
        napari_sam.annotate(viewer)


def listeners(viewer: ViewerModel, *layers: Layer) -> list[str]:
    """Return which of ours listen to something that an annotation listens to."""
    groups = (viewer.events, viewer.dims.events, viewer.layers.events, *(layer.events for layer in layers))
    found = [each for group in groups for emitter in group.emitters.values() for each in emitter.callbacks]
    found += [each for layer in layers for each in (*layer.mouse_drag_callbacks, *layer.mouse_move_callbacks)]
    owners = [each[0]() if isinstance(each, tuple) else each for each in found]
    return [repr(each) for each in owners if "napari_sam" in getattr(each, "__module__", "")]


@pytest.mark.parametrize(
    "broken",
    [
        "controller.Recorder",
        "controller.Prefetch",
        "controller.Hover",
        "controller.Tools",
        "controller.Follower.start",
        "follower.Pointer",
        "controller.Keys",
        "controller._hang_bell",
        "controller.Follower.show_slice",
    ],
)
def test_an_annotation_that_cannot_begin_leaves_nothing_behind(
    viewer: ViewerModel, predictor: FakePredictor, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    image = viewer.add_image(np.zeros((60, 80), np.uint8))
    points = viewer.add_points(np.zeros((0, 2)))
    labels = viewer.add_labels(np.zeros((60, 80), np.uint8))

    def fail(*_: Any) -> None:
        raise OSError("on purpose")

    layers, keys = list(viewer.layers), dict(points.keymap)
    with monkeypatch.context() as patch:
        patch.setattr(f"napari_sam.bridge.{broken}", fail)
        with pytest.raises(OSError, match="on purpose"):
            napari_sam.annotate(viewer, image, points=points, labels=labels)
    assert list(viewer.layers) == layers
    assert listeners(viewer, image, points, labels) == []
    assert points.keymap == keys
    assert open_controllers(viewer) == []
    annotator = napari_sam.annotate(viewer, image, points=points, labels=labels)  # now it can
    assert len(listeners(viewer, image, points, labels)) > 10
    annotator.close()
    assert listeners(viewer, image, points, labels) == []


# The end


def test_closing_keeps_the_labels_and_hides_the_rest(annotator: Controller, viewer: ViewerModel, image: Image) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    click(annotator, 40, 60)
    annotator.close()
    annotator.close()
    assert (annotator.labels.data == 1).any()
    assert annotator.labels.visible
    for layer in (annotator.points, annotator.shapes, annotator.preview):
        assert not layer.visible
    assert len(annotator.points.data) == 0
    assert find_controller(viewer, image) is None
    annotator.points.add([(1, 1)])
    annotator.wait(1)


def test_nothing_changes_the_labels_after_the_end(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    click(annotator, 40, 60)
    annotator.commit()
    annotator.undo()
    before, layers = annotator.labels.data.copy(), list(annotator.viewer.layers)
    annotator.close()
    for act in (annotator.undo, annotator.redo, annotator.commit, annotator.clear, annotator.cancel):
        act()
    for act in (lambda: annotator.set_labels(None), lambda: annotator.objects.delete(1)):
        with pytest.raises(LabelsError, match="closed"):
            act()
    assert (annotator.labels.data == before).all()
    assert list(annotator.viewer.layers) == layers


def test_a_closed_annotation_loads_no_model(annotator: Controller) -> None:
    annotator.close()
    annotator.set_model(ModelChoice("other"))
    assert not [thread for thread in threading.enumerate() if thread.name == "napari-sam other"]


def test_units_of_the_image_are_those_of_the_layers(annotator: Controller, image: Image) -> None:
    image.units = "um"
    assert {str(unit) for layer in annotator.layers for unit in layer.units} == {"micrometer"}
    assert annotator.viewer.layers.units is not None


def test_the_layers_axes_are_named_as_the_images(annotator: Controller, image: Image) -> None:
    image.axis_labels = ("height", "width")
    assert {layer.axis_labels for layer in annotator.layers} == {("height", "width")}
