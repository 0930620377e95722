"""What a training run is to do."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from napari_sam.errors import TrainingError

RECORD = "plan.json"


@dataclass(frozen=True)
class TrainingPlan:
    """One training run.

    Attributes
    ----------
    out
        Folder of the run: checkpoints, log, learning curve.
    trainset
        Folder of real pictures, see `Trainset`, or None for drawn ones alone.
    minutes
        Wall time of the whole run, over all its resumptions; the learning rate falls along it.
    steps
        If given, this many steps instead of `minutes`, which makes a run repeatable.
    spec
        Architecture, a key of `napari_sam.models.specs.SPECS`.
    weights
        Model, checkpoint or another run's state.pt to start from: what a fresh network learns first is left out.
    resume
        Take up the run in `out` if there is one.
    images, objects
        Images in a batch, and objects in each at most.
    drawn
        Share of made pictures (drawn, collages) beside real ones as they are.
    boxes
        Share of the steps that begin with a box, beside those that begin with a click.
    layer_decay
        Learning rate of each block of the encoder, over that of the next one: below 1, the first ones change least.
    checkpointing
        Keep no activations within the encoder's blocks, and compute them again: less memory, a third more time.
    warm_up
        Share of the run in which the encoder learns the dense task alone.
    best_after
        Prompted steps after which only the best of the three candidates learns.
    save_every, evaluate_every
        Minutes between checkpoints, and between evaluations on what is held aside (0: none).
    threads
        CPU threads of the networks (0: as torch chooses).
    together
        Processes of one thread each that share the images of a batch, instead of `threads`.
    processes
        Processes beside each of these that make its batches (0: it does so itself).
    """

    out: Path
    trainset: Path | None = None
    minutes: float = 60.0
    steps: int | None = None
    spec: str = "default"
    weights: Path | str | None = None
    resume: bool = False
    images: int = 8
    objects: int = 5
    drawn: float = 0.5
    boxes: float = 0.3
    learning_rate: float = 6e-4
    warm_up_rate: float = 1e-3
    layer_decay: float = 1.0
    checkpointing: bool = False
    warm_up: float = 0.1
    best_after: int = 800
    decay: float = 0.999
    save_every: float = 2.0
    evaluate_every: float = 30.0
    threads: int = 0
    together: int = 1
    processes: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `TrainingError` where a number is out of range."""
        for name in ("images", "objects", "together", "best_after", "steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise TrainingError(f"{name} = {value} should be at least 1")
        for name in ("minutes", "learning_rate", "warm_up_rate", "layer_decay"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise TrainingError(f"{name} = {value} should be above 0")
        for name in ("drawn", "boxes", "warm_up", "decay", "layer_decay"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise TrainingError(f"{name} = {value} should lie in 0 to 1")
        for name in ("threads", "processes", "seed"):
            if getattr(self, name) < 0:
                raise TrainingError(f"{name} = {getattr(self, name)} should not be below 0")

    @property
    def comes_near(self) -> bool:
        """Whether the network will be shown crops round what is known of an object, as the default model is."""
        return self.spec == "default"

    def rises(self) -> int:
        """Return the number of steps over which the learning rate rises at the start of a phase."""
        return 50 if self.steps is None else max(1, self.steps // 20)

    def record(self, **more: Any) -> None:
        """Write the plan into its folder, and `more` with it."""
        said = {name: str(value.resolve()) if isinstance(value, Path) else value for name, value in vars(self).items()}
        (self.out / RECORD).write_text(json.dumps(said | more, indent=1))


def recorded(run: Path) -> dict[str, Any]:
    """Return what the plan of the run in a folder said, by its attributes' names, its folder left out."""
    try:
        said = dict(json.loads((run / RECORD).read_text()))
    except (OSError, ValueError, TypeError):
        return {}
    texts = "spec", "trainset", "weights"
    known = {each.name for each in fields(TrainingPlan)} - {"out", "resume"}
    return {name: said[name] for name in known & said.keys() if name in texts or not isinstance(said[name], str)}
