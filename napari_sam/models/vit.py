"""SAM's ViT image encoder: absolute and decomposed relative positions, windowed and global blocks, a neck."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import BetweenBlocks, MLPBlock, RelativeAttention, checkpointed, in_bands, neck

if TYPE_CHECKING:
    from .specs import ViTSpec


class PatchEmbedding(nn.Module):
    """One token for every patch of the input."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map pixels (B, 3, S, S) to tokens (B, S / patch, S / patch, C)."""
        tokens: Tensor = self.proj(x)
        return tokens.permute(0, 2, 3, 1)


class Block(nn.Module):
    """A transformer block over a grid of tokens; `window` 0 sees the whole grid, which was trained at `grid` tokens.

    Each row of windows, and what follows the attention, stands for itself and is computed in bands.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float, window: int, grid: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = RelativeAttention(width, heads, window or grid)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLPBlock(width, int(width * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, H, W, C)."""
        widest = self.mlp.lin1.out_features
        if self.window:
            return in_bands(self._windowed, x, widest, self.window)
        return in_bands(self._fed_forward, x + self.attn(self.norm1(x)), widest)

    def _windowed(self, band: Tensor) -> Tensor:
        return self._fed_forward(band + self.attn.in_windows(self.norm1(band), self.window))

    def _fed_forward(self, band: Tensor) -> Tensor:
        out: Tensor = band + self.mlp(self.norm2(band))
        return out


class ImageEncoderViT(nn.Module):
    """Pixels to an image embedding, with a plain ViT.

    With `checkpointing`, training keeps no activations within blocks and computes them again.
    """

    checkpointing = False

    def __init__(self, spec: ViTSpec) -> None:
        super().__init__()
        grid = spec.image_size // spec.patch_size
        self.stride = spec.patch_size
        self.patch_embed = PatchEmbedding(spec.patch_size, spec.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, spec.width))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        windows = [0 if index in spec.global_blocks else spec.window for index in range(spec.depth)]
        self.blocks = nn.ModuleList(Block(spec.width, spec.heads, spec.mlp_ratio, window, grid) for window in windows)
        self.neck = neck(spec.width, spec.neck)

    def forward(self, pixels: Tensor, between_blocks: BetweenBlocks | None = None) -> Tensor:
        """Encode normalised, padded pixels.

        Parameters
        ----------
        pixels
            (B, 3, S, S), S a multiple of the patch size.
        between_blocks
            Called after every block with the share of the work done.

        Returns
        -------
        Tensor
            (B, C, S / patch, S / patch).
        """
        x = self.patch_embed(pixels)
        x = x + self._positions(x.shape[1], x.shape[2])
        for index, block in enumerate(self.blocks, start=1):
            x = checkpointed(block, x) if self.checkpointing and self.training else block(x)
            if between_blocks is not None:
                between_blocks(index / len(self.blocks))
        embedding: Tensor = self.neck(x.permute(0, 3, 1, 2))
        return embedding

    def _positions(self, height: int, width: int) -> Tensor:
        """Return the position table (1, H, W, C), interpolated when the grid is not the trained one."""
        table = self.pos_embed
        if table.shape[1:3] == (height, width):
            return table
        resized = F.interpolate(table.float().permute(0, 3, 1, 2), size=(height, width), mode="bicubic")
        return resized.permute(0, 2, 3, 1).to(table.dtype)
