"""What may happen to a picture without its objects changing: turns, colours, contrast, noise, blur."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from napari_sam.training.synthetic.canvas import between

Picture8 = npt.NDArray[np.uint8]
Layers = npt.NDArray[np.int32]


def turned(rng: np.random.Generator, image: Picture8, layers: Layers) -> tuple[Picture8, Layers]:
    """Flip and turn a picture (H, W, 3) and its layers (n, H, W) by quarters, alike."""
    quarters, flip = int(rng.integers(0, 4)), rng.random() < 0.5
    image, layers = np.rot90(image, quarters), np.rot90(layers, quarters, axes=(1, 2))
    if flip:
        image, layers = image[:, ::-1], layers[:, :, ::-1]
    return np.ascontiguousarray(image), np.ascontiguousarray(layers)


def recoloured(rng: np.random.Generator, image: Picture8) -> Picture8:
    """Change the colours, contrast and sharpness of a picture (H, W, 3) at random, about a fifth of them not at all."""
    if rng.random() < 0.2:
        return image
    image = _channels(rng, image)
    if rng.random() < 0.2:
        image = 255 - image
    image = _curve(rng)[image]
    chance = rng.random()
    if chance < 0.12:
        image = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(between(rng, 0.5, 2.0))))
    elif chance < 0.24:
        image = _coarse(rng, image)
    if rng.random() < 0.25:
        image = _noisy(rng, image)
    return _compressed(rng, image) if rng.random() < 0.1 else image


def _channels(rng: np.random.Generator, image: Picture8) -> Picture8:
    chance = rng.random()
    if chance < 0.15:
        return np.ascontiguousarray(image[..., rng.permutation(3)])
    if chance < 0.3:
        grey = image.mean(axis=2).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if chance < 0.4:
        return (image * rng.uniform(0.6, 1.0, 3).astype(np.float32)).astype(np.uint8)
    if chance < 0.55:
        mixing = np.eye(3) + rng.normal(0, 0.2, (3, 3))
        return np.clip(image @ mixing.astype(np.float32), 0, 255).astype(np.uint8)
    return image


def _curve(rng: np.random.Generator) -> Picture8:
    """Return a table of 256 values: gamma, contrast, brightness, clipped at both ends."""
    ramp = np.linspace(0, 1, 256)
    if rng.random() < 0.5:
        ramp = ramp ** between(rng, 0.6, 1.7)
    if rng.random() < 0.6:
        ramp = (ramp - 0.5) * rng.uniform(0.5, 1.4) + 0.5 + rng.uniform(-0.15, 0.15)
    table: Picture8 = (np.clip(ramp, 0, 1) * 255).astype(np.uint8)
    return table


def _noisy(rng: np.random.Generator, image: Picture8) -> Picture8:
    grain = rng.standard_normal((*image.shape[:2], 1 if rng.random() < 0.7 else 3), dtype=np.float32)
    noisy = image + grain * np.float32(between(rng, 2, 25))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _coarse(rng: np.random.Generator, image: Picture8) -> Picture8:
    """Return a picture as if it had been taken with up to five times fewer pixels, and enlarged."""
    picture, factor = Image.fromarray(image), between(rng, 1.3, 5.0)
    small = picture.resize((max(8, int(picture.width / factor)), max(8, int(picture.height / factor))))
    way = Image.Resampling.NEAREST if rng.random() < 0.2 else Image.Resampling.BILINEAR
    return np.asarray(small.resize(picture.size, way))


def _compressed(rng: np.random.Generator, image: Picture8) -> Picture8:
    """Return a picture with the blocks of a strong JPEG compression."""
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=int(rng.integers(20, 80)))
    return np.asarray(Image.open(file))
