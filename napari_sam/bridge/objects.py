"""Finding committed objects in the viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .image_source import shown_slice

if TYPE_CHECKING:
    from .controller import Controller


def go_to_object(annotator: Controller, object_id: int) -> None:
    """Show a slice that an object lies in, the one shown if it does.

    `LabelsError` if the labels have no such object.
    """
    slices = annotator.objects[object_id].slices
    labels, dims = annotator.labels, annotator.viewer.dims
    key = shown_slice(labels, dims)
    if key is not None and (key.plane_of(labels.data) == object_id).any():
        return
    first, last_two = dims.ndim - labels.ndim, labels.ndim - 2
    hidden = [axis for axis in range(labels.ndim) if first + axis not in dims.displayed]
    here = np.round(labels.world_to_data(dims.point))
    place = min(slices, key=lambda place: sum(abs(place[axis] - here[axis]) for axis in hidden if axis < last_two))
    pixels = np.argwhere(labels.data[place] == object_id)
    distances = np.abs(pixels - here[last_two:])[:, [axis - last_two for axis in hidden if axis >= last_two]]
    world = labels.data_to_world((*place, *pixels[distances.sum(axis=1).argmin()]))
    for axis in hidden:
        dims.set_point(first + axis, world[axis])
