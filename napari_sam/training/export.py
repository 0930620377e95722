"""From a run to a weights file: the running mean in float16, with what it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_sam.errors import CheckpointError, TrainingError
from napari_sam.models.sam import build_sam
from napari_sam.models.specs import SPECS
from napari_sam.training.checkpoint import FILE

if TYPE_CHECKING:
    from napari_sam.checkpoints import LoadedCheckpoint


def export_run(run: Path, target: Path, spec: str, **about: str) -> Path:
    """Write the running mean of a run's weights; see `export_weights`."""
    if not (Path(run) / FILE).is_file():
        raise TrainingError(f"{run} holds no run, {FILE} is missing: name the folder that was given as --out")
    parts = torch.load(Path(run) / FILE, map_location="cpu", weights_only=True)
    state = parts["state"]
    known = {"steps": str(state["step"]), "training_minutes": f"{state['seconds'] / 60:.0f}"}
    return export_weights(parts["average"], target, spec, **(known | about))


def export_weights(weights: dict[str, Tensor], target: Path, spec: str, **about: str) -> Path:
    """Write a state dict of `spec` as float16 safetensors.

    Parameters
    ----------
    weights
        All weights and buffers; integers (the counters of batch norm) are kept as they are.
    about
        Written to the file's metadata beside the spec's name.

    Raises
    ------
    RuntimeError
        The weights do not fit the spec.
    """
    from safetensors.torch import save_file  # here and below: training alone must do without this library

    build_sam(SPECS[spec]).load_state_dict(weights)
    half = {
        name: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for name, value in weights.items()
    }
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".part")
    save_file(half, partial, metadata={"spec": spec, **about})
    partial.replace(target)
    return target


def start_from(source: Path | str, networks: nn.Module) -> None:
    """Load what a run starts from: a checkpoint into `networks.sam`, or another run's state.pt, its head included.

    Details, which may be new, are left as they are where the weights have none.

    Raises
    ------
    CheckpointError
        There is no such checkpoint.
    RuntimeError
        The weights do not fit the spec.
    """
    target, weights = networks.get_submodule("sam"), None
    if Path(source).name == FILE:
        target, weights = networks, torch.load(source, map_location="cpu", weights_only=True)["networks"]
    missing, unexpected = target.load_state_dict(weights or _checkpoint(source).sam.state_dict(), strict=False)
    if unexpected or any(".details." not in name for name in missing):
        raise RuntimeError(f"{source} does not fit: missing {missing}, unexpected {unexpected}")


def spec_of(source: Path | str | None) -> str:
    """Return the architecture of what a run starts from; that of the default model for None or a run's state.pt.

    Raises
    ------
    CheckpointError
        There is no such checkpoint, or its architecture is none of those that can be trained.
    """
    if source is None or Path(source).name == FILE:
        return "default"
    spec = _checkpoint(source).spec
    if SPECS.get(spec.name) != spec:
        raise CheckpointError(
            f"{source}: {spec.name} is no architecture that can be trained: choose {', '.join(SPECS)}"
        )
    return spec.name


def _checkpoint(source: Path | str) -> LoadedCheckpoint:
    from napari_sam.checkpoints import load_sam  # here: training alone must do without its libraries

    return load_sam(source)


def load_weights(path: Path, network: nn.Module) -> dict[str, str]:
    """Load an exported file into a network, strictly; returns the file's metadata."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118  it is no dict
        return dict(file.metadata() or {})
