"""Several processes that train one model together, each on its own part of the batch.

On a CPU that is shared with other work, processes of one thread each are much faster than one process of several
threads: they wait for one another once a step, not after every operation.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import multiprocessing, nn

from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Team:
    """The place of this process among all; one alone needs no communication."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process logs, evaluates and saves."""
        return self.rank == 0

    def average_gradients(self, network: nn.Module) -> None:
        """Replace gradients by their mean over all processes; one that this process did not need counts as 0.

        They stay in the memory layout of their weights, which the fused optimizer takes for granted.
        """
        if self.size == 1:
            return
        weights = list(network.parameters())
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in weights]
        joined = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(joined)
        joined /= self.size
        start = 0
        for weight, gradient in zip(weights, gradients, strict=True):
            gradient.copy_(joined[start : start + gradient.numel()].view(gradient.shape))
            weight.grad = gradient
            start += gradient.numel()

    def agree(self, value: float) -> float:
        """Return the leader's value.

        Raises
        ------
        RuntimeError
            The process that began the training is gone: nobody would end this one.
        """
        if self.size == 1:
            return value
        if (parent := multiprocessing.parent_process()) is not None and not parent.is_alive():
            raise RuntimeError("the training was ended from outside")
        shared = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(shared, src=0)
        return float(shared)


def run_together(work: Callable[[Team], None], size: int) -> None:
    """Call `work`, which can be pickled, in `size` new processes and wait for them; what one raises is raised here."""
    with TemporaryDirectory() as folder:
        meeting_point, mistake = Path(folder) / "meeting_point", Path(folder) / "mistake"
        arguments = (work, size, meeting_point, mistake)
        try:
            multiprocessing.spawn(_member, arguments, nprocs=size)  # type: ignore[attr-defined,no-untyped-call]
        except multiprocessing.ProcessRaisedException:  # type: ignore[attr-defined]
            if mistake.exists():
                raise pickle.loads(mistake.read_bytes()) from None
            raise


def _member(rank: int, work: Callable[[Team], None], size: int, meeting_point: Path, mistake: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting_point.as_uri(), rank=rank, world_size=size)
    try:
        work(Team(rank, size))
    except NapariSamError as error:  # for people: without the traceback that torch would put round it
        mistake.write_bytes(pickle.dumps(error))
        raise
    finally:
        dist.destroy_process_group()
