"""The controller that joins one image's annotation to the layers of a viewer.

Data flows one way: what happens to the layers is read into frozen rows and views for the annotator; what the annotator
answers is painted. Nothing is decided here.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_warning

from ..annotator import Annotator
from ..errors import LabelsError
from ..hover import Hover
from ..objects import Overlap
from ..prefetch import Prefetch
from ..prompt_rows import PromptView, adopt, assign_owners
from ..recorder import Recorder
from ..worker import Mailbox, ModelChoice
from .existing import object_under_cursor, picture_of
from .image_source import full_resolution, identified, image_source, shared_limits, shown_slice, unwrapped
from .keys import Keys
from .label_canvas import LayerCanvas, check_labels, new_labels
from .looks import show_classes
from .mask_layer import Preview
from .pointer import Pointer
from .prompt_layers import PromptLayers, is_inside, new_points, new_shapes
from .registry import registry
from .tools import Tools
from .views import Views

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer, Points, Shapes
    from numpy.typing import NDArray

    from ..events import AnnotatorEvents
    from ..export import Grid
    from ..masks import Mask
    from ..object_table import ObjectTable
    from ..objects import OverlapQuestion
    from ..pending import ImageSource, Status
    from ..planes import SliceKey
    from ..prompt_rows import PromptRow, Rows

FINISHED = ("added", "removed", "changed")
PLACE_EVENTS = ("scale", "translate", "rotate", "shear", "affine")


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
        self.viewer, self.image_layer = viewer, image
        self._ndim = image.ndim
        self._ours: list[Layer] = []
        self._key: SliceKey | None = None
        self._quiet = False
        self._is_editing = False
        self._pressed: PromptRow | None = None
        self._is_closed = False
        self.overlap = Overlap.KEEP
        self._limits = shared_limits(image)
        self._preview = Preview(image)
        self._ours.append(self._preview.layer)
        self.labels = self._bound_or_new(labels, new_labels)
        self.shapes = self._bound_or_new(shapes, new_shapes)
        self.points = self._bound_or_new(points, new_points)
        self._prompts = PromptLayers(self.points, self.shapes, image)
        self._canvas = self._new_canvas(is_new=labels is None)
        self.mailbox = Mailbox()
        self._identity = identified(image)
        self._annotator = Annotator(choice, self._canvas, self.mailbox, Recorder(self._identity, journal))
        self.hover: Hover = Hover(choice, self.mailbox, self.events.warned.emit)
        self._prefetch = Prefetch(choice, self.mailbox, self.events.warned.emit, self._annotator.slices.has_encoded)
        self.views: Views = Views(viewer, image, self._annotator, self._prompts, lambda: self._key)
        self.tools: Tools = Tools(viewer, self.points, self.shapes)
        self._add_layers()
        self._annotator.adopt(adopt(self._prompts.read({})))
        self._connect()
        self._take_down_bell = _hang_bell(self)
        try:
            self._on_slice_changed()
        except BaseException:  # say an array that cannot be sliced
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<annotation of {self.image_layer.name!r} with {self.choice.model!r}: {self.status.phase.value}>"

    # What scripts and the dock call

    @property
    def preview(self) -> Labels:
        """The layer that shows pending masks."""
        return self._preview.layer

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The image and the four layers that the annotation works with."""
        return self.image_layer, self.labels, self.preview, self.shapes, self.points

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
        """The model, device and precision in use."""
        return self._annotator.choice

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
        self._pointer.let_go()
        self._annotator.commit(overlap)

    def commit_as_chosen(self) -> None:
        """Commit as a key or a button does: with `overlap` as what happens to earlier objects."""
        self.commit(self.overlap)

    def clear(self) -> None:
        """Remove the prompts of the slice shown."""
        self._pointer.let_go()
        self._annotator.clear()

    def undo(self) -> None:
        """Take back the last step: an edit of prompts, a commit, a deletion or a change of classes."""
        self._pointer.let_go()
        self._annotator.undo()

    def redo(self) -> None:
        """Do again what was undone last."""
        self._pointer.let_go()
        self._annotator.redo()

    def reopen(self, object_id: int) -> None:
        """Make an object and its prompts pending again; `LabelsError` if the slice shown has no pixel of it."""
        self._pointer.let_go()
        self._annotator.reopen(object_id)

    def outline_object(self, labels: Labels, object_id: int) -> None:
        """Take an object of any labels layer as a prompt: its outline in the slice shown, as a shape of its own.

        Raises
        ------
        LabelsError
            The layer does not have the image's shape and place, or the slice shown has no pixel of the object.
        """
        picture = picture_of(unwrapped(labels), object_id, self.image_layer, self._key)
        if self._key is not None:
            self._prompts.outline(picture, self._key)

    def outline_object_under_cursor(self) -> None:
        """Take the labelled object under the cursor as a prompt; of several layers, that on top."""
        self.outline_object(*object_under_cursor(self.viewer, self.preview))

    def reopen_under_cursor(self) -> None:
        """Re-open the committed object that the cursor points at; `LabelsError` if there is none."""
        self.reopen(int(self.labels.get_value(self.viewer.cursor.position, world=True) or 0))

    def cancel(self) -> None:
        """Stop what is running in the background; the next prompt starts it again."""
        self._annotator.cancel()

    def set_model(self, choice: ModelChoice) -> None:
        """Go on with another model; pending prompts are answered again."""
        self._annotator.set_model(choice)
        self.hover.turn_to(choice)
        self._prefetch.turn_to(choice)

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
        self._canvas.release()
        self.labels = self._bound_or_new(labels, new_labels)
        self._canvas = self._new_canvas(is_new=labels is None)
        self._annotator.set_canvas(self._canvas)
        if self.labels not in self.viewer.layers:
            self.viewer.layers.insert(self.viewer.layers.index(self.preview), self.labels)
        self.viewer.layers.selection.active = self.points

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
        registry.controllers.remove(self)
        self._disconnect()
        self.hover.close()
        self._prefetch.close()
        self._annotator.close()
        if self._take_down_bell is not None:
            self._take_down_bell()
        self._preview.paint([])
        for layer in (self.points, self.shapes):
            if layer in self._ours:
                layer.selected_data = set()
                layer.data = []
        for layer in (self.points, self.shapes, self.preview):
            if layer in self._ours:
                layer.visible = False

    # Layers

    def _bound_or_new(self, bound: Any, make: Callable[[Image], Any]) -> Any:
        if bound is not None:
            return bound
        layer = make(self.image_layer)
        self._ours.append(layer)
        return layer

    def _new_canvas(self, *, is_new: bool) -> LayerCanvas:
        may_widen = self.labels in self._ours
        return LayerCanvas(self.labels, self.image_layer, self.viewer.dims, is_new=is_new, may_widen=may_widen)

    def _add_layers(self) -> None:
        """Put those of the four layers that are not in the viewer yet on top, the points ready to be clicked."""
        for layer in (self.labels, self.preview, self.shapes, self.points):
            if layer not in self.viewer.layers:
                self.viewer.add_layer(layer)
        self.viewer.layers.selection.active = self.points
        self.points.mode = "add"

    def _connections(self) -> list[tuple[Any, Callable[..., None]]]:
        """Every signal we listen to, and who answers it: one list for connecting and for disconnecting."""
        dims, annotator = self.viewer.dims.events, self._annotator.events
        pairs: list[tuple[Any, Callable[..., None]]] = [
            (self.viewer.layers.events.removed, self._on_layer_removed),
            (self.image_layer.events.data, self._on_image_replaced),
            (self.viewer.events.mouse_over_canvas, self._on_mouse_over_canvas),
            (annotator.mask_changed, self._on_mask_changed),
            (self.hover.changed, self._on_mask_changed),
            (annotator.prompts_changed, self._on_prompts_changed),
            (annotator.objects_changed, self._on_objects_changed),
            (annotator.warned, show_warning),
        ]
        pairs += [(event, self._on_slice_changed) for event in (dims.current_step, dims.order, dims.ndisplay)]
        pairs += [(getattr(self.image_layer.events, name), self._on_image_moved) for name in PLACE_EVENTS]
        for layer in (self.points, self.shapes):
            pairs.append((layer.events.data, self._on_prompt_data))
            pairs.append((layer.events.features, self._on_prompt_features))
            pairs.append((layer.events.set_data, self._on_prompt_drawn))
            if layer not in self._ours:
                pairs += [(getattr(layer.events, name), self._on_prompts_moved) for name in PLACE_EVENTS]
        return pairs + self.tools.connections()

    def _connect(self) -> None:
        for event, answer in self._connections():
            event.connect(answer)
        self._pointer = Pointer(
            self.points, self.tools, self._on_point_pressed, self._on_point_released, self._on_hovered
        )
        self.shapes.mouse_drag_callbacks.insert(0, self.tools.prepare_stroke)
        self._keys = Keys(self, (self.points, self.shapes, self.preview))
        registry.controllers.append(self)

    def _disconnect(self) -> None:
        for event, answer in self._connections():
            event.disconnect(answer)
        self._pointer.stop()
        self.shapes.mouse_drag_callbacks.remove(self.tools.prepare_stroke)
        self._keys.unbind()
        self._canvas.release()

    @contextmanager
    def _ignoring_layers(self) -> Iterator[None]:
        """Leave aside what the layers say while we change them ourselves."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def _read_prompts(self, *, is_step: bool) -> None:
        """Tell the annotator what the prompt layers hold now."""
        if self._quiet or self._is_closed or not self._prompts.is_whole:
            return
        known, active = self._annotator.slices.rows, self._annotator.slices.active
        found = self._prompts.read(known, self._pressed)
        rows, active = assign_owners(known, found, active, self._places)
        if is_step:
            self._show_polarity(rows)
        self._annotator.set_prompts(rows, active, self._view(rows), is_step=is_step)

    def _show_polarity(self, rows: Rows) -> None:
        with self._ignoring_layers():
            self._prompts.show_polarity(rows, self._ours)

    def _places(self, row: PromptRow) -> NDArray[np.floating] | None:
        """Return a prompt's points (n, 2) in the plane shown, None if it does not lie in it."""
        return None if self._key is None else self._prompts.places(row, self._key)

    def _view(self, rows: Any) -> PromptView:
        if self._key is None:
            return PromptView()
        return self._prompts.view(rows, self._key, image_shape(self.image_layer, self._key))

    # What happens to the layers

    def _on_point_pressed(self, position: NDArray[np.floating]) -> None:
        """Count a point that is about to be placed."""
        self._pressed = self._prompts.point_at(position)
        self._read_prompts(is_step=False)

    def _on_point_released(self, is_placed: bool) -> None:
        self._pressed = None
        if is_placed:  # by napari, next; should it not be, the row that stands for it must go
            self.mailbox.post(partial(self._read_prompts, is_step=False))
        else:
            self._read_prompts(is_step=False)

    def _on_hovered(self, position: NDArray[np.floating] | None) -> None:
        """Show what a click at `position` would begin."""
        embedding = None if position is None else self._annotator.slices.embedding_to_begin_with
        if position is None or embedding is None:
            return self.hover.clear()
        row = self._prompts.point_at(position)
        places = self._places(row)
        if places is None or row.named_object is not None or not is_inside(places, embedding.shape):
            return self.hover.clear()
        return self.hover.ask(embedding, tuple(places[0]))

    def _on_mouse_over_canvas(self) -> None:
        if not self.viewer.mouse_over_canvas:
            self.hover.clear()

    def _on_prompt_data(self, event: Any) -> None:
        self._is_editing = str(event.action) not in FINISHED
        if event.source is self.shapes:
            self._prompts.note_drawing(is_drawing=str(event.action) == "adding")
        if not self._is_editing:
            self._read_prompts(is_step=True)

    def _on_prompt_features(self) -> None:
        self._read_prompts(is_step=not self._is_editing)  # napari tells of them at every move of a point, too

    def _on_prompt_drawn(self) -> None:
        """While a prompt is dragged or drawn, the mask follows; that is no step of the history yet."""
        self._read_prompts(is_step=False)

    def _on_slice_changed(self) -> None:
        key = shown_slice(self.image_layer, self.viewer.dims)
        if key == self._key:
            return
        former, self._key = self._key, key
        self.hover.clear()
        if key is None:
            self._prefetch.around(None, [])
            self._annotator.show(None, "Objects are outlined in 2D: turn off the 3D view.")
            return
        self._preview.move_to(key)
        source = self._source(key)
        self._annotator.show(source)
        next_ones = key.neighbours(full_resolution(self.image_layer).shape, former)
        self._prefetch.around(source, [self._source(neighbour) for neighbour in next_ones])
        self._annotator.see(self._view(self._annotator.slices.rows))

    def _source(self, key: SliceKey) -> ImageSource:
        return image_source(self.image_layer, key, self._limits, self._identity)

    def _on_image_moved(self) -> None:
        self._preview.place()
        for layer in self._ours:
            if layer is not self.preview:
                for name in PLACE_EVENTS:
                    setattr(layer, name, getattr(self.image_layer, name))
        self._on_slice_changed()
        self._on_prompts_moved()

    def _on_prompts_moved(self) -> None:
        """Prompts in layers of the user's own mean other pixels now."""
        if self._key is not None:
            self._annotator.see(self._view(self._annotator.slices.rows))

    def _on_image_replaced(self) -> None:
        """Forget what was made of pixels that the image no longer has."""
        if self.image_layer.ndim != self._ndim:
            show_warning(f"Image {self.image_layer.name!r} has other dimensions now: annotate it again.")
            self.close()
            return
        self._limits = shared_limits(self.image_layer)
        self._identity = identified(self.image_layer)
        self.journal.turn_to(self._identity)
        self._annotator.forget_pictures()
        self._prefetch.forget()
        self._key = None
        self._on_slice_changed()

    def _on_layer_removed(self, event: Any) -> None:
        if event.value in self.layers:
            self.close()

    # What the annotator answers

    def _on_mask_changed(self) -> None:
        self._preview.paint(self._annotator.slices.masks, self.hover.mask)

    def _on_objects_changed(self) -> None:
        if self.labels in self._ours:
            show_classes(self.labels, self.objects)

    def _without_pressed(self, rows: Rows) -> Rows:
        """Leave out the point that napari will place itself."""
        assert self._pressed is not None
        return {row_id: row for row_id, row in rows.items() if row.data is not self._pressed.data}

    def _on_prompts_changed(self, rows: Any) -> None:
        with self._ignoring_layers():
            self._prompts.write(rows if self._pressed is None else self._without_pressed(rows))
            self._prompts.show_polarity(rows, self._ours)
        self._annotator.see(self._view(rows))


def image_shape(image: Image, key: SliceKey) -> tuple[int, int]:
    """Return (height, width) of a plane of `image`."""
    shape = full_resolution(image).shape
    return int(shape[key.displayed[0]]), int(shape[key.displayed[1]])


def _hang_bell(controller: Controller) -> Callable[[], None] | None:
    """Under Qt, let answers ring the event loop and the window's end close the annotation; return how to stop that."""
    if (window := getattr(controller.viewer, "window", None)) is None:
        return None
    try:
        from ..widgets.bell import hang_bell
    except ImportError:  # napari itself opens a viewer without a window where no Qt binding is installed
        return None
    return hang_bell(window, controller.mailbox, controller.close)
