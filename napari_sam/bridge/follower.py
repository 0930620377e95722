"""What happens to the layers of an annotation, told to the annotator, and what it answers, painted.

Data flows one way: events are read into frozen rows and views for the annotator; its signals are painted. Nothing is
decided here.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from ..errors import ImageError
from ..prompt_rows import PromptView, adopt, assign_owners
from .freshness import Freshness
from .image_source import (
    PLACE,
    full_resolution,
    identified,
    image_source,
    is_cut_at_an_angle,
    shared_limits,
    shown_slice,
)
from .looks import show_classes
from .pointer import Pen, Pointer
from .prompt_layers import PromptLayers, is_inside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.components import ViewerModel
    from napari.layers import Image
    from numpy.typing import NDArray

    from ..annotator import Annotator
    from ..hover import Hover
    from ..journal_format import Identified
    from ..pending import ImageSource
    from ..planes import SliceKey
    from ..prefetch import Prefetch
    from ..prompt_rows import PromptRow, Rows
    from ..worker import Mailbox
    from .layers import AnnotationLayers
    from .tools import Tools

NOT_IN_3D = "Objects are outlined in 2D: turn off the 3D view."
NOT_AT_AN_ANGLE = (
    "Objects are outlined in planes of the image, which is turned out of this view: put its axes back in order."
)
NOTHING_HERE = "The image has no plane here: go to a slice that shows it."
NO_DRAG = "Nothing was drawn: drag from one corner to the other."
FINISHED = ("added", "removed", "changed")


class Follower:
    """Joins an annotation's layers to its annotator, from `start` to `stop`.

    Parameters
    ----------
    viewer, layers
        Where things happen.
    annotator, hover, prefetch
        Who is told of them.
    tools
        What a click means.
    mailbox
        For what must wait until napari has done its part.
    identity
        By what a journal will know the image again.
    """

    lost = Signal(str, description="the annotation cannot go on, and why")

    def __init__(
        self,
        viewer: ViewerModel,
        layers: AnnotationLayers,
        annotator: Annotator,
        hover: Hover,
        prefetch: Prefetch,
        tools: Tools,
        mailbox: Mailbox,
        identity: Identified,
    ) -> None:
        self._viewer, self._layers = viewer, layers
        self._annotator, self._hover, self._prefetch = annotator, hover, prefetch
        self._tools, self._mailbox = tools, mailbox
        self.prompts = PromptLayers(layers.points, layers.shapes, layers.image)
        self.key: SliceKey | None = None
        self._why_none = ""
        self._limits, self._identity = shared_limits(layers.image), identity
        self._freshness = Freshness()
        self._ndim = layers.image.ndim
        self._pressed: PromptRow | None = None
        self._dots: list[NDArray[np.floating]] = []
        self._quiet = self._is_editing = self._is_stopped = False

    def plane(self) -> SliceKey:
        """Return the plane shown; `ImageError` says what to do where none is."""
        if self.key is None:
            raise ImageError(self._why_none)
        return self.key

    def start(self) -> None:
        """Take the prompts that are there already, follow the layers, and show the slice that the viewer shows."""
        self._annotator.adopt(adopt(self.prompts.read({})))
        with ExitStack() as begun:
            for event, answer in self._connections():
                event.connect(answer)
                begun.callback(event.disconnect, answer)
            self._pointer = Pointer(
                self._layers.points, self._tools, self._on_point_pressed, self._on_point_released, self._on_hovered
            )
            begun.callback(self._pointer.stop)
            self._pen = Pen(self._layers.shapes, self._tools, self._on_shape_opened)
            begun.callback(self._pen.stop)
            self._ending = begun.pop_all()

    def stop(self) -> None:
        """Leave the layers alone."""
        self._remove_dots()
        self._is_stopped = True
        self._ending.close()

    def let_go(self) -> None:
        """Take back the point that is pressed; the release may still place it."""
        self._pointer.let_go()

    def _connections(self) -> list[tuple[Any, Callable[..., object]]]:
        """Every signal we listen to, and who answers it."""
        dims, annotator = self._viewer.dims.events, self._annotator.events
        pairs: list[tuple[Any, Callable[..., object]]] = [
            (self._layers.image.events.data, self._on_image_replaced),
            (self._layers.image.events.set_data, self._on_image_refreshed),
            (self._viewer.events.mouse_over_canvas, self._on_mouse_over_canvas),
            (annotator.mask_changed, self._on_mask_changed),
            (self._hover.changed, self._on_mask_changed),
            (self._tools.changed, self._hover.clear),
            (self._tools.changed, self._end_dot),
            (annotator.prompts_changed, self._on_prompts_changed),
            (annotator.objects_changed, self._on_objects_changed),
        ]
        pairs += [(event, self.show_slice) for event in (dims.current_step, dims.order, dims.ndisplay)]
        pairs += [(getattr(self._layers.image.events, name), self._on_image_moved) for name in PLACE]
        for layer in (self._layers.points, self._layers.shapes):
            pairs.append((layer.events.data, self._on_prompt_data))
            pairs.append((layer.events.features, self._on_prompt_features))
            pairs.append((layer.events.set_data, self._on_prompt_drawn))
            if layer not in self._layers.ours:
                pairs += [(getattr(layer.events, name), self._on_prompts_moved) for name in PLACE]
        return pairs + self._tools.connections()

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
        if self._quiet or self._is_stopped or not self.prompts.is_whole:
            return
        known, active = self._annotator.slices.rows, self._annotator.slices.active
        found = self.prompts.read(known, self._pressed)
        rows, active = assign_owners(known, found, active, self._places)
        if is_step:
            self._show_polarity(rows)
        view = self._annotator.slices.view if rows == known else self._view(rows)  # napari tells of each edit thrice
        self._annotator.set_prompts(rows, active, view, is_step=is_step)

    def _show_polarity(self, rows: Rows) -> None:
        with self._ignoring_layers():
            self.prompts.show_polarity(rows, self._layers.ours)

    def _places(self, row: PromptRow) -> NDArray[np.floating] | None:
        """Return a prompt's points (n, 2) in the plane shown, None if it does not lie in it."""
        return None if self.key is None else self.prompts.places(row, self.key)

    def _view(self, rows: Any) -> PromptView:
        if self.key is None:
            return PromptView()
        return self.prompts.view(rows, self.key, image_shape(self._layers.image, self.key))

    # What happens to the layers

    def _on_point_pressed(self, position: NDArray[np.floating]) -> None:
        """Count a point that is about to be placed."""
        self._pressed = self.prompts.point_at(position)
        self._read_prompts(is_step=False)

    def _on_point_released(self, is_placed: bool) -> None:
        self._pressed = None
        if is_placed:  # by napari, next; should it not be, the row that stands for it must go
            self._mailbox.post(partial(self._read_prompts, is_step=False))
        else:
            self._read_prompts(is_step=False)

    def _on_hovered(self, position: NDArray[np.floating] | None) -> None:
        """Show what a click at `position` would begin."""
        state = self._annotator.slices.to_begin_in
        if position is None or state is None:
            return self._hover.clear()
        row = self.prompts.point_at(position)
        places = self._places(row)
        if places is None or row.named_object is not None or not is_inside(places, state.source.shape):
            return self._hover.clear()
        return self._hover.ask(state, tuple(places[0]))

    def _on_mouse_over_canvas(self) -> None:
        if not self._viewer.mouse_over_canvas:
            self._hover.clear()

    def _on_prompt_data(self, event: Any) -> None:
        self._is_editing = str(event.action) not in FINISHED
        if event.source is self._layers.shapes:
            if str(event.action) == "added" and self._end_dot():
                return
            self.prompts.note_drawing(is_drawing=str(event.action) == "adding", is_dot=self._pen.dot is not None)
        if not self._is_editing:
            self._read_prompts(is_step=True)

    def _on_shape_opened(self) -> None:
        self.prompts.note_drawing(is_drawing=False)

    def _end_dot(self) -> bool:
        """Have a shape that no drag has opened removed, once napari has done its part; False if there is none."""
        index, self._pen.dot = self._pen.dot, None
        shapes = self._layers.shapes
        if index is None or self._quiet or shapes.nshapes != index + 1:
            return False
        self._dots.append(shapes.data[index])
        self._mailbox.post(self._remove_dots)
        return True

    def _remove_dots(self) -> None:
        """Remove what clicks have left of the shapes layer's prompts, unless it is gone already: it never was one."""
        if not self._dots:
            return
        shapes = self._layers.shapes
        places = [at for at, data in enumerate(shapes.data) if any(np.array_equal(data, dot) for dot in self._dots)]
        self._dots.clear()
        with self._ignoring_layers():
            shapes.remove(places)
        self.prompts.note_drawing(is_drawing=False)
        self._read_prompts(is_step=False)
        self._annotator.say(NO_DRAG)

    def _on_prompt_features(self) -> None:
        self._read_prompts(is_step=not self._is_editing)  # napari tells of them at every move of a point, too

    def _on_prompt_drawn(self, event: Any) -> None:
        """While a prompt is dragged or drawn, the mask follows; that is no step of the history yet.

        Of points that are pasted napari tells in no other way.
        """
        is_idle = not self._is_editing and self._pressed is None
        self._read_prompts(is_step=is_idle and event.source is self._layers.points)

    def show_slice(self) -> None:
        """Turn to the plane that the viewer shows now."""
        key = shown_slice(self._layers.image, self._viewer.dims)
        why_none = self._find_out_why_none() if key is None else ""
        if (key, why_none) == (self.key, self._why_none):
            return
        former, self.key, self._why_none = self.key, key, why_none
        self._hover.clear()
        if key is None:
            self._prefetch.around(None, [])
            self._annotator.show(None, why_none)
            return
        source = self._source(key)
        if self._freshness.is_lost(source):
            self._on_image_replaced()
            return
        self._layers.preview.move_to(key)
        self._annotator.show(source)
        next_ones = key.neighbours(full_resolution(self._layers.image).shape, former)
        self._prefetch.around(source, [self._source(neighbour) for neighbour in next_ones])
        self._annotator.see(self._view(self._annotator.slices.rows))

    def _find_out_why_none(self) -> str:
        """Return what to do to see a plane of the image."""
        if self._viewer.dims.ndisplay != 2:
            return NOT_IN_3D
        return NOT_AT_AN_ANGLE if is_cut_at_an_angle(self._layers.image, self._viewer.dims) else NOTHING_HERE

    def _source(self, key: SliceKey) -> ImageSource:
        return image_source(self._layers.image, key, self._limits, self._identity)

    def _on_image_moved(self) -> None:
        self._layers.follow_image()
        self.show_slice()
        self._on_prompts_moved()

    def _on_prompts_moved(self) -> None:
        """Prompts in layers of the user's own mean other pixels now."""
        if self.key is not None:
            self._annotator.see(self._view(self._annotator.slices.rows))

    def _on_image_replaced(self) -> None:
        """Forget what was made of pixels that the image no longer has."""
        image = self._layers.image
        if image.ndim != self._ndim:
            self.lost.emit(f"Image {image.name!r} has other dimensions now: annotate it again.")
            return
        self._limits, self._identity = shared_limits(image), identified(image)
        self._annotator.journal.turn_to(self._identity)
        self._annotator.forget_pictures()
        self._prefetch.forget()
        self._freshness.forget()
        self.key, self._why_none = None, ""
        self.show_slice()

    def _on_image_refreshed(self) -> None:
        """Look what a script may have written; once napari has said whether it was given another array."""
        self._mailbox.post(self._check_freshness)

    def _check_freshness(self) -> None:
        if not self._is_stopped and self.key is not None and self._freshness.is_lost(self._source(self.key)):
            self._on_image_replaced()

    # What the annotator answers

    def _on_mask_changed(self) -> None:
        slices = self._annotator.slices
        self._layers.preview.paint(slices.masks, None if slices.to_begin_in is None else self._hover.mask)

    def _on_objects_changed(self) -> None:
        if self._layers.labels in self._layers.ours:
            show_classes(self._layers.labels, self._annotator.objects)

    def _without_pressed(self, rows: Rows) -> Rows:
        """Leave out the point that napari will place itself."""
        assert self._pressed is not None
        return {row_id: row for row_id, row in rows.items() if row.data is not self._pressed.data}

    def _on_prompts_changed(self, rows: Any) -> None:
        with self._ignoring_layers():
            self.prompts.write(rows if self._pressed is None else self._without_pressed(rows))
            self.prompts.show_polarity(rows, self._layers.ours)
        self._annotator.see(self._view(rows))


def image_shape(image: Image, key: SliceKey) -> tuple[int, int]:
    """Return (height, width) of a plane of `image`."""
    shape = full_resolution(image).shape
    return int(shape[key.displayed[0]]), int(shape[key.displayed[1]])
