"""The mask that a click would begin, asked while the mouse is over the image; it takes part in nothing else.

It follows the mouse with what is encoded; where the mouse rests, the model looks closer, as it would after a click.
What it encodes for that stays in the embedding cache, where a click there finds it. It has questions of its own: what
is pending, its candidates, the history and `wait` never know of it.
"""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

from psygnal import Signal

from .prompts import Prompts
from .questions import Questions
from .worker import Job, Mailbox, ModelChoice, Priority

if TYPE_CHECKING:
    from collections.abc import Callable

    from .embedding import ImageEmbedding
    from .masks import Mask
    from .pending import SliceState
    from .predictor import Predictor

SLOW = 1 / 15
"""Seconds for one answer above which the preview stands still more than it follows the hand."""
ENOUGH = 5
"""Answers after which it is known how long they take; the first one warms the model up and does not count."""
REST = 0.15
"""Seconds after an answer when the mouse is taken to rest."""
HERE, CLOSER = "here", "closer"


class Hover:
    """Asks for the place under the cursor; of many places, the newest alone.

    `wanted` is True or False where somebody said so, else None: then it is on unless the model proves too slow for it.

    Parameters
    ----------
    choice
        The model to ask; its worker is shared.
    mailbox
        Through which answers come to the main thread.
    on_notice
        Called on the main thread with a sentence for the user.
    """

    changed = Signal(description="another mask is shown under the cursor, or none")
    switched = Signal(description="the preview was turned on or off")

    def __init__(
        self, choice: ModelChoice, mailbox: Mailbox, on_notice: Callable[[str], None] = lambda _notice: None
    ) -> None:
        self._questions = Questions(choice, mailbox, self._on_settled, lambda: None, on_notice)
        self._wanted: bool | None = None
        self._seconds: list[float] = []
        self._mask: Mask | None = None

    @property
    def wanted(self) -> bool | None:
        """What was chosen; None leaves it to the speed of the model."""
        return self._wanted

    @wanted.setter
    def wanted(self, wanted: bool | None) -> None:
        self._wanted = wanted
        if not self.is_on:
            self.clear()
        self.switched.emit()

    @property
    def is_slow(self) -> bool:
        """Whether answers of this model take too long to follow the hand."""
        return len(self._seconds) > ENOUGH and median(self._seconds[1:]) > SLOW

    @property
    def is_on(self) -> bool:
        """Whether a mask is shown under the cursor."""
        return not self.is_slow if self._wanted is None else self._wanted

    def toggle(self) -> None:
        """Turn the preview on, or off if it is on."""
        self.wanted = not self.is_on

    @property
    def mask(self) -> Mask | None:
        """The mask under the cursor, None if there is none to show."""
        return self._mask

    def ask(self, state: SliceState, place: tuple[float, float]) -> None:
        """Ask what a click at `place` (row, column) of an encoded slice would begin.

        An earlier answer is shown until this one comes.
        """
        embedding, pixels, prompts = state.embedding, state.source.pixels, Prompts([place], [1])
        if embedding is None or not self.is_on:
            return

        def work(predictor: Predictor, _job: Job) -> tuple[Mask, float]:
            started = time.perf_counter()
            return _best(predictor, embedding, prompts), time.perf_counter() - started

        def look_closer(predictor: Predictor, job: Job) -> Mask | None:
            better = predictor.refine(embedding, pixels, prompts, cancelled=job.is_cancelled)
            return None if better is embedding else _best(predictor, better, prompts)

        def take(answer: tuple[Mask, float]) -> None:
            self._take(answer)
            if self.is_on:  # answers may have proved slow
                self._questions.ask(CLOSER, Priority.PREFETCH, look_closer, self._show, delay=REST)

        self._questions.drop(CLOSER)
        self._questions.ask(HERE, Priority.DECODE, work, take, meanwhile=self._take)

    def clear(self) -> None:
        """Show nothing under the cursor any more."""
        self._questions.drop_all()
        if self._mask is not None:
            self._mask = None
            self.changed.emit()

    def turn_to(self, choice: ModelChoice) -> None:
        """Ask another model from now on."""
        self.clear()
        self._seconds = []
        self._questions.turn_to(choice)
        self.switched.emit()

    def close(self) -> None:
        """Let the model go."""
        self.clear()
        self._questions.close()

    def _show(self, mask: Mask | None) -> None:
        """Show another mask; None knows no better one."""
        if mask is not None:
            self._mask = mask
            self.changed.emit()

    def _take(self, answer: tuple[Mask, float]) -> None:
        mask, seconds = answer
        was_on = self.is_on
        self._seconds = [*self._seconds[: 4 * ENOUGH], seconds]
        self._show(mask)
        if self.is_on != was_on:
            self.wanted = self._wanted  # which turns it off

    def _on_settled(self, error: Exception | None) -> None:
        """Show nothing where asking failed: the click itself will say what is wrong."""
        if error is not None:
            self.clear()


def _best(predictor: Predictor, embedding: ImageEmbedding, prompts: Prompts) -> Mask:
    """Return the mask of the highest score."""
    mask = predictor.decode_best(embedding, prompts)
    _ = mask.crop  # its pixels, made here on the worker, so that the main thread only paints them
    return mask
