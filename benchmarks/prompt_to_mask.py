"""Time from prompt to painted mask, the network not counted, across image sizes.

    python benchmarks/prompt_to_mask.py          # needs a display: xvfb-run -a python ... where there is none

An object of 200 px is clicked on images of several sizes in turn; the "network" answers at once with ready-made logits,
so what is timed is everything else: layer events, prompts, the worker and its mailbox, logits to pixels, painting.
Printed are the medians, and their ratios to that of the smallest image. The bar: at most 1.3 at 8192 x 8192.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

os.environ.setdefault("NAPARI_CONFIG", "")

import napari
import numpy as np

import napari_sam
from napari_sam.embedding import ImageEmbedding, RegionEmbedding
from napari_sam.geometry import Frame, whole
from napari_sam.image_input import PictureRule
from napari_sam.masks import Mask, MaskResult
from napari_sam.worker import ModelChoice

RADIUS = 100
SIZES = (1024, 2048, 4096, 8192)


class ReadyMade:
    """Answers every click with the logits of a disk round it, as a network of 1024 px would give them."""

    keeps_embeddings = False

    def encode(self, image: Any, **_: Any) -> ImageEmbedding:
        """Return an embedding without features."""
        rule = PictureRule((image.shape[0], image.shape[1]), (), ((0.0, 1.0),))
        return ImageEmbedding(rule, (RegionEmbedding(Frame(rule.shape, whole(rule.shape), 1024), None),), "ready-made")

    def refine(self, embedding: ImageEmbedding, *_: Any, **__: Any) -> ImageEmbedding:
        """Know no better."""
        return embedding

    def decode(self, embedding: ImageEmbedding, prompts: Any) -> MaskResult:
        """Return one mask."""
        frame = embedding.regions[0].frame
        rows, cols = (frame.low_positions(axis) - prompts.points[0][axis] for axis in (0, 1))
        logits = (RADIUS - np.hypot(*np.meshgrid(rows, cols, indexing="ij"))).astype(np.float32)
        return MaskResult((Mask(logits, frame),), np.ones(1, np.float32))

    def decode_best(self, embedding: ImageEmbedding, prompts: Any) -> Mask:
        """Return that mask."""
        return self.decode(embedding, prompts).masks[0]


def seconds_per_click(annotator: Any, rng: np.random.Generator, clicks: int) -> list[float]:
    """Click, wait for the mask to be painted, and clear; return how long each click took."""
    height, width = annotator.labels.data.shape
    taken = []
    for _ in range(clicks):
        place = rng.uniform((RADIUS, RADIUS), (height - RADIUS, width - RADIUS))
        start = time.perf_counter()
        annotator.points.add([place])
        annotator.wait(60)
        taken.append(time.perf_counter() - start)
        annotator.clear()
        annotator.wait(60)
    return taken


def main() -> None:
    """Measure all sizes in turn and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="rounds of one click on each size")
    rounds = parser.parse_args().rounds
    ModelChoice.load = lambda *_: ReadyMade()  # type: ignore[assignment,method-assign,return-value]
    annotators = {}
    for size in SIZES:
        viewer = napari.Viewer()
        viewer.add_image(np.zeros((size, size), np.uint8))
        annotators[size] = napari_sam.annotate(viewer)
    rng, taken = np.random.default_rng(0), {size: [] for size in SIZES}
    for _ in range(rounds):
        for size, annotator in annotators.items():
            taken[size] += seconds_per_click(annotator, rng, 1)
    reference = np.median(taken[SIZES[0]][1:])
    for size in SIZES:
        median = np.median(taken[size][1:])
        print(f"{size:5d} x {size:<5d} {1e3 * median:7.1f} ms  {median / reference:5.2f}")
    for annotator in annotators.values():
        annotator.close()
        annotator.viewer.close()


if __name__ == "__main__":
    main()
