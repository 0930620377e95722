"""Folders in which libraries and training programs save checkpoints: which file holds the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = ("model.safetensors", "pytorch_model.bin", "best.pt", "latest.pt", "state.pt")
"""Hugging Face's two, torch_em's best and last, our own training's; the first that is there is taken."""
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
