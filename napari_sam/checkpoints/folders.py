"""Folders in which libraries and training programs save checkpoints: which file holds the weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError
from ..geometry import Profile
from .profiles import is_number

if TYPE_CHECKING:
    from pathlib import Path

HUGGING_FACE = ("model.safetensors", "pytorch_model.bin")
WEIGHTS = (*HUGGING_FACE, "best.pt", "latest.pt", "state.pt")
"""Hugging Face's two, torch_em's best and last, our own training's; the first that is there is taken."""
CONFIG, PREPROCESSING = "config.json", "preprocessor_config.json"
LARGEST_JSON = 1 << 20
SHARDS = "model.safetensors.index.json"


def weights_in(folder: Path) -> Path:
    """Return the file with the weights in a folder.

    Raises
    ------
    CheckpointError
        None of the known files is there, or the weights are spread over several.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    if (folder / SHARDS).is_file():
        raise CheckpointError(
            f"{folder} holds weights in several files: save them as one, save_pretrained(..., max_shard_size='20GB')"
        )
    raise CheckpointError(
        f"{folder} is a folder without {' or '.join(WEIGHTS[:2])}: choose a checkpoint file in it, or the folder that "
        "has one of these"
    )


def json_beside(weights: Path, name: str) -> dict[str, Any]:
    """Return what a JSON file of Hugging Face's beside its weights says, nothing if there is none.

    Raises
    ------
    CheckpointError
        It cannot be read as a JSON object.
    """
    path = weights.with_name(name)
    if weights.name not in HUGGING_FACE or not path.is_file():
        return {}
    try:
        said = json.loads(path.read_bytes()[:LARGEST_JSON])
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): correct it, or move the weights elsewhere") from error
    if not isinstance(said, dict):
        raise CheckpointError(f"{path} holds {type(said).__name__} instead of an object: correct it")
    return said


def parse_preprocessing(said: dict[str, Any], where: str, image_size: int) -> Profile:
    """Return the profile that Hugging Face's `preprocessor_config.json` of a ViT means.

    Its mean and deviation are for values of 0 to 1; `resample` counts as PIL does: 2 is bilinear, 3 bicubic.
    """
    mean, std = (_three(said.get(f"image_{name}"), f"{where}: image_{name}") for name in ("mean", "std"))
    if min(std) <= 0:
        raise CheckpointError(f"{where}: image_std = {list(std)} should be above 0")
    bicubic = said.get("resample") == 3
    scaled = [(255 * red, 255 * green, 255 * blue) for red, green, blue in (mean, std)]
    return Profile(
        "preprocessor_config",
        image_size,
        mean=scaled[0],
        std=scaled[1],
        resize="square",
        interpolation="bicubic" if bicubic else "bilinear",
        decoder="prototypes",
        masks_within_boxes=True,
    )


def _three(value: Any, where: str) -> tuple[float, float, float]:
    if not (isinstance(value, list) and len(value) == 3 and all(map(is_number, value))):
        raise CheckpointError(f"{where} = {value!r} should be three numbers, for values of 0 to 1")
    red, green, blue = map(float, value)
    return red, green, blue
