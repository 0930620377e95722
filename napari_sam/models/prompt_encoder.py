"""Points, boxes and masks to the sparse and dense embeddings that the mask decoder reads."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .layers import LayerNorm2d
from .specs import EMBEDDING_STRIDE

MASK_CHANNELS = 16
BACKGROUND, FOREGROUND, PADDING = 0, 1, -1
"""Labels of points. Padding says nothing; it fills up a batch whose objects have different numbers of points."""


class RandomPositions(nn.Module):
    """Positions in the unit square as sines and cosines of random frequencies."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, width // 2))

    def forward(self, places: Tensor) -> Tensor:
        """Encode (..., 2) places (x, y) in [0, 1] as (..., width)."""
        matrix = self.positional_encoding_gaussian_matrix
        angles = 2 * math.pi * ((2 * places.to(matrix.dtype) - 1) @ matrix)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def grid(self, height: int, width: int) -> Tensor:
        """Encode the centres of a grid's cells as (width of the encoding, height, width)."""
        matrix = self.positional_encoding_gaussian_matrix
        y = (torch.arange(height, device=matrix.device, dtype=matrix.dtype) + 0.5) / height
        x = (torch.arange(width, device=matrix.device, dtype=matrix.dtype) + 0.5) / width
        encoded: Tensor = self(torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1))
        return encoded.permute(2, 0, 1)


class PromptEncoder(nn.Module):
    """Prompts of B objects in one image; coordinates are input pixels, (x, y), pixel centres at integers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.pe_layer = RandomPositions(width)
        # Background, foreground, first and last corner of a box.
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, width)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, MASK_CHANNELS // 4, kernel_size=2, stride=2),
            LayerNorm2d(MASK_CHANNELS // 4),
            nn.GELU(),
            nn.Conv2d(MASK_CHANNELS // 4, MASK_CHANNELS, kernel_size=2, stride=2),
            LayerNorm2d(MASK_CHANNELS),
            nn.GELU(),
            nn.Conv2d(MASK_CHANNELS, width, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, width)

    def forward(
        self,
        grid: tuple[int, int],
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encode the prompts of B objects.

        Parameters
        ----------
        grid
            (h, w) of the image embedding; the input is `EMBEDDING_STRIDE` times as large.
        points, labels
            (B, N, 2) and (B, N) with 1 foreground, 0 background, -1 padding.
        boxes
            (B, 4) as (x0, y0, x1, y1).
        masks
            (B, 1, 4h, 4w) logits.

        Returns
        -------
        tuple
            Sparse embeddings (B, tokens, C), and dense ones (B, C, h, w), or (1, C, h, w) without masks: those are the
            same for every object. B is 1 when there is no prompt at all.
        """
        sparse = []
        if points is not None:
            if labels is None:
                raise ValueError(f"points of shape {tuple(points.shape)} need labels")
            sparse.append(self._points(points, labels, grid))
            if boxes is None:
                sparse.append(self.not_a_point_embed.weight.expand(len(points), 1, -1))
        if boxes is not None:
            sparse.append(self._boxes(boxes, grid))
        dense = self._no_mask(grid) if masks is None else self.mask_downscaling(masks)
        if not sparse:
            return dense.new_empty(len(dense), 0, self.width), dense
        return torch.cat(sparse, dim=1), dense

    def dense_pe(self, grid: tuple[int, int]) -> Tensor:
        """Return the positions of the image embedding's cells, (1, C, h, w)."""
        return self.pe_layer.grid(*grid)[None]

    def _points(self, points: Tensor, labels: Tensor, grid: tuple[int, int]) -> Tensor:
        kind = labels[..., None]
        meaning = torch.where(kind == FOREGROUND, self._kind(FOREGROUND), self._kind(BACKGROUND))
        placed = self._positions(points, grid) + meaning
        return torch.where(kind == PADDING, self.not_a_point_embed.weight, placed)

    def _boxes(self, boxes: Tensor, grid: tuple[int, int]) -> Tensor:
        corners = self._positions(boxes.reshape(-1, 2, 2), grid)
        return corners + torch.cat([self._kind(2), self._kind(3)])

    def _kind(self, index: int) -> Tensor:
        embedding = self.point_embeddings[index]
        assert isinstance(embedding, nn.Embedding)
        return embedding.weight  # (1, C)

    def _positions(self, places: Tensor, grid: tuple[int, int]) -> Tensor:
        """Encode input pixels (..., 2); 0.5 brings the centre of the first pixel to its place in the unit square."""
        height, width = grid
        x, y = (places + 0.5).unbind(-1)  # sizes stay plain numbers: a tensor of them would be a copy to the device
        shares = torch.stack([x / (width * EMBEDDING_STRIDE), y / (height * EMBEDDING_STRIDE)], dim=-1)
        encoded: Tensor = self.pe_layer(shares)
        return encoded

    def _no_mask(self, grid: tuple[int, int]) -> Tensor:
        return self.no_mask_embed.weight.view(1, -1, 1, 1).expand(1, -1, *grid)
