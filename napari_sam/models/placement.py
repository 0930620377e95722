"""Where a network computes: on its device, in smaller parts where that is short of memory, at last on the CPU."""

from __future__ import annotations

import gc
import time
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import torch

from .layers import RelativeAttention
from .tiny_vit import ConvNorm

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from .prototypes import PrototypeSam
    from .sam import Sam

_T = TypeVar("_T")
SPARING_CHUNK = 64
"""Queries answered at a time where memory is short."""
LARGE = 20_000_000
"""Parameters of an encoder that takes seconds on a CPU; smaller ones are quick in float32, whose masks are exact."""
WORTHWHILE = 1.5
"""How many times as quick bfloat16 has to be: CPUs without instructions for it take six times as long as in float32."""


class Placement:
    """Brings a network to a device, runs what it computes, and retreats where the memory is too small.

    `before_retreat` is called before that, for whoever else holds memory of the device.

    Parameters
    ----------
    network
        An image encoder and what decodes.
    device, dtype
        Where to compute, and the encoder's numbers; the decoder is small and stays in float32, where masks are exact.
    notify
        Called with a sentence for the user on every retreat.
    """

    def __init__(
        self, network: Sam | PrototypeSam, device: torch.device, dtype: torch.dtype, notify: Callable[[str], None]
    ) -> None:
        self._network, self._notify = network, notify
        self.before_retreat: Callable[[], None] = lambda: None
        self._is_frugal = False
        self._retreats = [self._save, self._leave]
        try:
            self._settle(device, dtype)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self._is_frugal = True
            self._retreats.clear()
            self._leave()

    def run(self, work: Callable[[], _T], in_parts: Callable[[], _T]) -> _T:
        """Return what `work` returns, without gradients; where memory is short, what `in_parts` does.

        Both may be begun again: what they read must still be there, and on the device that `device` says then.
        """
        while True:
            device = self.device
            try:
                with torch.inference_mode():
                    return in_parts() if self._is_frugal else work()
            except RuntimeError as error:
                # Between its blocks other work may have run, and moved the network.
                was_moved = self.device != device
                if not was_moved and not (is_out_of_memory(error) and self._retreats):
                    raise
            if not was_moved:  # here, where the error no longer holds what failed
                self.before_retreat()
                self._retreats.pop(0)()
                release_memory()

    def _settle(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        with torch.inference_mode(mode=False):  # some other work may wait between two of its blocks
            # The encoder first, so that no device holds it in a wider precision than it asks for.
            self._network.image_encoder.to(device, dtype)
            self._network.to(device)
            prepare_for_inference(self._network)

    def _save(self) -> None:
        self._is_frugal = True
        for module in self._network.modules():
            if isinstance(module, RelativeAttention):
                module.query_chunk = SPARING_CHUNK
        self._notify("The GPU's memory is nearly full: computing in smaller parts, which takes longer.")

    def _leave(self) -> None:
        """Compute on the CPU from now on, in float32."""
        self._settle(torch.device("cpu"), torch.float32)
        self._notify("The GPU's memory is too small for this model: computing on the CPU, which takes longer.")


def prepare_for_inference(network: nn.Module) -> None:
    """Compute once what follows from the weights alone; undone by loading others, by training, by moving."""
    for module in network.modules():
        if isinstance(module, ConvNorm):
            module.fold()


def is_large(network: Sam | PrototypeSam) -> bool:
    """Whether an image encoder takes so long on a CPU that half precision is worth its price."""
    return sum(parameter.numel() for parameter in network.image_encoder.parameters()) > LARGE


@cache
def quickest_on_cpu() -> torch.dtype:
    """Return bfloat16 if this CPU multiplies matrices much quicker in it, else float32; measured once, in a blink."""
    exact, rough = (_seconds_of_a_product(dtype) for dtype in (torch.float32, torch.bfloat16))
    return torch.bfloat16 if exact > WORTHWHILE * rough else torch.float32


def _seconds_of_a_product(dtype: torch.dtype) -> float:
    a, b = torch.ones(2, 512, 512, dtype=dtype)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device's memory was too small: CUDA has a type for it, its libraries and MPS a sentence."""
    said = str(error).lower()
    return isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in said or "alloc_failed" in said


def release_memory() -> None:
    """Give memory of the GPU back that nothing uses any more."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        gc.collect()
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        gc.collect()
        torch.mps.empty_cache()
