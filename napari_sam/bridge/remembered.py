"""What the dock remembers of an annotation: the model, the preview under the cursor, the overlap with others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..objects import Overlap
from ..worker import ModelChoice
from .settings import HOVER, remember, remembered

if TYPE_CHECKING:
    from .controller import Controller

SECTION = "annotation"


def remembered_choice() -> ModelChoice:
    """Return the model that was chosen last."""
    words = {name: remembered(SECTION, name, word) for name, word in vars(ModelChoice()).items()}
    return ModelChoice(**{**words, "profile": words["profile"] or None})


def remember_choice(choice: ModelChoice) -> None:
    """Begin with this model next time."""
    for name, value in vars(choice).items():
        remember(SECTION, name, value or "")


def recall(controller: Controller) -> None:
    """Let an annotation that begins go on as the last one was left."""
    controller.hover.wanted = HOVER.get(str(remembered(SECTION, "hover", "auto")))
    controller.overlap = Overlap(str(remembered(SECTION, "overlap", Overlap.KEEP.value)))


def toggle_hover(controller: Controller) -> None:
    """Turn the preview under the cursor on or off, for annotations that begin later, too."""
    controller.hover.toggle()
    _remember_hover(controller)


def remember_ways(controller: Controller) -> None:
    """Let annotations that begin later go on as this one is."""
    _remember_hover(controller)
    remember(SECTION, "overlap", controller.overlap.value)


def _remember_hover(controller: Controller) -> None:
    remember(SECTION, "hover", next(word for word, wanted in HOVER.items() if wanted is controller.hover.wanted))
