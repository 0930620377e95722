"""The state of one annotation: slices, objects, candidates, history; no GUI, no napari, no torch.

Everything here runs on the main thread. Questions go to the worker as jobs; answers come back through the mailbox, are
dropped if something newer was asked meanwhile, and end in signals.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from .asking import ENCODE, Asking
from .committing import wanted_of
from .errors import LabelsError
from .events import AnnotatorEvents
from .geometry import whole
from .ledger import Ledger
from .object_table import ObjectTable
from .objects import Overlap, OverlapQuestion
from .pending import PendingObject
from .prompt_rows import PromptView, Rows, apply, changes
from .recorder import Recorder
from .reopening import Reopening, key_of
from .slices import Slices
from .telling import Telling
from .worker import Job, Mailbox, ModelChoice

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Mapping

    from numpy.typing import NDArray

    from .embedding import ImageEmbedding
    from .history import Change, History, LabelCanvas, Step
    from .pending import Answer, ImageSource, SliceState, Status
    from .predictor import Predictor


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
        self.journal.attach(self._ledger, self.events.warned.emit, self._on_restored)
        self.objects = ObjectTable(self._ledger, self._delete, self._on_objects_changed)
        self.overlap_question: OverlapQuestion | None = None
        self.slices = Slices()
        self._noted: Rows = {}
        self._telling = Telling()
        told = self._on_settled, self._report, self.say, self._on_turned, self._on_refused
        self._questions = Asking(choice, self.mailbox, self.events, *told)
        self._reopening = Reopening(self.slices, self._ledger, self._questions.forget, self._change_rows)

    @property
    def history(self) -> History:
        """What was done and what can be done again."""
        return self._ledger.history

    # What a person does

    def set_model(self, choice: ModelChoice) -> None:
        """Go on with another model once it has loaded: the slice shown is then encoded and its prompts answered again.

        Until then the one in use answers, and it stays in use if the other one cannot be loaded.
        """
        if choice == self.choice and self._telling.error is None:
            return
        self.slices.commit_wanted = None
        self._telling.begin_anew()
        self._questions.turn_to(choice)
        self._report()

    def set_canvas(self, canvas: LabelCanvas) -> None:
        """Write elsewhere from now on; commits can no longer be undone, and what was re-opened is dropped."""
        self.journal.close()
        self._ledger.turn_to(canvas)
        canvas.on_edited = self._on_edited
        self.objects.forget()
        self._reopening.close_all()
        self.events.objects_changed.emit()
        self._report()

    def show(self, source: ImageSource | None, message: str = "") -> None:
        """Turn to a slice, None if there is none, with a word why; what is pending elsewhere stays pending."""
        slices = self.slices
        if source is not None and slices.shown is not None and slices.shown.source.key == source.key:
            return
        self._telling.left = "" if slices.commit_wanted is None else "The commit waits until its slice is shown again."
        self._questions.drop_all()
        self._telling.error, self._telling.message, self._telling.why_none = None, "", message
        slices.turn_to(source)
        self._encode_shown()
        self.events.mask_changed.emit()
        self._report()

    def forget_pictures(self) -> None:
        """Drop every embedding and answer: the image's pixels are other ones now."""
        self._cancel_jobs()
        self.slices.clear()

    def set_prompts(self, rows: Rows, active: Hashable | None, view: PromptView, *, is_step: bool) -> None:
        """Take the prompts as they are now: all `rows`, and the `view` of those in the slice shown.

        `is_step` tells that an edit is complete, so that it can be undone; while something is dragged it is not.
        """
        if is_step and (difference := changes(self._noted, rows)):
            self._ledger.note_prompts(difference)
            self._noted = rows
        if rows == self.slices.rows and view.rows == self.slices.view.rows:
            return
        self.slices.rows = rows
        if active is not None:
            self.slices.active = active
        self.see(view)

    def adopt(self, rows: Rows) -> None:
        """Take the prompts that were there before the annotation began; they are no step of its history."""
        self.slices.rows = self._noted = rows

    def see(self, view: PromptView) -> None:
        """Drop the objects that nothing asks about any more, and ask about those whose prompts changed."""
        state, self.slices.view = self.slices.shown, view
        if state is None:
            return
        self._telling.message, self._telling.refused, self.overlap_question = "", None, None
        for key in [k for k, record in state.objects.items() if k not in view.objects and record.rows]:
            self._drop(state, key)
        for key, wanted in view.objects.items():
            if (record := state.objects.get(key)) is None:
                record = state.objects[key] = self._reopening.begin(key)
            record.rows = wanted.rows
            if record.ask(wanted.prompts):
                self._telling.error = None
            if not record.is_answered:
                self._questions.decode(state, key, record)
        self._forgive_if_answered(state)
        if self.slices.commit_wanted is not None and not self._questions:  # what it waited for was taken back
            self.mailbox.post(partial(self._on_settled, None))
        self.events.mask_changed.emit()
        self._report()

    def choose(self, index: int) -> None:
        """Choose a candidate of the active object by its index in `candidates`."""
        self.slices.choose(index)
        self.overlap_question = None
        self.events.mask_changed.emit()
        self._report()

    def commit(self, overlap: Overlap | str = Overlap.KEEP) -> None:
        """Write every pending object of the slice shown; if one is not answered yet, as soon as it is.

        `overlap` says what happens to pixels of earlier objects: "keep" leaves them alone, "replace" takes them, "ask"
        writes nothing if there are any, sets `overlap_question`, emits `overlap_asked`: commit again with the answer.
        """
        overlap = Overlap(overlap)
        self.overlap_question = None
        state = self.slices.shown
        if state is None or not state.objects:
            return self.say("Nothing to commit: click on an object first.")
        unanswered = [(key, record) for key, record in state.objects.items() if not record.is_answered]
        if self._telling.error is None and unanswered:
            for key, record in unanswered:
                if ENCODE not in self._questions and ("decode", key) not in self._questions:
                    self._questions.decode(state, key, record)
            self.slices.commit_wanted = overlap
            return self.say("Will commit as soon as the mask is there.")
        return self._commit_now(state, overlap)

    def commit_only(self, names: Collection[Hashable]) -> None:
        """Write those of the pending objects that are named and answered; pixels of earlier objects stay."""
        if self.slices.shown is not None:
            self._commit_now(self.slices.shown, Overlap.KEEP, names)

    def clear(self) -> None:
        """Remove the prompts of the slice shown."""
        self.slices.commit_wanted = None
        for key in self.slices.objects:
            self._questions.forget(key)
        self.slices.objects.clear()
        self._change_rows(dict.fromkeys(self.slices.view.rows), is_step=True)
        self.say("")

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
        self._reopening.open(int(object_id))
        self.events.mask_changed.emit()
        self.say(f"Object {object_id} is open: click to change it, then commit.")

    def look(
        self,
        what: str,
        work: Callable[[Predictor, ImageEmbedding, Any, Job], Any],
        take: Callable[[Any], None],
    ) -> None:
        """Let the model look at the slice shown, beside all prompts.

        `work(predictor, embedding, pixels, job)` runs on the worker, where it may tell `job` of its progress and ask it
        whether to stop; `take` gets its result on the main thread, unless another slice is shown by then.

        Raises
        ------
        ImageError
            Nothing is shown, or it is not encoded yet.
        """

        def done(result: Any) -> None:
            self._telling.message = ""
            take(result)

        self._questions.look(self.slices.shown, what, work, done)
        self.say(what)

    def propose(self, rows: Rows, answers: Mapping[Hashable, Answer], message: str) -> None:
        """Add objects of our own as one step, with the answers to their prompts by owner, and say so."""
        self.slices.objects.update({owner: PendingObject(one.prompts, one) for owner, one in answers.items()})
        self._change_rows(dict(rows), is_step=True)
        self.say(message)

    def ids_shown(self) -> NDArray[Any] | None:
        """Return the ids of the objects (height, width) in the slice shown, None if none is shown."""
        if (state := self.slices.shown) is None:
            return None
        return self._ledger.canvas.read(state.source.key, whole(state.source.shape))

    def cancel(self) -> None:
        """Stop what is running in the background; the next prompt starts it again, of the model in use."""
        self._questions.stay()
        self._cancel_jobs()
        self.say("Cancelled. The next prompt goes on.")

    def close(self) -> None:
        """Cancel everything and let the model go; safe to call again."""
        if self._questions.close():
            self.journal.close()
            self._ledger.close()
            self.slices.clear()
            self.events.closed.emit()

    # What there is to see

    @property
    def choice(self) -> ModelChoice:
        """The model, device and precision in use, or chosen and being loaded to be used next."""
        return self._questions.wanted

    @property
    def refused(self) -> ModelChoice | None:
        """The model that could not be loaded just now, so that the one before stays in use; None if that is not so."""
        return None if self._telling.refused is None else self._telling.refused.choice

    @property
    def status(self) -> Status:
        """What the annotation is doing."""
        return self._telling.status(self.slices, self._questions)

    def is_busy(self) -> bool:
        """Whether something is asked and not answered yet."""
        return bool(self._questions) or self._questions.is_turning or self.slices.commit_wanted is not None

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
        self._telling.raise_failure()

    # Prompts

    def _drop(self, state: SliceState, key: Hashable) -> None:
        """Forget an object without prompts; one that was re-opened is again as it was."""
        self._questions.forget(key)
        if not state.objects[key].start_again():
            del state.objects[key]

    def _change_rows(self, new: dict[int, Any], *, is_step: bool = False) -> None:
        """Replace prompt rows ourselves, and tell whoever shows them."""
        rows = apply(self.slices.rows, new)
        if is_step and (difference := changes(self.slices.rows, rows)):
            self._ledger.note_prompts(difference)
        self.slices.rows = self._noted = rows
        self.events.prompts_changed.emit(rows)

    # Questions and answers

    def _encode_shown(self) -> None:
        if self.slices.shown is not None:
            self._questions.encode(self.slices.shown)

    def _cancel_jobs(self) -> None:
        self._questions.drop_all()
        self.slices.commit_wanted = None

    def _forgive_if_answered(self, state: SliceState) -> None:
        if state.embedding is not None and all(record.is_answered for record in state.objects.values()):
            self._telling.forgive()

    def _on_settled(self, error: Exception | None) -> None:
        """After an answer: commit if that was asked for and everything is answered, and say how things are."""
        state = self.slices.shown
        if error is None and state is not None:
            self._forgive_if_answered(state)
        if error is not None:
            self._fail(error)
        elif state is not None and state.commit_wanted is not None and not self._questions:
            overlap, state.commit_wanted = state.commit_wanted, None
            try:
                self._commit_now(state, overlap)
            except LabelsError as failure:  # nobody's call stands behind this one
                self._fail(failure)
        self._report()

    def _on_turned(self) -> None:
        """Once another model is in use: ask it everything again."""
        self.slices.forget_answers()
        self._telling.forgive()
        self._encode_shown()
        self.events.model_changed.emit()
        self._report()

    def _on_refused(self, choice: ModelChoice, error: Exception) -> None:
        self._telling.refuse(choice, error)
        self.events.failed.emit(error)
        self._report()

    def _fail(self, error: Exception) -> None:
        self._telling.fail(error)
        self.slices.commit_wanted = None
        self.events.failed.emit(error)

    # What is written

    def _commit_now(self, state: SliceState, overlap: Overlap, only: Collection[Hashable] | None = None) -> None:
        key = state.source.key
        named = {name: record for name, record in state.objects.items() if only is None or name in only}
        wanted = wanted_of(named, self.slices, self.objects)
        if overlap is Overlap.ASK and (question := self._ledger.question(key, wanted.values())) is not None:
            self.overlap_question = question
            self.events.overlap_asked.emit(question)
            met = ", ".join(map(str, question.object_ids))
            return self.say(f"{question.pixels} pixels belong to earlier objects ({met}): keep or replace them?")
        if written := self._ledger.commit(key, wanted, overlap, self.slices.rows):
            self._finish(state, written)
        left = len(named.keys() & state.objects.keys())
        return self.say(f"{left} object{'s' * (left != 1)} would change no pixel and stay pending." if left else "")

    def _finish(self, state: SliceState, written: dict[Hashable, int]) -> None:
        """Clear the prompts of what was written."""
        for key in written:
            self._questions.forget(key)
        rows = {row_id for key in written for row_id in state.objects.pop(key).rows}
        self.slices.active = None
        self._change_rows(dict.fromkeys(rows))
        self.events.mask_changed.emit()
        self.events.committed.emit(tuple(written.values()))

    def _delete(self, object_id: int) -> None:
        """Delete an object, its prompts too if it is re-opened somewhere."""
        key = key_of(object_id)
        rows = {row_id: (row, None) for row_id, row in self.slices.rows.items() if row.owner == key}
        self._ledger.delete(object_id, rows)
        for state in self.slices:
            if state.objects.pop(key, None) is not None:
                self._questions.forget(key)
        self._change_rows(dict.fromkeys(rows))
        self.events.mask_changed.emit()

    def _turn(self, turn: Callable[[], Step | None], *, back: bool) -> None:
        """Undo or redo a step, and the edits of prompts that belong to it."""
        self.slices.commit_wanted = self.overlap_question = None
        if (step := turn()) is None:
            return self.say("Nothing to undo." if back else "Nothing to redo.")
        if step.opened is not None:
            self._reopening.turn(*step.opened, close=back)
            self.events.mask_changed.emit()
        if step.rows:
            self._change_rows(step.rows_to_put(back=back))
        return self.say("")

    def _on_step(self, kind: str, step: Step, changes: list[Change]) -> None:
        self.overlap_question = None
        self.journal.note(kind, step, changes, self._questions.described(self.slices.shown))
        self.objects.on_step(kind, step)
        self.events.objects_changed.emit()

    def _on_edited(self, changes: list[Change] | None) -> None:
        """Others have changed pixels; None if nobody can tell which."""
        self.journal.note_edits(changes)
        self.events.objects_changed.emit()

    def _on_restored(self, message: str) -> None:
        self._reopening.close_all()
        self._on_objects_changed(message)

    def _on_objects_changed(self, message: str) -> None:
        self.events.objects_changed.emit()
        self.say(message)

    # Words

    def say(self, message: str) -> None:
        """Tell the user something, until something else is done."""
        self._telling.message = message
        self._report()

    def _report(self) -> None:
        self.events.status_changed.emit(self.status)
