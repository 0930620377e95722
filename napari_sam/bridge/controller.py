"""The controller: one image's annotation in a viewer, what there is to call and how it begins and ends."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_warning

from ..annotator import Annotator
from ..errors import LabelsError
from ..hover import Hover
from ..objects import Overlap
from ..prefetch import Prefetch
from ..recorder import Recorder
from ..worker import Mailbox, ModelChoice
from .existing import object_under_cursor, picture_of
from .follower import Follower
from .image_source import identified, unwrapped
from .keys import Keys
from .label_canvas import LayerCanvas, check_labels
from .layers import AnnotationLayers
from .registry import registry
from .tools import Tools
from .views import Views

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer, Points, Shapes

    from ..events import AnnotatorEvents
    from ..export import Grid
    from ..masks import Mask
    from ..object_table import ObjectTable
    from ..objects import OverlapQuestion
    from ..pending import Status


class Controller:
    """One image's annotation in a viewer; made by `annotate`, used by scripts and by the dock alike.

    Parameters
    ----------
    viewer
        The viewer model.
    image
        The layer to annotate; it is never changed.
    choice
        The model, device and precision.
    points, shapes, labels
        Layers of the user's to bind; None makes new ones.
    journal
        The folder of its journal; None keeps none.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        image: Image,
        choice: ModelChoice,
        points: Points | None = None,
        shapes: Shapes | None = None,
        labels: Labels | None = None,
        journal: Path | None = None,
    ) -> None:
        self.viewer = viewer
        self.overlap = Overlap.KEEP
        self.mailbox = Mailbox()
        self._is_closed = False
        self._layers = AnnotationLayers(image, viewer.dims, points, shapes, labels)
        self._canvas: LayerCanvas
        try:
            with ExitStack() as begun:
                self._begin(choice, journal, begun)
                self._ending = begun.pop_all()
        except BaseException:  # whatever it was, it goes on from here, without our layers
            self._layers.take_out_of(viewer.layers)
            raise

    def __repr__(self) -> str:
        return f"<annotation of {self.image_layer.name!r} with {self.choice.model!r}: {self.status.phase.value}>"

    # What scripts and the dock call

    @property
    def image_layer(self) -> Image:
        """The layer that is annotated."""
        return self._layers.image

    @property
    def points(self) -> Points:
        """The layer of positive and negative points."""
        return self._layers.points

    @property
    def shapes(self) -> Shapes:
        """The layer of boxes, outlines and strokes."""
        return self._layers.shapes

    @property
    def labels(self) -> Labels:
        """The layer that commits are written into."""
        return self._layers.labels

    @property
    def preview(self) -> Labels:
        """The layer that shows pending masks."""
        return self._layers.preview.layer

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The image and the four layers that the annotation works with."""
        return self.image_layer, *self._layers.made_or_bound

    @property
    def events(self) -> AnnotatorEvents:
        """Signals: embedding_ready, mask_changed, committed(ids), failed(error), objects_changed, and more."""
        return self._annotator.events

    @property
    def status(self) -> Status:
        """What the annotation is doing, and what to tell a person."""
        return self._annotator.status

    @property
    def choice(self) -> ModelChoice:
        """The model, device and precision in use, or chosen and being loaded to be used next."""
        return self._annotator.choice

    @property
    def refused(self) -> ModelChoice | None:
        """The model that could not be loaded just now, so that the one before stays in use; None if that is not so."""
        return self._annotator.refused

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    @property
    def candidates(self) -> Sequence[tuple[Mask, float]]:
        """The active object's candidates as (mask, score), in the decoder's order; empty if there are none."""
        return self._annotator.slices.candidates

    @property
    def chosen(self) -> int | None:
        """Index of the chosen candidate."""
        return self._annotator.slices.chosen

    @property
    def can_undo(self) -> bool:
        """Whether there is something to take back."""
        return self._annotator.history.last is not None

    @property
    def can_redo(self) -> bool:
        """Whether there is something to do again."""
        return self._annotator.history.next is not None

    @property
    def has_pending(self) -> bool:
        """Whether the slice shown has objects that a commit would write, now or as soon as they are answered."""
        return bool(self._annotator.slices.objects)

    @property
    def has_prompts(self) -> bool:
        """Whether the slice shown has something that `clear` would remove."""
        return self._annotator.slices.has_prompts

    def choose(self, index: int) -> None:
        """Choose a candidate of the active object by its index in `candidates`; `IndexError` if there is none."""
        self._annotator.choose(index)

    @property
    def objects(self) -> ObjectTable:
        """Every object that the labels hold; to select, delete and classify them."""
        return self._annotator.objects

    @property
    def journal(self) -> Recorder:
        """What this annotation writes down, and the journals of earlier ones of the same image, to be restored."""
        return self._annotator.journal

    @property
    def grid(self) -> Grid:
        """Names, pixel sizes and units of the axes of the labels."""
        return self._canvas.grid

    @property
    def overlap_question(self) -> OverlapQuestion | None:
        """What the last commit was to ask and waits for: commit again, to "keep" or to "replace"."""
        return self._annotator.overlap_question

    def commit(self, overlap: Overlap | str = Overlap.KEEP) -> None:
        """Write the pending objects of the slice shown, as one step.

        `overlap` says what happens to pixels of earlier objects: "keep" leaves them alone, "replace" takes them, "ask"
        writes nothing if there are any, sets `overlap_question` and emits `events.overlap_asked`.
        """
        self._follower.let_go()
        self._annotator.commit(overlap)

    def commit_as_chosen(self) -> None:
        """Commit as a key or a button does: with `overlap` as what happens to earlier objects."""
        self.commit(self.overlap)

    def clear(self) -> None:
        """Remove the prompts of the slice shown."""
        self._follower.let_go()
        self._annotator.clear()

    def undo(self) -> None:
        """Take back the last step: an edit of prompts, a commit, a deletion or a change of classes."""
        self._follower.let_go()
        self._annotator.undo()

    def redo(self) -> None:
        """Do again what was undone last."""
        self._follower.let_go()
        self._annotator.redo()

    def reopen(self, object_id: int) -> None:
        """Make an object and its prompts pending again; `LabelsError` if the slice shown has no pixel of it."""
        self._follower.let_go()
        self._annotator.reopen(object_id)

    def outline_object(self, labels: Labels, object_id: int) -> None:
        """Take an object of any labels layer as a prompt: its outline in the slice shown, as a shape of its own.

        Raises
        ------
        ImageError
            No slice is shown, say in 3D.
        LabelsError
            The layer does not have the image's shape and place, or the slice shown has no pixel of the object.
        """
        plane = self._follower.plane()
        picture = picture_of(unwrapped(labels), object_id, self.image_layer, plane)
        self._follower.prompts.outline(picture, plane)

    def outline_object_under_cursor(self) -> None:
        """Take the labelled object under the cursor as a prompt; of several layers, that on top."""
        self._follower.plane()
        self.outline_object(*object_under_cursor(self.viewer, self.preview))

    def reopen_under_cursor(self) -> None:
        """Re-open the committed object that the cursor points at; `LabelsError` if there is none."""
        self._follower.plane()
        if not (object_id := self.labels.get_value(self.viewer.cursor.position, world=True)):
            raise LabelsError("there is no committed object under the cursor: point at one, then press the key")
        self.reopen(int(object_id))

    def cancel(self) -> None:
        """Stop what is running in the background; the next prompt starts it again."""
        self._annotator.cancel()

    def set_model(self, choice: ModelChoice) -> None:
        """Go on with another model once it has loaded, and stay with the one in use if it cannot be loaded.

        Pending prompts are answered again. Why a model could not be loaded, `events.failed` and `wait` tell.
        """
        self._annotator.set_model(choice)

    def set_polarity(self, label: int) -> None:
        """Make the next points positive (1) or negative (0)."""
        self.tools.set_polarity(label)

    def set_labels(self, labels: Labels | None) -> None:
        """Write into another labels layer from now on, None for a new one; pending prompts stay.

        What was committed stays in the former layer, and can no longer be undone here.

        Raises
        ------
        LabelsError
            The layer does not have the image's shape and place, or the annotation is closed.
        """
        if self._is_closed:
            raise LabelsError("this annotation is closed: annotate the image again to choose its labels")
        labels = unwrapped(labels)
        if labels is self.labels:
            return
        if labels is not None:
            check_labels(labels, self.image_layer)
        self._canvas.catch_up()
        self._canvas.release()
        self._keys.unbind(self.labels)
        self._layers.turn_to(labels, self.viewer.layers)
        self._keys.bind(self.labels)
        self._canvas = self._new_canvas(is_new=labels is None)
        self._annotator.set_canvas(self._canvas)

    def wait(self, timeout: float = 60.0) -> None:
        """Wait until nothing is pending; main thread only.

        Raises
        ------
        TimeoutError
            Something is still pending after `timeout` seconds.
        Exception
            What failed in the background since the last call, once.
        """
        self._annotator.wait(timeout)

    def close(self) -> None:
        """End the annotation: work is cancelled, the labels stay, our other layers are emptied and hidden."""
        if self._is_closed:
            return
        self._is_closed = True
        self._canvas.catch_up()
        self._ending.close()
        self._layers.retire()

    def _begin(self, choice: ModelChoice, journal: Path | None, begun: ExitStack) -> None:
        """Begin part by part, and note in `begun` how each one ends."""
        layers, mailbox, identity = self._layers, self.mailbox, identified(self.image_layer)
        self._canvas = self._new_canvas(is_new=layers.labels in layers.ours)
        begun.callback(lambda: self._canvas.release())  # it may be another one by then
        self._annotator: Annotator = Annotator(choice, self._canvas, mailbox, Recorder(identity, journal))
        begun.callback(self._annotator.close)
        warn = self.events.warned.emit
        self._prefetch = Prefetch(choice, mailbox, warn, self._annotator.slices.has_encoded)
        begun.callback(self._prefetch.close)
        self.hover: Hover = Hover(choice, mailbox, warn)
        begun.callback(self.hover.close)
        self.tools: Tools = Tools(self.viewer, layers.points, layers.shapes)
        self._follower = Follower(
            self.viewer, layers, self._annotator, self.hover, self._prefetch, self.tools, mailbox, identity
        )
        self.views: Views = Views(
            self.viewer, layers.image, self._annotator, self._follower.prompts, self._follower.plane
        )
        layers.add_to(self.viewer.layers)
        self._follower.start()
        begun.callback(self._follower.stop)
        for event, answer in (
            (self.viewer.layers.events.removed, self._on_layer_removed),
            (self._follower.lost, self._on_lost),
            (self.events.warned, show_warning),
            (self.events.model_changed, self._on_model_changed),
        ):
            event.connect(answer)
            begun.callback(event.disconnect, answer)
        self._keys: Keys = Keys(self)
        begun.callback(self._keys.unbind_all)
        for layer in layers.made_or_bound:
            self._keys.bind(layer)
        if (take_down_bell := _hang_bell(self)) is not None:
            begun.callback(take_down_bell)
        self._follower.show_slice()
        registry.controllers.append(self)
        begun.callback(registry.controllers.remove, self)

    def _new_canvas(self, *, is_new: bool) -> LayerCanvas:
        may_widen = self.labels in self._layers.ours
        return LayerCanvas(self.labels, self.image_layer, self.viewer.dims, is_new=is_new, may_widen=may_widen)

    def _on_lost(self, why: str) -> None:
        show_warning(why)
        self.close()

    def _on_model_changed(self) -> None:
        self.hover.turn_to(self.choice)
        self._prefetch.turn_to(self.choice)

    def _on_layer_removed(self, event: Any) -> None:
        if event.value in self.layers:
            self.close()


def _hang_bell(controller: Controller) -> Callable[[], None] | None:
    """Under Qt, let answers ring the event loop and the window's end close the annotation; return how to stop that."""
    if (window := getattr(controller.viewer, "window", None)) is None:
        return None
    try:
        from ..widgets.bell import hang_bell
    except ImportError:  # napari itself opens a viewer without a window where no Qt binding is installed
        return None
    return hang_bell(window, controller.mailbox, controller.close)
