"""What an annotation tells."""

from __future__ import annotations

from psygnal import Signal, SignalGroup

from .objects import OverlapQuestion
from .pending import Status


class AnnotatorEvents(SignalGroup):
    """Signals, all emitted on the main thread."""

    embedding_ready = Signal(description="the slice shown is encoded")
    mask_changed = Signal(description="candidates or the chosen one changed")
    committed = Signal(tuple, description="objects were written: their ids")
    objects_changed = Signal(description="the table of objects, its classes or what is selected changed")
    overlap_asked = Signal(OverlapQuestion, description="a commit waits for being told what to do with earlier objects")
    failed = Signal(Exception, description="something in the background failed")
    model_changed = Signal(description="another model is in use: it has loaded")
    status_changed = Signal(Status)
    prompts_changed = Signal(object, description="the annotator changed the prompt rows: all rows there are now")
    warned = Signal(str, description="what need not stop anybody: no journal can be written, the GPU is full")
    closed = Signal()
