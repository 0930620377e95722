"""Finding committed objects in the viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .controller import Controller


def go_to_object(annotator: Controller, object_id: int) -> None:
    """Show a slice that an object lies in, the one shown if it does.

    `LabelsError` if the labels have no such object.
    """
    slices = annotator.objects[object_id].slices
    labels, dims = annotator.labels, annotator.viewer.dims
    here = np.round(labels.world_to_data(dims.point)).astype(int)[: labels.ndim - 2]
    if labels.ndim < 3 or tuple(here) in slices:
        return
    nearest = min(slices, key=lambda place: np.abs(np.subtract(place, here)).sum())
    world = labels.data_to_world((*nearest, *np.subtract(labels.data.shape[-2:], 1) / 2))
    first = dims.ndim - labels.ndim
    for axis in range(len(nearest)):
        if first + axis not in dims.displayed:
            dims.set_point(first + axis, world[axis])
