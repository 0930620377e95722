"""The image and the four layers that its annotation works with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .image_source import PLACE
from .label_canvas import new_labels
from .mask_layer import Preview
from .prompt_layers import new_points, new_shapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import Dims, LayerList
    from napari.layers import Image, Labels, Layer, Points, Shapes


class AnnotationLayers:
    """Layers that the user bound, or in their place new ones, which are ours to move, to colour and to hide."""

    def __init__(
        self,
        image: Image,
        dims: Dims,
        points: Points | None = None,
        shapes: Shapes | None = None,
        labels: Labels | None = None,
    ) -> None:
        self.image = image
        self.preview = Preview(image, dims)
        self.ours: list[Layer] = [self.preview.layer]
        self.labels: Labels = self._bound_or_new(labels, new_labels)
        self.shapes: Shapes = self._bound_or_new(shapes, new_shapes)
        self.points: Points = self._bound_or_new(points, new_points)

    @property
    def made_or_bound(self) -> tuple[Layer, ...]:
        """The labels, the preview, the shapes and the points, from below."""
        return self.labels, self.preview.layer, self.shapes, self.points

    def add_to(self, layers: LayerList) -> None:
        """Put those that are not there yet on top, the points ready to be clicked."""
        for layer in self.made_or_bound:
            if layer not in layers:
                layers.append(layer)
        layers.selection.active = self.points
        self.points.mode = "add"

    def take_out_of(self, layers: LayerList) -> None:
        """Remove those that we made."""
        for layer in self.ours:
            if layer in layers:
                layers.remove(layer)

    def turn_to(self, labels: Labels | None, layers: LayerList) -> None:
        """Take other labels, None for new ones; the former stay where they are, and so does the tool in hand."""
        former, active = self.labels, layers.selection.active
        self.labels = self._bound_or_new(labels, new_labels)
        if self.labels not in layers:
            layers.insert(layers.index(self.preview.layer), self.labels)
        layers.selection.active = self.points if active is former else active

    def follow_image(self) -> None:
        """Move ours to where the image lies now."""
        self.preview.place()
        for layer in self.ours:
            if layer is not self.preview.layer:
                for name in PLACE:
                    setattr(layer, name, getattr(self.image, name))

    def retire(self) -> None:
        """Empty and hide ours; the labels stay as they are. To remove prompt layers crashes some OpenGL drivers."""
        self.preview.paint([])
        for prompts in (self.points, self.shapes):
            if prompts in self.ours:
                prompts.selected_data = set()
                prompts.data = []
        for layer in (self.points, self.shapes, self.preview.layer):
            if layer in self.ours:
                layer.visible = False

    def _bound_or_new(self, bound: Any, make: Callable[[Image], Any]) -> Any:
        if bound is not None:
            return bound
        layer = make(self.image)
        self.ours.append(layer)
        return layer
