"""AdamW, with a learning rate that may fall from the last block of the encoder to the first."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn

WEIGHT_DECAY = 0.02
ENCODER = "sam.image_encoder."


def make_optimizer(networks: nn.Module, layer_decay: float = 1.0) -> torch.optim.AdamW:
    """Return AdamW over all parameters, which decays matrices and kernels only.

    Every group has a `scale`, by which `set_rate` multiplies the learning rate: `layer_decay` to the power of the
    number of blocks of the encoder behind its own. What lies behind the encoder's last block has 1.
    """
    named = dict(networks.named_parameters())
    blocks = _block_of([name.removeprefix(ENCODER) for name in named if name.startswith(ENCODER)])
    last = max(blocks.values(), default=0)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in named.items():
        behind = last - blocks.get(name.removeprefix(ENCODER), last) if name.startswith(ENCODER) else 0
        groups[layer_decay**behind, parameter.ndim > 1].append(parameter)
    described = [
        {"params": groups[key], "weight_decay": WEIGHT_DECAY if key[1] else 0.0, "scale": key[0]}
        for key in sorted(groups, reverse=True)
    ]
    return torch.optim.AdamW(described, lr=0.0, betas=(0.9, 0.99), fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of what lies behind the encoder, and with it that of all else."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)  # runs that began before there were scales have none


def _block_of(names: list[str]) -> dict[str, int]:
    """Return the number of the block that each of an encoder's parameters belongs to, those of no block left out.

    What comes before the blocks goes with the first, a merging between two stages with the block before it.
    """
    depths: dict[int, int] = defaultdict(int)  # by stage; a ViT is one stage
    for name in names:
        if found := re.match(r"(?:layers\.(\d+)\.)?blocks\.(\d+)\.", name):
            stage = int(found.group(1) or 0)
            depths[stage] = max(depths[stage], int(found.group(2)) + 1)
    first = {stage: sum(depths[other] for other in depths if other < stage) for stage in depths}
    blocks = {}
    for name in names:
        if found := re.match(r"(?:layers\.(\d+)\.)?blocks\.(\d+)\.", name):
            blocks[name] = first[int(found.group(1) or 0)] + int(found.group(2))
        elif found := re.match(r"layers\.(\d+)\.downsample\.", name):
            blocks[name] = first[int(found.group(1))] + depths[int(found.group(1))] - 1
        elif name.startswith(("patch_embed.", "pos_embed")):
            blocks[name] = 0
    return blocks
