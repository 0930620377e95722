"""What the image encoder wants to see."""

from __future__ import annotations

import torch
from torch import Tensor

MEAN = (123.675, 116.28, 103.53)
DEVIATION = (58.395, 57.12, 57.375)


def normalised(images: Tensor, inside: Tensor) -> Tensor:
    """Return images (B, 3, S, S) under SAM's mean and deviation, zero wherever `inside` (B, 1, S, S) is false."""
    mean, deviation = (torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
    return (images.float() - mean) / deviation * inside
