"""Figures of the published reference implementations, and the weights and inputs that they belong to.

`data/parity/layouts` holds the keys and shapes of the published checkpoints, `data/parity/*.npz` what the reference
makes of deterministic weights and inputs. Every such array follows from its name alone, so that no weights need to be
stored; the figures only hold for exactly these recipes.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

FOLDER = Path(__file__).parent / "data" / "parity"
TOLERANCE = 1e-4
"""Relative error below which two float32 networks are the same."""


def figures(name: str) -> dict[str, NDArray[np.float32]]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def reference_state(name: str) -> dict[str, torch.Tensor]:
    """Return the deterministic weights under the published keys of `layouts/{name}.json`."""
    return state_of_shapes(layout(name))


def layout(name: str) -> dict[str, tuple[int, ...]]:
    """Return the published keys and shapes."""
    shapes = json.loads((FOLDER / "layouts" / f"{name}.json").read_text())
    return {key: tuple(shape) for key, shape in shapes.items()}


def state_of_shapes(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(_parameter(key, shape)) for key, shape in shapes.items()}


def normal_input(name: str, *shape: int) -> torch.Tensor:
    return torch.from_numpy(_generator(f"input:{name}").standard_normal(shape).astype(np.float32))


def photo_input(name: str, height: int, width: int) -> NDArray[np.uint8]:
    """Return a smooth (height, width, 3) picture: a sum of twelve coloured waves."""
    generator = _generator(f"photo:{name}")
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    total = np.zeros((height, width, 3))
    for _ in range(12):  # the order of the draws is part of the recipe
        strength, along_x, along_y = generator.uniform(0.3, 1), generator.uniform(-6, 6), generator.uniform(-6, 6)
        wave = np.sin(2 * np.pi * (along_x * x + along_y * y + generator.random()))
        total += strength * wave[..., None] * generator.uniform(0.2, 1, 3)
    total = (total - total.min()) / np.ptp(total)
    return np.round(255 * total).astype(np.uint8)


def relative_error(ours: torch.Tensor | NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Return |ours - reference| / |reference|; shapes must agree, and two empty arrays do."""
    values = np.asarray(ours.detach() if isinstance(ours, torch.Tensor) else ours)
    assert values.shape == reference.shape
    return float(np.linalg.norm(values - reference) / max(np.linalg.norm(reference), 1e-12))


def _generator(text: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(f":{text}".encode()))


def _parameter(name: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    generator = _generator(name)
    if name.endswith("running_var"):
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    value = generator.standard_normal(shape)
    if name.endswith(("attention_biases", "rel_pos_h", "rel_pos_w", "pos_embed")):
        value *= 0.1
    elif name.endswith("positional_encoding_gaussian_matrix"):
        pass
    elif len(shape) > 1:
        value = value / np.sqrt(np.prod(shape[1:]))  # an activation keeps its scale
    elif name.endswith("weight"):
        value = 1 + 0.1 * value  # of a norm
    else:
        value = 0.02 * value
    return value.astype(np.float32)
