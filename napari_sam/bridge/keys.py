"""Keys on the canvas while one of an annotation's layers is selected.

They are bound on the layers themselves, which beats what napari binds on their classes and on the viewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari.layers import Shapes
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.notifications import show_warning

from ..errors import NapariSamError
from .settings import remembered
from .tools import Tool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.layers import Layer

    from .controller import Controller


@dataclass(frozen=True)
class Action:
    """Something that a key does: what it is, the key that it has unless the settings say otherwise, and how."""

    about: str
    key: str
    act: Callable[[Controller], None]


ACTIONS = {
    "commit": Action("Write the outlined objects", "Enter", lambda one: one.commit_as_chosen()),
    "clear": Action("Remove the prompts", "Escape", lambda one: one.clear()),
    "toggle_polarity": Action("Change between + and \N{MINUS SIGN}", "T", lambda one: one.tools.toggle_polarity()),
    "positive_points": Action("Points on the object", "P", lambda one: one.tools.take(Tool.POSITIVE)),
    "negative_points": Action("Points beside the object", "N", lambda one: one.tools.take(Tool.NEGATIVE)),
    "boxes": Action("Boxes", "B", lambda one: one.tools.take(Tool.BOX)),
    "lassos": Action("Outlines", "L", lambda one: one.tools.take(Tool.LASSO)),
    "scribbles": Action("Strokes", "S", lambda one: one.tools.take(Tool.SCRIBBLE)),
    "outline_object": Action(
        "Take the labelled object under the cursor", "M", lambda one: one.outline_object_under_cursor()
    ),
    "reopen_object": Action("Re-open the object under the cursor", "O", lambda one: one.reopen_under_cursor()),
    "next_candidate": Action("Choose the next candidate", "C", lambda one: choose_next(one)),
    "toggle_hover": Action("Preview under the cursor on or off", "H", lambda one: one.hover.toggle()),
    "undo": Action("Undo", "Control-Z", lambda one: one.undo()),
    "redo": Action("Redo", "Control-Shift-Z", lambda one: one.redo()),
}
"""What keys can do, by the name of the setting and of the command in the palette."""

FINISH_DRAWING = ("commit", "clear")
"""While an outline is drawn, the keys of these finish it, as everywhere in napari."""


def keys_in_use() -> dict[str, str]:
    """Return the key of every action: what the settings say where that is a key, else its own."""
    return {name: key if _is_key(key) else ACTIONS[name].key for name, key in _keys_wanted().items()}


def problems() -> list[str]:
    """Return what is wrong with the keys in the settings: such as there are not, and such as mean two things."""
    wanted = _keys_wanted()
    found = [
        f"the settings name a key {key!r} that there is not: {ACTIONS[name].key} is used"
        for name, key in wanted.items()
        if not _is_key(key)
    ]
    taken: dict[Any, str] = {}
    for name, key in keys_in_use().items():
        if (other := taken.setdefault(coerce_keybinding(key), name)) != name:
            found.append(f"the settings give {key!r} to {other!r} and to {name!r}: it does the latter")
    return found


def in_words(key: str) -> str:
    """Return a key as it is written for people: Ctrl+Z."""
    return key.replace("Control", "Ctrl").replace("-", "+")


def _keys_wanted() -> dict[str, str]:
    return {name: str(remembered("keys", name, action.key)) for name, action in ACTIONS.items()}


def _is_key(key: str) -> bool:
    """Whether there is a key of this name, with modifiers that there are."""
    try:
        (part,) = coerce_keybinding(key).parts
    except (KeyError, TypeError, ValueError):
        return False
    modifiers = sum((part.ctrl, part.shift, part.alt, part.meta))
    return bool(part.key.name != "UNKNOWN" and modifiers == key.rstrip("-").count("-"))


class Keys:
    """The keys of one annotation, bound on `layers` until `unbind`."""

    def __init__(self, controller: Controller, layers: Sequence[Layer]) -> None:
        self._controller, self._layers = controller, tuple(layers)
        self._is_drawing = False
        self._before: list[tuple[Layer, Any, Any]] = []
        for problem in problems():
            show_warning(problem)
        for layer in self._layers:
            for name, key in keys_in_use().items():
                self._bind(layer, name, key)
            if isinstance(layer, Shapes):
                layer.events.data.connect(self._on_shape_data)

    def unbind(self) -> None:
        """Give every key back to whoever had it before."""
        for layer, key, before in reversed(self._before):
            layer.bind_key(key, before, overwrite=True)
        for layer in self._layers:
            if isinstance(layer, Shapes):
                layer.events.data.disconnect(self._on_shape_data)
        self._before = []

    def _bind(self, layer: Layer, name: str, key: str) -> None:
        binding = coerce_keybinding(key)
        self._before.append((layer, binding, layer.keymap.get(binding)))

        def pressed(layer: Layer) -> None:
            finish = type(layer).class_keymap.get(coerce_keybinding(ACTIONS[name].key))
            if name in FINISH_DRAWING and self._is_drawing and isinstance(layer, Shapes) and finish is not None:
                finish(layer)
            else:
                warning_only(lambda: ACTIONS[name].act(self._controller))

        layer.bind_key(binding, pressed, overwrite=True)

    def _on_shape_data(self, event: Any) -> None:
        if str(event.action) in ("adding", "added"):
            self._is_drawing = str(event.action) == "adding"


def warning_only(act: Callable[[], Any]) -> None:
    """Say what went wrong instead of raising it into napari."""
    try:
        act()
    except NapariSamError as error:
        show_warning(str(error))


def choose_next(controller: Controller) -> None:
    """Choose the next candidate of the active object, after the last one the first."""
    if controller.chosen is not None:
        controller.choose((controller.chosen + 1) % len(controller.candidates))
