"""Objects that are in some labels layer already, as prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels

from ..errors import LabelsError
from .image_source import full_resolution
from .label_canvas import check_alike

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image
    from numpy.typing import NDArray

    from ..planes import SliceKey


def picture_of(labels: Labels, object_id: int, image: Image, key: SliceKey) -> NDArray[np.bool_]:
    """Return the pixels (height, width) of an object in the plane `key` of `image`.

    Raises
    ------
    LabelsError
        The layer does not have the image's shape and place, or the plane has no pixel of the object.
    """
    check_alike(labels, image)
    picture: NDArray[np.bool_] = np.asarray(key.plane_of(full_resolution(labels))) == object_id
    if object_id == 0 or not picture.any():
        raise LabelsError(f"layer {labels.name!r} shows no pixel of object {object_id} here: choose one that it shows")
    return picture


def object_under_cursor(viewer: ViewerModel, preview: Labels) -> tuple[Labels, int]:
    """Return the topmost visible labels layer, and the id in it, that the cursor points at.

    Raises
    ------
    LabelsError
        There is none.
    """
    for layer in reversed(viewer.layers):
        if isinstance(layer, Labels) and layer.visible and layer is not preview:
            value = layer.get_value(viewer.cursor.position, world=True)
            object_id = value[1] if isinstance(value, tuple) else value  # a pyramid tells its level, too
            if object_id:
                return layer, int(object_id)
    raise LabelsError("there is no labelled object under the cursor: point at one, then press the key")
