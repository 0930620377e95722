"""What one annotation asks of its model: to encode a slice, to answer prompts, to look closer; and of which one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .errors import ImageError
from .pending import Answer, PendingObject, SliceState
from .questions import Questions
from .worker import Job, Mailbox, ModelChoice, Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from .embedding import ImageEmbedding
    from .events import AnnotatorEvents
    from .masks import MaskResult
    from .predictor import Predictor

ENCODE, LOAD = "encode", "load"


class Asking(Questions):
    """The questions of one annotation, whose answers go into its slices and objects.

    Another model is not asked before it has loaded; until then, and if it cannot be loaded, the one in use goes on.

    Parameters
    ----------
    events
        Where to tell that a slice is encoded, or that a mask has changed.
    on_turned
        Called on the main thread once another model is in use: what the former one said no longer counts.
    on_refused
        Called on the main thread with a choice that could not be loaded, and why; the model in use is the same.
    choice, mailbox, on_settled, on_progress, on_notice
        See `Questions`.
    """

    def __init__(
        self,
        choice: ModelChoice,
        mailbox: Mailbox,
        events: AnnotatorEvents,
        on_settled: Callable[[Exception | None], None],
        on_progress: Callable[[], None],
        on_notice: Callable[[str], None],
        on_turned: Callable[[], None],
        on_refused: Callable[[ModelChoice, Exception], None],
    ) -> None:
        super().__init__(choice, mailbox, on_settled, on_progress, on_notice)
        self._events, self._on_turned, self._on_refused = events, on_turned, on_refused
        self._arriving: Questions | None = None

    @property
    def wanted(self) -> ModelChoice:
        """The model that was chosen: the one in use, or the one that is loaded to be used next."""
        return self.choice if self._arriving is None else self._arriving.choice

    @property
    def is_turning(self) -> bool:
        """Whether another model is being loaded, to be used next."""
        return bool(self._arriving)

    @property
    def is_loading(self) -> bool:
        """Whether a model is waited for: the next one, or by a question the one in use."""
        return self.is_turning or super().is_loading

    @property
    def fraction(self) -> float | None:
        """The share that is done of what takes long, None if unknown: of the download, else of what runs."""
        return self._arriving.fraction if self._arriving else super().fraction

    def turn_to(self, choice: ModelChoice) -> None:
        """Ask another model once it has loaded, until when both are in memory; at once where that is no other one.

        At once, too, where the one in use could not be loaded: then there is none to go on with.
        """
        self.stay()
        if self._worker is None or self.load_error is not None or choice == self.choice:
            super().turn_to(choice)
            return self._on_turned()
        # The questions of a second user of its worker, which therefore is shared, counted and let go as any other.
        arriving = Questions(choice, self._mailbox, self._on_arrived, self._on_progress, self._on_notice)
        self._arriving = arriving
        return arriving.ask(LOAD, Priority.DECODE, lambda _predictor, _job: None, lambda _none: None)

    def stay(self) -> None:
        """Go on with the model in use: the one that is being loaded is not wanted any more."""
        if self._arriving is not None:
            self._arriving.close()
            self._arriving = None

    def close(self) -> bool:
        """Take everything back and let the models go; False if that was done before. `wanted` is still known."""
        if self._arriving is not None:
            self._arriving.close()
        return super().close()

    def _on_arrived(self, error: Exception | None) -> None:
        """Ask the model that has loaded from now on, or none but the one in use."""
        choice = self.wanted
        if error is None:
            super().turn_to(choice)
        self.stay()
        if error is None:
            self._on_turned()
        else:
            self._on_refused(choice, error)

    def encode(self, state: SliceState) -> None:
        """Encode a slice unless it has been, or is being; then answer what was asked of it meanwhile."""
        if state.embedding is not None or ENCODE in self:
            return
        source = state.source

        def work(predictor: Predictor, job: Job) -> tuple[ImageEmbedding, float]:
            started = time.monotonic()  # here, so that neither loading the model nor waiting in the queue counts
            limits = None if source.limits is None else source.limits.resolved
            if source.identity is not None:
                _ = source.identity.resolved  # here, since it may have to read a file
            report, is_cancelled = job.progress, job.is_cancelled
            embedding = predictor.encode(source.pixels, limits=limits, progress=report, cancelled=is_cancelled)
            return embedding, time.monotonic() - started

        def done(encoded: tuple[ImageEmbedding, float]) -> None:
            state.embedding, state.seconds = encoded
            self._events.embedding_ready.emit()
            for key, record in state.objects.items():
                if not record.is_answered:
                    self.decode(state, key, record)

        self.ask(ENCODE, Priority.ENCODE, work, done, subject=source.key)

    def decode(self, state: SliceState, key: Hashable, record: PendingObject) -> None:
        """Put an object's prompts to the decoder; the image is encoded first if it has not been."""
        embedding, asked = state.embedding, record.asked
        if embedding is None or asked is None:
            return self.encode(state)
        if record.embedding is not None:
            embedding = record.embedding

        def work(predictor: Predictor, _job: Job) -> MaskResult:
            return _evaluated(predictor.decode(embedding, asked))

        def done(result: MaskResult) -> None:
            self._take(record, Answer(asked, result, result.best))
            self._refine(state, key, record, embedding)

        def meanwhile(result: MaskResult) -> None:
            # While something is dragged there is always a newer question: without this the mask would stand still.
            if not record.is_answered:
                record.answer = Answer(asked, result, result.best)
                self._events.mask_changed.emit()

        self.drop(("refine", key))
        return self.ask(("decode", key), Priority.DECODE, work, done, meanwhile)

    def look(
        self,
        state: SliceState | None,
        what: str,
        work: Callable[[Predictor, ImageEmbedding, Any, Job], Any],
        take: Callable[[Any], None],
    ) -> None:
        """Let the model look at a slice beside all prompts.

        `take` gets what `work(predictor, embedding, pixels, job)` gave.

        Raises
        ------
        ImageError
            There is no slice, or it is not encoded yet.
        """
        if state is None or state.embedding is None:
            raise ImageError("nothing is encoded yet: wait until the image is ready")
        embedding, pixels = state.embedding, state.source.pixels

        def look(predictor: Predictor, job: Job) -> Any:
            return work(predictor, embedding, pixels, job)

        self.ask(what, Priority.ENCODE, look, take)

    def _refine(self, state: SliceState, key: Hashable, record: PendingObject, embedding: ImageEmbedding) -> None:
        """Look again where it helps, with what there was already answered."""
        source, asked = state.source, record.asked
        if asked is None:
            return

        def work(predictor: Predictor, job: Job) -> tuple[ImageEmbedding, MaskResult] | None:
            better = predictor.refine(embedding, source.pixels, asked, cancelled=job.is_cancelled)
            return None if better is embedding else (better, _evaluated(predictor.decode(better, asked)))

        def done(refined: tuple[ImageEmbedding, MaskResult] | None) -> None:
            if refined is not None:
                record.embedding, result = refined
                self._take(record, Answer(asked, result, result.best))

        self.ask(("refine", key), Priority.ENCODE, work, done)

    def _take(self, record: PendingObject, answer: Answer) -> None:
        if record.asked is answer.prompts:
            record.take(answer)
            self._events.mask_changed.emit()

    def described(self, state: SliceState | None) -> dict[str, str]:
        """Return what a journal says of the model: what was asked for, and which weights answer."""
        weights = "" if state is None or state.embedding is None else state.embedding.model
        choice = self.choice
        return {"name": choice.model, "device": choice.device, "precision": choice.precision, "weights": weights}

    def forget(self, key: Hashable) -> None:
        """Stop asking about an object."""
        for kind in ("decode", "refine"):
            self.drop((kind, key))


def _evaluated(result: MaskResult) -> MaskResult:
    """Make the best mask's pixels here, on the worker, so that the main thread only paints them."""
    _ = result.masks[result.best].crop
    return result
