"""The dense task that wakes up the image encoder: every pixel says whether, where and how large its object is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor, nn

OUTPUTS = 5  # foreground, edge, offset down, offset right, size
EDGE_WEIGHT = 3.0


class DenseHead(nn.Sequential):
    """Features (B, width or more, h, w) to (B, 5, 8 h, 8 w), half the input's size; thrown away after training.

    Details behind the first `width` channels are not looked at.
    """

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(width, 64, kernel_size=2, stride=2),
            nn.GroupNorm(8, 64),
            nn.GELU(),
            nn.ConvTranspose2d(64, 32, kernel_size=2, stride=2),
            nn.GELU(),
            nn.ConvTranspose2d(32, OUTPUTS, kernel_size=2, stride=2),
        )
        self.width = width

    def forward(self, features: Tensor) -> Tensor:
        """Guess foreground, edges, offsets and sizes."""
        out: Tensor = super().forward(features[:, : self.width])  # type: ignore[no-untyped-call]
        return out


def dense_target(
    labels: npt.NDArray[np.int32], inside: npt.NDArray[np.bool_], complete: bool
) -> npt.NDArray[np.float32]:
    """Return what the head should say.

    Parameters
    ----------
    labels
        (H, W) ids.
    inside
        (H, W), false on padding.
    complete
        Whether pixels without an id are known to be background.

    Returns
    -------
    (6, H, W): foreground, edge between objects or to the background, offset (down, right) to the object's centre over
    the square root of its area, that root's logarithm over 4, and whether foreground and edge are known there.
    """
    areas = np.bincount(labels.ravel()).astype(np.float32)
    root = np.sqrt(np.maximum(areas, 1))
    target = np.zeros((6, *labels.shape), np.float32)
    foreground = labels > 0
    target[0], target[1] = foreground, _edges(labels)
    for axis, coordinate in enumerate(np.indices(labels.shape, dtype=np.float32)):
        centre = np.bincount(labels.ravel(), coordinate.ravel().astype(np.float64)) / np.maximum(areas, 1)
        offset = (centre.astype(np.float32)[labels] - coordinate) / root[labels]
        target[2 + axis] = offset * foreground
    target[4] = (np.log(root) / 4).astype(np.float32)[labels] * foreground
    target[5] = inside & (foreground | complete)
    return target


def _edges(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    edges = np.zeros(labels.shape, bool)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edges[1:] |= down
    edges[:-1] |= down
    edges[:, 1:] |= right
    edges[:, :-1] |= right
    return edges


def dense_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of foreground and edges where they are known, and L1 of offset and size within objects."""
    known, foreground = target[:, 5], target[:, 0]
    entropy = F.binary_cross_entropy_with_logits(predicted[:, :2], target[:, :2], reduction="none")
    weight = 1 + (EDGE_WEIGHT - 1) * target[:, 1]
    entropy_loss = (entropy.sum(1) * weight * known).sum() / (weight * known).sum().clamp(min=1)
    difference = (predicted[:, 2:5] - target[:, 2:5]).abs().sum(1)
    return entropy_loss + (difference * foreground).sum() / foreground.sum().clamp(min=1)
