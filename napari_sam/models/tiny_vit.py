"""TinyViT, a classifier and MobileSAM's image encoder: a convolutional stem and stage, three of windowed attention.

Between modules the features are (B, C, H, W) in channels-last memory, so that the attention's (B, H, W, C) is a view.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import (
    BetweenBlocks,
    StochasticDepth,
    band_rows,
    checkpointed,
    in_bands,
    join_windows,
    neck,
    split_windows,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .specs import TinyViTSpec


class ConvNorm(nn.Module):
    """A convolution without bias and its batch norm.

    In evaluation the norm is folded into the convolution: on every call, or once by `fold`, for a network whose weights
    will not change. What was folded is forgotten with the weights that it came from: when others are loaded, when the
    network is trained, when it goes to another device or precision.
    """

    _kept: tuple[Tensor, Tensor] | None = None

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        nn.init.constant_(self.bn.weight, gain)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        if self.training:
            out: Tensor = self.bn(self.c(x))
            return out
        weight, bias = self._kept or self._folded()
        return F.conv2d(x, weight, bias, self.c.stride, self.c.padding, groups=self.c.groups)

    def fold(self) -> None:
        """Fold once for all calls that follow; inference only."""
        with torch.no_grad():
            weight, bias = self._folded()
            self._kept = weight.contiguous(memory_format=torch.channels_last), bias

    def train(self, mode: bool = True) -> ConvNorm:
        """Set the mode; in training nothing that was folded stays."""
        if mode:
            self._kept = None
        return super().train(mode)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self._kept = None
        super()._load_from_state_dict(*arguments)

    def _apply(self, *arguments: Any, **options: Any) -> ConvNorm:
        self._kept = None
        moved: ConvNorm = super()._apply(*arguments, **options)  # type: ignore[no-untyped-call]
        return moved

    def _folded(self) -> tuple[Tensor, Tensor]:
        norm, kernel = self.bn, self.c.weight
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.float() * torch.rsqrt(norm.running_var.float() + norm.eps)
        bias = norm.bias.float() - norm.running_mean.float() * scale
        return (kernel.float() * scale[:, None, None, None]).to(kernel.dtype), bias.to(kernel.dtype)


def gelu(x: Tensor) -> Tensor:
    """Return the GELU of (B, C, H, W), channels last: as (B, H, W, C), which a CPU takes three times as quickly."""
    return F.gelu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Convolutions(nn.Module):
    """Convolutions of which one sees neighbours, in bands of rows as `in_bands` computes what has none.

    In training they see everything at once: batch norms want to.

    Parameters
    ----------
    widest
        How many numbers there are for each pixel of the input at most.
    stride
        Rows of the input that become one; above and below these, the convolutions see no more than as many again.
    """

    def __init__(self, widest: int, stride: int = 1) -> None:
        super().__init__()
        self._widest, self._stride = widest, stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H / stride, W / stride)."""
        stride, height = self._stride, -(-x.shape[2] // self._stride)
        rows = band_rows(len(x) * stride * x.shape[3] * self._widest, x.device)
        if self.training or rows >= height:
            return self.finish(self.mix(x), x)
        bands = []
        for top in range(0, height, rows):
            above = max(0, top - 1)  # an output row more on each side, for the neighbours
            mixed = self.mix(x[:, :, above * stride : (top + rows + 1) * stride])[:, :, top - above :][:, :, :rows]
            bands.append(self.finish(mixed, x[:, :, top * stride : (top + rows) * stride]))
        return torch.cat(bands, dim=2)

    def mix(self, x: Tensor) -> Tensor:
        """Do what lets neighbours see each other to the whole of `x`, or to a band of it and one row beyond."""
        raise NotImplementedError

    def finish(self, mixed: Tensor, x: Tensor) -> Tensor:
        """Do to every pixel what comes after; `x` is what went in, without what was beyond."""
        raise NotImplementedError


class Stem(Convolutions):
    """Two strided convolutions: pixels to features at a quarter of the size."""

    def __init__(self, width: int) -> None:
        super().__init__(widest=width // 8, stride=4)
        self.seq = nn.Sequential(ConvNorm(3, width // 2, 3, 2), nn.GELU(), ConvNorm(width // 2, width, 3, 2))

    def mix(self, x: Tensor) -> Tensor:
        """Map (B, 3, S, S) to (B, C, S / 4, S / 4)."""
        out: Tensor = self.seq[2](gelu(self.seq[0](x)))
        return out

    def finish(self, mixed: Tensor, x: Tensor) -> Tensor:
        """Nothing comes after."""
        return mixed


class MBConv(Convolutions):
    """An inverted bottleneck with a depthwise convolution; the activation follows the residual sum."""

    def __init__(self, width: int, ratio: float, stochastic_depth: float = 0.0) -> None:
        hidden = int(width * ratio)
        super().__init__(widest=hidden)
        self.conv1 = ConvNorm(width, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, width, gain=0.0)  # an untrained block passes its input on
        self.skip = StochasticDepth(stochastic_depth)

    def mix(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, hidden, H, W)."""
        out: Tensor = self.conv2(gelu(self.conv1(x)))
        return out

    def finish(self, mixed: Tensor, x: Tensor) -> Tensor:
        """Map (B, hidden, H, W) to (B, C, H, W), and add it to `x`."""
        return gelu(x + self.skip(self.conv3(gelu(mixed))))


class PatchMerging(Convolutions):
    """Between two stages: change the width, and with stride 2 halve the grid."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__(widest=out, stride=stride)
        self.conv1 = ConvNorm(width, out)
        self.conv2 = ConvNorm(out, out, 3, stride, groups=out)
        self.conv3 = ConvNorm(out, out)

    def mix(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to (B, out, H / stride, W / stride)."""
        out: Tensor = self.conv2(gelu(self.conv1(x)))
        return out

    def finish(self, mixed: Tensor, x: Tensor) -> Tensor:
        """Map (B, out, H / stride, W / stride) to the same."""
        out: Tensor = self.conv3(gelu(mixed))
        return out


def offset_index(window: int, device: torch.device | None = None) -> Tensor:
    """Return (window ** 2, window ** 2) int64: a pair's entry |dy| * window + |dx| in the bias table."""
    place = torch.arange(window, device=device)
    distance = (place[:, None] - place[None, :]).abs()
    index = distance[:, None, :, None] * window + distance[None, :, None, :]
    return index.reshape(window * window, window * window)


class WindowAttention(nn.Module):
    """Self-attention within a window, with one learned bias per head and distance."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))

    def bias(self, like: Tensor) -> Tensor:
        """Return what is added to a query's score of a key, (1, heads, N, N) for N tokens; precision and place alike.

        To be asked for again when the weights may have changed.
        """
        return self.attention_biases[None, :, offset_index(self.window, like.device)].to(like.dtype)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Let the tokens (B, H, W, C) of each window see each other; the result has the same shape.

        Where the grid ends within a window, the window goes on with tokens of zeros, which are normed and seen: so it
        was when the published weights were trained.
        """
        _, height, width, channels = x.shape
        windows = split_windows(x, self.window).flatten(1, 2)
        qkv = self.qkv(self.norm(windows)).view(*windows.shape[:2], self.heads, 3, -1)  # the three within each head
        q, k, v = qkv.permute(3, 0, 2, 1, 4).unbind(0)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2)
        joined = join_windows(out.reshape(-1, self.window, self.window, channels), height, width)
        projected: Tensor = self.proj(joined)
        return projected


class NormedMLP(nn.Module):
    """Layer norm and two linear layers."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C)."""
        out: Tensor = self.fc2(F.gelu(self.fc1(self.norm(x))))
        return out


class TinyViTBlock(nn.Module):
    """Windowed attention, a depthwise convolution that joins the windows, an MLP."""

    def __init__(self, width: int, heads: int, window: int, mlp_ratio: float, stochastic_depth: float = 0.0) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(width, heads, window)
        self.local_conv = ConvNorm(width, width, 3, groups=width)
        self.mlp = NormedMLP(width, int(width * mlp_ratio))
        self.skip = StochasticDepth(stochastic_depth)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        tokens = x.permute(0, 2, 3, 1)
        bias = self.attn.bias(tokens)
        # A row of windows, and every token of the MLP, stands for itself.
        attended = in_bands(lambda band: band + self.attn(band, bias), tokens, self.attn.qkv.out_features, self.window)
        tokens = self.skip.instead(tokens, attended)
        mixed = self.local_conv(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        fed = in_bands(lambda band: band + self.mlp(band), mixed, self.mlp.fc1.out_features)
        return self.skip.instead(mixed, fed).permute(0, 3, 1, 2)


class Stage(nn.Module):
    """Blocks of one width and, but for the last stage, the merging that leads to the next."""

    downsample: PatchMerging | None

    def __init__(self, blocks: list[nn.Module], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def steps(self) -> list[nn.Module]:
        """Return what to run, in order."""
        return [*self.blocks, *([] if self.downsample is None else [self.downsample])]


class Details(nn.Module):
    """Fine features for the mask decoder's two steps of upscaling, folded into the cells of the embedding.

    The mask then follows what the first stages saw, not only what a cell of 16 px remembers of it; as in SAM 2.
    """

    def __init__(self, widths: Sequence[int], neck: int) -> None:
        super().__init__()
        self.quarter = nn.Conv2d(widths[0], neck // 8, 1)
        self.eighth = nn.Conv2d(widths[1], neck // 4, 1)
        for parameter in self.parameters():  # untrained, they add nothing: a model may grow them later
            nn.init.zeros_(parameter)

    def forward(self, quarter: Tensor, eighth: Tensor) -> Tensor:
        """Fold features at strides 4 and 8 into (B, neck + 2 neck, h, w), the sub-pixels of a cell side by side.

        The order is the decoder's: sub-pixels row by row, those of stride 4 within those of stride 8, channels last.
        """
        coarse, fine = self.eighth(eighth), self.quarter(quarter)
        batch, _, height, width = coarse.shape
        height, width = height // 2, width // 2
        coarse = coarse.view(batch, -1, height, 2, width, 2).permute(0, 3, 5, 1, 2, 4)
        fine = fine.view(batch, -1, height, 2, 2, width, 2, 2).permute(0, 3, 6, 4, 7, 1, 2, 5)
        return torch.cat([part.reshape(batch, -1, height, width) for part in (coarse, fine)], dim=1)


class TinyViT(nn.Module):
    """Pixels to an image embedding, or to class scores.

    With `checkpointing`, training keeps no activations within blocks and computes them again.
    """

    checkpointing = False

    def __init__(self, spec: TinyViTSpec) -> None:
        super().__init__()
        self.stride = 4
        for stride in spec.strides:
            self.stride *= stride
        self.patch_embed = Stem(spec.widths[0])
        self.layers = nn.ModuleList(_stage(spec, index) for index in range(len(spec.widths)))
        if spec.classes:  # of no use in MobileSAM, but part of its file
            self.norm_head = nn.LayerNorm(spec.widths[-1])
            self.head = nn.Linear(spec.widths[-1], spec.classes)
        self.neck = neck(spec.widths[-1], spec.neck) if spec.neck else nn.Identity()
        self.details = Details(spec.widths[:2], spec.neck) if spec.details else None
        self.apply(_initialise)

    def forward(self, pixels: Tensor, between_blocks: BetweenBlocks | None = None) -> Tensor:
        """Encode normalised, padded pixels.

        Parameters
        ----------
        pixels
            (B, 3, S, S), S a multiple of the stride.
        between_blocks
            Called after every block and merging with the share of the work done.

        Returns
        -------
        Tensor
            (B, C, S / stride, S / stride); with details (B, 4 C, ...), the last 3 C being those of `Details`.
        """
        steps = [step for stage in self.layers if isinstance(stage, Stage) for step in stage.steps()]
        x = self.patch_embed(pixels.contiguous(memory_format=torch.channels_last))
        before_merging = []
        for index, step in enumerate(steps, start=1):
            if isinstance(step, PatchMerging):
                before_merging.append(x)
            x = checkpointed(step, x) if self.checkpointing and self.training else step(x)
            if between_blocks is not None:
                between_blocks(index / len(steps))
        embedding: Tensor = self.neck(x)
        if self.details is None:
            return embedding
        return torch.cat([embedding, self.details(*before_merging[:2])], dim=1)

    def classify(self, pixels: Tensor) -> Tensor:
        """Return class scores (B, classes), not normalised; `ValueError` unless this is a classifier."""
        if not isinstance(self.neck, nn.Identity) or not hasattr(self, "head"):
            raise ValueError("this TinyViT is no classifier: its spec says a neck, or classes=0")
        scores: Tensor = self.head(self.norm_head(self(pixels).mean((2, 3))))
        return scores


def _stage(spec: TinyViTSpec, index: int) -> Stage:
    """Return the stage `index`: bottlenecks in the first one, attention in the others."""
    width, depth, heads, window = (each[index] for each in (spec.widths, spec.depths, spec.heads, spec.windows))
    before = sum(spec.depths[:index])
    shares = StochasticDepth.shares(spec.stochastic_depth, sum(spec.depths))[before : before + depth]
    blocks: list[nn.Module]
    if index == 0:
        blocks = [MBConv(width, spec.mbconv_ratio, share) for share in shares]
    else:
        blocks = [TinyViTBlock(width, heads, window, spec.mlp_ratio, share) for share in shares]
    last = index + 1 == len(spec.widths)
    return Stage(blocks, None if last else PatchMerging(width, spec.widths[index + 1], spec.strides[index]))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
