"""Keeps the journal of one annotation while it goes on."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .errors import JournalError, LabelsError
from .history import Step
from .journal import Journal, Recorded, Unreadable, find_journals
from .journal_format import change_as_json, classes_as_json, objects_as_json, plane_as_json
from .planes import plane_at
from .replaying import Replay

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence
    from pathlib import Path

    from .history import Change
    from .journal_format import Identified, Json
    from .ledger import Ledger
    from .objects import ObjectRecord

    Records = Mapping[int, ObjectRecord | None]


class Recorder:
    """Writes down what a ledger tells; what cannot be written is said once, and the annotation goes on.

    Parameters
    ----------
    image
        The image that is annotated; None keeps no journal.
    folder
        Where its journal goes; None keeps none.
    """

    def __init__(self, image: Identified | None, folder: Path | None) -> None:
        self._image, self._folder = image, None if image is None else folder
        self._journal: Journal | None = None
        self._goes_on = False
        self._known: set[Hashable] = set()
        self._weights = ""
        self._has_warned = False

    def attach(self, ledger: Ledger, warn: Callable[[str], None], restored: Callable[[str], None]) -> None:
        """Keep the journal of `ledger`; `warn` of what goes wrong, and tell what was `restored`."""
        self._ledger, self._warn, self._restored = ledger, warn, restored

    @property
    def path(self) -> Path | None:
        """The journal's file; None before anything was noted."""
        return None if self._journal is None else self._journal.path

    def turn_to(self, image: Identified) -> None:
        """Let the journal go, since the image has other pixels now; what comes next begins another one."""
        goes_on = self._goes_on or self._journal is not None
        self.close()
        self._image, self._goes_on = image, goes_on
        if goes_on:
            self._ledger.canvas.was_empty = False  # of what the labels hold now, the next one is told first

    # Earlier annotations of the same image

    def found(self) -> list[Recorded | Unreadable]:
        """Return the journals of this image that no open annotation is writing, the latest first."""
        return [] if self._folder is None or self._image is None else find_journals(self._folder, self._image)

    def earlier(self) -> list[Recorded]:
        """Return those of them that can be read."""
        return [one for one in self.found() if isinstance(one, Recorded)]

    def unfinished(self) -> list[Recorded]:
        """Return those that can be read, of annotations that were cut off, say by a crash."""
        return [one for one in self.earlier() if not one.is_finished]

    def restore(self, recorded: Recorded) -> None:
        """Go on where the journal of an earlier annotation of this image ends; its steps can be undone one by one.

        Raises
        ------
        JournalError
            It is about another image, its labels have another shape, it is damaged, or it cannot be written any more.
        LabelsError
            Objects were committed here already, or the labels have no room for its ids.
        """
        ledger, canvas = self._ledger, self._ledger.canvas
        if ledger.records:
            raise LabelsError("objects were committed here already: choose new labels, then restore")
        if self._image is not None and recorded.image != self._image.resolved:
            raise JournalError(
                f"the journal {recorded.path} is about another image: "
                f"{recorded.image.in_words()}, not {self._image.resolved.in_words()}"
            )
        if recorded.shape != canvas.shape:
            raise JournalError(f"the journal's labels have shape {recorded.shape}, these have {canvas.shape}")
        recorded.check()
        journal = Journal(recorded.path, recorded.header)
        journal.resume()
        try:
            replay = Replay(recorded, with_base=canvas.was_empty)
            canvas.restore(replay.paint, recorded.largest_id)
        except LabelsError:
            journal.release()
            raise
        self.close()
        self._journal, self._weights = journal, recorded.last_weights
        ledger.restore(replay.records, replay.classes, recorded.mode, replay.steps)
        self._restored(f"{len(ledger.objects())} objects are back, as they were at {recorded.last_time}.")

    # What happens

    def note(self, kind: str, step: Step, changes: Sequence[Change], model: Json) -> None:
        """Note a step that was done, or turned round ("undo", "redo"), and the model that was in use."""
        if self._weights and model["weights"] and model["weights"] != self._weights:
            self._warn(f"The journal was written with other weights ({self._weights[:12]}); from now on it says which.")
        self._weights = model["weights"] or self._weights
        entry: Json = {"kind": kind, "mode": self._ledger.mode.value, "model": model}
        if step.records:
            entry["objects"] = objects_as_json(step, back=kind == "undo")
        if step.classes is not None:
            entry["classes"] = classes_as_json(self._ledger.classes)
        former = {one: after if kind == "undo" else before for one, (before, after) in step.records.items()}
        self._append(entry, changes, former)

    def note_edits(self, changes: Sequence[Change] | None) -> None:
        """Note pixels that were changed by hand; None if nobody can tell which: planes are noted as they are used."""
        if changes is None:
            self._known.clear()
        elif changes:
            self._append({"kind": "edit", "mode": self._ledger.mode.value}, changes)

    def close(self) -> None:
        """Let the journal go; what comes next begins another one. Safe to call again."""
        if self._journal is not None:
            self._journal.close()
        self._journal, self._known, self._weights, self._goes_on = None, set(), "", False

    def _append(self, entry: Json, changes: Sequence[Change], former: Records | None = None) -> None:
        if self._journal is None and (self._folder is None or self._image is None):
            return
        start = [self._start(changes, former or {})] if self._goes_on else []
        entry["changes"] = [change_as_json(change) for change in changes]
        if base := self._base(changes, [change.key for change in changes]):
            entry["base"] = base
        try:
            if self._journal is None:
                assert self._folder is not None
                assert self._image is not None
                self._journal = self._begin(self._folder, self._image)
            self._goes_on = False
            self._journal.append(*start, entry)
        except JournalError as error:
            if not self._has_warned:
                self._has_warned = True
                self._warn(str(error))

    def _begin(self, folder: Path, image: Identified) -> Journal:
        try:
            identity = image.resolved
        except Exception as error:  # a lazy array is read by whatever library, and fails in as many ways
            raise JournalError(f"cannot read the image for its journal: {error}; commits go on without one") from error
        canvas, ledger = self._ledger.canvas, self._ledger
        header = {
            "image": identity.as_json(),
            "labels": {"shape": list(canvas.shape), "was_empty": canvas.was_empty, **asdict(canvas.grid)},
            "mode": ledger.mode.value,
            "classes": classes_as_json(ledger.classes),
        }
        return Journal.new(folder, header)

    def _start(self, changes: Sequence[Change], former: Records) -> Json:
        """Return what a journal that goes on from another one says first: labels and objects before the `changes`."""
        ledger = self._ledger
        keys = [plane_at(position) for places in ledger.canvas.areas().values() for position in places]
        step = Step("edit", records={one: (None, record) for one, record in {**ledger.records, **former}.items()})
        try:
            base = self._base(changes, [change.key for change in changes] + keys)
        except LabelsError:  # the image has another shape by now: what labels there are, are not about it
            base = []
        objects = objects_as_json(step, back=False)
        return {"kind": step.kind, "mode": ledger.mode.value, "changes": [], "base": base, "objects": objects}

    def _base(self, changes: Sequence[Change], keys: Sequence[Any]) -> list[Json]:
        """Return those planes that are told of for the first time as they were before, where they were not empty."""
        canvas = self._ledger.canvas
        if canvas.was_empty:
            return []
        bases = []
        for key in dict.fromkeys(key for key in keys if key not in self._known):
            self._known.add(key)
            plane = canvas.read(key, canvas.box_of(key)).copy()
            for change in reversed(changes):
                if change.key == key:
                    row0, col0, row1, col1 = change.box
                    plane[row0:row1, col0:col1][change.where] = change.former[change.where]
            if plane.any():
                bases.append(plane_as_json(key, plane))
        return bases
