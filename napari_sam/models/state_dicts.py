"""What a checkpoint file holds, brought to our keys, and which architecture its keys and shapes belong to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .sam import Sam, build_sam
from .specs import SPECS, SamSpec

NESTS = ("model", "state_dict", "model_state", "model_state_dict")
"""Under one of these, training programs keep the weights beside their own bookkeeping."""
PREFIXES = ("module.", "sam.", "model.")
"""What a wrapper around the network leaves before each key."""
CONSTANTS = ("pixel_mean", "pixel_std")
"""Normalisation that some exports store; the profile says the same."""

# Hugging Face's names, in the order in which they are replaced by the published ones.
_RENAMES = (
    (r"^vision_encoder\.", "image_encoder."),
    (r"^(image_encoder)\.layers\.", r"\1.blocks."),
    (r"^(image_encoder\.blocks\.\d+)\.layer_norm(\d)", r"\1.norm\2"),
    (r"^(image_encoder\.patch_embed)\.projection\.", r"\1.proj."),
    (r"^image_encoder\.neck\.conv1\.", "image_encoder.neck.0."),
    (r"^image_encoder\.neck\.layer_norm1\.", "image_encoder.neck.1."),
    (r"^image_encoder\.neck\.conv2\.", "image_encoder.neck.2."),
    (r"^image_encoder\.neck\.layer_norm2\.", "image_encoder.neck.3."),
    (r"^shared_image_embedding\.positional_embedding$", "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
    (r"^prompt_encoder\.point_embed\.", "prompt_encoder.point_embeddings."),
    (r"^prompt_encoder\.mask_embed\.conv1\.", "prompt_encoder.mask_downscaling.0."),
    (r"^prompt_encoder\.mask_embed\.layer_norm1\.", "prompt_encoder.mask_downscaling.1."),
    (r"^prompt_encoder\.mask_embed\.conv2\.", "prompt_encoder.mask_downscaling.3."),
    (r"^prompt_encoder\.mask_embed\.layer_norm2\.", "prompt_encoder.mask_downscaling.4."),
    (r"^prompt_encoder\.mask_embed\.conv3\.", "prompt_encoder.mask_downscaling.6."),
    (r"^mask_decoder\.upscale_conv1\.", "mask_decoder.output_upscaling.0."),
    (r"^mask_decoder\.upscale_layer_norm\.", "mask_decoder.output_upscaling.1."),
    (r"^mask_decoder\.upscale_conv2\.", "mask_decoder.output_upscaling.3."),
    (r"^(mask_decoder\.transformer\.layers\.\d+)\.layer_norm(\d)", r"\1.norm\2"),
    (r"^(mask_decoder\.transformer)\.layer_norm_final_attn\.", r"\1.norm_final_attn."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d|iou_prediction_head))\.layers\.0\.", r"\1.layers.1."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d|iou_prediction_head))\.proj_in\.", r"\1.layers.0."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d|iou_prediction_head))\.proj_out\.", r"\1.layers.2."),
)
_TWICE = "prompt_encoder.shared_embedding.positional_embedding"  # in older files; equals `shared_image_embedding`

Shapes = dict[str, tuple[int, ...]]


def unwrap(loaded: object) -> dict[str, Tensor]:
    """Return the weights of what a file held, without nests and prefixes, under the published keys.

    Raises
    ------
    ValueError
        There are no weights in it, or something that is no tensor is among them.
    """
    while isinstance(loaded, Mapping) and (
        nest := next((n for n in NESTS if isinstance(loaded.get(n), Mapping)), None)
    ):
        loaded = loaded[nest]
    if not isinstance(loaded, Mapping) or not loaded:
        raise ValueError(f"it holds {type(loaded).__name__} where the weights should be")
    odd = next((key for key, value in loaded.items() if not (isinstance(key, str) and isinstance(value, Tensor))), None)
    if odd is not None:
        raise ValueError(f"its entry {odd!r} is {type(loaded[odd]).__name__}, not a tensor")
    return without_foreign_names(dict(loaded))


def without_foreign_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the same weights under the published keys, whatever wrapper or library saved them."""
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in state)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    if any(key.startswith("vision_encoder.") for key in state):
        state = {published_key(key): value for key, value in state.items() if key != _TWICE}
    return {key: value for key, value in state.items() if key not in CONSTANTS}


def published_key(key: str) -> str:
    """Return the published name of an entry of Hugging Face's `SamModel` files."""
    for pattern, replacement in _RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def empty_sam(spec: SamSpec) -> Sam:
    """Return the network without memory for its weights, to be filled by `load_state_dict(..., assign=True)`."""
    with torch.device("meta"):
        return build_sam(spec)


@cache
def _layout(name: str) -> Shapes:
    return {key: tuple(value.shape) for key, value in empty_sam(SPECS[name]).state_dict().items()}


@dataclass(frozen=True)
class Comparison:
    """How weights differ from an architecture; no difference at all is a fit."""

    spec: SamSpec
    missing: tuple[str, ...]
    left_over: tuple[str, ...]
    wrong_shape: tuple[str, ...]
    agreeing: int

    @property
    def fits(self) -> bool:
        """True if strict loading will succeed."""
        return not (self.missing or self.left_over or self.wrong_shape)

    @property
    def share(self) -> float:
        """Share of all keys, ours and theirs, that agree in name and shape."""
        return self.agreeing / (self.agreeing + len(self.missing) + len(self.left_over) + len(self.wrong_shape))

    def describe(self) -> str:
        """Name the first few differences of each kind."""
        parts = (("missing", self.missing), ("left over", self.left_over), ("of another shape", self.wrong_shape))
        return "; ".join(f"{len(keys)} {kind}: {_some(keys)}" for kind, keys in parts if keys)


def _some(keys: tuple[str, ...], count: int = 3) -> str:
    return ", ".join(keys[:count]) + (", ..." if len(keys) > count else "")


def compare(state: Mapping[str, Any], spec: SamSpec) -> Comparison:
    """Compare weights (anything with a `shape`) with an architecture of the table."""
    expected = _layout(spec.name)
    found = {key: tuple(value.shape) for key, value in state.items()}
    wrong = [key for key in expected if key in found and found[key] != expected[key]]
    return Comparison(
        spec,
        missing=tuple(key for key in expected if key not in found),
        left_over=tuple(key for key in found if key not in expected),
        wrong_shape=tuple(f"{key} {found[key]} instead of {expected[key]}" for key in wrong),
        agreeing=len(expected.keys() & found.keys()) - len(wrong),
    )


def closest(state: Mapping[str, Any]) -> Comparison:
    """Return the comparison with the architecture of the table that these weights come closest to."""
    return max((compare(state, spec) for spec in SPECS.values()), key=lambda each: each.share)
