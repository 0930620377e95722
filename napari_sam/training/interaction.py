"""A simulated person: where the first prompt lies, and where the next click corrects a mask; on the masks' device."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage as ndi
from torch import Tensor

Clicks = tuple[Tensor, Tensor]
STRIDE = 2  # masks here have half the input's size
CHECK_EVERY = 8  # erosions between two looks at whether anything is left, which makes a GPU wait


def depths(regions: Tensor) -> Tensor:
    """Return how far each pixel of P regions (P, H, W) is from the outside, in pixels (P, H, W); 0 outside.

    What lies beyond the picture is outside. A GPU counts erosions instead, which it is quicker at.
    """
    if regions.is_cuda:
        return erosions(regions)
    exact = [ndi.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1] for region in regions.numpy()]
    return torch.from_numpy(np.stack(exact).astype(np.float32))


def erosions(regions: Tensor) -> Tensor:
    """Return how many erosions each pixel of P regions (P, H, W) survives, int64: about its distance to the outside.

    A square and a cross take turns, whose distance is an octagon's; what lies beyond the picture is outside.
    """
    alive = regions[:, None].to(torch.float16 if regions.is_cuda else torch.float32)
    depth = torch.zeros_like(alive, dtype=torch.int64)
    for turn in range(max(regions.shape[1:])):
        if turn % CHECK_EVERY == 0 and not alive.any():
            break
        depth += alive > 0
        outside = F.pad(1 - alive, (1, 1, 1, 1), value=1.0)
        if turn % 2:
            outside = F.max_pool2d(outside, 3, stride=1)
        else:
            across, down = outside[:, :, 1:-1], outside[:, :, :, 1:-1]
            outside = torch.maximum(F.max_pool2d(across, (1, 3), stride=1), F.max_pool2d(down, (3, 1), stride=1))
        alive = 1 - outside
    return depth[:, 0]


def first_clicks(generator: torch.Generator, masks: Tensor, thickest: float = 0.6) -> Clicks:
    """Return one click in each of P masks (P, H, W): points (P, 1, 2) as (x, y) in input pixels, and labels (P, 1)."""
    places = _places(generator, masks, depths(masks), thickest)
    return _clicks(generator, places, masks.shape[-1], torch.ones(len(masks), device=masks.device))


def next_clicks(generator: torch.Generator, masks: Tensor, predicted: Tensor, thickest: float = 0.75) -> Clicks:
    """Return one correcting click for each of P predictions (P, H, W), as `first_clicks` does.

    It lies where the wrong region is thickest or, in a share of the cases, anywhere in what is wrong. A prediction
    without error gets one more click inside the object.
    """
    missed, spilled = masks & ~predicted, predicted & ~masks
    wrong = missed | spilled
    perfect = ~wrong.flatten(1).any(dim=1)
    wrong[perfect] = masks[perfect]
    depth = torch.maximum(depths(missed), depths(spilled))
    places = _places(generator, wrong, depth, thickest)
    labels = masks.flatten(1).gather(1, places[:, None])[:, 0].float()
    return _clicks(generator, places, masks.shape[-1], labels)


def _places(generator: torch.Generator, regions: Tensor, depth: Tensor, thickest: float) -> Tensor:
    """Choose a pixel of each region (P, H, W), by its index in H x W: a deepest one in a share of cases, else any."""
    chance = torch.rand(regions.shape, generator=generator, device=regions.device)
    deepest = torch.rand(len(regions), 1, 1, generator=generator, device=regions.device) < thickest
    rank = torch.where(deepest, depth + chance, chance)
    return rank.masked_fill(~regions, -1).flatten(1).argmax(dim=1)


def _clicks(generator: torch.Generator, places: Tensor, width: int, labels: Tensor) -> Clicks:
    cells = torch.stack([places % width, places // width], dim=-1)[:, None].float()
    jitter = torch.rand(cells.shape, generator=generator, device=cells.device) - 0.5  # which pixel of a cell
    return (cells + 0.5) * STRIDE - 0.5 + jitter, labels[:, None]


def bounding_boxes(masks: Tensor) -> Tensor:
    """Return the boxes (P, 4) as (x0, y0, x1, y1), inclusive, of P masks (P, H, W) that are not empty."""
    spans = []
    for lines in (masks.any(dim=1), masks.any(dim=2)):  # columns, rows
        place = torch.arange(lines.shape[1], device=masks.device)
        spans.append((torch.where(lines, place, lines.shape[1]).amin(1), torch.where(lines, place, -1).amax(1)))
    (x0, x1), (y0, y1) = spans
    return torch.stack([x0, y0, x1, y1], dim=1)


def jittered_boxes(generator: torch.Generator, masks: Tensor, jitter: float = 0.05) -> Tensor:
    """Return the boxes (P, 4) of P masks (P, H, W) in input pixels, corners moved by a share of the sides.

    About half of the boxes of a batch are exact. Corners are pixel centres that lie inside.
    """
    boxes = bounding_boxes(masks) * STRIDE + torch.tensor([0, 0, STRIDE - 1, STRIDE - 1], device=masks.device)
    boxes = boxes.float()
    sides = (boxes[:, 2:] - boxes[:, :2] + 1).repeat(1, 2)
    noise = torch.randn(boxes.shape, generator=generator, device=masks.device) * jitter
    moved = torch.rand(len(boxes), 1, generator=generator, device=masks.device) < 0.5
    return (boxes + noise.clamp(-2 * jitter, 2 * jitter) * moved * sides).clamp(0, masks.shape[-1] * STRIDE - 1)
