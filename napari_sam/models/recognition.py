"""Which architecture weights belong to, by keys and shapes: one of the table, or one of its kind at other sizes."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .sam import Sam, build_sam
from .specs import SPECS, DecoderSpec, PlainViTSpec, SamSpec, TinyViTSpec, ViTSpec
from .tiny_vit_files import empty_tiny_vit
from .vit_files import empty_vit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Shapes = dict[str, tuple[int, ...]]
    Spec = SamSpec | PlainViTSpec | TinyViTSpec

ENCODER = "image_encoder."
DEEPEST, WIDEST, LARGEST_INPUT = 100, 8192, 8192
"""Sizes beyond which weights are no image encoder that anybody trained."""


def empty_sam(spec: SamSpec) -> Sam:
    """Return the network without memory for its weights, to be filled by `load_state_dict(..., assign=True)`."""
    with torch.device("meta"):
        return build_sam(spec)


@lru_cache(maxsize=32)
def layout(spec: Spec) -> Shapes:
    """Return the keys and shapes of an architecture."""
    empty: nn.Module
    if isinstance(spec, PlainViTSpec):
        empty = empty_vit(spec)
    else:
        empty = empty_sam(spec) if isinstance(spec, SamSpec) else empty_tiny_vit(spec)
    return {key: tuple(value.shape) for key, value in empty.state_dict().items()}


@dataclass(frozen=True)
class Comparison:
    """How weights differ from an architecture; no difference at all is a fit."""

    spec: Spec
    missing: tuple[str, ...]
    left_over: tuple[str, ...]
    wrong_shape: tuple[str, ...]
    agreeing: int

    @property
    def fits(self) -> bool:
        """True if strict loading will succeed."""
        return not self.differences

    @property
    def differences(self) -> int:
        """Number of keys that differ."""
        return len(self.missing) + len(self.left_over) + len(self.wrong_shape)

    @property
    def share(self) -> float:
        """Share of all keys, ours and theirs, that agree in name and shape."""
        return self.agreeing / (self.agreeing + self.differences)

    def describe(self) -> str:
        """Name the first few differences of each kind."""
        parts = (("missing", self.missing), ("left over", self.left_over), ("of another shape", self.wrong_shape))
        return "; ".join(f"{len(keys)} {kind}: {_some(keys)}" for kind, keys in parts if keys)


def _some(keys: tuple[str, ...], count: int = 3) -> str:
    return ", ".join(keys[:count]) + (", ..." if len(keys) > count else "")


def compare(state: Mapping[str, Any], spec: Spec) -> Comparison:
    """Compare weights (anything with a `shape`) with an architecture."""
    expected = layout(spec)
    found = {key: tuple(value.shape) for key, value in state.items()}
    wrong = [key for key in expected if key in found and found[key] != expected[key]]
    return Comparison(
        spec,
        missing=tuple(key for key in expected if key not in found),
        left_over=tuple(key for key in found if key not in expected),
        wrong_shape=tuple(f"{key} {found[key]} instead of {expected[key]}" for key in wrong),
        agreeing=len(expected.keys() & found.keys()) - len(wrong),
    )


def closest(state: Mapping[str, Any]) -> list[Comparison]:
    """Return the comparisons with all architectures, the closest first: the table's, and one inferred from the shapes.

    Where an architecture of the table fits, it comes before an inferred one that differs in what shapes do not tell.
    """
    specs = list(SPECS.values())
    if (guess := inferred(state)) is not None:
        specs.append(guess)
    return sorted((compare(state, spec) for spec in specs), key=lambda each: each.share, reverse=True)


def inferred(state: Mapping[str, Any]) -> SamSpec | None:
    """Return the architecture that the shapes of weights say, None where they say none.

    The decoder's number of heads and TinyViT's input size leave no trace in the shapes: they are the published ones.
    """
    shapes: Shapes = {key: tuple(value.shape) for key, value in state.items()}
    try:
        is_vit = f"{ENCODER}patch_embed.proj.weight" in shapes
        encoder = _vit(shapes) if is_vit else _tiny_vit(shapes)
        spec = SamSpec(_name(encoder), encoder, _decoder(shapes))
        layout(spec)
    except (LookupError, ValueError, ZeroDivisionError, RuntimeError):  # shapes that no such network has
        return None
    return spec


def _name(encoder: ViTSpec | TinyViTSpec) -> str:
    if isinstance(encoder, ViTSpec):
        return f"ViT of width {encoder.width}, depth {encoder.depth}, {encoder.image_size} px"
    return encoder.name


def _vit(shapes: Shapes) -> ViTSpec:
    width, _, patch, _ = shapes[f"{ENCODER}patch_embed.proj.weight"]
    grid = shapes[f"{ENCODER}pos_embed"][1]
    blocks = [f"{ENCODER}blocks.{index}." for index in range(_count(shapes, f"{ENCODER}blocks"))]
    sides = [(shapes[f"{block}attn.rel_pos_h"][0] + 1) // 2 for block in blocks]
    windows = {side for side in sides if side != grid}
    first = blocks[0]
    _check(width <= WIDEST and grid * patch <= LARGEST_INPUT and len(windows) <= 1)
    return ViTSpec(
        width=width,
        depth=len(blocks),
        heads=width // shapes[f"{first}attn.rel_pos_h"][1],
        global_blocks=tuple(index for index, side in enumerate(sides) if side == grid),
        image_size=grid * patch,
        patch_size=patch,
        mlp_ratio=shapes[f"{first}mlp.lin1.weight"][0] / width,
        window=min(windows, default=14),
        neck=shapes[f"{ENCODER}neck.0.weight"][0],
    )


def inferred_tiny_vit(state: Mapping[str, Any]) -> TinyViTSpec:
    """Return the TinyViT that the shapes of weights under our keys say; `ValueError` if they say none.

    Without a neck it is a classifier, which halves the grid once more, as shapes do not tell.
    """
    try:
        found = _tiny_vit({f"{ENCODER}{key}": tuple(value.shape) for key, value in state.items()})
        found = found if found.neck else replace(found, image_size=224, strides=(2, 2, 2))
        layout(found)
    except (LookupError, ZeroDivisionError, RuntimeError) as error:
        raise ValueError(f"its weights are no complete TinyViT ({error})") from error
    return found


def _tiny_vit(shapes: Shapes) -> TinyViTSpec:
    stages = [f"{ENCODER}layers.{index}." for index in range(4)]
    widths = [shapes[f"{stages[0]}blocks.0.conv3.c.weight"][0]]
    widths += [shapes[f"{stage}blocks.0.attn.proj.weight"][0] for stage in stages[1:]]
    tables = [shapes[f"{stage}blocks.0.attn.attention_biases"] for stage in stages[1:]]
    _check(max(widths) <= WIDEST)
    windows = [round(table[1] ** 0.5) for table in tables]
    heads = [table[0] for table in tables]
    return TinyViTSpec(
        widths=_four(widths),
        depths=_four([_count(shapes, f"{stage}blocks") for stage in stages]),
        heads=_four([max(1, heads[0] // 2), *heads]),  # the first stage is convolutional and has neither
        windows=_four([windows[0], *windows]),
        mlp_ratio=shapes[f"{stages[1]}blocks.0.mlp.fc1.weight"][0] / widths[1],
        mbconv_ratio=shapes[f"{stages[0]}blocks.0.conv1.c.weight"][0] / widths[0],
        neck=shapes.get(f"{ENCODER}neck.0.weight", (0,))[0],
        classes=shapes.get(f"{ENCODER}head.weight", (0,))[0],
        details=f"{ENCODER}details.quarter.weight" in shapes,
    )


def _decoder(shapes: Shapes) -> DecoderSpec:
    decoder = "mask_decoder."
    width = shapes[f"{decoder}iou_token.weight"][1]
    _check(width <= WIDEST)
    head = f"{decoder}iou_prediction_head.layers"
    return DecoderSpec(
        depth=_count(shapes, f"{decoder}transformer.layers"),
        width=width,
        mlp=shapes[f"{decoder}transformer.layers.0.mlp.lin1.weight"][0],
        iou_depth=_count(shapes, head),
        iou_hidden=shapes[f"{head}.0.weight"][0],
    )


def _count(shapes: Iterable[str], prefix: str) -> int:
    """Return the number of modules in a list, by their indices in the keys."""
    indices = {
        int(found.group(1)) for key in shapes if (found := re.match(rf"{re.escape(prefix)}\.(\d{{1,6}})\.", key))
    }
    _check(indices == set(range(len(indices))) and 0 < len(indices) <= DEEPEST)
    return len(indices)


def _four(values: list[int]) -> tuple[int, int, int, int]:
    first, second, third, fourth = values
    return first, second, third, fourth


def _check(holds: bool) -> None:
    if not holds:
        raise ValueError("no such network")
