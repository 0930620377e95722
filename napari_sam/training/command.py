"""The command that trains: `napari-sam train`, or `python -m napari_sam.training` where only torch is installed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from napari_sam.errors import TrainingError
from napari_sam.progress import percent
from napari_sam.training.plan import TrainingPlan, recorded

DESCRIPTION = """Train a model on your own pictures, or go on with one.

FOLDER holds images/ and masks/ with files of the same names, a mask giving each object its own whole number; or a
manifest.json that lists them. The weights are written to RUN/weights.safetensors, which can be chosen as a model in the
viewer, and the learning curve to RUN/curve.png. A run that was interrupted goes on with --resume; what is not said then
is as it was said first."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser, whose result `run` takes."""
    parser.set_defaults(run=run)
    add, plan = parser.add_argument, TrainingPlan
    add("--trainset", type=Path, metavar="FOLDER", help="your pictures; else drawn ones only")
    add("--out", type=_folder, required=True, metavar="RUN", help="folder of the run")
    add("--weights", metavar="MODEL", help="what to start from: a model's name, a checkpoint, or a run's state.pt")
    add("--spec", help="architecture, where nothing is started from (default: that of the default model)")
    add("--minutes", type=float, help=f"wall time of the whole run (default: {plan.minutes:g})")
    add("--steps", type=int, help="this many steps instead")
    add("--learning-rate", type=float, help=f"at its highest (default: {plan.learning_rate:g})")
    add("--layer-decay", type=float, help=f"rate of a block over the next one's (default: {plan.layer_decay:g})")
    add("--checkpointing", action="store_true", default=None, help="less memory, more time: for large encoders")
    add("--drawn", type=float, help=f"share of made pictures beside your own (default: {plan.drawn:g})")
    add("--boxes", type=float, help=f"share of steps that begin with a box, not a click (default: {plan.boxes:g})")
    add("--images", type=int, help=f"images in a batch (default: {plan.images})")
    add("--threads", type=int, help="CPU threads (default: as torch chooses)")
    add("--together", type=int, help="processes of one thread each, instead of threads: faster on a busy CPU")
    add("--processes", type=int, help="processes that make the batches; on a GPU, all cores but one")
    add("--seed", type=int, help=f"what is random follows from it (default: {plan.seed})")
    add("--resume", action="store_true", help="take up the run in the folder")
    add("--export-only", action="store_true", help="write the weights of the run as it is")


def _folder(text: str) -> Path:
    """Return the folder to write into, which need not be there yet."""
    if Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text} is a file: name a folder for the run, new or not")
    return Path(text)


def run(options: argparse.Namespace) -> None:
    """Train, export to `weights.safetensors` in the run's folder, and say where that is."""
    from napari_sam.training.export import export_run
    from napari_sam.training.loop import train

    plan = _plan(options)
    if not options.export_only:
        train(plan, _say)
    written = export_run(plan.out, plan.out / "weights.safetensors", plan.spec)
    sys.stdout.write(f"{written}\n")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _plan(options: argparse.Namespace) -> TrainingPlan:
    """Return what the options ask for; where they are silent, a run that goes on keeps to what it was begun with."""
    from napari_sam.models.specs import SPECS
    from napari_sam.training.export import spec_of

    known = TrainingPlan.__dataclass_fields__
    given: dict[str, Any] = vars(options)
    chosen = {name: value for name, value in given.items() if name in known and value is not None}
    if options.resume or options.export_only:
        before = recorded(options.out)
        if "minutes" in chosen:
            before.pop("steps", None)
        chosen = before | chosen
    if "spec" not in chosen:
        chosen["spec"] = spec_of(chosen.get("weights"), percent("loading the model"))
    if chosen["spec"] not in SPECS:
        raise TrainingError(f"no architecture {chosen['spec']!r}: choose one of {', '.join(SPECS)}")
    return TrainingPlan(**chosen)
