"""The plain ViT: one token for every patch and one for the class, learned positions, pre-norm blocks.

Attribute names are those of timm and of the masked autoencoders, so that their files load as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import StochasticDepth

if TYPE_CHECKING:
    from .layers import BetweenBlocks
    from .specs import PlainViTSpec


class Patches(nn.Module):
    """A linear layer over each patch's pixels, as a convolution whose stride is its kernel."""

    def __init__(self, patch_size: int, channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map pixels (B, channels, H, W) to (B, C, H / patch, W / patch)."""
        out: Tensor = self.proj(x)
        return out


class Attention(nn.Module):
    """Self-attention over all tokens."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, C) to (B, N, C)."""
        batch, count, channels = x.shape
        q, k, v = self.qkv(x).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)  # (B, heads, N, C / heads)
        projected: Tensor = self.proj(out.transpose(1, 2).reshape(batch, count, channels))
        return projected


class MLP(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to (..., width)."""
        out: Tensor = self.fc2(self.drop(F.gelu(self.fc1(x))))
        return out


class Gain(nn.Module):
    """One learned factor for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        """Scale (..., width)."""
        return x * self.gamma


class PlainBlock(nn.Module):
    """Attention and MLP, each behind a norm and beside a residual connection."""

    def __init__(self, spec: PlainViTSpec, stochastic_depth: float) -> None:
        super().__init__()
        width = spec.width
        self.norm1 = nn.LayerNorm(width, eps=spec.norm_eps)
        self.attn = Attention(width, spec.heads, spec.dropout)
        self.ls1 = Gain(width) if spec.layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(width, eps=spec.norm_eps)
        self.mlp = MLP(width, int(width * spec.mlp_ratio), spec.dropout)
        self.ls2 = Gain(width) if spec.layer_scale else nn.Identity()
        self.drop, self.skip = nn.Dropout(spec.dropout), StochasticDepth(stochastic_depth)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, C) to (B, N, C)."""
        x = x + self.skip(self.drop(self.ls1(self.attn(self.norm1(x)))))
        out: Tensor = x + self.skip(self.drop(self.ls2(self.mlp(self.norm2(x)))))
        return out


class Pooler(nn.Module):
    """A linear layer and tanh behind the class token, as Hugging Face's files keep it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C) to (B, C)."""
        out: Tensor = torch.tanh(self.dense(x))
        return out


class PlainViT(nn.Module):
    """Pixels to tokens, to an image embedding, to class scores."""

    def __init__(self, spec: PlainViTSpec) -> None:
        super().__init__()
        self.spec = spec
        width, grid = spec.width, spec.image_size // spec.patch_size
        self.patch_embed = Patches(spec.patch_size, spec.channels, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        if spec.positions == "places":
            self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid * grid, width))
        else:
            self.row_embed, self.column_embed = (nn.Parameter(torch.zeros(1, grid, width)) for _ in range(2))
        self.drop = nn.Dropout(spec.dropout)
        shares = StochasticDepth.shares(spec.stochastic_depth, spec.depth)
        self.blocks = nn.ModuleList(PlainBlock(spec, share) for share in shares)
        if spec.pool == "class":
            self.norm = nn.LayerNorm(width, eps=spec.norm_eps)
        else:
            self.fc_norm = nn.LayerNorm(width, eps=spec.norm_eps)
        self.pooler = Pooler(width) if spec.pooler else None
        self.head = nn.Linear(width, spec.classes) if spec.classes else None
        self.apply(_initialise)
        for name, table in self.named_parameters(recurse=False):
            nn.init.trunc_normal_(table, std=1e-6 if name == "cls_token" else 0.02)

    def forward(self, pixels: Tensor, between_blocks: BetweenBlocks | None = None) -> Tensor:
        """Return the tokens of normalised pixels, the class token first.

        Parameters
        ----------
        pixels
            (B, channels, H, W), sides multiples of the patch size.
        between_blocks
            Called after every block with the share of the work done; what it raises ends the encoding.

        Returns
        -------
        Tensor
            (B, 1 + H / patch * W / patch, C), behind the last norm.
        """
        patches = self.patch_embed(pixels)
        height, width = patches.shape[-2:]
        x = patches.flatten(2).transpose(1, 2)
        if self.spec.positions == "places":
            table = self._places(height, width)
            first, x = self.cls_token + table[:, :1], x + table[:, 1:]
        else:
            first, x = self.cls_token, x + self._axes(height, width)
        x = torch.cat([first.expand(len(x), -1, -1), x], dim=1)
        x = self.drop(x)
        for index, block in enumerate(self.blocks, start=1):
            x = block(x)
            if between_blocks is not None:
                between_blocks(index / len(self.blocks))
        out: Tensor = self.norm(x) if self.spec.pool == "class" else x
        return out

    def features(self, pixels: Tensor, between_blocks: BetweenBlocks | None = None) -> Tensor:
        """Return the image embedding (B, C, H / patch, W / patch): the tokens of the patches, in their places."""
        tokens: Tensor = self(pixels, between_blocks)[:, 1:]
        height, width = (side // self.spec.patch_size for side in pixels.shape[-2:])
        return tokens.transpose(1, 2).reshape(len(tokens), -1, height, width)

    def pooled(self, pixels: Tensor) -> Tensor:
        """Return what stands for the whole picture (B, C): behind the pooler, if there is one."""
        seen = self._seen_by_head(self(pixels))
        out: Tensor = seen if self.pooler is None else self.pooler(seen)
        return out

    def classify(self, pixels: Tensor) -> Tensor:
        """Return class scores (B, classes), not normalised; `ValueError` without a classification head."""
        if self.head is None:
            raise ValueError("this ViT has no classification head: its spec says classes=0")
        scores: Tensor = self.head(self._seen_by_head(self(pixels)))
        return scores

    def _seen_by_head(self, tokens: Tensor) -> Tensor:
        """Return what the head looks at (B, C)."""
        seen: Tensor = tokens[:, 0] if self.spec.pool == "class" else self.fc_norm(tokens[:, 1:].mean(1))
        return seen

    def _places(self, height: int, width: int) -> Tensor:
        """Return the position table (1, 1 + H * W, C), interpolated when the grid is not the trained one."""
        table = self.pos_embed
        grid = round((table.shape[1] - 1) ** 0.5)
        if (height, width) == (grid, grid):
            return table
        places = table[:, 1:].float().reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
        resized = F.interpolate(places, size=(height, width), mode="bicubic").flatten(2).transpose(1, 2)
        return torch.cat([table[:, :1], resized.to(table.dtype)], dim=1)

    def _axes(self, height: int, width: int) -> Tensor:
        """Return the sum of row and column positions (1, H * W, C), interpolated likewise."""
        rows, columns = _resized_axis(self.row_embed, height), _resized_axis(self.column_embed, width)
        return (rows[:, :, None] + columns[:, None]).flatten(1, 2)


def _resized_axis(table: Tensor, size: int) -> Tensor:
    if table.shape[1] == size:
        return table
    return F.interpolate(table.float().transpose(1, 2), size=size, mode="linear").transpose(1, 2).to(table.dtype)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
