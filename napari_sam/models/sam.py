"""Image encoder, prompt encoder and mask decoder together: encode an image, decode prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .mask_decoder import ImageSide, MaskDecoder
from .prompt_encoder import PromptEncoder
from .specs import EMBEDDING_STRIDE, SamSpec, ViTSpec
from .tiny_vit import TinyViT
from .vit import ImageEncoderViT

if TYPE_CHECKING:
    from .layers import BetweenBlocks


class Sam(nn.Module):
    """A Segment Anything model; the image encoder may be at a lower precision than the other two parts."""

    def __init__(self, spec: SamSpec) -> None:
        super().__init__()
        self.spec = spec
        encoder = spec.encoder
        self.image_encoder = ImageEncoderViT(encoder) if isinstance(encoder, ViTSpec) else TinyViT(encoder)
        if self.image_encoder.stride != EMBEDDING_STRIDE:
            raise ValueError(
                f"{spec.name}: the encoder's stride is {self.image_encoder.stride}, not {EMBEDDING_STRIDE}"
            )
        self.prompt_encoder = PromptEncoder(spec.decoder.width)
        self.mask_decoder = MaskDecoder(spec.decoder)

    def encode(self, pixels: Tensor, between_blocks: BetweenBlocks | None = None) -> Tensor:
        """Encode pixels (B, 3, S, S), normalised and padded, to features (B, C, S / 16, S / 16).

        Parameters
        ----------
        pixels
            Any square input whose side is a multiple of 16, in any float dtype.
        between_blocks
            Called after every block with the rising share of the work done in (0, 1]; what it raises ends the encoding.

        Returns
        -------
        Tensor
            The image embedding, in the dtype of the decoder.
        """
        height, width = pixels.shape[-2:]
        if pixels.ndim != 4 or pixels.shape[1] != 3 or height != width or height % EMBEDDING_STRIDE or not height:
            raise ValueError(f"pixels must be (B, 3, S, S), S a multiple of {EMBEDDING_STRIDE}: {tuple(pixels.shape)}")
        dtype = next(self.image_encoder.parameters()).dtype
        features: Tensor = self.image_encoder(pixels.to(dtype), between_blocks)
        return features.to(self.decoder_dtype)

    def decode(
        self,
        features: Tensor | ImageSide,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        *,
        multimask: bool,
    ) -> tuple[Tensor, Tensor]:
        """Decode the prompts of B objects.

        Parameters
        ----------
        features
            (1 or B, C, h, w): one image for all objects, or one each. Or what `image_side` returned for it, which saves
            computing that for every prompt.
        points, labels
            (B, N, 2) as (x, y) in input pixels, and (B, N): 1 foreground, 0 background, -1 padding.
        boxes
            (B, 4) as (x0, y0, x1, y1) in input pixels.
        masks
            (B, 1, 4h, 4w) logits; only with features themselves.
        multimask
            Three candidates, or the one mask for a clear prompt.

        Returns
        -------
        tuple
            Logits (B, n, 4h, 4w) and predicted IoU (B, n), n = 3 or 1.
        """
        grid = features.grid if isinstance(features, ImageSide) else (features.shape[2], features.shape[3])
        sparse, dense = self.prompt_encoder(grid, points, labels, boxes, masks)
        if not isinstance(features, ImageSide):
            features = self._image_side(features, dense)
        elif masks is not None:
            raise ValueError("a mask changes the image's side: give the features themselves")
        logits, iou = self.mask_decoder.answer(features, sparse)
        chosen = slice(1, None) if multimask else slice(0, 1)
        return logits[:, chosen], iou[:, chosen]

    def image_side(self, features: Tensor) -> ImageSide:
        """Compute what depends on the image alone of decoding prompts without a mask; features as for `decode`."""
        _, dense = self.prompt_encoder((features.shape[2], features.shape[3]))
        return self._image_side(features, dense)

    def _image_side(self, features: Tensor, dense: Tensor) -> ImageSide:
        positions = self.prompt_encoder.dense_pe((features.shape[2], features.shape[3]))
        return self.mask_decoder.image_side(features.to(self.decoder_dtype), positions, dense)

    def cells(self, features: Tensor) -> Tensor:
        """Return the part (B, C, h, w) of an embedding that says what lies in each cell, its details left out."""
        return features[:, : self.spec.decoder.width]

    @property
    def decoder_dtype(self) -> torch.dtype:
        """What the prompt encoder and the mask decoder compute in."""
        return self.mask_decoder.iou_token.weight.dtype


def build_sam(spec: SamSpec) -> Sam:
    """Return the network of `spec` with random weights: float32, on the CPU, in evaluation mode."""
    return Sam(spec).eval()
