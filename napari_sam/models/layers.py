"""Blocks that several networks share: channel norm, MLPs, windows, attention with decomposed relative positions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BetweenBlocks = Callable[[float], None]
"""Called with the share of the work that is done, in (0, 1]; what it raises ends the encoding."""


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of (B, C, H, W)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise every pixel's channels."""
        return self.channels_last(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def channels_last(self, x: Tensor) -> Tensor:
        """Do the same for (..., C), which the fused kernel takes as it is."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class MLPBlock(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, width: int, hidden: int, activation: type[nn.Module] = nn.GELU) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to (..., width)."""
        out: Tensor = self.lin2(self.act(self.lin1(x)))
        return out


class MLP(nn.Module):
    """A head: `depth` linear layers with ReLU between them."""

    def __init__(self, width: int, hidden: int, out: int, depth: int) -> None:
        super().__init__()
        sizes = [width, *[hidden] * (depth - 1), out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to (..., out)."""
        for index, layer in enumerate(self.layers):
            x = layer(x) if index == 0 else layer(F.relu(x))
        return x


def neck(width: int, out: int) -> nn.Sequential:
    """Return the published neck, which brings an encoder's (B, width, h, w) to the decoder's (B, out, h, w)."""
    return nn.Sequential(
        nn.Conv2d(width, out, kernel_size=1, bias=False),
        LayerNorm2d(out),
        nn.Conv2d(out, out, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(out),
    )


def split_windows(x: Tensor, window: int) -> Tensor:
    """Cut (B, H, W, C) into (B * windows, window, window, C), padded with zeros on the right and below."""
    batch, height, width, channels = x.shape
    below, right = -height % window, -width % window
    if below or right:
        x = F.pad(x, (0, 0, 0, right, 0, below))
    rows, columns = (height + below) // window, (width + right) // window
    x = x.view(batch, rows, window, columns, window, channels)
    return x.transpose(2, 3).reshape(-1, window, window, channels)


def join_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """Undo `split_windows`: (B * windows, window, window, C) back to (B, height, width, C), what was added cut off."""
    side, channels = windows.shape[1], windows.shape[-1]
    rows, columns = -(-height // side), -(-width // side)
    x = windows.view(-1, rows, columns, side, side, channels).transpose(2, 3)
    x = x.reshape(-1, rows * side, columns * side, channels)
    return x[:, :height, :width]


def relative_table(rel_pos: Tensor, size: int) -> Tensor:
    """Return the position vectors (size, size, C) between every query and key along one axis of `size` tokens.

    `rel_pos` is (2 * trained size - 1, C), one row per query's place less the key's; a table of another size
    is interpolated linearly, as published.
    """
    length = 2 * size - 1
    if rel_pos.shape[0] != length:
        resized = F.interpolate(rel_pos.float().T[None], size=length, mode="linear")
        rel_pos = resized[0].T.to(rel_pos.dtype)
    places = torch.arange(size, device=rel_pos.device)
    return rel_pos[places[:, None] - places[None, :] + size - 1]


class RelativeAttention(nn.Module):
    """Self-attention over a grid of tokens, with relative positions decomposed into rows and columns.

    The bias of a query towards a key is `q . rel_pos_h[dy] + q . rel_pos_w[dx]`. It depends on the query, so there is
    no table to look up; at 64 x 64 tokens all of it is larger than the rest of the encoder together. Queries are
    therefore answered in groups of whole rows, about `query_chunk` tokens each, and only one group's bias exists at a
    time.
    """

    query_chunk = 256

    def __init__(self, width: int, heads: int, size: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * size - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * size - 1, width // heads))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, H, W, C)."""
        batch, height, width, channels = x.shape
        qkv = self.qkv(x).view(batch, height * width, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, H * W, channels of a head)
        table_h, table_w = relative_table(self.rel_pos_h, height), relative_table(self.rel_pos_w, width)
        rows = max(1, self.query_chunk // width)
        parts = []
        for top in range(0, height, rows):
            queries = q[:, :, top * width : (top + rows) * width]
            bias = decomposed_bias(queries, table_h[top : top + rows], table_w)
            parts.append(F.scaled_dot_product_attention(queries, k, v, attn_mask=bias))
        out = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
        projected: Tensor = self.proj(out.transpose(1, 2).reshape(batch, height, width, channels))
        return projected


def decomposed_bias(queries: Tensor, table_h: Tensor, table_w: Tensor) -> Tensor:
    """Return the bias (B, heads, rows * W, H * W) of whole rows of queries.

    Parameters
    ----------
    queries
        (B, heads, rows * W, C), not scaled.
    table_h
        (rows, H, C): the part of the row table that belongs to these queries.
    table_w
        (W, W, C): the column table.
    """
    batch, heads, count, channels = queries.shape
    rows, width = table_h.shape[0], table_w.shape[0]
    grid = queries.reshape(batch * heads, rows, width, channels)
    # In memory as the keys are, so that their sum is too.
    by_row = torch.einsum("brwc,rkc->brwk", grid, table_h).contiguous()
    by_column = torch.einsum("brwc,wkc->brwk", grid, table_w).contiguous()
    bias = by_row[..., :, None] + by_column[..., None, :]  # (B * heads, rows, W, H, W)
    return bias.view(batch, heads, count, -1)
