"""What the command palette offers: each acts on the annotation of the viewer, as the dock's buttons and the keys do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari import Viewer  # noqa: TC002  napari hands its viewer to whoever asks for this type, at run time
from napari.utils.notifications import show_warning

from . import remembered
from .annotate import annotate
from .keys import choose_next, warning_only
from .registry import open_controllers
from .tools import Tool

if TYPE_CHECKING:
    from collections.abc import Callable

    from .controller import Controller


def start(viewer: Viewer) -> None:
    """Annotate the selected image, else the topmost."""
    warning_only(lambda: annotate(viewer))


def commit(viewer: Viewer) -> None:
    """Write the pending objects."""
    _with_annotation(viewer, lambda controller: controller.commit_as_chosen())


def clear(viewer: Viewer) -> None:
    """Remove the prompts of the slice shown."""
    _with_annotation(viewer, lambda controller: controller.clear())


def undo(viewer: Viewer) -> None:
    """Take back the last edit of prompts, or the last commit."""
    _with_annotation(viewer, lambda controller: controller.undo())


def redo(viewer: Viewer) -> None:
    """Do again what was undone last."""
    _with_annotation(viewer, lambda controller: controller.redo())


def next_candidate(viewer: Viewer) -> None:
    """Choose the next candidate."""
    _with_annotation(viewer, choose_next)


def positive_points(viewer: Viewer) -> None:
    """Place points on the object."""
    _with_annotation(viewer, lambda controller: controller.tools.take(Tool.POSITIVE))


def negative_points(viewer: Viewer) -> None:
    """Place points beside the object."""
    _with_annotation(viewer, lambda controller: controller.tools.take(Tool.NEGATIVE))


def boxes(viewer: Viewer) -> None:
    """Draw boxes round objects."""
    _with_annotation(viewer, lambda controller: controller.tools.take(Tool.BOX))


def lassos(viewer: Viewer) -> None:
    """Draw outlines round objects."""
    _with_annotation(viewer, lambda controller: controller.tools.take(Tool.LASSO))


def scribbles(viewer: Viewer) -> None:
    """Draw strokes on the object, or beside it."""
    _with_annotation(viewer, lambda controller: controller.tools.take(Tool.SCRIBBLE))


def outline_object(viewer: Viewer) -> None:
    """Take the labelled object under the cursor as a prompt."""
    _with_annotation(viewer, lambda controller: controller.outline_object_under_cursor())


def find_similar(viewer: Viewer) -> None:
    """Propose objects like the one that was committed last."""
    _with_annotation(viewer, lambda controller: controller.views.find_similar())


def accept(viewer: Viewer) -> None:
    """Write the pending objects whose prompts are selected."""
    _with_annotation(viewer, lambda controller: controller.views.accept())


def show_embedding(viewer: Viewer) -> None:
    """Show what the encoder tells apart."""
    _with_annotation(viewer, lambda controller: controller.views.show_embedding())


def show_encoder_input(viewer: Viewer) -> None:
    """Show exactly what the encoder sees."""
    _with_annotation(viewer, lambda controller: controller.views.show_encoder_input())


def toggle_polarity(viewer: Viewer) -> None:
    """Change between positive and negative."""
    _with_annotation(viewer, lambda controller: controller.tools.toggle_polarity())


def toggle_hover(viewer: Viewer) -> None:
    """Turn the preview under the cursor on or off."""
    _with_annotation(viewer, remembered.toggle_hover)


def reopen_object(viewer: Viewer) -> None:
    """Re-open the committed object under the cursor."""
    _with_annotation(viewer, lambda controller: controller.reopen_under_cursor())


def _with_annotation(viewer: Viewer, act: Callable[[Controller], None]) -> None:
    """Act on the annotation whose layer is selected, else on the one that began last."""
    controllers = open_controllers(getattr(viewer, "__wrapped__", viewer))
    if not controllers:
        show_warning("No image is being annotated: choose one in the dock of Segment Anything.")
        return
    selected = viewer.layers.selection.active
    controller = next((one for one in controllers if selected in one.layers), controllers[-1])
    warning_only(lambda: act(controller))
