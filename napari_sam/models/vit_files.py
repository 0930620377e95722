"""Files of plain ViTs: the layouts of timm, of masked autoencoders and of Hugging Face, brought to our keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from .plain_vit import PlainViT
from .specs import PlainViTSpec
from .state_dicts import renamed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    Shapes = dict[str, tuple[int, ...]]

THEIRS, OURS = "embeddings.patch_embeddings.projection.weight", "patch_embed.proj.weight"
HEAD_CHANNELS = 64
"""Channels of a head in every ViT that was published at common widths; shapes do not tell."""
HUGGING_FACE_EPS = 1e-12
DEEPEST, WIDEST, LARGEST_INPUT = 100, 8192, 8192

_RENAMES = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."),
    (r"^(blocks\.\d+)\.attention\.output\.dense\.", r"\1.attn.proj."),
    (r"^(blocks\.\d+)\.attention\.attention\.", r"\1.attn."),
    (r"^(blocks\.\d+)\.intermediate\.dense\.", r"\1.mlp.fc1."),
    (r"^(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"^(blocks\.\d+)\.layernorm_before\.", r"\1.norm1."),
    (r"^(blocks\.\d+)\.layernorm_after\.", r"\1.norm2."),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.", "head."),
)
# What belongs to pretraining: the autoencoder's decoder and its mask token.
_PRETRAINING = re.compile(r"(decoder|mask_token|decoder_.*|embeddings\.mask_token)(\..*)?")


def is_plain_vit(state: Mapping[str, Any]) -> bool:
    """Whether weights are those of a plain ViT, alone or within a wrapper."""
    return any(key.endswith((THEIRS, OURS)) for key in state) and not any("image_encoder." in key for key in state)


def has_decoder(state: Mapping[str, Any]) -> bool:
    """Whether weights are those of a masked autoencoder, its decoder included."""
    return any(_PRETRAINING.fullmatch(key) for key in _unwrapped(state))


def plain_vit_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a plain ViT under our keys, without what pretraining alone needed."""
    needed = {key: value for key, value in _unwrapped(state).items() if _PRETRAINING.fullmatch(key) is None}
    ours = {renamed(key, _RENAMES): value for key, value in needed.items()}
    for block in sorted({key.split(".attn.")[0] for key in ours if ".attn.query." in key}):
        for kind in ("weight", "bias"):
            parts = [ours.pop(f"{block}.attn.{name}.{kind}", None) for name in ("query", "key", "value")]
            if all(part is not None for part in parts):
                ours[f"{block}.attn.qkv.{kind}"] = torch.cat([part for part in parts if part is not None])
    return ours


def _unwrapped(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights without what stands before the keys of the network itself, say "vit." or "module."."""
    landmark = next((key for key in state if key.endswith((THEIRS, OURS))), "")
    prefix = landmark.removesuffix(THEIRS).removesuffix(OURS)
    return {key.removeprefix(prefix): value for key, value in state.items()}


def inferred_vit(state: Mapping[str, Tensor], config: Mapping[str, Any], *, hugging_face: bool) -> PlainViTSpec:
    """Return the architecture that shapes under our keys say, and what `config` (Hugging Face's config.json) adds.

    Raises
    ------
    ValueError
        There is no such network.
    """
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    try:
        return _inferred(shapes, config, hugging_face=hugging_face)
    except (LookupError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"its weights are no complete plain ViT ({error})") from error


def _inferred(shapes: Shapes, config: Mapping[str, Any], *, hugging_face: bool) -> PlainViTSpec:
    width, channels, patch, _ = shapes["patch_embed.proj.weight"]
    in_places = "pos_embed" in shapes
    grid = round((shapes["pos_embed"][1] - 1) ** 0.5) if in_places else shapes["row_embed"][1]
    depth = len({found.group(1) for key in shapes if (found := re.match(r"blocks\.(\d{1,6})\.", key))})
    heads = config.get("num_attention_heads") or max(1, width // HEAD_CHANNELS)
    if not (0 < depth <= DEEPEST and width <= WIDEST and 0 < grid * patch <= LARGEST_INPUT):
        raise ValueError(f"no plain ViT is {width} wide, {depth} deep and sees {grid * patch} px")
    if type(heads) is not int or heads < 1 or width % heads:
        raise ValueError(f"{heads!r} heads do not divide its width {width}")
    if config.get("hidden_act", "gelu") != "gelu":
        raise ValueError(f"its activation is {config['hidden_act']!r}, which we do not have")
    eps = config.get("layer_norm_eps", HUGGING_FACE_EPS if hugging_face else 1e-6)
    if type(eps) is not float or not 0 < eps < 1:
        raise ValueError(f"its layer_norm_eps is {eps!r}, which should be a small number above 0")
    return PlainViTSpec(
        width=width,
        depth=depth,
        heads=heads,
        image_size=grid * patch,
        patch_size=patch,
        channels=channels,
        mlp_ratio=shapes["blocks.0.mlp.fc1.weight"][0] / width,
        positions="places" if in_places else "axes",
        pool="mean" if "fc_norm.weight" in shapes else "class",
        classes=shapes.get("head.weight", (0,))[0],
        pooler="pooler.dense.weight" in shapes,
        layer_scale="blocks.0.ls1.gamma" in shapes,
        norm_eps=eps,
    )


def empty_vit(spec: PlainViTSpec) -> PlainViT:
    """Return the network without memory for its weights, to be filled by `load_state_dict(..., assign=True)`."""
    with torch.device("meta"):
        return PlainViT(spec).eval()
