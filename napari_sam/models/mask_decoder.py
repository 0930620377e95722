"""The mask decoder: a two-way transformer between prompt and image tokens, upscaling, one small network per mask.

The image tokens of one image are shared by all its prompts. They enter with batch 1 and stay so until a prompt has
changed them, so that what depends on the image alone is computed once for the whole batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import MLP, LayerNorm2d, MLPBlock

if TYPE_CHECKING:
    from .specs import DecoderSpec

MASKS = 4
"""Outputs of the decoder: one for a clear prompt, then three candidates for an ambiguous one."""


class Attention(nn.Module):
    """Attention between two sets of tokens, in `inner` channels; batch 1 on one side serves the whole other batch."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Answer queries (B or 1, N, C) from keys and values (B or 1, M, C): (B, N, C)."""
        batch = max(len(q), len(k))
        q, k, v = (self._split(x, batch) for x in (self.q_proj(q), self.k_proj(k), self.v_proj(v)))
        out = F.scaled_dot_product_attention(q, k, v)
        projected: Tensor = self.out_proj(out.transpose(1, 2).flatten(2))
        return projected

    def _split(self, x: Tensor, batch: int) -> Tensor:
        heads = x.view(len(x), x.shape[1], self.heads, -1).transpose(1, 2)
        return heads.expand(batch, -1, -1, -1)


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

    def forward(self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor) -> tuple[Tensor, Tensor]:
        """Update prompt tokens (B, N, C) and image tokens (B or 1, M, C); each `pe` is added where it attends."""
        if self.first:  # here the tokens are their own positions, and nothing is added
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + token_pe
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.norm1(tokens)
        placed_image = image + image_pe
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_pe, placed_image, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(placed_image, tokens + token_pe, tokens))
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

    def forward(self, image: Tensor, image_pe: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """Map image tokens (B or 1, M, C) and a prompt (B, N, C) to tokens (B, N, C) and image tokens (B, M, C)."""
        tokens = prompt
        for layer in self.layers:
            tokens, image = layer(tokens, image, prompt, image_pe)
        answer = self.final_attn_token_to_image(tokens + prompt, image + image_pe, image)
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
        height, width = features.shape[-2:]
        features, details = features[:, : self.width], features[:, self.width :]
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        prompt = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
        image = (features + dense).flatten(2).transpose(1, 2)  # (B or 1, h * w, C)
        tokens, image = self.transformer(image, image_pe.flatten(2).transpose(1, 2), prompt)
        kernels = torch.stack([mlp(tokens[:, 1 + k]) for k, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1)
        logits = self._upscaled(image, details) @ kernels.transpose(1, 2)  # (B, h * w * 4 * 4, masks)
        return _as_pictures(logits, height, width), self.iou_prediction_head(tokens[:, 0])

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
