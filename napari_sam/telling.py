"""What to tell a person of an annotation: what was said last, what failed, and so in which phase it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

from .asking import ENCODE
from .pending import Phase, Status

if TYPE_CHECKING:
    from .asking import Asking
    from .slices import Slices
    from .worker import ModelChoice


class Refused(NamedTuple):
    """A model that was chosen and could not be loaded, so that the one before stays in use, and why."""

    choice: ModelChoice
    error: Exception


class Telling:
    """What was said last, and what has failed since somebody asked.

    `message` and `refused` go when something else is done, `left` is about a slice that is not shown, `why_none` says
    what to do where none is; `error` is the failure that was not made good yet.
    """

    def __init__(self) -> None:
        self.message = ""
        self.left = ""
        self.why_none = ""
        self.error: Exception | None = None
        self.refused: Refused | None = None
        self._failures: list[Exception] = []
        self._refusals: list[Exception] = []

    def status(self, slices: Slices, questions: Asking) -> Status:
        """Return what the annotation is doing."""
        if self.error is not None and slices.shown is not None:
            return Status(Phase.FAILED, message=str(self.error), error=self.error)
        going_on = self._going_on(slices, questions)
        if self.refused is None:
            return going_on
        error = self.refused.error
        if going_on.phase is Phase.READY:
            return Status(Phase.FAILED, message=str(error), error=error)
        return replace(going_on, error=error)  # nothing has stopped

    def _going_on(self, slices: Slices, questions: Asking) -> Status:
        """Return what the annotation is doing while nothing has failed."""
        if slices.shown is None:
            return Status(Phase.NO_IMAGE, message=self.why_none)
        if questions.is_loading:
            return Status(Phase.LOADING, questions.fraction, _loading(questions))
        if ENCODE in questions:
            return Status(Phase.ENCODING, questions.fraction, self.message or self.left or "Encoding the image")
        if questions:
            return Status(Phase.DECODING, questions.fraction, self.message)
        return Status(Phase.READY, message=self.message or self.left or slices.view.note or _ready(slices))

    def fail(self, error: Exception) -> None:
        """Note a failure."""
        self.error = error
        self._failures.append(error)

    def refuse(self, choice: ModelChoice, error: Exception) -> None:
        """Note a model that could not be loaded while another one stays in use."""
        self.refused = Refused(choice, error)
        self._refusals.append(error)

    def forgive(self) -> None:
        """Forget a failure: what failed is not asked any more, or was answered since."""
        self.error = None
        self._failures.clear()

    def begin_anew(self) -> None:
        """Forget every failure, models that were refused among them: another one is chosen."""
        self.forgive()
        self.refused = None
        self._refusals.clear()

    def raise_failure(self) -> None:
        """Raise what has failed first since the last call, if anything has; a model that was refused goes before."""
        failures = [*self._refusals, *self._failures]
        self._refusals.clear()
        self._failures.clear()
        if failures:
            raise failures[0]


def _loading(questions: Asking) -> str:
    """Return what is loaded, without its folder if it is a file, and who answers until then."""
    name = PurePath(questions.wanted.model).name
    return f"Still answering with the former model; loading {name}" if questions.is_turning else f"Loading {name}"


def _ready(slices: Slices) -> str:
    if slices.shown is None or slices.shown.embedding is None:
        return ""
    note = slices.shown.embedding.rule.note
    return f"Ready, encoded in {slices.shown.seconds:.1f} s. {note}".strip()
