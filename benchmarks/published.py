"""The published formulations, plainly: what our networks and masks are measured against.

Written from the papers' and the checkpoints' structure for our modules' weights: attention with its whole matrix and
bias, windows padded before everything else, batch norms of their own, the decoder with each image repeated per prompt,
masks upsampled whole. tests/test_benchmarks.py holds them to the figures of the published networks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam.models.layers import relative_table
from napari_sam.models.tiny_vit import offset_index

if TYPE_CHECKING:
    from napari_sam.models import Sam
    from napari_sam.models.mask_decoder import Attention, MaskDecoder
    from napari_sam.models.tiny_vit import ConvNorm, TinyViT, TinyViTBlock
    from napari_sam.models.vit import Block, ImageEncoderViT


def encode(sam: Sam, pixels: Tensor) -> Tensor:
    """Return the image embedding (B, C, S / 16, S / 16) of pixels (B, 3, S, S)."""
    encoder = sam.image_encoder
    return vit(encoder, pixels) if hasattr(encoder, "pos_embed") else tiny_vit(encoder, pixels)


# --- ViT ------------------------------------------------------------------------------------------------------------


def vit(encoder: ImageEncoderViT, pixels: Tensor) -> Tensor:
    """Return what SAM's ViT makes of pixels (B, 3, S, S)."""
    x = encoder.patch_embed.proj(pixels).permute(0, 2, 3, 1) + encoder.pos_embed
    for block in encoder.blocks:
        x = x + _vit_attention(block, block.norm1(x))
        hidden = block.mlp.lin2(F.gelu(block.mlp.lin1(block.norm2(x))))
        x = x + hidden
    return _neck(encoder.neck, x.permute(0, 3, 1, 2))


def _vit_attention(block: Block, x: Tensor) -> Tensor:
    height, width = x.shape[1:3]
    if block.window:
        x, padded = _windows(x, block.window)
    attention = block.attn
    batch, rows, columns, channels = x.shape
    heads, count = attention.heads, rows * columns
    qkv = attention.qkv(x).reshape(batch, count, 3, heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.reshape(3, batch * heads, count, -1).unbind(0)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    grid = q.reshape(batch * heads, rows, columns, -1)
    by_row = torch.einsum("bhwc,hkc->bhwk", grid, relative_table(attention.rel_pos_h, rows))
    by_column = torch.einsum("bhwc,wkc->bhwk", grid, relative_table(attention.rel_pos_w, columns))
    scores = scores.view(batch * heads, rows, columns, rows, columns)
    scores = (scores + by_row[..., :, None] + by_column[..., None, :]).view(batch * heads, count, count)
    out = (scores.softmax(dim=-1) @ v).view(batch, heads, rows, columns, -1)
    out = attention.proj(out.permute(0, 2, 3, 1, 4).reshape(batch, rows, columns, channels))
    return _joined(out, padded, (height, width)) if block.window else out


def _windows(x: Tensor, side: int) -> tuple[Tensor, tuple[int, int]]:
    batch, height, width, channels = x.shape
    x = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
    rows, columns = x.shape[1] // side, x.shape[2] // side
    x = x.view(batch, rows, side, columns, side, channels).permute(0, 1, 3, 2, 4, 5)
    return x.contiguous().view(-1, side, side, channels), (rows, columns)


def _joined(windows: Tensor, padded: tuple[int, int], size: tuple[int, int]) -> Tensor:
    (rows, columns), side = padded, windows.shape[1]
    x = windows.view(-1, rows, columns, side, side, windows.shape[-1]).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, rows * side, columns * side, windows.shape[-1])[:, : size[0], : size[1]].contiguous()


def _neck(neck: nn.Sequential, x: Tensor) -> Tensor:
    return _channel_norm(neck[3], neck[2](_channel_norm(neck[1], neck[0](x))))


def _channel_norm(norm: nn.Module, x: Tensor) -> Tensor:
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).pow(2).mean(1, keepdim=True)
    x = (x - mean) / torch.sqrt(variance + norm.eps)
    return norm.weight[:, None, None] * x + norm.bias[:, None, None]


# --- TinyViT --------------------------------------------------------------------------------------------------------


def tiny_vit(encoder: TinyViT, pixels: Tensor) -> Tensor:
    """Return what MobileSAM's TinyViT makes of pixels (B, 3, S, S)."""
    first, _, second = encoder.patch_embed.seq
    x = _conv_norm(second, F.gelu(_conv_norm(first, pixels)))
    for stage in encoder.layers:
        for block in stage.blocks:
            if hasattr(block, "conv1"):
                inner = F.gelu(_conv_norm(block.conv2, F.gelu(_conv_norm(block.conv1, x))))
                x = F.gelu(x + _conv_norm(block.conv3, inner))
            else:
                x = _tiny_block(block, x)
        if (merging := stage.downsample) is not None:
            x = F.gelu(_conv_norm(merging.conv2, F.gelu(_conv_norm(merging.conv1, x))))
            x = _conv_norm(merging.conv3, x)
    return _neck(encoder.neck, x)


def _conv_norm(layer: ConvNorm, x: Tensor) -> Tensor:
    return layer.bn(layer.c(x))


def _tiny_block(block: TinyViTBlock, x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    tokens = x.flatten(2).transpose(1, 2)
    windows, padded = _windows(tokens.view(batch, height, width, channels), block.window)
    attended = _tiny_attention(block, windows.view(len(windows), -1, channels)).view(windows.shape)
    tokens = tokens + _joined(attended, padded, (height, width)).view(batch, -1, channels)
    mixed = _conv_norm(block.local_conv, tokens.transpose(1, 2).reshape(batch, channels, height, width))
    tokens = mixed.view(batch, channels, -1).transpose(1, 2)
    tokens = tokens + block.mlp.fc2(F.gelu(block.mlp.fc1(block.mlp.norm(tokens))))
    return tokens.transpose(1, 2).reshape(batch, channels, height, width)


def _tiny_attention(block: TinyViTBlock, x: Tensor) -> Tensor:
    attention = block.attn
    batch, count, channels = x.shape
    qkv = attention.qkv(attention.norm(x)).view(batch, count, attention.heads, -1)
    q, k, v = (part.permute(0, 2, 1, 3) for part in qkv.chunk(3, dim=-1))
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    scores = scores + attention.attention_biases[:, offset_index(block.window)]
    out = scores.softmax(dim=-1) @ v
    return attention.proj(out.transpose(1, 2).reshape(batch, count, channels))


# --- prompts to masks -----------------------------------------------------------------------------------------------


def decode(sam: Sam, features: Tensor, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (B, 3, 4h, 4w) and predicted IoU (B, 3) for points (B, N, 2), one set for each of B objects."""
    grid = (features.shape[2], features.shape[3])
    prompts = sam.prompt_encoder
    sparse, _ = prompts(grid, points, labels)
    dense = prompts.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(len(points), -1, *grid)
    logits, iou = mask_decoder(sam.mask_decoder, features, prompts.dense_pe(grid), sparse, dense)
    return logits[:, 1:], iou[:, 1:]


def mask_decoder(
    decoder: MaskDecoder, features: Tensor, positions: Tensor, sparse: Tensor, dense: Tensor
) -> tuple[Tensor, Tensor]:
    """Return all four masks (B, 4, 4h, 4w) and predicted IoU (B, 4)."""
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    prompt = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
    image = torch.repeat_interleave(features, len(prompt), dim=0) + dense
    shape = image.shape
    place = torch.repeat_interleave(positions, len(prompt), dim=0).flatten(2).permute(0, 2, 1)
    tokens, image = prompt, image.flatten(2).permute(0, 2, 1)
    transformer = decoder.transformer
    for index, layer in enumerate(transformer.layers):
        placed = tokens if index == 0 else tokens + prompt
        answer = _attention(layer.self_attn, placed, placed, tokens)
        tokens = layer.norm1(answer if index == 0 else tokens + answer)
        answer = _attention(layer.cross_attn_token_to_image, tokens + prompt, image + place, image)
        tokens = layer.norm2(tokens + answer)
        tokens = layer.norm3(tokens + layer.mlp.lin2(F.relu(layer.mlp.lin1(tokens))))
        answer = _attention(layer.cross_attn_image_to_token, image + place, tokens + prompt, tokens)
        image = layer.norm4(image + answer)
    answer = _attention(transformer.final_attn_token_to_image, tokens + prompt, image + place, image)
    tokens = transformer.norm_final_attn(tokens + answer)
    up = decoder.output_upscaling
    x = up[0](image.transpose(1, 2).view(shape))
    x = F.gelu(up[3](F.gelu(_channel_norm(up[1], x))))
    kernels = torch.stack([mlp(tokens[:, 1 + k]) for k, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1)
    logits = (kernels @ x.flatten(2)).view(len(x), -1, *x.shape[2:])
    return logits, decoder.iou_prediction_head(tokens[:, 0])


def _attention(layer: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (
        x.reshape(*x.shape[:2], layer.heads, -1).transpose(1, 2)
        for x in (layer.q_proj(q), layer.k_proj(k), layer.v_proj(v))
    )
    scores = (q @ k.transpose(-2, -1)) / q.shape[-1] ** 0.5
    out = scores.softmax(dim=-1) @ v
    return layer.out_proj(out.transpose(1, 2).flatten(2))


def masks(logits: Tensor, resized: tuple[int, int], size: tuple[int, int], padded: int) -> Tensor:
    """Return logits (B, n, h, w) as bool masks (B, n, H, W): up to the padded input, cut to the image, to its size."""
    full = F.interpolate(logits, (padded, padded), mode="bilinear", align_corners=False)
    full = full[..., : resized[0], : resized[1]]
    return F.interpolate(full, size, mode="bilinear", align_corners=False) > 0
