"""The networks that are timed. torch and napari_sam/models alone, so that it runs where nothing else is installed."""

from __future__ import annotations

import torch

from napari_sam.models import SPECS, Sam, build_sam


def filled(name: str) -> Sam:
    """Return a network with random weights, relative positions among them."""
    torch.manual_seed(0)
    sam = build_sam(SPECS[name])
    with torch.no_grad():
        for key, value in sam.named_parameters():
            if "rel_pos" in key or "attention_biases" in key:
                value.normal_(std=0.1)
    return sam
