"""What a run needs to go on: written to a temporary file and moved, so that a broken write leaves the last one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_sam.errors import TrainingError

if TYPE_CHECKING:
    from pathlib import Path

FILE = "state.pt"


@dataclass
class RunState:
    """Counters of a run; `history` holds one row per logged stretch."""

    step: int = 0
    prompted_steps: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


class Average:
    """The running mean of a network's weights and buffers, which is what is exported."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self.count = decay, 0
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move towards the network, faster in the beginning."""
        self.count += 1
        keep = min(self.decay, (1 + self.count) / (10 + self.count))
        now = network.state_dict()
        moving = [name for name, value in now.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.state[name] for name in moving], [now[name] for name in moving], 1 - keep)
        for name in now.keys() - set(moving):
            self.state[name].copy_(now[name])


def save_atomically(value: Any, path: Path) -> None:
    """Write with `torch.save` beside `path`, then move."""
    temporary = path.with_suffix(".part")
    torch.save(value, temporary)
    temporary.replace(path)


def save_run(
    folder: Path, state: RunState, networks: nn.Module, average: Average, optimizer: torch.optim.Optimizer
) -> None:
    """Write all that a run needs to go on."""
    parts = {
        "state": vars(state),
        "networks": networks.state_dict(),
        "average": average.state,
        "average_count": average.count,
        "optimizer": optimizer.state_dict(),
    }
    save_atomically(parts, folder / FILE)


def read_run(path: Path) -> dict[str, Any]:
    """Return what `save_run` wrote; `TrainingError` if the file is not that, or not whole."""
    if not path.is_file():
        raise TrainingError(f"{path.parent} holds no run, {path.name} is missing: name what was given as --out")
    try:
        parts: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        parts["networks"], parts["average"], parts["state"]
    except Exception as error:  # broad: whatever a damaged file makes of the reader
        reason = str(error).strip().split("\n")[0]
        raise TrainingError(f"{path} is damaged, or another program's ({reason}): begin a run elsewhere") from error
    return parts


def load_run(folder: Path, networks: nn.Module, average: Average, optimizer: torch.optim.Optimizer) -> RunState:
    """Read what `save_run` wrote into networks, average and optimizer; `TrainingError` if it does not fit them."""
    parts = read_run(folder / FILE)
    try:
        networks.load_state_dict(parts["networks"])
        optimizer.load_state_dict(parts["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"{folder} holds a run of another architecture or layer decay: leave out --spec and --layer-decay"
        ) from error
    for name, value in parts["average"].items():
        average.state[name].copy_(value)
    average.count = parts["average_count"]
    return RunState(**parts["state"])
