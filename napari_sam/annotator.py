"""The state of one annotation: slices, objects, candidates, history; no GUI, no napari, no torch.

Everything here runs on the main thread. Questions go to the worker as jobs; answers come back through the mailbox, are
dropped if something newer was asked meanwhile, and end in signals.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from .asking import ENCODE, Asking
from .errors import ImageError, LabelsError
from .events import AnnotatorEvents
from .geometry import Frame, whole
from .ledger import Ledger
from .masks import Mask, MaskResult
from .object_table import ObjectTable
from .objects import Overlap, OverlapQuestion, Piece, Wanted
from .pending import Answer, ImageSource, PendingObject, Phase, SliceState, Status
from .prompt_rows import LOOSE, PromptView, Rows, apply, changes
from .recorder import Recorder
from .worker import Mailbox, ModelChoice, Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from numpy.typing import NDArray

    from .embedding import ImageEmbedding
    from .history import Change, History, LabelCanvas, Step
    from .predictor import Predictor

KEPT_EMBEDDINGS = 32
REOPENED = "reopened"
REOPENED_SIZE = 256


def is_reopened(key: Hashable) -> TypeGuard[tuple[str, int]]:
    """Whether the key of an object says that it was committed before, as (REOPENED, id)."""
    return isinstance(key, tuple) and key[0] == REOPENED


class Annotator:
    """The annotation of one image, driven by what a person does and by what the worker answers.

    Parameters
    ----------
    choice
        The model to use; its worker is shared with other annotators of the same.
    canvas
        Where commits are written.
    mailbox
        Through which answers come to the main thread.
    recorder
        Keeps the journal; None keeps none.
    """

    def __init__(
        self,
        choice: ModelChoice,
        canvas: LabelCanvas,
        mailbox: Mailbox | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.events = AnnotatorEvents()
        self.mailbox = mailbox or Mailbox()
        self._ledger = Ledger(canvas, self._on_step)
        canvas.on_edited = self._on_edited
        self.journal = recorder or Recorder(None, None)
        self.journal.attach(self._ledger, self.events.warned.emit, self._on_objects_changed)
        self.objects = ObjectTable(self._ledger, self._delete, self._on_objects_changed)
        self.overlap_question: OverlapQuestion | None = None
        self.rows: Rows = {}
        self._noted: Rows = {}
        self._touched: list[Hashable] = []
        self._questions = Asking(choice, self.mailbox, self.events, self._on_settled, self._report, self._say)
        self._slices: OrderedDict[Hashable, SliceState] = OrderedDict()
        self._shown: SliceState | None = None
        self._view = PromptView()
        self._message = ""
        self._error: Exception | None = None
        self._failures: list[Exception] = []
        self._left = ""

    @property
    def _commit_wanted(self) -> Overlap | None:
        """How the slice shown is to be committed as soon as everything is answered; None if it is not."""
        return None if self._shown is None else self._shown.commit_wanted

    @_commit_wanted.setter
    def _commit_wanted(self, overlap: Overlap | None) -> None:
        if self._shown is not None:
            self._shown.commit_wanted = overlap

    @property
    def history(self) -> History:
        """What was done and what can be done again."""
        return self._ledger.history

    @property
    def active(self) -> Hashable | None:
        """The object placed, touched or re-opened last since the last commit, of those that are still there."""
        owners = {row.owner for row in self.rows.values() if not is_reopened(row.owner)}  # those are open in one slice
        there = owners | (self._shown.objects.keys() if self._shown else set())
        return next((key for key in reversed(self._touched) if key in there), None)

    @active.setter
    def active(self, key: Hashable | None) -> None:
        """Make an object active; None forgets which ones were."""
        self._touched = [] if key is None else [other for other in self._touched if other != key] + [key]

    # What a person does

    def set_model(self, choice: ModelChoice) -> None:
        """Go on with another model: the slice shown is encoded again, and its prompts are answered again."""
        if choice == self.choice and self._error is None:
            return
        self._commit_wanted = None
        self._questions.turn_to(choice)
        for state in self._slices.values():
            state.embedding = None
            for record in state.objects.values():
                record.forget_answers()
        self._forgive()
        self._encode_shown()
        self._report()

    def set_canvas(self, canvas: LabelCanvas) -> None:
        """Write elsewhere from now on; commits can no longer be undone, and what was re-opened is dropped."""
        self.journal.close()
        self._ledger.turn_to(canvas)
        canvas.on_edited = self._on_edited
        self.objects.forget()
        for state in self._slices.values():
            state.objects = {key: record for key, record in state.objects.items() if record.object_id is None}
        self.events.mask_changed.emit()
        self.events.objects_changed.emit()
        self._report()

    def show(self, source: ImageSource | None, message: str = "") -> None:
        """Turn to a slice, None if there is none, with a word why; what is pending elsewhere stays pending."""
        if source is not None and self._shown is not None and self._shown.source.key == source.key:
            return
        self._left = "" if self._commit_wanted is None else "The commit waits until its slice is shown again."
        self._questions.drop_all()
        self._error, self._message = None, message
        self._view = PromptView()
        self._shown = None if source is None else self._slice(source)
        self._encode_shown()
        self.events.mask_changed.emit()
        self._report()

    def forget_pictures(self) -> None:
        """Drop every embedding and answer: the image's pixels are other ones now."""
        self._cancel_jobs()
        self._slices.clear()
        self._shown = None

    def set_prompts(self, rows: Rows, active: Hashable | None, view: PromptView, *, is_step: bool) -> None:
        """Take the prompts as they are now: all `rows`, and the `view` of those in the slice shown.

        `is_step` tells that an edit is complete, so that it can be undone; while something is dragged it is not.
        """
        if is_step and (difference := changes(self._noted, rows)):
            self._ledger.note_prompts(difference)
            self._noted = rows
        if rows == self.rows and view.rows == self._view.rows:
            return
        self.rows = rows
        if active is not None:
            self.active = active
        self.see(view)

    def adopt(self, rows: Rows) -> None:
        """Take the prompts that were there before the annotation began; they are no step of its history."""
        self.rows = self._noted = rows

    def see(self, view: PromptView) -> None:
        """Drop the objects that nothing asks about any more, and ask about those whose prompts changed."""
        state, self._view = self._shown, view
        if state is None:
            return
        self._message, self.overlap_question = "", None
        for key in [k for k, record in state.objects.items() if k not in view.objects and record.rows]:
            self._drop(state, key)
        for key, wanted in view.objects.items():
            if (record := state.objects.get(key)) is None:
                own_id = key[1] if is_reopened(key) else None
                record = state.objects[key] = self._reopened(key) or PendingObject(object_id=own_id)
            record.rows = wanted.rows
            if record.ask(wanted.prompts):
                self._error = None
            if not record.is_answered:
                self._questions.decode(state, key, record)
        self._forgive_if_answered(state)
        if self._commit_wanted is not None and not self._questions:  # what it waited for was taken back
            self.mailbox.post(partial(self._on_settled, None))
        self.events.mask_changed.emit()
        self._report()

    def choose(self, index: int) -> None:
        """Choose a candidate of the active object by its index in `candidates`."""
        record = self._active_record()
        count = 0 if record is None or record.answer is None else len(record.answer.result.masks)
        if record is None or record.answer is None or not 0 <= index < count:
            raise IndexError(f"candidate {index} of {count}: choose one that `candidates` lists")
        record.answer.chosen = int(index)
        self.events.mask_changed.emit()
        self._report()

    def commit(self, overlap: Overlap | str = Overlap.KEEP) -> None:
        """Write every pending object of the slice shown; if one is not answered yet, as soon as it is.

        `overlap` says what happens to pixels of earlier objects: "keep" leaves them alone, "replace" takes them, "ask"
        writes nothing if there are any, sets `overlap_question`, emits `overlap_asked`: commit again with the answer.
        """
        overlap = Overlap(overlap)
        self.overlap_question = None
        if self._shown is None or not self._shown.objects:
            return self._say("Nothing to commit: click on an object first.")
        unanswered = [(k, record) for k, record in self._shown.objects.items() if not record.is_answered]
        if self._error is None and unanswered:
            for key, record in unanswered:
                if ENCODE not in self._questions and ("decode", key) not in self._questions:
                    self._questions.decode(self._shown, key, record)
            self._commit_wanted = overlap
            return self._say("Will commit as soon as the mask is there.")
        return self._commit_now(overlap)

    def clear(self) -> None:
        """Remove the prompts of the slice shown."""
        self._commit_wanted = None
        if self._shown is not None:
            for key in self._shown.objects:
                self._questions.forget(key)
            self._shown.objects = {}
        self._change_rows(dict.fromkeys(self._view.rows), is_step=True)
        self._say("")

    def undo(self) -> None:
        """Take back the last step: an edit of prompts, a commit, a deletion or a change of classes."""
        self._turn(self._ledger.undo, back=True)

    def redo(self) -> None:
        """Do again what was undone last."""
        self._turn(self._ledger.redo, back=False)

    def reopen(self, object_id: int) -> None:
        """Make a committed object pending again, as it is in the slice shown; a commit then replaces it there.

        The prompts that it was committed with return. Its mask is what the labels hold now, edits by hand included,
        until the prompts are changed.

        Raises
        ------
        LabelsError
            The slice shown has no pixel of that id.
        """
        key = (REOPENED, int(object_id))
        if self._shown is None or (record := self._reopened(key)) is None:
            raise LabelsError(f"object {object_id} has no pixel in the slice shown: go to a slice that shows it")
        if key not in self._shown.objects:
            self._shown.objects[key] = record
            self._return_prompts(key, self._shown.source.key)
        self.active = key
        self.events.mask_changed.emit()
        self._say(f"Object {object_id} is open: click to change it, then commit.")

    def look(
        self, what: str, work: Callable[[Predictor, ImageEmbedding, Any], Any], take: Callable[[Any], None]
    ) -> None:
        """Let the model look at the slice shown, beside all prompts.

        `work(predictor, embedding, pixels)` runs on the worker; `take` gets its result on the main thread, unless
        another slice is shown by then.

        Raises
        ------
        ImageError
            Nothing is shown, or it is not encoded yet.
        """
        if self._shown is None or self._shown.embedding is None:
            raise ImageError("nothing is encoded yet: wait until the image is ready")
        embedding, pixels = self._shown.embedding, self._shown.source.pixels

        def done(result: Any) -> None:
            self._message = ""
            take(result)

        self._questions.ask(what, Priority.ENCODE, lambda predictor, _job: work(predictor, embedding, pixels), done)
        self._say(what)

    def add_prompts(self, rows: Rows, message: str) -> None:
        """Add prompts of our own as one step, and say so."""
        self._change_rows(dict(rows), is_step=True)
        self._say(message)

    def ids_shown(self) -> NDArray[Any] | None:
        """Return the ids of the objects (height, width) in the slice shown, None if none is shown."""
        if self._shown is None:
            return None
        source = self._shown.source
        return self._ledger.canvas.read(source.key, whole(source.shape))

    def cancel(self) -> None:
        """Stop what is running in the background; the next prompt starts it again."""
        self._cancel_jobs()
        self._say("Cancelled. The next prompt goes on.")

    def close(self) -> None:
        """Cancel everything and let the model go; safe to call again."""
        if self._questions.close():
            self.journal.close()
            self._shown = None
            self._ledger.close()
            self._slices.clear()
            self.events.closed.emit()

    # What there is to see

    @property
    def choice(self) -> ModelChoice:
        """The model, device and precision in use."""
        return self._questions.choice

    @property
    def candidates(self) -> tuple[tuple[Mask, float], ...]:
        """The active object's candidates as (mask, score), in the decoder's order; empty if there are none."""
        record = self._active_record()
        if record is None or record.answer is None:
            return ()
        result = record.answer.result
        return tuple(zip(result.masks, map(float, result.scores), strict=True))

    @property
    def chosen(self) -> int | None:
        """Index of the chosen candidate of the active object."""
        record = self._active_record()
        return None if record is None or record.answer is None else record.answer.chosen

    @property
    def has_objects(self) -> bool:
        """Whether the slice shown has objects that are not committed, answered or not."""
        return self._shown is not None and bool(self._shown.objects)

    @property
    def has_prompts(self) -> bool:
        """Whether the slice shown has prompts, those that say nothing yet among them, or re-opened objects."""
        return self.has_objects or bool(self._view.rows)

    @property
    def pending_masks(self) -> list[tuple[Mask, bool]]:
        """The chosen mask of every pending object of the slice shown, and whether the object is the active one."""
        if self._shown is None:
            return []
        active = self._active_record()
        records = self._shown.objects.values()
        return [(record.answer.mask, record is active) for record in records if record.answer is not None]

    @property
    def embedding_to_begin_with(self) -> ImageEmbedding | None:
        """The embedding that a click would ask if it began an object; None if it would not, or nothing is encoded."""
        state = self._shown
        is_beginning = state is not None and self.active is None and LOOSE not in state.objects
        return state.embedding if state is not None and is_beginning else None

    @property
    def status(self) -> Status:
        """What the annotation is doing."""
        if self._shown is None:
            return Status(Phase.NO_IMAGE, message=self._message)
        if self._error is not None:
            return Status(Phase.FAILED, message=str(self._error), error=self._error)
        questions = self._questions
        if questions.is_loading:
            return Status(Phase.LOADING, questions.fraction, f"Loading {self.choice.model}")
        if ENCODE in questions:
            return Status(Phase.ENCODING, questions.fraction, self._message or self._left or "Encoding the image")
        if questions:
            return Status(Phase.DECODING, message=self._message)
        return Status(Phase.READY, message=self._message or self._left or self._view.note or self._ready_message())

    def is_busy(self) -> bool:
        """Whether something is asked and not answered yet."""
        return bool(self._questions) or self._commit_wanted is not None

    def wait(self, timeout: float = 60.0) -> None:
        """Make the calls that wait in the mailbox until nothing is pending; main thread only.

        Raises
        ------
        TimeoutError
            Something is still pending after `timeout` seconds.
        Exception
            What failed in the background since the last call, once.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("wait() is for the main thread: layers may be touched there alone")
        deadline = time.monotonic() + timeout
        self.mailbox.deliver()
        while self.is_busy():
            if not self.mailbox.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                raise TimeoutError(f"still {self.status.phase.value} after {timeout:g} s")
        if self._failures:
            failure = self._failures[0]
            self._failures.clear()
            raise failure

    # Prompts

    def _drop(self, state: SliceState, key: Hashable) -> None:
        """Forget an object without prompts; one that was re-opened is again as it was."""
        self._questions.forget(key)
        if not state.objects[key].start_again():
            del state.objects[key]

    def _change_rows(self, new: dict[int, Any], *, is_step: bool = False) -> None:
        """Replace prompt rows ourselves, and tell whoever shows them."""
        rows = apply(self.rows, new)
        if is_step and (difference := changes(self.rows, rows)):
            self._ledger.note_prompts(difference)
        self.rows = self._noted = rows
        self.events.prompts_changed.emit(rows)

    def _reopened(self, key: Hashable) -> PendingObject | None:
        """Return the committed object that `key` names, as it is in the slice shown; None if it is not there."""
        state = self._shown
        if state is None or not is_reopened(key) or key[1] < 1:
            return None
        box = whole(state.source.shape)
        pixels = self._ledger.canvas.read(state.source.key, box) == key[1]
        if not pixels.any():
            return None
        mask = Mask.of_pixels(pixels, Frame(state.source.shape, box, 4 * REOPENED_SIZE))
        piece = self._ledger.piece(key[1], state.source.key)
        score = 1.0 if piece.score is None else piece.score
        shown = Answer(piece.prompts, MaskResult((mask,), np.array([score], np.float32)), 0)
        return PendingObject(answer=shown, object_id=key[1], opened=shown)

    def _return_prompts(self, key: tuple[str, int], slice_key: Hashable) -> None:
        """Put back the prompts that an object was committed with in a slice, as a step that re-opens it."""
        known = self._ledger.piece(key[1], slice_key).rows
        rows = {row_id: row.owned_by(key) for row_id, row in known.items() if row_id not in self.rows}
        self._ledger.note_prompts({row_id: (None, row) for row_id, row in rows.items()}, (key[1], slice_key))
        if rows:
            self._change_rows(rows)

    def _open_or_close(self, object_id: int, slice_key: Hashable, *, close: bool) -> None:
        """Undo or redo the re-opening of an object in a slice; where there is a slice that still knows of it."""
        key = (REOPENED, object_id)
        if (state := self._slices.get(slice_key)) is None:
            return
        if close:
            self._questions.forget(key)
            state.objects.pop(key, None)
        elif state is self._shown and key not in state.objects and (record := self._reopened(key)) is not None:
            state.objects[key] = record
        self.events.mask_changed.emit()

    # Questions and answers

    def _slice(self, source: ImageSource) -> SliceState:
        state = self._slices.setdefault(source.key, SliceState(source))
        state.source = source
        self._slices.move_to_end(source.key)
        encoded = [other for other in self._slices.values() if other.embedding is not None]
        for other in encoded[:-KEPT_EMBEDDINGS]:
            other.embedding = None
        return state

    def _encode_shown(self) -> None:
        if self._shown is not None:
            self._questions.encode(self._shown)

    def _cancel_jobs(self) -> None:
        self._questions.drop_all()
        self._commit_wanted = None

    def _forgive_if_answered(self, state: SliceState) -> None:
        if state.embedding is not None and all(record.is_answered for record in state.objects.values()):
            self._forgive()

    def _forgive(self) -> None:
        """Forget a failure: what failed is not asked any more, or was answered since."""
        self._error = None
        self._failures.clear()

    def _on_settled(self, error: Exception | None) -> None:
        """After an answer: commit if that was asked for and everything is answered, and say how things are."""
        if error is None and self._shown is not None:
            self._forgive_if_answered(self._shown)
        if error is not None:
            self._fail(error)
        elif self._commit_wanted is not None and not self._questions:
            overlap, self._commit_wanted = self._commit_wanted, None
            try:
                self._commit_now(overlap)
            except LabelsError as failure:  # nobody's call stands behind this one
                self._fail(failure)
        self._report()

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._commit_wanted = None
        self._failures.append(error)
        self.events.failed.emit(error)

    # What is written

    def _commit_now(self, overlap: Overlap) -> None:
        state = self._shown
        if state is None:
            return None
        key = state.source.key
        wanted = {name: one for name, record in state.objects.items() if (one := self._wanted(state, name, record))}
        if overlap is Overlap.ASK and (question := self._ledger.question(key, wanted.values())) is not None:
            self.overlap_question = question
            self.events.overlap_asked.emit(question)
            met = ", ".join(map(str, question.object_ids))
            return self._say(f"{question.pixels} pixels belong to earlier objects ({met}): keep or replace them?")
        written = self._ledger.commit(key, wanted, overlap, self.rows)
        if written:
            self._finish(state, written)
        left = len(state.objects)
        return self._say(f"{left} object{'s' * (left != 1)} would change no pixel and stay pending." if left else "")

    def _wanted(self, state: SliceState, name: Hashable, record: PendingObject) -> Wanted | None:
        """Return what a commit of a pending object would write, None if it has no mask yet."""
        if record.answer is None:
            return None
        object_id = record.object_id
        if object_id is None and record is self._active_record():
            object_id = self.objects.extends(state.source.key)
        rows = {row_id: self.rows[row_id] for row_id in record.rows if row_id in self.rows}
        asked = None if record.asked is None else replace(record.asked, mask=record.drawn)
        piece = Piece(record.answer.score, asked, rows)
        return Wanted(record.answer.mask, object_id, object_id is not None, piece, record.rows, record.is_as_it_was)

    def _finish(self, state: SliceState, written: dict[Hashable, int]) -> None:
        """Clear the prompts of what was written."""
        for key in written:
            self._questions.forget(key)
        rows = {row_id for key in written for row_id in state.objects.pop(key).rows}
        self.active = None
        self._change_rows(dict.fromkeys(rows))
        self.events.mask_changed.emit()
        self.events.committed.emit(tuple(written.values()))

    def _delete(self, object_id: int) -> None:
        """Delete an object, its prompts too if it is re-opened somewhere."""
        key = (REOPENED, object_id)
        rows = {row_id: (row, None) for row_id, row in self.rows.items() if row.owner == key}
        self._ledger.delete(object_id, rows)
        for state in self._slices.values():
            if state.objects.pop(key, None) is not None:
                self._questions.forget(key)
        self._change_rows(dict.fromkeys(rows))
        self.events.mask_changed.emit()

    def _turn(self, turn: Callable[[], Step | None], *, back: bool) -> None:
        """Undo or redo a step, and the edits of prompts that belong to it."""
        self._commit_wanted = self.overlap_question = None
        if (step := turn()) is None:
            return self._say("Nothing to undo." if back else "Nothing to redo.")
        if step.opened is not None:
            self._open_or_close(*step.opened, close=back)
        if step.rows:
            self._change_rows(step.rows_to_put(back=back))
        return self._say("")

    def _on_step(self, kind: str, step: Step, changes: list[Change]) -> None:
        self.journal.note(kind, step, changes, self._model())
        self.objects.on_step(kind, step)
        self.events.objects_changed.emit()

    def _on_edited(self, changes: list[Change]) -> None:
        """Others have changed pixels."""
        self.journal.note_edits(changes)
        self.events.objects_changed.emit()

    def _model(self) -> dict[str, str]:
        """Return what a journal says of the model: what was asked for, and which weights answer."""
        embedding = None if self._shown is None else self._shown.embedding
        weights = "" if embedding is None else embedding.model
        choice = self.choice
        return {"name": choice.model, "device": choice.device, "precision": choice.precision, "weights": weights}

    def _on_objects_changed(self, message: str) -> None:
        self.events.objects_changed.emit()
        self._say(message)

    # Words

    def _active_record(self) -> PendingObject | None:
        objects = {} if self._shown is None else self._shown.objects
        if self.active in objects:
            return objects[self.active]
        return objects.get(LOOSE) or (list(objects.values())[-1] if objects else None)

    def _ready_message(self) -> str:
        if self._shown is None or self._shown.embedding is None:
            return ""
        note = self._shown.embedding.rule.note
        return f"Ready, encoded in {self._shown.seconds:.1f} s. {note}".strip()

    def _say(self, message: str) -> None:
        self._message = message
        self._report()

    def _report(self) -> None:
        self.events.status_changed.emit(self.status)
