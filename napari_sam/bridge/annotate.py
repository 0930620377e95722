"""`annotate`: where every annotation in a viewer begins, whoever asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels, Points, Shapes

from ..errors import ImageError, NapariSamError
from ..journal import Unreadable, journal_folder, read_journal
from ..worker import ModelChoice
from .controller import Controller
from .image_source import images_of, unwrapped
from .label_canvas import check_labels
from .prompt_layers import check_bindable
from .registry import find_controller, registry

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from ..journal import Recorded


def annotate(
    viewer: ViewerModel,
    image_layer: Image | None = None,
    model: str = "default",
    device: str = "auto",
    precision: str = "auto",
    points: Points | None = None,
    shapes: Shapes | None = None,
    labels: Labels | None = None,
    profile: str | None = None,
    journal: bool | str | Path = True,
    restore: bool | str | Path = False,
) -> Controller:
    """Start annotating an image of a viewer, or return the annotation that is open on it.

    Parameters
    ----------
    viewer
        A `napari.Viewer`, or a `ViewerModel` without a window.
    image_layer
        The image; None takes the selected one, else the topmost.
    model, device, precision
        As `napari_sam.load_predictor` takes them; loading happens in the background.
    points, shapes, labels
        Layers to use instead of new ones. Points may have a feature `label`, 1 or 0; points and shapes a feature
        `object`. Labels must have the image's shape and place; ids go on after its largest.
    profile
        As `napari_sam.load_predictor` takes it: the preprocessing of a checkpoint that does not say its own.
    journal
        Where commits are journalled: True for the user's data folder (or the one that the environment variable
        `NAPARI_SAM_JOURNALS` names), "beside" for the folder of the image's file, a folder, or False for nowhere.
    restore
        True goes on where the latest journal of this image ends, if there is one; a file, where that journal ends.

    Raises
    ------
    ImageError
        There is no image layer to annotate.
    PromptError, LabelsError
        A given layer cannot be used with this image.
    JournalError
        The journal to restore is damaged, a newer version wrote it, or it is about another image.
    ValueError
        The image is being annotated already, with other layers.
    """
    viewer = unwrapped(viewer)
    image = _chosen_image(viewer, unwrapped(image_layer))
    bound = {"points": unwrapped(points), "shapes": unwrapped(shapes), "labels": unwrapped(labels)}
    _check_bound(bound, image)
    choice = ModelChoice(str(model), device, precision, None if profile is None else str(profile))
    recorded = None if isinstance(restore, bool) else read_journal(Path(restore))
    controller = find_controller(viewer, image)
    if controller is not None:
        _check_bound_alike(bound, controller)
        controller.set_model(choice)
        if restore:
            _restore(controller, recorded)
        return controller
    controller = Controller(viewer, image, choice, **bound, journal=journal_folder(journal, image.source.path))
    registry.opened.emit(controller)
    try:
        if restore:
            _restore(controller, recorded)
    except NapariSamError:
        controller.close()
        raise
    return controller


def _check_bound_alike(bound: dict[str, Any], controller: Controller) -> None:
    """Raise unless the layers that are given are those of the annotation that is open."""
    for name, layer in bound.items():
        if layer is not None and layer is not getattr(controller, name):
            image = controller.image_layer.name
            raise ValueError(f"image {image!r} is annotated with other {name}: close() that annotation first")


def _restore(controller: Controller, recorded: Recorded | None) -> None:
    """Go on where a journal ends, None: the latest one of the image, if there is any."""
    latest = recorded or next(iter(controller.journal.found()), None)
    if isinstance(latest, Unreadable):
        raise latest.error
    if latest is not None:
        controller.journal.restore(latest)


def _check_bound(bound: dict[str, Any], image: Image) -> None:
    """Raise unless every layer that is given can be used with `image`."""
    for name, kind in (("points", Points), ("shapes", Shapes)):
        if bound[name] is not None:
            check_bindable(bound[name], kind, image)
    if bound["labels"] is not None:
        check_labels(bound["labels"], image)


def _chosen_image(viewer: ViewerModel, image: Any) -> Image:
    if image is None:
        images = images_of(viewer)
        active = viewer.layers.selection.active
        image = active if active in images else images[-1] if images else None
    if image is None:
        raise ImageError("the viewer has no image layer: open an image first")
    if not isinstance(image, Image):
        raise ImageError(f"{image!r} is a {type(image).__name__} layer: give an image layer")
    if image not in viewer.layers:
        raise ImageError(f"image {image.name!r} is not in this viewer: add it first")
    return image
