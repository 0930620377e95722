"""From a run to a weights file: the running mean in float16, with what it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam.errors import CheckpointError, TrainingError
from napari_sam.models.sam import build_sam
from napari_sam.models.specs import SPECS
from napari_sam.training.checkpoint import FILE, read_run
from napari_sam.training.plan import recorded

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from napari_sam.checkpoints import LoadedCheckpoint


def export_run(run: Path, target: Path, spec: str, **about: str) -> Path:
    """Write the running mean of a run's weights; see `export_weights`."""
    parts = read_run(Path(run) / FILE)
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
    TrainingError
        The weights do not fit the spec.
    """
    from safetensors.torch import save_file  # here and below: training alone must do without this library

    _fill(build_sam(SPECS[spec]), weights, f"the weights are no {spec}")
    half = {
        name: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for name, value in weights.items()
    }
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".part")
    profile = "default" if spec == "default" else "sam"  # what training shows to every other network
    save_file(half, partial, metadata={"spec": spec, "profile": profile, **about})
    partial.replace(target)
    return target


def start_from(source: Path | str, networks: nn.Module) -> None:
    """Load what a run starts from: a checkpoint into `networks.sam`, or another run's state.pt, its head included.

    Details, which may be new, are left as they are where the weights have none.

    Raises
    ------
    CheckpointError
        There is no such checkpoint.
    TrainingError
        The weights do not fit the spec.
    """
    target, weights = networks.get_submodule("sam"), None
    if Path(source).name == FILE:
        target, weights = networks, read_run(Path(source))["networks"]
    weights = weights or _checkpoint(source).sam.state_dict()
    _fill(target, weights, f"{source} does not fit the architecture", new=".details.")


def _fill(network: nn.Module, weights: dict[str, Tensor], mistake: str, new: str | None = None) -> None:
    """Load weights, which may lack what has `new` in its name; `TrainingError` if they do not fit."""
    try:
        missing, unexpected = network.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # other shapes
        raise TrainingError(f"{mistake}: leave out --spec, or name theirs") from error
    lacking = [name for name in missing if new is None or new not in name]
    if lacking or unexpected:
        raise TrainingError(f"{mistake}, {[*lacking, *unexpected][0]} differs: leave out --spec, or name theirs")


def spec_of(source: Path | str | None, progress: Callable[[float], None] | None = None) -> str:
    """Return the architecture of what a run starts from; None starts a network like the default model's.

    `progress` is told of a checkpoint's download.

    Raises
    ------
    CheckpointError
        There is no such checkpoint, or its architecture is none of those that can be trained.
    """
    if source is None:
        return "default"
    if Path(source).name == FILE:
        return str(recorded(Path(source).parent).get("spec", "default"))
    spec = _checkpoint(source, progress).spec
    if SPECS.get(spec.name) != spec:
        raise CheckpointError(
            f"{source}: {spec.name} is no architecture that can be trained: choose {', '.join(SPECS)}"
        )
    return spec.name


def _checkpoint(source: Path | str, progress: Callable[[float], None] | None = None) -> LoadedCheckpoint:
    from napari_sam.checkpoints import load_sam  # here: training alone must do without its libraries

    return load_sam(source, progress)


def load_weights(path: Path, network: nn.Module) -> dict[str, str]:
    """Load an exported file into a network, strictly; returns the file's metadata."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118  it is no dict
        return dict(file.metadata() or {})
