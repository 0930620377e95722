"""Keys on the canvas while one of an annotation's layers is selected.

They are bound on the layers themselves, which beats what napari binds on their classes and on the viewer. The labels
are painted by hand, too: there keys that napari uses itself are left to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.layers import Labels, Shapes
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.notifications import show_warning

from ..errors import NapariSamError
from .remembered import toggle_hover
from .settings import remembered
from .tools import Tool

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
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
    "toggle_hover": Action("Preview under the cursor on or off", "H", lambda one: toggle_hover(one)),
    "undo": Action("Undo", "Control-Z", lambda one: one.undo()),
    "redo": Action("Redo", "Control-Shift-Z", lambda one: one.redo()),
}
"""What keys can do, by the name of the setting and of the command in the palette."""

FINISH_DRAWING = {"commit": ("polygon",), "clear": ("polygon", "paint")}
"""While an outline is drawn, the keys of these finish it, as everywhere in napari; with the modes in which a labels
layer has something to finish, or to give up."""


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


def left_to_napari(viewer: ViewerModel) -> list[str]:
    """Return the actions whose keys napari uses itself while a labels layer is selected, so that they are not bound."""
    napari = {**_class_keymap(type(viewer)), **viewer.keymap, **_class_keymap(Labels)}
    return [
        name
        for name, key in keys_in_use().items()
        if (own := napari.get(coerce_keybinding(key))) is not None and own is not _finish(Labels, name)
    ]


def in_words(key: str) -> str:
    """Return a key as it is written for people: Ctrl+Z."""
    return key.replace("Control", "Ctrl").replace("-", "+")


def keys_in_words(viewer: ViewerModel) -> list[str]:
    """Return what every key does, where it does not, and where to change it, as lines of rich text."""
    keys = {name: f"<b>{in_words(key)}</b>" for name, key in keys_in_use().items()}
    lines = [f"{key} {ACTIONS[name].about}" for name, key in keys.items()]
    if left := left_to_napari(viewer):
        lines.append(f"While the labels are selected, {', '.join(keys[name] for name in left)} are napari's own.")
    commit, clear = (keys[name] for name in FINISH_DRAWING)
    lines.append(
        f"While an outline or a polygon of labels is drawn, {commit} and {clear} finish it; while labels are painted, "
        f"{clear} gives up the stroke."
    )
    return [*lines, "<i>Change them in File &gt; Preferences, for images that are opened next.</i>"]


def _class_keymap(provider: type) -> dict[Any, Any]:
    """Return what napari binds on a class, and on those that it is made of."""
    return {key: act for one in reversed(provider.__mro__) for key, act in vars(one).get("class_keymap", {}).items()}


def _finish(layer_type: type, name: str) -> Any:
    """Return how napari itself finishes what is drawn, with the key that an action has from the start; or None."""
    return _class_keymap(layer_type).get(coerce_keybinding(ACTIONS[name].key)) if name in FINISH_DRAWING else None


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


class Binding:
    """What a key does on a layer now, and `before` it was bound."""

    def __init__(self, name: str, act: Callable[[Layer], None], before: Any) -> None:
        self.__name__ = name  # napari wants to know it of whatever a key does
        self.act, self.before = act, before

    def __call__(self, layer: Layer) -> None:
        """Answer the key."""
        self.act(layer)


class Keys:
    """The keys of one annotation, on each layer from `bind` to `unbind`."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._is_drawing = False
        self._bound: dict[Layer, dict[Any, Binding]] = {}
        for problem in problems():
            show_warning(problem)

    def bind(self, layer: Layer) -> None:
        """Give a layer the keys; the labels, which are painted by hand as well, not those that are napari's there."""
        is_painted = isinstance(layer, Labels) and layer is not self._controller.preview
        left_out = left_to_napari(self._controller.viewer) if is_painted else ()
        names = {coerce_keybinding(key): name for name, key in keys_in_use().items() if name not in left_out}
        self._bound[layer] = {
            key: Binding(name, partial(self._on_pressed, name), layer.keymap.get(key)) for key, name in names.items()
        }
        for key, binding in self._bound[layer].items():
            layer.bind_key(key, binding, overwrite=True)
        if isinstance(layer, Shapes):
            layer.events.data.connect(self._on_shape_data)

    def unbind(self, layer: Layer) -> None:
        """Give every key of a layer back to whoever had it before."""
        for key, binding in self._bound.pop(layer).items():
            _take_out(layer, key, binding)
        if isinstance(layer, Shapes):
            layer.events.data.disconnect(self._on_shape_data)

    def unbind_all(self) -> None:
        """Give every key of every layer back."""
        for layer in list(self._bound):
            self.unbind(layer)

    def _on_pressed(self, name: str, layer: Layer) -> None:
        finish = _finish(type(layer), name)
        if finish is not None and self._draws(layer, name):
            finish(layer)
        else:
            warning_only(lambda: ACTIONS[name].act(self._controller))

    def _draws(self, layer: Layer, name: str) -> bool:
        """Whether napari draws something in a layer that a key finishes."""
        if isinstance(layer, Labels):
            return str(layer.mode) in FINISH_DRAWING[name]
        return isinstance(layer, Shapes) and self._is_drawing

    def _on_shape_data(self, event: Any) -> None:
        if str(event.action) in ("adding", "added"):
            self._is_drawing = str(event.action) == "adding"


def _take_out(layer: Layer, key: Any, binding: Binding) -> None:
    """Undo a binding, under those that other annotations of the same layer have put over it."""
    top = layer.keymap.get(key)
    if top is binding:
        layer.bind_key(key, binding.before, overwrite=True)
    while isinstance(top, Binding):
        if top.before is binding:
            top.before = binding.before
        top = top.before


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
