"""Prompts for an image encoder without a mask decoder: what looks like the prompts is the object.

Patches under the prompts are the first prototypes of the object; patches that look least like them, or lie under
negative prompts, are those of the background. A few rounds of two-means from these seeds settle both. The similarity of
every patch is then brought to the resolution of the logits by joint bilateral upsampling (Kopf et al., 2007), so that
borders follow the picture, and not the patches.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROUNDS = 4
SHARPNESS = 12.0
"""Logits for a difference of 1 between the similarities to object and background, which lie in -1 to 1."""
TIGHT = 0.35
"""Share of the click's own logit that the tightest candidate asks of its pixels."""
COLOUR = 0.35
"""Difference of colours, in the network's normalised values, at which a patch stops speaking for a pixel."""
STRIDE = 4
"""Input pixels along a side of a logit."""
OUTSIDE = -10.0


class PrototypeSam(nn.Module):
    """An image encoder that answers prompts as a Segment Anything model does, with `encode` and `decode`.

    The embedding is the encoder's, and behind it the picture at the resolution of the logits, folded into the cells.
    """

    def __init__(self, image_encoder: nn.Module, patch_size: int) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.patch_size = patch_size
        self.fold = max(1, round(patch_size / STRIDE))

    def encode(self, pixels: Tensor, between_blocks: object = None) -> Tensor:
        """Encode pixels (B, 3, S, S), normalised, to (B, C + 3 fold ** 2, S / patch, S / patch).

        `between_blocks` is called after every block with the share of the work done in (0, 1]; what it raises ends the
        encoding.
        """
        encoder = self.image_encoder
        dtype = next(encoder.parameters()).dtype
        run = getattr(encoder, "features", encoder)
        features = run(pixels.to(dtype), between_blocks).float()
        size = [side * self.fold for side in features.shape[-2:]]
        guide = F.interpolate(pixels.float(), size=size, mode="area")
        return torch.cat([features, F.pixel_unshuffle(guide, self.fold)], dim=1)

    @property
    def decoder_dtype(self) -> torch.dtype:
        """What the embedding is in: similarities are computed in float32, whatever the encoder computes in."""
        return torch.float32

    def cells(self, features: Tensor) -> Tensor:
        """Return the encoder's own part (B, C, h, w) of an embedding."""
        return features[:, : -3 * self.fold**2]

    def decode(
        self,
        features: Tensor,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        *,
        multimask: bool,
    ) -> tuple[Tensor, Tensor]:
        """Answer the prompts of B objects; as `Sam.decode`, with one logit for every 4 x 4 input pixels.

        The three candidates are the heart of what was clicked on, the whole of it, and everything that looks like it.
        """
        count = next(len(each) for each in (points, boxes, masks) if each is not None)
        own = self.cells(features)
        guide = F.pixel_shuffle(features[:, own.shape[1] :].float(), self.fold)
        cells = centred(own.float())
        answers = []
        for index in range(count):
            one = index if len(features) > 1 else 0
            seeds = Seeds.of(
                cells.shape[-2:],
                self.patch_size,
                _nth(points, index),
                _nth(labels, index),
                _nth(boxes, index),
                _nth(masks, index),
            )
            coarse = contrast(cells[one], seeds)
            fine = upsampled(coarse, guide[one])
            answers.append(self._candidates(fine, seeds, multimask=multimask))
        return torch.stack([logits for logits, _ in answers]), torch.stack([scores for _, scores in answers])

    def _candidates(self, fine: Tensor, seeds: Seeds, *, multimask: bool) -> tuple[Tensor, Tensor]:
        """Return logits (n, S / 4, S / 4) and scores (n,) of one object from its fine logits (h, w)."""
        seed = seeds.at(fine.shape)
        if seeds.inside is not None:
            whole = torch.where(_resized(seeds.inside, fine.shape) > 0.5, fine, fine.clamp(max=OUTSIDE))
        elif bool(seed.any()):
            whole = connected(fine, seed)
        else:  # what does not look like the negative prompts, wherever it lies
            whole = fine
        candidates = [whole]
        if multimask:
            level = max(0.0, TIGHT * float(fine[seed].max())) if bool(seed.any()) else 0.0
            candidates = [connected(fine - level, seed) if level else whole, whole, fine]
        side = seeds.side
        logits = torch.stack([_resized(each, (side, side)) for each in candidates])
        return logits, torch.stack([_clearness(each) for each in logits])


class Seeds:
    """Where one object's prompts lie on the grid of patches: the weights of object and background (h, w)."""

    def __init__(self, positive: Tensor, negative: Tensor, inside: Tensor | None, side: int) -> None:
        self.positive, self.negative, self.inside, self.side = positive, negative, inside, side

    @classmethod
    def of(
        cls,
        grid: tuple[int, int] | torch.Size,
        patch: int,
        points: Tensor | None,
        labels: Tensor | None,
        box: Tensor | None,
        mask: Tensor | None,
    ) -> Seeds:
        """Return the seeds of prompts in input pixels: points (N, 2) as (x, y), box (4,), mask (1, S / 4, S / 4)."""
        height, width = grid
        device = next(each.device for each in (points, box, mask) if each is not None)
        positive, negative = torch.zeros(height, width, device=device), torch.zeros(height, width, device=device)
        inside = None
        if mask is not None:
            share = F.adaptive_avg_pool2d((mask > 0).float(), (height, width))[0]
            # Something smaller than half a patch still has its place.
            positive = positive.maximum((share >= min(0.5, float(share.max()))).float() * (share > 0))
        if box is not None:
            inside = _coverage(box, height, width, patch)
            positive, negative = positive.maximum(_middle(box, height, width, patch) * inside), 1 - inside.ceil()
        if points is not None and labels is not None:
            cells = (points / patch).long()
            columns, rows = cells[:, 0].clamp(0, width - 1), cells[:, 1].clamp(0, height - 1)
            positive[rows[labels == 1], columns[labels == 1]] = 1
            negative[rows[labels == 0], columns[labels == 0]] = 1
            positive[rows[labels == 0], columns[labels == 0]] = 0
        return cls(positive, negative, inside, height * patch // STRIDE)

    def at(self, shape: torch.Size) -> Tensor:
        """Return which fine pixels (h, w) lie in patches of positive prompts."""
        return F.interpolate(self.positive[None, None], size=tuple(shape), mode="nearest")[0, 0] > 0.5


def centred(features: Tensor) -> Tensor:
    """Return features (B, C, h, w) less their mean over the picture, of length 1: what tells the patches apart."""
    return F.normalize(features - features.mean((2, 3), keepdim=True), dim=1)


def contrast(cells: Tensor, seeds: Seeds) -> Tensor:
    """Return logits (h, w): how much more every patch of `cells` (C, h, w) looks like the object than like the rest."""
    flat = cells.flatten(1)
    positive, negative = seeds.positive.flatten(), seeds.negative.flatten()
    # Without a single positive prompt the object is what does not look like the negative ones.
    object_ = _mean(flat, positive) if bool(positive.any()) else -_mean(flat, negative)
    similarity = object_ @ flat
    rest = _mean(flat, negative) if bool(negative.any()) else _mean(flat, (similarity <= similarity.median()).float())
    difference = similarity
    for _ in range(ROUNDS):
        difference = object_ @ flat - rest @ flat
        member = (difference > 0).float()
        allowed = member if seeds.inside is None else member * (seeds.inside.flatten() > 0.5)
        # Prompts keep half of the say, whatever the crowd looks like.
        if bool(positive.any()):
            object_ = F.normalize(_mean(flat, positive) + _mean(flat, allowed.maximum(positive)), dim=0)
        outside = _mean(flat, (1 - member).maximum(negative))
        rest = F.normalize(outside + _mean(flat, negative), dim=0) if bool(negative.any()) else outside
    return (SHARPNESS * difference).view(cells.shape[1:])


def upsampled(coarse: Tensor, guide: Tensor) -> Tensor:
    """Return logits (H, W) at the size of `guide` (3, H, W), each pixel's from patches near it in place and colour.

    Source: joint bilateral upsampling; nine patches, a Gaussian in space and one in colour.
    """
    height, width = guide.shape[-2:]
    colours = F.interpolate(guide[None], size=coarse.shape, mode="area")
    values = _neighbours(coarse[None, None], (height, width))  # (9, H, W)
    colour = _neighbours(colours, (height, width)).view(3, 9, height, width)
    apart = (colour - guide[:, None]).square().mean(0)
    weights = _nearness(coarse.shape, (height, width), guide.device) * torch.exp(-apart / (2 * COLOUR**2))
    return (weights * values).sum(0) / weights.sum(0).clamp(min=1e-9)


def connected(logits: Tensor, seed: Tensor) -> Tensor:
    """Return logits (h, w), lowered where nothing positive joins a pixel to `seed` (h, w)."""
    inside = logits > 0
    reached = seed & inside
    for _ in range(sum(logits.shape)):
        grown = (F.max_pool2d(reached.float()[None, None], 3, 1, 1)[0, 0] > 0) & inside
        if bool((grown == reached).all()):
            break
        reached = grown
    return torch.where(reached | ~inside, logits, logits.clamp(max=OUTSIDE))


def _clearness(logits: Tensor) -> Tensor:
    """Return a score in 0 to 1: how sure the pixels are on both sides; 0 for an empty mask."""
    probability = logits.sigmoid()
    inside = logits > 0
    if not bool(inside.any()) or bool(inside.all()):
        return logits.new_zeros(())
    return (probability[inside].mean() - probability[~inside].mean()).clamp(0, 1)


def _mean(flat: Tensor, weights: Tensor) -> Tensor:
    """Return the mean direction (C,) of columns of `flat` (C, N), zeros where nothing has weight."""
    return F.normalize((flat * weights).sum(1), dim=0)


def _nth(values: Tensor | None, index: int) -> Tensor | None:
    return None if values is None else values[index]


def _coverage(box: Tensor, height: int, width: int, patch: int) -> Tensor:
    """Return the share of every patch (h, w) that a box (4,) in input pixels covers."""
    shares = []
    for low, high, count in ((box[1], box[3], height), (box[0], box[2], width)):
        starts = torch.arange(count, device=box.device) * float(patch)
        shares.append(((starts + patch).clamp(max=float(high)) - starts.clamp(min=float(low))).clamp(0, patch) / patch)
    covered = shares[0][:, None] * shares[1][None]
    # A box within one patch covers little of it.
    return covered / covered.max().clamp(min=1e-6) if float(covered.max()) < 0.5 else covered


def _middle(box: Tensor, height: int, width: int, patch: int) -> Tensor:
    """Return weights (h, w) that are 1 in the middle of a box and fall towards its sides: objects lie there."""
    sides = []
    for low, high, count in ((box[1], box[3], height), (box[0], box[2], width)):
        centres = (torch.arange(count, device=box.device) + 0.5) * patch
        spread = max(float(high - low) / 4, patch / 2)
        sides.append(torch.exp(-(((centres - (low + high) / 2) / spread) ** 2) / 2))
    return sides[0][:, None] * sides[1][None]


def _neighbours(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Return every fine pixel's nine nearest coarse values: (1, C, h, w) to (C * 9, H, W)."""
    padded = F.pad(values, (1, 1, 1, 1), mode="replicate")
    nine = F.unfold(padded, 3).view(1, -1, *values.shape[-2:])
    return F.interpolate(nine, size=size, mode="nearest")[0]


def _nearness(coarse: torch.Size, fine: tuple[int, int], device: torch.device) -> Tensor:
    """Return the weights (9, H, W) of the nine patches round every fine pixel by distance alone."""
    sides = []
    for count, size in zip(coarse, fine, strict=True):
        at = (torch.arange(size, device=device) + 0.5) * count / size
        offset = at - (at.floor() + 0.5)  # from the middle of its own patch, in patches
        sides.append(torch.stack([torch.exp(-((offset - step) ** 2) / 0.5) for step in (-1, 0, 1)]))
    rows, columns = sides
    return (rows[:, None, :, None] * columns[None, :, None, :]).flatten(0, 1)


def _resized(values: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Return (h, w) at another size."""
    if tuple(values.shape) == tuple(size):
        return values
    return F.interpolate(values[None, None], size=tuple(size), mode="bilinear")[0, 0]
