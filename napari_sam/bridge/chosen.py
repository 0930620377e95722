"""Which image of a viewer is being annotated on behalf of the dock, as images and annotations come and go."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from ..worker import Mailbox, ModelChoice
from .annotate import annotate
from .image_source import images_of, is_image
from .registry import find_controller, open_controllers, registry
from .remembered import recall

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from .controller import Controller


class ChosenImage:
    """At most one open annotation of a viewer.

    It takes over what scripts open and lets go of what they close. Choosing another image leaves the annotation of the
    first one open, with its pending prompts.

    Parameters
    ----------
    viewer
        The viewer model.
    choice
        The model for annotations that begin here.
    """

    changed = Signal(description="another annotation is chosen, or none")

    def __init__(self, viewer: ViewerModel, choice: ModelChoice) -> None:
        self.viewer, self._choice = viewer, choice
        self.mailbox = Mailbox()
        self._annotator: Controller | None = None
        self._is_listening = False

    @property
    def annotator(self) -> Controller | None:
        """The annotation of the chosen image; an image that was just added is chosen now at the latest."""
        self.mailbox.deliver()
        return self._annotator

    @property
    def choice(self) -> ModelChoice:
        """The model of the annotation, and of those that begin later."""
        return self._choice if self._annotator is None else self._annotator.choice

    @property
    def images(self) -> list[Image]:
        """The images that can be chosen, in the order of the layers."""
        return images_of(self.viewer)

    def listen(self) -> None:
        """Follow the viewer, and choose an image if there is one."""
        if self._is_listening:
            return
        self._is_listening = True
        self.viewer.layers.events.inserted.connect(self._on_layer_inserted)
        registry.opened.connect(self._on_opened)
        if self._annotator is None and (image := self._first_image()) is not None:
            self.choose(image)

    def stop(self) -> None:
        """Leave the viewer alone; the annotation stays open, its layers and keys go on working."""
        if not self._is_listening:
            return
        self._is_listening = False
        self.viewer.layers.events.inserted.disconnect(self._on_layer_inserted)
        registry.opened.disconnect(self._on_opened)
        self._take(None)

    def choose(self, image: Image | None) -> None:
        """Annotate `image`, or go on with it; None leaves it and chooses nothing.

        Raises
        ------
        ImageError
            The image cannot be annotated.
        """
        controller = None if image is None else find_controller(self.viewer, image)
        if controller is None and image is not None:
            choice = self.choice
            controller = annotate(
                self.viewer, image, choice.model, choice.device, choice.precision, profile=choice.profile
            )
            recall(controller)
        self._take(controller)

    def set_model(self, choice: ModelChoice) -> None:
        """Go on with another model, here and in annotations that begin later."""
        if self._annotator is None:
            self._choice = choice
        else:
            self._annotator.set_model(choice)

    def _first_image(self) -> Image | None:
        """Return the selected image, else the one that was annotated last, else the topmost."""
        images, active = self.images, self.viewer.layers.selection.active
        annotated = [controller.image_layer for controller in open_controllers(self.viewer)]
        wanted = [active] if active in images else annotated or images
        return wanted[-1] if wanted else None

    def _take(self, controller: Controller | None) -> None:
        if controller is self._annotator:
            return
        if self._annotator is not None:
            self._choice = self._annotator.choice
            self._annotator.events.closed.disconnect(self._on_closed)
        self._annotator = controller
        if controller is not None:
            controller.events.closed.connect(self._on_closed)
        self.changed.emit()

    def _on_closed(self) -> None:
        self._take(None)

    def _on_opened(self, controller: Controller) -> None:
        if self._annotator is None and controller.viewer is self.viewer:
            self._take(controller)

    def _on_layer_inserted(self, event: Any) -> None:
        # napari selects a new layer after it has told of it: what is selected here would not stay so.
        if self._annotator is None and is_image(event.value):
            self.mailbox.post(partial(self._choose_if_none, event.value))

    def _choose_if_none(self, image: Image) -> None:
        if self._annotator is None and self._is_listening and image in self.viewer.layers:
            self.choose(image)
