"""Losses of masks and of predicted IoU. Everything is per prompt and per candidate; means are taken by the caller."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FAR_BACKGROUND = 20.0  # areas of an object beyond which more background does not dilute its cross entropy


def mask_losses(logits: Tensor, target: Tensor, known: Tensor, sharpness: float) -> Tensor:
    """Return cross entropy plus dice loss (P, n) of logits (P, n, H, W) against masks (P, H, W).

    Parameters
    ----------
    known
        (P, H, W), false on padding, which does not count.
    sharpness
        0: mask and background weigh the same in the cross entropy, however small the mask is, so that a network that
        knows nothing starts to answer. 1: every pixel weighs the same, so that the border comes to lie where it should.
    """
    target, weight = target.float()[:, None], known.float()[:, None]
    inner = (target * weight).sum((2, 3), keepdim=True)
    outer = ((1 - target) * weight).sum((2, 3), keepdim=True)
    per_background = torch.lerp((inner / outer.clamp(min=1)).clamp(max=1.0), torch.ones_like(inner), sharpness)
    balance = weight * (target + (1 - target) * per_background)
    entropy = F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
    most = (1 + FAR_BACKGROUND) * inner[..., 0, 0]
    entropy_loss = (entropy * balance).sum((2, 3)) / torch.minimum(balance.sum((2, 3)), most).clamp(min=1)
    chance = torch.sigmoid(logits) * weight
    overlap = 2 * (chance * target).sum((2, 3)) + 1
    dice = 1 - overlap / (chance.sum((2, 3)) + inner[..., 0, 0] + 1)
    return entropy_loss + dice


def whole_iou(logits: Tensor, target: Tensor, known: Tensor, outside: Tensor) -> Tensor:
    """Return the IoU (P, n) of masks from logits (P, n, H, W) with whole objects.

    `target` (P, H, W) is what can be seen of them, and `outside` (P,) how many pixels cannot: a perfect outline of half
    an object scores a half, which is how the predicted IoU comes to tell the right scale from one that is too near.
    """
    mask = (logits > 0) & known[:, None]
    target = target[:, None]
    both = (mask & target).sum((2, 3)).float()
    either = (mask | target).sum((2, 3)).float() + outside[:, None]
    return both / either.clamp(min=1)


def candidates_loss(losses: Tensor, best_share: float) -> Tensor:
    """Return (P,) from the losses (P, 3) of three candidates: their mean, or the best as the share goes to 1."""
    best = losses.min(dim=1).values
    return best_share * best + (1 - best_share) * losses.mean(dim=1)
