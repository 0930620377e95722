"""Files of TinyViT classifiers: the published layout and timm's, brought to our keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from .state_dicts import renamed
from .tiny_vit import TinyViT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from .specs import TinyViTSpec

OURS, TIMM = "patch_embed.seq.0.c.weight", "patch_embed.conv1.conv.weight"

_FROM_TIMM = (
    (r"^patch_embed\.conv1\.", "patch_embed.seq.0."),
    (r"^patch_embed\.conv2\.", "patch_embed.seq.2."),
    (r"^stages\.", "layers."),
    (r"\.conv\.(?=\w+$)", ".c."),
    (r"^head\.norm(_head)?\.", "norm_head."),
    (r"^head\.fc\.", "head."),
)
# The table of distances, which older files keep; it follows from the window.
_INDEX = ".attention_bias_idxs"


def is_tiny_vit(state: Mapping[str, Any]) -> bool:
    """Whether weights are those of a TinyViT without a prompt encoder and mask decoder."""
    return any(key.endswith((OURS, TIMM)) for key in state) and not any("image_encoder." in key for key in state)


def tiny_vit_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a TinyViT under our keys, without what stands before them, say "module."."""
    landmark = next(key for key in state if key.endswith((OURS, TIMM)))
    prefix = landmark.removesuffix(OURS).removesuffix(TIMM)
    named = {key.removeprefix(prefix): value for key, value in state.items() if not key.endswith(_INDEX)}
    return {_published(key): value for key, value in named.items()} if landmark.endswith(TIMM) else named


def _published(key: str) -> str:
    key = renamed(key, _FROM_TIMM)
    # A merging ends the stage before it here, and begins the next one there.
    return re.sub(r"^layers\.(\d)\.downsample\.", lambda found: f"layers.{int(found.group(1)) - 1}.downsample.", key)


def empty_tiny_vit(spec: TinyViTSpec) -> TinyViT:
    """Return the network without memory for its weights, to be filled by `load_state_dict(..., assign=True)`."""
    with torch.device("meta"):
        return TinyViT(spec).eval()
