"""Which annotations are open, in all viewers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from .controller import Controller


class Registry:
    """The open annotations; `opened` tells when one begins, `Controller.events.closed` when it ends."""

    opened = Signal(object, description="the controller of a new annotation")

    def __init__(self) -> None:
        self.controllers: list[Controller] = []


registry = Registry()


def find_controller(viewer: ViewerModel, image: Image) -> Controller | None:
    """Return the open annotation of `image` in `viewer`, if there is one."""
    return next((one for one in open_controllers(viewer) if one.image_layer is image), None)


def open_controllers(viewer: ViewerModel) -> list[Controller]:
    """Return the open annotations of `viewer`."""
    return [one for one in registry.controllers if one.viewer is viewer]
