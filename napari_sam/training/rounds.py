"""One training step's prompts: a first click or a box, then corrections, the mask so far fed back."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sam.training.interaction import Clicks, bounding_boxes, first_clicks, jittered_boxes, next_clicks
from napari_sam.training.losses import candidates_loss, mask_losses, whole_iou

if TYPE_CHECKING:
    import numpy as np

    from napari_sam.models.sam import Sam
    from napari_sam.training.dataset import Batch

ROUNDS = ((1, 0.2), (2, 0.2), (3, 0.25), (4, 0.15), (6, 0.2))  # how many rounds, how often
CLEAR_MASK_AT_ONCE = 0.3  # weight of the one mask for clear prompts when it is asked after a single click
LATER = 0.6  # weight of each round after the first
IOU = 5.0  # weight of the predicted IoU
FORGET, BINARY, RESAMPLED = 0.1, 0.1, 0.15  # shares of the rounds in which no mask, a bare yes or no, or one
# blurred as if it came from a larger crop is fed back
COARSER = 0.4
NEAR = 0.4  # least side of an object over that of a crop round it
SURE = 10.0  # logit of a mask that is known, as the predictor makes it from a bool array


@dataclass
class Prompted:
    """The prompts of P objects so far: `points` (P, N, 2), `labels` (P, N), `boxes` (P, 4), `fed` (P, 1, h, w)."""

    points: Tensor | None = None
    labels: Tensor | None = None
    boxes: Tensor | None = None
    fed: Tensor | None = None

    def add(self, clicks: Clicks) -> None:
        """Give one more click for each object."""
        points, labels = clicks
        self.points = points if self.points is None else torch.cat([self.points, points], dim=1)
        self.labels = labels if self.labels is None else torch.cat([self.labels, labels], dim=1)

    def of(self, rows: Tensor) -> Prompted:
        """Return the prompts of some of the objects, by their indices (n,)."""
        return Prompted(*(None if value is None else value[rows] for value in vars(self).values()))


@dataclass(frozen=True)
class Pace:
    """What changes as training goes on, from 0 to 1: the best candidate's share, the sharpness of the mask loss."""

    best_share: float
    sharpness: float


@dataclass(frozen=True)
class Answer:
    """n masks at the size of the targets (P, n, H, W), as logits (P, n, h, w), and their predicted IoU (P, n).

    n is 4 where the prompt is ambiguous, else 1: the mask for clear prompts alone.
    """

    masks: Tensor
    low: Tensor
    iou: Tensor


def ask(sam: Sam, features: Tensor, prompted: Prompted, size: int, ambiguous: bool) -> Answer:
    """Decode prompts; masks are enlarged to (size, size)."""
    count = 4 if ambiguous else 1
    grid = (features.shape[-2], features.shape[-1])
    sparse, dense = sam.prompt_encoder(grid, prompted.points, prompted.labels, prompted.boxes, prompted.fed)
    low, iou = sam.mask_decoder(features, sam.prompt_encoder.dense_pe(grid), sparse, dense)
    low, iou = low[:, :count].float(), iou[:, :count].float()
    masks = F.interpolate(low, size=(size, size), mode="bilinear", align_corners=False)
    return Answer(masks, low, iou)


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return where the networks compute: in bfloat16 on a GPU, in float32 elsewhere."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


@dataclass(frozen=True)
class Course:
    """How a step's prompts go: how many rounds, whether the first is a box, and what objects then look like.

    Where the predictor cuts crops round what is known of an object, it `comes_near`: boxes and corrections are then
    about large objects alone. A first click, which tells no size, is about all.
    """

    rounds: int
    box: bool
    comes_near: bool = False


def random_course(rng: np.random.Generator, young: bool, boxes: float, comes_near: bool = False) -> Course:
    """Choose one, with a box in a share of the cases; a `young` network cannot correct yet: two rounds at most."""
    rounds = int(rng.choice([n for n, _ in ROUNDS], p=[p for _, p in ROUNDS]))
    return Course(min(rounds, 2) if young else rounds, bool(rng.random() < boxes), comes_near)


def train_rounds(
    sam: Sam, features: Tensor, batch: Batch, pace: Pace, course: Course, generator: torch.Generator
) -> dict[str, Tensor]:
    """Go through the rounds of one batch and add up gradients, in the decoder and in `features` (B, C, h, w), a leaf.

    Each round is differentiated at once, so that memory does not grow with their number.

    Parameters
    ----------
    generator
        Of the features' device: what the simulated person does.

    Returns
    -------
    Mean losses and IoU of the first and the last round, for the log.
    """
    if course.box and course.comes_near:
        batch = batch.of(_shown_near(batch.masks))
    known = batch.inside[batch.owner, 0, ::2, ::2]
    prompted = _begin(generator, batch.masks, course.box)
    seen: dict[str, Tensor] = {}
    for number in range(course.rounds):
        if number == 1 and not course.box and course.comes_near:
            near = _shown_near(batch.masks)
            batch, prompted, known = batch.of(near), prompted.of(near), known[near]
        ambiguous = number == 0 and not course.box
        with mixed_precision(features.device):
            answer = ask(sam, features[batch.owner], prompted, batch.masks.shape[-1], ambiguous)
        loss, chosen = _round_loss(answer, batch, known, ambiguous, pace)
        (loss * (1.0 if number == 0 else LATER)).backward()  # type: ignore[no-untyped-call]
        rows = torch.arange(len(chosen), device=chosen.device)
        masks = answer.masks.detach()[rows, chosen]
        reached = whole_iou(masks[:, None], batch.masks, known, batch.outside).mean()
        seen |= {"last": reached} if number else {"loss": loss.detach(), ("box" if course.box else "click"): reached}
        if number + 1 < course.rounds:
            prompted.add(next_clicks(generator, batch.masks, (masks > 0) & known))
            prompted.fed = _fed_back(generator, answer.low.detach()[rows, chosen][:, None])
    return seen


def _shown_near(masks: Tensor) -> Tensor:
    """Return the indices of those of P masks (P, H, W) that are about as large as such crops show them, or all."""
    boxes = bounding_boxes(masks)
    sides = (boxes[:, 2:] + 1 - boxes[:, :2]).amax(dim=1)
    near = sides >= NEAR * masks.shape[-1]
    return torch.nonzero(near if near.any() else torch.ones_like(near))[:, 0]


def _begin(generator: torch.Generator, truth: Tensor, box: bool) -> Prompted:
    prompted = Prompted()
    if box:
        prompted.boxes = jittered_boxes(generator, truth)
    else:
        prompted.add(first_clicks(generator, truth))
    return prompted


def _round_loss(answer: Answer, batch: Batch, known: Tensor, ambiguous: bool, pace: Pace) -> tuple[Tensor, Tensor]:
    """Return the loss, and for each object the mask that a person would get: the best by predicted IoU."""
    masks = mask_losses(answer.masks, batch.masks, known, pace.sharpness)
    iou_loss = F.mse_loss(answer.iou, whole_iou(answer.masks.detach(), batch.masks, known, batch.outside))
    if not ambiguous:
        return masks.mean() + IOU * iou_loss, torch.zeros_like(batch.owner)
    loss = candidates_loss(masks[:, 1:], pace.best_share).mean() + CLEAR_MASK_AT_ONCE * masks[:, 0].mean()
    return loss + IOU * iou_loss, 1 + answer.iou.detach()[:, 1:].argmax(dim=1)


def _fed_back(generator: torch.Generator, low: Tensor) -> Tensor | None:
    """Return the mask so far (P, 1, h, w) as it may come back: as it is, not at all, known, or blurred."""
    chance = float(torch.rand((), generator=generator, device=low.device))
    if chance < FORGET:
        return None
    if chance < FORGET + BINARY:
        return torch.where(low > 0, SURE, -SURE)
    if chance < FORGET + BINARY + RESAMPLED:
        size = low.shape[-2:]
        coarse = F.interpolate(low, scale_factor=COARSER, mode="bilinear", align_corners=False)
        return F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    return low
