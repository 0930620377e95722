"""`python -m napari_sam.training`: train, and write the weights."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from napari_sam.training.export import export_run
from napari_sam.training.loop import train
from napari_sam.training.plan import TrainingPlan


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, train, export to `weights.safetensors` in the run's folder."""
    parser = argparse.ArgumentParser(prog="python -m napari_sam.training", description=__doc__)
    parser.add_argument(
        "--trainset", type=Path, help="folder with manifest.json, images/ and masks/; else drawn ones only"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--minutes", type=float, default=60.0, help="wall time of the whole run")
    parser.add_argument("--steps", type=int, help="this many steps instead")
    parser.add_argument("--spec", default="default", help="architecture")
    parser.add_argument("--weights", type=Path, help="exported weights, or the state.pt of another run, to start from")
    parser.add_argument("--learning-rate", type=float, default=6e-4, help="at its highest")
    parser.add_argument("--drawn", type=float, default=0.5, help="share of made pictures beside real ones")
    parser.add_argument("--images", type=int, default=8, help="images in a batch")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads")
    parser.add_argument("--together", type=int, default=1, help="processes of one thread each, instead of threads")
    parser.add_argument("--processes", type=int, default=1, help="processes that make the batches")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="take up the run in the folder")
    parser.add_argument("--export-only", action="store_true", help="write the weights of the run as it is")
    options = vars(parser.parse_args(arguments))
    export_only = options.pop("export_only")
    plan = TrainingPlan(**options)
    if not export_only:
        train(plan)
    written = export_run(plan.out, plan.out / "weights.safetensors", plan.spec)
    sys.stdout.write(f"{written}\n")


if __name__ == "__main__":
    main()
