"""One camera for all drawn scenes: polarity, light, contrast, colour, blur, noise, saturation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from napari_sam.training.synthetic.canvas import SIZE, Floats, between, smooth_noise


def photographed(rng: np.random.Generator, paint: Floats) -> npt.NDArray[np.uint8]:
    """Return (H, W, 3) uint8 of a scene's paint, (H, W) or (H, W, 3), about 0 to 1."""
    paint = _stretched(rng, paint)
    if rng.random() < 0.5:
        light = 1 + rng.uniform(0, 0.6) * smooth_noise(rng, int(rng.integers(1, 4)))
        paint = paint * (light if paint.ndim == 2 else light[..., None])
    picture = _blurred(rng, _as_bytes(paint))
    noisy = _noisy(rng, picture.astype(np.float32) / 255)
    return _coloured(rng, noisy)


def _stretched(rng: np.random.Generator, paint: Floats) -> Floats:
    """Polarity, contrast, brightness, gamma, saturation."""
    low, high = np.percentile(paint[::4, ::4], (1, 99))
    paint = np.clip((paint - low) / max(float(high - low), 0.05), -0.3, 1.3)
    if rng.random() < 0.4:
        paint = 1 - paint
    floor = rng.uniform(0, 0.5) ** 2
    span = (1 - floor) * (rng.uniform(0.25, 1.0) if rng.random() < 0.6 else rng.uniform(1.0, 1.5))
    result: Floats = np.clip(floor + span * np.clip(paint, 0, 1.3), 0, 1) ** np.float32(between(rng, 0.55, 1.8))
    return result


def _as_bytes(paint: Floats) -> npt.NDArray[np.uint8]:
    return (np.clip(paint, 0, 1) * 255).astype(np.uint8)


def _blurred(rng: np.random.Generator, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    sigma = between(rng, 0.6, 3.0) if rng.random() < 0.5 else 0.6
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(sigma)))


def _noisy(rng: np.random.Generator, picture: Floats) -> Floats:
    """Shot, read-out or multiplicative noise, fine or with a grain of a few pixels."""
    kind = rng.integers(0, 4)
    if kind == 0:
        return picture
    strength = np.float32(between(rng, 0.01, 0.16))
    grain = rng.standard_normal((SIZE, SIZE), dtype=np.float32)
    if rng.random() < 0.25:
        grain = 1.8 * smooth_noise(rng, int(between(rng, 70, 200)))
    if picture.ndim == 3:
        grain = grain[..., None]
    if kind == 1:
        picture = picture + strength * grain
    elif kind == 2:
        picture = picture + strength * np.sqrt(picture + 0.02) * 1.5 * grain
    else:
        picture = picture * (1 + 2 * strength * grain)
    return picture


def _coloured(rng: np.random.Generator, picture: Floats) -> npt.NDArray[np.uint8]:
    """Grey becomes three equal channels or a tint between two colours; colour may be mixed or greyed."""
    if picture.ndim == 2 and rng.random() < 0.65:
        return np.repeat(_as_bytes(picture)[..., None], 3, axis=2)
    if picture.ndim == 2:
        dark, bright = rng.uniform(0, 0.5, 3), rng.uniform(0.4, 1, 3)
        dark, bright = (dark, bright) if rng.random() < 0.6 else (1 - dark, bright * rng.uniform(0.2, 0.8))
        return _as_bytes(dark.astype(np.float32) + (bright - dark).astype(np.float32) * picture[..., None])
    if rng.random() < 0.25:
        return np.repeat(_as_bytes(picture.mean(2))[..., None], 3, axis=2)
    mixing = np.eye(3) + rng.normal(0, 0.15, (3, 3))
    return _as_bytes(picture @ mixing.astype(np.float32))
