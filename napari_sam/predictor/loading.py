"""From the name of a model to a `Predictor`: which checkpoint, on which device, in which numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..checkpoints import load_sam
from ..errors import DeviceError
from ..models.placement import is_large, quickest_on_cpu
from .predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..embedding_cache import EmbeddingCache
    from ..geometry import Profile

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_predictor(
    name_or_path: str | Path = "default",
    device: str = "auto",
    precision: str = "auto",
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    profile: str | Path | Profile | None = None,
    cache: EmbeddingCache | None = None,
    notify: Callable[[str], None] | None = None,
    *,
    graphs: bool = False,
) -> Predictor:
    """Load a checkpoint, downloading it first where it is a published one that is not on this machine yet.

    Parameters
    ----------
    name_or_path
        A name that `napari-sam models` lists ("default", "mobile_sam", "sam_vit_b", ...), or a checkpoint, a file or
        a folder.
    device
        "auto" (CUDA, else Apple MPS, else the CPU), "cpu", "cuda" or "mps".
    precision
        "auto", "float32", "bfloat16" or "float16": in which numbers the image encoder computes. "auto" is float16 on
        CUDA; on a CPU bfloat16 for large encoders where it is measured to be quicker, and float32 otherwise.
    progress
        Called with the share of a download that is done, 0 to 1.
    cancelled
        Asked during a download; True ends it with `Cancelled`.
    profile
        The preprocessing that the weights were trained with: "sam", "medsam", "micro_sam", "vit", a TOML file or a
        `Profile`. None takes that of a known checkpoint, and Segment Anything's otherwise.
    cache
        Where `encode` and `refine` look before they compute, and what they keep their results in; None always computes.
    notify
        Called with a sentence for the user where something is done otherwise than asked; None warns.
    graphs
        Decode single objects by captured CUDA graphs, for scripts that ask again and again; elsewhere it changes
        nothing. Nothing else of the process may use the GPU at the same time. Never run on a GPU so far.

    Raises
    ------
    CheckpointError
        The name or profile is unknown, or the file cannot be downloaded, read or recognised.
    DeviceError
        This machine does not have the device, or the device not the precision.
    """
    chosen = resolve_device(device)
    dtype = resolve_precision(precision, chosen)
    checkpoint = load_sam(name_or_path, progress, cancelled, profile, notify)
    if precision == "auto" and chosen.type == "cpu" and is_large(checkpoint.sam):
        dtype = quickest_on_cpu()
    return Predictor(checkpoint, chosen, dtype, cache, notify, graphs=graphs)


def resolve_device(device: str) -> torch.device:
    """Return the torch device that `device` means on this machine."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if available[name])
    if device not in available:
        raise DeviceError(f"unknown device {device!r}: choose one of {', '.join(DEVICES)}")
    if not available[device]:
        raise DeviceError(f"this machine has no usable {device!r} device: choose 'auto' or 'cpu'")
    return torch.device(device)


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype to compute in; "auto" is float16 on CUDA, whose masks are float32's but for some pixels."""
    if precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if precision not in PRECISIONS:
        raise DeviceError(f"unknown precision {precision!r}: choose 'auto', {', '.join(map(repr, PRECISIONS))}")
    if precision == "float16" and device.type == "cpu":
        raise DeviceError("float16 is not for the CPU: choose 'float32' or 'bfloat16'")
    return PRECISIONS[precision]
