"""Learning rates by depth: the published rule for TinyViT, and the same for ViT."""

from __future__ import annotations

import pytest
import torch

from napari_sam.training.loop import Networks
from napari_sam.training.optimizer import make_optimizer, set_rate


def rates(name: str, decay: float) -> dict[str, float]:
    networks = Networks(name)
    optimizer = make_optimizer(networks, decay)
    set_rate(optimizer, 2.0)
    of = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    return {key: of[id(parameter)] for key, parameter in networks.named_parameters()}


def test_rates_fall_block_by_block_in_tiny_vit() -> None:
    found = rates("toy_tiny_vit", 0.5)  # five blocks: 1, 1, 2, 1
    encoder = "sam.image_encoder."
    for key, expected in {
        "patch_embed.seq.0.c.weight": 2 / 16,
        "layers.0.blocks.0.conv1.c.weight": 2 / 16,
        "layers.0.downsample.conv1.c.weight": 2 / 16,
        "layers.1.blocks.0.attn.qkv.weight": 2 / 8,
        "layers.1.downsample.conv3.bn.bias": 2 / 8,
        "layers.2.blocks.0.mlp.fc1.bias": 2 / 4,
        "layers.2.blocks.1.mlp.fc1.bias": 2 / 2,
        "layers.2.downsample.conv1.c.weight": 2 / 2,
        "layers.3.blocks.0.attn.attention_biases": 2,
        "neck.0.weight": 2,
    }.items():
        assert found[encoder + key] == pytest.approx(expected), key
    assert found["sam.mask_decoder.iou_token.weight"] == 2


def test_rates_fall_block_by_block_in_a_vit() -> None:
    found = rates("toy_vit", 0.1)
    assert found["sam.image_encoder.pos_embed"] == pytest.approx(0.2)
    assert found["sam.image_encoder.blocks.0.norm1.weight"] == pytest.approx(0.2)
    assert found["sam.image_encoder.blocks.1.norm1.weight"] == 2


def test_without_decay_there_are_the_two_groups_of_earlier_runs() -> None:
    networks = Networks("toy_tiny_vit")
    optimizer = make_optimizer(networks)
    weights = [p for p in networks.parameters() if p.ndim > 1]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.02, 0.0]
    assert all(a is b for a, b in zip(optimizer.param_groups[0]["params"], weights, strict=True))
    earlier = torch.optim.AdamW([{"params": weights}, {"params": [p for p in networks.parameters() if p.ndim <= 1]}])
    optimizer.load_state_dict(earlier.state_dict())  # saved before groups had scales
    set_rate(optimizer, 0.3)
    assert [group["lr"] for group in optimizer.param_groups] == [0.3, 0.3]
