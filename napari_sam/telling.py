"""What to tell a person of an annotation: what was said last, what failed, and so in which phase it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .asking import ENCODE
from .pending import Phase, Status

if TYPE_CHECKING:
    from .asking import Asking
    from .slices import Slices


class Telling:
    """What was said last, and what has failed since somebody asked.

    `message` goes when something else is done, `left` is about a slice that is not shown; `error` is the failure that
    was not made good yet.
    """

    def __init__(self) -> None:
        self.message = ""
        self.left = ""
        self.error: Exception | None = None
        self._failures: list[Exception] = []

    def status(self, slices: Slices, questions: Asking) -> Status:
        """Return what the annotation is doing."""
        if slices.shown is None:
            return Status(Phase.NO_IMAGE, message=self.message)
        if self.error is not None:
            return Status(Phase.FAILED, message=str(self.error), error=self.error)
        if questions.is_loading:
            return Status(Phase.LOADING, questions.fraction, f"Loading {questions.choice.model}")
        if ENCODE in questions:
            return Status(Phase.ENCODING, questions.fraction, self.message or self.left or "Encoding the image")
        if questions:
            return Status(Phase.DECODING, message=self.message)
        return Status(Phase.READY, message=self.message or self.left or slices.view.note or _ready(slices))

    def fail(self, error: Exception) -> None:
        """Note a failure."""
        self.error = error
        self._failures.append(error)

    def forgive(self) -> None:
        """Forget a failure: what failed is not asked any more, or was answered since."""
        self.error = None
        self._failures.clear()

    def raise_failure(self) -> None:
        """Raise what has failed first since the last call, if anything has."""
        if self._failures:
            failure = self._failures[0]
            self._failures.clear()
            raise failure


def _ready(slices: Slices) -> str:
    if slices.shown is None or slices.shown.embedding is None:
        return ""
    note = slices.shown.embedding.rule.note
    return f"Ready, encoded in {slices.shown.seconds:.1f} s. {note}".strip()
