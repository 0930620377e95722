"""Which objects a step's rounds of prompts are about."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from napari_sam.models import SPECS, build_sam
from napari_sam.training import rounds
from napari_sam.training.dataset import Batch
from napari_sam.training.rounds import Course, Pace, train_rounds

SIZE = 64


def batch_of(*sides: int) -> Batch:
    """Return one picture with a square object of each of `sides`, in pixels of the masks."""
    half = SIZE // 2
    masks = torch.zeros(len(sides), half, half, dtype=torch.bool)
    for mask, side in zip(masks, sides, strict=True):
        mask[2 : 2 + side, 3 : 3 + side] = True
    return Batch(
        images=torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8),
        inside=torch.ones(1, 1, SIZE, SIZE, dtype=torch.bool),
        dense=torch.zeros(1, 6, half, half),
        masks=masks,
        owner=torch.zeros(len(sides), dtype=torch.int64),
        outside=torch.zeros(len(sides)),
    )


@pytest.mark.parametrize(
    ("course", "sides", "expected"),
    [
        (Course(3, box=False), (5, 20), [2, 2, 2]),
        (Course(3, box=False, comes_near=True), (5, 20), [2, 1, 1]),
        (Course(2, box=True, comes_near=True), (5, 20, 16), [2, 2]),
        (Course(2, box=True, comes_near=True), (5, 6), [2, 2]),
    ],
    ids=["whole pictures", "corrections come near", "boxes come near", "nothing is near"],
)
def test_boxes_and_corrections_are_about_what_crops_show_near(
    monkeypatch: pytest.MonkeyPatch, course: Course, sides: tuple[int, ...], expected: list[int]
) -> None:
    counts, ask = [], rounds.ask

    def counted(sam: Any, features: torch.Tensor, *arguments: Any) -> Any:
        counts.append(len(features))
        return ask(sam, features, *arguments)

    monkeypatch.setattr(rounds, "ask", counted)
    spec = SPECS["toy_tiny_vit"]
    sam = build_sam(spec)
    features = torch.zeros(1, spec.embedding_channels, spec.embedding_size, spec.embedding_size, requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    seen = train_rounds(sam, features, batch_of(*sides), Pace(1.0, 1.0), course, generator)
    assert counts == expected
    assert features.grad is not None
    assert features.grad.abs().sum() > 0
    assert set(seen) == {"loss", "box" if course.box else "click", "last"}
