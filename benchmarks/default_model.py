"""What the default model's answers cost, beside a quarter of what MobileSAM's published code costs at 1024 px.

    python benchmarks/default_model.py

Both take turns on the same threads, in float32; printed are ratios, the best of some rounds. The bar:
encoding an image, and each refinement for a prompt, cost no more than that quarter.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

import numpy as np
import published
import torch
from skimage.draw import disk
from table import in_turns

import napari_sam
from napari_sam import Prompts
from napari_sam.models import SPECS, build_sam

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE = 1024
CLICK = Prompts(points=[(500, 520)], labels=[1])
BOX = Prompts(boxes=[(400, 420, 580, 640)])


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="torch's threads (all cores)")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    mobile_sam = build_sam(SPECS["vit_t"]).eval()
    pixels = torch.randn(1, 3, SIDE, SIDE)
    predictor = napari_sam.load_predictor("default", device="cpu", precision="float32")
    image = np.random.default_rng(0).integers(0, 90, (SIDE, SIDE, 3), np.uint8)
    image[disk((500, 520), 60)] += 120
    whole = predictor.encode(image)
    refined = {"click": predictor.refine(whole, image, CLICK), "box": predictor.refine(whole, image, BOX)}
    work: dict[str, Callable[[], object]] = {
        "MobileSAM, published": lambda: published.encode(mobile_sam, pixels),
        "encode": lambda: predictor.encode(image),
        f"refine for a click ({len(refined['click'].boxes) - 1} crops)": lambda: predictor.refine(whole, image, CLICK),
        "decode after it": lambda: predictor.decode(refined["click"], CLICK),
        f"refine for a box ({len(refined['box'].boxes) - 1} crops)": lambda: predictor.refine(whole, image, BOX),
        "decode after that": lambda: predictor.decode(refined["box"], BOX),
    }
    best = in_turns(work, options.rounds)
    (_, quarter), *others = ((name, seconds / 4) for name, seconds in best.items())
    for name, _ in others:
        print(f"{name}: {best[name] / quarter:.2f} of a quarter of MobileSAM's published encoding ({best[name]:.3f} s)")


if __name__ == "__main__":
    main()
