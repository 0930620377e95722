"""What a run needs to go on: written to a temporary file and moved, so that a broken write leaves the last one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

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


def load_run(folder: Path, networks: nn.Module, average: Average, optimizer: torch.optim.Optimizer) -> RunState:
    """Read what `save_run` wrote into networks, average and optimizer."""
    parts = torch.load(folder / FILE, map_location="cpu", weights_only=True)
    networks.load_state_dict(parts["networks"])
    for name, value in parts["average"].items():
        average.state[name].copy_(value)
    average.count = parts["average_count"]
    optimizer.load_state_dict(parts["optimizer"])
    return RunState(**parts["state"])
