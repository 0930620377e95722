"""How well a model does on pictures that are held aside, at several scales and at the one that it would choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage as ndi
from torch import Tensor

from napari_sam.training.crops import Box, Picture, cut_out, region_around, scaled_extent
from napari_sam.training.pixels import normalised
from napari_sam.training.rounds import Prompted, ask

if TYPE_CHECKING:
    from napari_sam.models.sam import Sam
    from napari_sam.training.dataset import Trainset

RATIOS = (1.5, 2.5, 5.0, 10.0)  # crop over object
BOX_RATIO = 1.5
CLICKS = 5


@dataclass(frozen=True)
class View:
    """One crop of a picture: features (1, C, h, w), the object in it (H, W) at half the size, its part outside."""

    features: Tensor
    truth: npt.NDArray[np.bool_]
    known: npt.NDArray[np.bool_]
    outside: float
    box: tuple[float, float, float, float]


@torch.inference_mode()
def evaluate(sam: Sam, trainset: Trainset, objects: int = 2, most: int = 80) -> dict[str, float]:
    """Return mean IoU over held-aside pictures: clicks 1, 3, 5 and a box at a near scale, click 1 at the others.

    "chosen" is the first click at the scale of the highest predicted IoU; "hindsight" at the best one.
    """
    rows = []
    for entry in trainset.held_aside[:: max(1, len(trainset.held_aside) // most)]:
        picture = trainset.picture(entry)
        if picture is None:
            continue
        step = max(1, len(picture.boxes) // objects)
        rows += [_score(sam, picture, index) for index in range(0, len(picture.boxes), step)[:objects]]
    names = rows[0].keys() if rows else ()
    return {f"aside {name}": round(float(np.mean([row[name] for row in rows])), 4) for name in names}


def _score(sam: Sam, picture: Picture, index: int) -> dict[str, float]:
    views = [_view(sam, picture, index, ratio) for ratio in RATIOS]
    first = [_clicked(sam, view, 1) for view in views]
    reached = [values[0] for values, _ in first]
    more, _ = _clicked(sam, views[1], CLICKS)
    scores = {"click 1": more[0], "click 3": more[2], "click 5": more[4], "box": _boxed(sam, views[0])}
    scores |= {f"ratio {ratio:g}": value for ratio, value in zip(RATIOS, reached, strict=True)}
    return scores | {"chosen": reached[int(np.argmax([p for _, p in first]))], "hindsight": max(reached)}


def _view(sam: Sam, picture: Picture, index: int, ratio: float) -> View:
    layer, number, row0, col0, row1, col1 = (int(v) for v in picture.boxes[index])
    whole = picture.layers[layer, row0:row1, col0:col1] == number
    (row, col), _ = thickest_point(whole)
    side = max(24, int(max(row1 - row0, col1 - col0) * ratio))
    size = sam.spec.image_size
    box = region_around(np.array([row0 + row + 0.5, col0 + col + 0.5]), side, picture.image.shape[:2])
    extent = scaled_extent(box, size)
    image, layers = cut_out(picture, box, extent)
    truth, known = np.zeros((size, size), bool), np.zeros((size, size), bool)
    truth[: extent[0], : extent[1]] = layers[layer] == number
    known[: extent[0], : extent[1]] = True
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[: extent[0], : extent[1]] = image
    images, inside = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy()), torch.from_numpy(known[None, None])
    features = sam.encode(normalised(images, inside).to(next(sam.parameters()).device))
    scale = extent[0] * extent[1] / ((box[2] - box[0]) * (box[3] - box[1]))
    outside = max(0.0, float(picture.areas[index] * scale - truth.sum())) / 4
    outside = outside if outside > 0.03 * truth.sum() / 4 else 0.0
    return View(features, truth[::2, ::2], known[::2, ::2], outside, _box_in(box, extent, (row0, col0, row1, col1)))


def _box_in(region: Box, extent: tuple[int, int], box: Box) -> tuple[float, float, float, float]:
    """Return a half-open box of the picture as (x0, y0, x1, y1), inclusive, in pixels of the input."""
    scale = (extent[0] / (region[2] - region[0]), extent[1] / (region[3] - region[1]))
    row0, row1 = ((box[k] - region[0]) * scale[0] for k in (0, 2))
    col0, col1 = ((box[k] - region[1]) * scale[1] for k in (1, 3))
    return col0, row0, col1 - 1, row1 - 1


def _clicked(sam: Sam, view: View, clicks: int) -> tuple[list[float], float]:
    """Click as score.py's person does; returns the IoU after each click, and the predicted IoU after the first."""
    prompted, device = Prompted(), view.features.device
    mask, reached, predicted = np.zeros_like(view.truth), [], 0.0
    for number in range(clicks):
        (inner, depth), (outer, other) = thickest_point(view.truth & ~mask), thickest_point(mask & ~view.truth)
        (row, col), label = (inner, 1) if depth >= other else (outer, 0)
        point = torch.tensor([[[col * 2 + 0.5, row * 2 + 0.5]]], device=device)
        prompted.add((point, torch.tensor([[float(label)]], device=device)))
        answer = ask(sam, view.features, prompted, len(view.truth), ambiguous=number == 0)
        chosen = 0 if number else 1 + int(answer.iou[0, 1:].argmax())
        predicted = predicted if number else float(answer.iou[0, chosen])
        mask = (answer.masks[0, chosen] > 0).cpu().numpy() & view.known
        prompted.fed = answer.low[:, chosen : chosen + 1]
        reached.append(_iou(mask, view))
    return reached, predicted


def _boxed(sam: Sam, view: View) -> float:
    boxes = torch.tensor([view.box], device=view.features.device)
    answer = ask(sam, view.features, Prompted(boxes=boxes), len(view.truth), ambiguous=False)
    return _iou((answer.masks[0, 0] > 0).cpu().numpy() & view.known, view)


def thickest_point(region: npt.NDArray[np.bool_]) -> tuple[tuple[int, int], float]:
    """Return the (row, column) of a region (H, W) that is farthest from its border, and how far; (0, 0), 0 if empty."""
    rows, cols = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    if not len(rows):
        return (0, 0), 0.0
    window = region[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    depth = ndi.distance_transform_edt(np.pad(window, 1))[1:-1, 1:-1]
    row, col = np.unravel_index(int(depth.argmax()), depth.shape)
    return (int(row) + int(rows[0]), int(col) + int(cols[0])), float(depth[row, col])


def _iou(mask: npt.NDArray[np.bool_], view: View) -> float:
    either = float((mask | view.truth).sum()) + view.outside
    return float((mask & view.truth).sum()) / max(either, 1.0)
