"""The objects of an annotation as scripts and the dock see them: a table to read, select in, and change."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from .errors import LabelsError
from .objects import Mode, ObjectClass

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from .history import Step
    from .ledger import Ledger
    from .objects import LabelledObject

FIRST_CLASS = "foreground"
"""The class that semantic labels begin with, if nobody named one."""


class ObjectTable:
    """Every object that the labels hold, by id; iterating gives them in the order of their ids.

    Made by the annotation, `annotator.objects`. Each change is one step of the annotation's history.

    Parameters
    ----------
    ledger
        What there is, and how to change it.
    on_delete
        Deletes an object, with the prompts that it may have.
    on_changed
        Called after a change, with a sentence about it.
    """

    def __init__(self, ledger: Ledger, on_delete: Callable[[int], None], on_changed: Callable[[str], None]) -> None:
        self._ledger, self._on_delete, self._on_changed = ledger, on_delete, on_changed
        self._selected: int | None = None
        self._extended: set[Hashable] = set()

    def __iter__(self) -> Iterator[LabelledObject]:
        return iter(self._ledger.objects().values())

    def __len__(self) -> int:
        return len(self._ledger.objects())

    def __contains__(self, object_id: object) -> bool:
        return object_id in self._ledger.objects()

    def __getitem__(self, object_id: int) -> LabelledObject:
        """Return an object; `LabelsError` if the labels have no pixel of it."""
        try:
            return self._ledger.objects()[object_id]
        except KeyError:
            raise LabelsError(f"the labels have no object {object_id}: choose one that `objects` lists") from None

    # Objects

    @property
    def selected(self) -> int | None:
        """The selected object: what is committed next in another slice goes on under its id."""
        return self._selected

    def select(self, object_id: int | None) -> None:
        """Select an object, None for none.

        As long as it is selected, the active object is committed under its id, once in each slice, and replaces what it
        had there. What is outlined in that slice afterwards is a new object.

        Raises
        ------
        LabelsError
            The labels have no such object.
        """
        if object_id is not None:
            object_id = self[object_id].id
        if object_id == self._selected:
            return
        self._selected, self._extended = object_id, set()
        self._on_changed("" if object_id is None else f"Object {object_id} goes on with what you commit next.")

    def delete(self, object_id: int) -> None:
        """Remove an object from all slices; `LabelsError` if the labels have no such object."""
        self._on_delete(self[object_id].id)
        self._on_changed(f"Object {object_id} is deleted.")

    def set_class(self, object_id: int, name: str) -> None:
        """Give an object a class, "" for none; a class that does not exist yet is made.

        Raises
        ------
        LabelsError
            The labels have no such object, or they are semantic and "" was given.
        """
        object_id, name = self[object_id].id, name.strip()
        if name == self._ledger.class_of(object_id):
            return
        is_semantic = self.mode is Mode.SEMANTIC
        if is_semantic and not name:
            raise LabelsError(f"object {object_id} of semantic labels needs a class: name one, or delete the object")
        classes = self.classes
        if name and self._ledger.find_class(name) is None:
            value = object_id if is_semantic and not self._ledger.class_of(object_id) else None
            classes = (*classes, self._ledger.new_class(name, None, value))
        self._ledger.set_class(object_id, name, classes)
        self._on_changed("")

    # Classes

    @property
    def classes(self) -> tuple[ObjectClass, ...]:
        """All classes, in the order in which they were made."""
        return self._ledger.classes

    @property
    def current_class(self) -> str:
        """The name of the class of objects that are committed from now on, "" for none."""
        return self._ledger.current_class

    @current_class.setter
    def current_class(self, name: str) -> None:
        if self.mode is Mode.SEMANTIC and not name:
            raise LabelsError("semantic labels need a class: name one")
        if name:
            self.class_named(name)
        self._ledger.current_class = name
        self._on_changed("")

    def class_named(self, name: str) -> ObjectClass:
        """Return a class; `LabelsError` if there is none of that name."""
        if (found := self._ledger.find_class(name)) is None:
            raise LabelsError(f"there is no class {name!r}: choose of {[one.name for one in self.classes]}, or add it")
        return found

    def add_class(self, name: str, colour: str | None = None) -> ObjectClass:
        """Make a class; None takes the next colour.

        Raises
        ------
        LabelsError
            The name is empty or taken, or the colour is not written as "#rrggbb".
        """
        name = self._free_name(name)
        if colour is not None:
            _check_colour(colour)
        made = self._ledger.new_class(name, colour)
        self._ledger.set_classes((*self.classes, made), {})
        self._on_changed("")
        return made

    def rename_class(self, name: str, new: str) -> None:
        """Give a class another name, which its objects take over; `LabelsError` if that is empty or taken."""
        former = self.class_named(name)
        if new.strip() == name:
            return
        new = self._free_name(new)
        is_current = self.current_class == name
        self._replace_class(former, replace(former, name=new), {name: new})
        if is_current:
            self._ledger.current_class = new
        self._on_changed("")

    def set_colour(self, name: str, colour: str) -> None:
        """Give a class another colour, "#rrggbb"; `LabelsError` if it is none, or there is no such class."""
        former = self.class_named(name)
        _check_colour(colour)
        if colour != former.colour:
            self._replace_class(former, replace(former, colour=colour), {})
            self._on_changed("")

    def remove_class(self, name: str) -> None:
        """Remove a class; its objects are of none from then on.

        Raises
        ------
        LabelsError
            There is no such class, or the labels are semantic and have pixels of it.
        """
        former = self.class_named(name)
        if self.mode is Mode.SEMANTIC and former.value in self:
            raise LabelsError(f"the labels have pixels of class {name!r}: delete object {former.value} first")
        self._replace_class(former, None, {name: ""})
        self._on_changed("")

    # What the numbers in the labels mean

    @property
    def mode(self) -> Mode:
        """Whether a pixel holds the id of its object or the value of its class."""
        return self._ledger.mode

    def set_mode(self, mode: Mode | str) -> None:
        """Let the numbers in the labels be ids of objects ("instance") or values of classes ("semantic").

        Raises
        ------
        LabelsError
            Objects were committed into these labels already.
        ValueError
            There is no such mode.
        """
        mode = Mode(mode)
        if mode is self.mode:
            return
        if self._ledger.records:
            raise LabelsError(
                f"these labels hold {self.mode.value} objects already: choose new labels, then {mode.value} mode"
            )
        self._ledger.mode = mode
        self._ledger.history.forget_objects()
        self._selected = None
        if mode is Mode.SEMANTIC and not self.current_class:
            first = self.classes[0] if self.classes else self.add_class(FIRST_CLASS)
            self._ledger.current_class = first.name
        self._on_changed("")

    # What the annotation asks and tells

    def extends(self, key: Hashable) -> int | None:
        """Return the id under which the active object is committed in the slice `key`, None for a new one."""
        is_open = self._selected is not None and key not in self._extended
        return self._selected if is_open and self._selected in self else None

    def on_step(self, kind: str, step: Step) -> None:
        """Take in that a step was done or turned round."""
        if step.kind == "commit" and self._selected in step.records:
            keys = {patch.key for patch in step.patches}
            self._extended = self._extended - keys if kind == "undo" else self._extended | keys
        if self._selected is not None and self._selected not in self:
            self._selected = None

    def forget(self) -> None:
        """Select nothing: the labels are other ones."""
        self._selected, self._extended = None, set()

    def _free_name(self, name: str) -> str:
        name = name.strip()
        if not name:
            raise LabelsError("a class needs a name: give one that is not empty")
        if self._ledger.find_class(name) is not None:
            raise LabelsError(f"there is a class {name!r} already: choose another name")
        return name

    def _replace_class(self, former: ObjectClass, new: ObjectClass | None, renamed: dict[str, str]) -> None:
        classes = tuple(new if one is former else one for one in self.classes)
        self._ledger.set_classes(tuple(one for one in classes if one is not None), renamed)


def _check_colour(colour: str) -> None:
    if not re.fullmatch("#[0-9a-fA-F]{6}", colour):
        raise LabelsError(f"{colour!r} is no colour: write it as '#rrggbb', for example '#0072b2'")
