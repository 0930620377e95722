"""The neighbours of the slice shown, encoded while nobody waits for anything, so that going on costs nothing.

What comes of it stays in the embedding cache, where the encoding of the slice finds it when it is shown. It has
questions of its own: status, failures and `wait` know nothing of it.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from .questions import Questions
from .worker import Job, Mailbox, ModelChoice, Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from .pending import ImageSource
    from .predictor import Predictor

REMEMBERED = 64
"""Slices whose prefetching is remembered: while their embeddings are surely kept, they are not read again."""


class Prefetch:
    """Encodes what is likely to be shown next.

    Parameters
    ----------
    choice
        The model to ask; its worker is shared.
    mailbox
        That of the annotation: a slice that is being prefetched when it is shown is then not begun anew.
    on_notice
        Called on the main thread with a sentence for the user.
    is_known
        Tells whether the annotation has the embedding of a slice already, by its key.
    """

    def __init__(
        self,
        choice: ModelChoice,
        mailbox: Mailbox,
        on_notice: Callable[[str], None],
        is_known: Callable[[Hashable], bool] = lambda _key: False,
    ) -> None:
        # What fails is asked again, and told, when its slice is shown.
        self._questions = Questions(choice, mailbox, lambda _error: None, lambda: None, on_notice)
        self._is_known = is_known
        self._wanted: dict[Hashable, ImageSource] = {}
        self._done: deque[Hashable] = deque(maxlen=REMEMBERED)

    def around(self, shown: ImageSource | None, neighbours: Sequence[ImageSource]) -> None:
        """Encode these `neighbours` of the slice `shown`, the first one first; drop what was wanted before."""
        wanted = {source.key: source for source in neighbours}
        if shown is not None and shown.key in self._questions:
            wanted[shown.key] = shown  # begun already, or its worker will leave it out
        for key in self._wanted.keys() - wanted.keys():
            self._questions.drop(key)
        self._wanted = wanted
        for key, source in wanted.items():
            if key not in self._questions and key not in self._done and not self._is_known(key):
                done = partial(self._note_done, key)
                self._questions.ask(key, Priority.PREFETCH, _encoding(source), done, subject=key)

    def turn_to(self, choice: ModelChoice) -> None:
        """Ask another model from now on, for the same slices."""
        wanted = list(self._wanted.values())
        self.forget()
        self._questions.turn_to(choice)
        self.around(None, wanted)

    def forget(self) -> None:
        """Drop what is wanted, and what was done: it is no longer so."""
        self._questions.drop_all()
        self._wanted = {}
        self._done.clear()

    def close(self) -> None:
        """Stop, and let the model go."""
        self.forget()
        self._questions.close()

    def _note_done(self, key: Hashable, _result: None) -> None:
        self._done.append(key)


def _encoding(source: ImageSource) -> Callable[[Predictor, Job], None]:
    def work(predictor: Predictor, job: Job) -> None:
        # Nothing is read of a slice whose embedding could not be kept, or that something more urgent has replaced.
        if predictor.keeps_embeddings and not job.is_cancelled():
            limits = None if source.limits is None else source.limits.resolved
            predictor.encode(source.pixels, limits=limits, cancelled=job.is_cancelled)

    return work
