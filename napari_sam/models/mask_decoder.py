"""The mask decoder: a two-way transformer between prompt and image tokens, upscaling, one small network per mask.

The image tokens of one image are shared by all its prompts. They enter with batch 1 and stay so until a prompt has
changed them, so that what depends on the image alone is computed once for the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import MLP, LayerNorm2d, MLPBlock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .specs import DecoderSpec

MASKS = 4
"""Outputs of the decoder: one for a clear prompt, then three candidates for an ambiguous one."""


class Attention(nn.Module):
    """Attention between two sets of tokens, in `inner` channels; batch 1 on one side serves the whole other batch.

    Where one side has a few tokens (an object's prompt) and the other thousands (the image), the layers of the many are
    applied to the few: `(W x) . y = x . (W^T y)`. With no more tokens than a head has channels that is less work.
    """

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Answer queries (B or 1, N, C) from keys and values (B or 1, M, C): (B, N, C)."""
        few = self.q_proj.out_features // self.heads
        if q.shape[1] <= few < k.shape[1]:
            return self._from_many(q, k, v)
        if k.shape[1] <= few < q.shape[1]:
            return self._from_few(q, k, v)
        return self.of_projected(q, self.k_proj(k), self.v_proj(v))

    def of_projected(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Do the same with keys and values that went through their layers already, (B or 1, M, inner)."""
        batch = max(len(q), len(k))
        q, k, v = (self._split(x).expand(batch, -1, -1, -1) for x in (self.q_proj(q), k, v))
        return self._projected(F.scaled_dot_product_attention(q, k, v))

    def _from_many(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Let few queries look at many keys; the bias of the keys' layer changes no share of them."""
        queries = self._split(self.q_proj(q))  # (B, heads, N, inner / heads)
        folded = (queries * queries.shape[-1] ** -0.5) @ self._by_head(self.k_proj.weight)
        shares = (folded.flatten(1, 2) @ k.transpose(1, 2)).softmax(dim=-1)  # (B, heads * N, M)
        seen = shares @ v
        seen = seen.view(len(seen), *folded.shape[1:])  # (B, heads, N, C)
        answers = seen @ self._by_head(self.v_proj.weight).transpose(1, 2)
        return self._projected(answers + self.v_proj.bias.view(self.heads, 1, -1))

    def _from_few(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Let many queries look at few keys."""
        keys, values = self._split(self.k_proj(k)), self._split(self.v_proj(v))  # (B, heads, N, inner / heads)
        keys = keys * keys.shape[-1] ** -0.5
        folded = keys @ self._by_head(self.q_proj.weight)  # (B, heads, N, C)
        offsets = keys @ self.q_proj.bias.view(self.heads, -1, 1)
        scores = folded.flatten(1, 2) @ q.transpose(1, 2)
        scores = scores.view(len(scores), *keys.shape[1:3], -1) + offsets  # (B, heads, N, M)
        answers = values @ self._by_head(self.out_proj.weight.T)
        shares = scores.softmax(dim=2).flatten(1, 2).transpose(1, 2)  # (B, M, heads * N)
        out: Tensor = shares @ answers.flatten(1, 2) + self.out_proj.bias
        return out

    def _by_head(self, weight: Tensor) -> Tensor:
        """Cut a weight (inner, C) into those of each head, (heads, inner / heads, C)."""
        return weight.reshape(self.heads, -1, weight.shape[1])

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def _projected(self, answers: Tensor) -> Tensor:
        projected: Tensor = self.out_proj(answers.transpose(1, 2).flatten(2))
        return projected


@dataclass(frozen=True, eq=False)
class ImageSide:
    """What the decoder needs of an image and what follows from it before any prompt is there.

    `tokens` are (B or 1, h * w, C), the dense embedding of the prompts among them, `placed` are they with `positions`
    (1, h * w, C); `details` are (B or 1, 0 or 3 C, h, w); `keys` and `values` (B or 1, h * w, C / 2) are those that the
    first block looks at.
    """

    grid: tuple[int, int]
    tokens: Tensor
    placed: Tensor
    positions: Tensor
    details: Tensor
    keys: Tensor
    values: Tensor


def joined_sides(sides: Sequence[ImageSide]) -> ImageSide:
    """Return several images' sides, of batch 1 each, as one of their batch."""
    if len(sides) == 1:
        return sides[0]
    first = sides[0]
    return ImageSide(
        first.grid,
        torch.cat([side.tokens for side in sides]),
        torch.cat([side.placed for side in sides]),
        first.positions,
        torch.cat([side.details for side in sides]),
        torch.cat([side.keys for side in sides]),
        torch.cat([side.values for side in sides]),
    )


class TwoWayBlock(nn.Module):
    """Prompt tokens attend to themselves and to the image; the image attends to them."""

    def __init__(self, width: int, heads: int, mlp: int, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(width, heads, width)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = Attention(width, heads, width // 2)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLPBlock(width, mlp, nn.ReLU)
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = Attention(width, heads, width // 2)

    def look(self, image: Tensor, placed: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and values of image tokens (B or 1, M, C), with and without their positions."""
        return self.cross_attn_token_to_image.k_proj(placed), self.cross_attn_token_to_image.v_proj(image)

    def forward(
        self,
        tokens: Tensor,
        image: Tensor,
        token_pe: Tensor,
        placed: Tensor,
        seen: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Update prompt tokens (B, N, C) and image tokens (B or 1, M, C).

        `token_pe` is added to the tokens where they attend; `placed` is the image with its positions, and `seen` what
        `look` has returned for it, if it has.
        """
        if self.first:  # here the tokens are their own positions, and nothing is added
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            own = tokens + token_pe
            tokens = tokens + self.self_attn(own, own, tokens)
        tokens = self.norm1(tokens)
        asking, to_image = tokens + token_pe, self.cross_attn_token_to_image
        answer = to_image(asking, placed, image) if seen is None else to_image.of_projected(asking, *seen)
        tokens = self.norm2(tokens + answer)
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(placed, tokens + token_pe, tokens))
        return tokens, image


class TwoWayTransformer(nn.Module):
    """Two-way blocks and a last look of the prompt tokens at the image."""

    def __init__(self, spec: DecoderSpec) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayBlock(spec.width, spec.heads, spec.mlp, first=index == 0) for index in range(spec.depth)
        )
        self.final_attn_token_to_image = Attention(spec.width, spec.heads, spec.width // 2)
        self.norm_final_attn = nn.LayerNorm(spec.width)

    def forward(self, side: ImageSide, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """Map the image's side and a prompt (B, N, C) to tokens (B, N, C) and image tokens (B, M, C)."""
        tokens, image, placed = prompt, side.tokens, side.placed
        for index, layer in enumerate(self.layers):
            tokens, image = layer(tokens, image, prompt, placed, None if index else (side.keys, side.values))
            placed = image + side.positions
        answer = self.final_attn_token_to_image(tokens + prompt, placed, image)
        return self.norm_final_attn(tokens + answer), image


class MaskDecoder(nn.Module):
    """Image embedding and prompts to mask logits and predicted IoU."""

    def __init__(self, spec: DecoderSpec) -> None:
        super().__init__()
        self.width = width = spec.width
        self.transformer = TwoWayTransformer(spec)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(MASKS, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, kernel_size=2, stride=2),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(MLP(width, width, width // 8, 3) for _ in range(MASKS))
        self.iou_prediction_head = MLP(width, spec.iou_hidden, MASKS, spec.iou_depth)

    def forward(self, features: Tensor, image_pe: Tensor, sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        """Decode all four masks of B objects.

        Parameters
        ----------
        features
            (B or 1, C, h, w), the image embedding; or (B or 1, 4 C, h, w) with the encoder's details behind it.
        image_pe
            (1, C, h, w), the positions of its cells.
        sparse, dense
            What the prompt encoder returns: (B, N, C), and (B or 1, C, h, w).

        Returns
        -------
        tuple
            Logits (B, 4, 4h, 4w) and predicted IoU (B, 4): first the mask for a clear prompt, then three candidates.
        """
        return self.answer(self.image_side(features, image_pe, dense), sparse)

    def image_side(self, features: Tensor, image_pe: Tensor, dense: Tensor) -> ImageSide:
        """Compute what does not depend on points and boxes; arguments are those of `forward`."""
        height, width = features.shape[-2:]
        features, details = features[:, : self.width], features[:, self.width :]
        tokens, positions = _tokens(features + dense), _tokens(image_pe)
        first, placed = self.transformer.layers[0], tokens + positions
        assert isinstance(first, TwoWayBlock)
        return ImageSide((height, width), tokens, placed, positions, details, *first.look(tokens, placed))

    def answer(self, side: ImageSide, sparse: Tensor) -> tuple[Tensor, Tensor]:
        """Decode all four masks of the B objects whose prompts are `sparse` (B, N, C), as `forward` does."""
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        prompt = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
        tokens, image = self.transformer(side, prompt)
        kernels = torch.stack([mlp(tokens[:, 1 + k]) for k, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1)
        logits = self._upscaled(image, side.details) @ kernels.transpose(1, 2)  # (B, h * w * 4 * 4, masks)
        return _as_pictures(logits, *side.grid), self.iou_prediction_head(tokens[:, 0])

    def _upscaled(self, image: Tensor, details: Tensor) -> Tensor:
        """Upscale image tokens (B, h * w, C) four times, as (B, h * w * 4 * 4, C / 8) in the order of `_as_pictures`.

        A transposed convolution of kernel and stride 2 is a linear layer to four sub-pixels. They stay behind their
        cell, so that it is the few masks that are brought into the order of a picture, not the many channels. The
        encoder's `details` (B or 1, 0 or 3 C, h, w) have that order already.
        """
        first, norm, _, second, _ = self.output_upscaling
        assert isinstance(norm, LayerNorm2d)
        x = _with_details(_sub_pixels(image, first), details[:, : self.width])
        x = F.gelu(norm.channels_last(x))
        return F.gelu(_with_details(_sub_pixels(x, second), details[:, self.width :]))


def _tokens(x: Tensor) -> Tensor:
    """Bring (B, C, h, w) to (B, h * w, C), contiguous: layers read it several times."""
    return x.flatten(2).transpose(1, 2).contiguous()


def _sub_pixels(x: Tensor, layer: nn.Module) -> Tensor:
    """Apply a transposed convolution of kernel and stride 2 to tokens: (B, N, inputs) to (B, N * 4, outputs)."""
    assert isinstance(layer, nn.ConvTranspose2d)
    assert layer.bias is not None
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (2 * 2 * outputs, inputs)
    return F.linear(x, weight, layer.bias.repeat(4)).view(len(x), -1, layer.out_channels)


def _with_details(x: Tensor, details: Tensor) -> Tensor:
    """Add what the encoder folded into the cells (B or 1, k C, h, w), if anything, to sub-pixels (B, N, C)."""
    if not details.shape[1]:
        return x
    return x + details.flatten(2).transpose(1, 2).reshape(len(details), -1, x.shape[-1])


def _as_pictures(logits: Tensor, height: int, width: int) -> Tensor:
    """Bring (B, h * w * 4 * 4, masks), two levels of sub-pixels behind each cell, to (B, masks, 4h, 4w)."""
    batch, _, masks = logits.shape
    cells = logits.view(batch, height, width, 2, 2, 2, 2, masks)  # row, column, then row and column within, twice
    return cells.permute(0, 7, 1, 3, 5, 2, 4, 6).reshape(batch, masks, 4 * height, 4 * width)
