"""What a checkpoint file holds, brought to our keys: nests opened, prefixes cut, other libraries' names replaced."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

NESTS = ("model", "state_dict", "model_state", "model_state_dict", "average")
"""Under one of these, training programs keep the weights beside their own bookkeeping; the last one is our own. Where
none is there, they lie under whatever holds an image encoder."""
DEEPEST_NEST = 5
LANDMARKS = ("image_encoder.", "vision_encoder.")
"""With these begin the keys of an image encoder; what stands before them was left by a wrapper around the network."""
WRAPPERS = re.compile(r"(?<![^.])(module|_orig_mod)\.")
"""What stands before the keys of any part of a network that was spread over several GPUs, or compiled."""
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


def unwrap(loaded: object) -> dict[str, Tensor]:
    """Return the weights of what a file held, out of the dictionaries that training programs put round them.

    Raises
    ------
    ValueError
        There are no weights in it, or something that is no tensor is among them.
    """
    for _ in range(DEEPEST_NEST):  # a dictionary may lie in itself
        if isinstance(loaded, Mapping) and (nest := _nest(loaded)) is not None:
            loaded = loaded[nest]
    if not isinstance(loaded, Mapping) or not loaded:
        raise ValueError(f"it holds {type(loaded).__name__} where the weights should be")
    odd = next((key for key, value in loaded.items() if not (isinstance(key, str) and isinstance(value, Tensor))), None)
    if odd is not None:
        raise ValueError(f"its entry {odd!r} is {type(loaded[odd]).__name__}, not a tensor")
    return dict(loaded)


def _nest(loaded: Mapping[object, object]) -> object | None:
    """Return the key of the dictionary that the weights lie in; None where there is none."""
    inner = {key: value for key, value in loaded.items() if isinstance(value, Mapping)}
    telling = (key for key, value in inner.items() if any(mark in str(name) for name in value for mark in LANDMARKS))
    return next((key for key in NESTS if key in inner), next(telling, None))


def without_foreign_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the same weights under the published keys, whatever wrapper or library saved them."""
    state = {WRAPPERS.sub("", key): value for key, value in state.items()}
    prefix = _wrapper(state)
    state = {key.removeprefix(prefix): value for key, value in state.items()}
    if any(key.startswith("vision_encoder.") for key in state):
        state = {published_key(key): value for key, value in state.items() if key != _TWICE}
    return {key: value for key, value in state.items() if key not in CONSTANTS}


def published_key(key: str) -> str:
    """Return the published name of an entry of Hugging Face's `SamModel` files."""
    return renamed(key, _RENAMES)


def renamed(key: str, renames: Iterable[tuple[str, str]]) -> str:
    """Return a key after every (pattern, replacement), in their order."""
    for pattern, replacement in renames:
        key = re.sub(pattern, replacement, key)
    return key


def _wrapper(state: Mapping[str, Tensor]) -> str:
    """Return what stands before the keys of the image encoder, say "module.sam."; nothing if there is none."""
    for key in state:
        for landmark in LANDMARKS:
            before, found, _ = key.partition(landmark)
            if found and (not before or before.endswith(".")):
                return before
    return ""
