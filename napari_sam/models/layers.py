"""Blocks that several networks share: channel norm, MLPs, windows, attention with decomposed relative positions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

BAND_SIZE = 1 << 20
"""Numbers that a CPU computes at a time; measured from 2**18 to 2**24, best from 2**19 to 2**21."""

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


class StochasticDepth(nn.Module):
    """In training, leaves a branch out for a share of the samples, and makes up for it in the others."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    @staticmethod
    def shares(last: float, depth: int) -> list[float]:
        """Return the share of each of `depth` blocks, rising from none to that of the last."""
        return [last * index / max(1, depth - 1) for index in range(depth)]

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, ...) to the same."""
        if not self.is_active:
            return x
        kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) >= self.share
        return x * kept / (1 - self.share)

    @property
    def is_active(self) -> bool:
        """Whether anything is left out at all."""
        return self.training and self.share > 0

    def instead(self, x: Tensor, joined: Tensor) -> Tensor:
        """Do it to a branch that was added to its input `x` already."""
        return x + self(joined - x) if self.is_active else joined


def checkpointed(step: nn.Module, x: Tensor) -> Tensor:
    """Run a block in training without keeping what its backward pass needs: that is computed again there."""

    def contexts() -> tuple[nullcontext[None], _KeptStatistics]:
        return nullcontext(), _KeptStatistics(step)

    out: Tensor = checkpoint(step, x, use_reentrant=False, context_fn=contexts)
    return out


class _KeptStatistics:
    """Within it, the batch norms of a block leave their running statistics alone: they have seen this batch before."""

    def __init__(self, block: nn.Module) -> None:
        self._norms = [each for each in block.modules() if isinstance(each, nn.BatchNorm2d)]
        self._before: list[tuple[float | None, Tensor | None]] = []

    def __enter__(self) -> None:
        self._before = [
            (norm.momentum, None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone())
            for norm in self._norms
        ]
        for norm in self._norms:
            norm.momentum = 0.0

    def __exit__(self, *_error: object) -> None:
        for norm, (momentum, count) in zip(self._norms, self._before, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and count is not None:
                norm.num_batches_tracked.copy_(count)


def neck(width: int, out: int) -> nn.Sequential:
    """Return the published neck, which brings an encoder's (B, width, h, w) to the decoder's (B, out, h, w)."""
    return nn.Sequential(
        nn.Conv2d(width, out, kernel_size=1, bias=False),
        LayerNorm2d(out),
        nn.Conv2d(out, out, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(out),
    )


def in_bands(work: Callable[[Tensor], Tensor], x: Tensor, widest: int, step: int = 1) -> Tensor:
    """Apply `work` to whole rows of tokens (B, H, W, C), a multiple of `step` rows at a time, and join the results.

    For what computes each band of rows for itself, in up to `widest` channels. A CPU takes about `BAND_SIZE` numbers at
    a time, which stay in its cache, and whose memory is used again instead of being fetched from the system each time;
    a GPU takes all.
    """
    height = x.shape[1]
    rows = band_rows(x.shape[0] * x.shape[2] * widest, x.device, step)
    if rows >= height:
        return work(x)
    return torch.cat([work(x[:, top : top + rows]) for top in range(0, height, rows)], dim=1)


def band_rows(row_size: int, device: torch.device, step: int = 1) -> int:
    """Return how many rows of `row_size` numbers to compute at a time: a multiple of `step`."""
    return max(1, BAND_SIZE // (row_size * step)) * step if device.type == "cpu" else sys.maxsize


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
    """Undo `split_windows`: (B * windows, window, window, C) back to (B, height, width, C), what was added cut off.

    Windows may be less high than wide: those of a band whose further rows nobody computed.
    """
    _, high, wide, channels = windows.shape
    rows, columns = -(-height // high), -(-width // wide)
    x = windows.view(-1, rows, columns, high, wide, channels).transpose(2, 3)
    x = x.reshape(-1, rows * high, columns * wide, channels)
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
    time. On the CPU it is one head's as well. 1024 tokens are the quickest there (measured: 256 to 4096): their bias,
    16 MB, is small enough for the cache, and from 768 on the kernel takes 256 queries at a time.
    """

    query_chunk = 1024

    def __init__(self, width: int, heads: int, size: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * size - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * size - 1, width // heads))

    def forward(self, x: Tensor) -> Tensor:
        """Let all tokens (B, H, W, C) see each other; the result has the same shape."""
        batch, height, width, channels = x.shape
        weights, biases = self.qkv.weight.chunk(3), self.qkv.bias.chunk(3)
        # One at a time and with each head's together: allocations that large come fresh from the system every time.
        q, k, v = (self._by_head(F.linear(x, *each)) for each in zip(weights, biases, strict=True))
        table_h, table_w = relative_table(self.rel_pos_h, height), relative_table(self.rel_pos_w, width)
        at_once = 1 if x.device.type == "cpu" else self.heads
        rows = max(1, self.query_chunk // width)
        buffer = _bias_buffer(q, batch * at_once * min(rows, height) * width * height * width)
        out = []
        for head in range(0, self.heads, at_once):
            some = slice(head, head + at_once)
            for top in range(0, height, rows):
                queries = q[:, some, top * width : (top + rows) * width]
                bias = decomposed_bias(queries, table_h[top : top + rows], table_w, buffer)
                out.append(F.scaled_dot_product_attention(queries, k[:, some], v[:, some], attn_mask=bias))
        attended = torch.cat(out, dim=2).view(batch, -1, at_once, height * width, channels // self.heads)
        return self._projected(attended.flatten(1, 2), height, width)

    def in_windows(self, x: Tensor, window: int) -> Tensor:
        """Let the tokens of each square of `window` tokens see each other; (B, H, W, C) to the same.

        Where the grid ends within a window, the window goes on with tokens of zeros, which take part as keys and
        values: so it was when the published weights were trained. As such they are the bias of the layer, and as
        queries nobody asks for them, so nothing is computed for them.
        """
        _, height, width, channels = x.shape
        qkv = split_windows(F.linear(x, self.qkv.weight), window) + self.qkv.bias
        q, k, v = qkv.reshape(len(qkv), window * window, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        rows = min(height, window)  # of a band that is less high than a window, the rows that there are
        q = q[:, :, : rows * window]
        table_h, table_w = relative_table(self.rel_pos_h, window), relative_table(self.rel_pos_w, window)
        bias = decomposed_bias(q, table_h[:rows], table_w, _bias_buffer(q, q[..., 0].numel() * window * window))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        joined = join_windows(out.transpose(1, 2).reshape(-1, rows, window, channels), height, width)
        projected: Tensor = self.proj(joined)
        return projected

    def _by_head(self, x: Tensor) -> Tensor:
        """Bring (B, H, W, C) to (B, heads, H * W, C / heads), contiguous."""
        return x.view(len(x), -1, self.heads, x.shape[-1] // self.heads).transpose(1, 2).contiguous()

    def _projected(self, attended: Tensor, height: int, width: int) -> Tensor:
        projected: Tensor = self.proj(attended.transpose(1, 2).reshape(len(attended), height, width, -1))
        return projected


def _bias_buffer(like: Tensor, size: int) -> Tensor | None:
    """Return memory for biases one after the other, None where a gradient will want all of them."""
    return None if torch.is_grad_enabled() else like.new_empty(size)


def decomposed_bias(queries: Tensor, table_h: Tensor, table_w: Tensor, buffer: Tensor | None = None) -> Tensor:
    """Return the bias (B, heads, rows * W, H * W) of whole rows of queries.

    Parameters
    ----------
    queries
        (B, heads, rows * W, C), not scaled.
    table_h
        (rows, H, C): the part of the row table that belongs to these queries.
    table_w
        (W, W, C): the column table.
    buffer
        Flat memory to write the bias into; None allocates it.
    """
    batch, heads, count, channels = queries.shape
    rows, width = table_h.shape[0], table_w.shape[0]
    grid = queries.reshape(batch * heads, rows, width, channels)
    # In memory as the keys are, so that their sum is too.
    by_row = torch.einsum("brwc,rkc->brwk", grid, table_h).contiguous()
    by_column = torch.einsum("brwc,wkc->brwk", grid, table_w).contiguous()
    shape = (*by_row.shape, width)  # (B * heads, rows, W, H, W)
    out = None if buffer is None else buffer[: by_row.numel() * width].view(shape)
    bias = torch.add(by_row[..., :, None], by_column[..., None, :], out=out)
    return bias.view(batch, heads, count, -1)
