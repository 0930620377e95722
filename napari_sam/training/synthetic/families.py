"""The kinds of drawn images, one function each: `family(rng) -> Scene`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from napari_sam.training.synthetic.canvas import (
    SIZE,
    Floats,
    Labels,
    Scene,
    between,
    paint_nearest,
    paint_over,
    per_object,
    random_blobs,
    smooth_noise,
    stroke,
    texture,
    tiling,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def _count(cover: float, radius: float, most: int = 110) -> int:
    """Return how many objects of this radius cover about this share of the picture."""
    return int(np.clip(cover * SIZE**2 / (np.pi * radius**2), 1, most))


def _stack(*layers: Labels) -> Labels:
    return np.stack(layers).astype(np.int32)


def nuclei(rng: np.random.Generator) -> Scene:
    """Draw sparse, crowded or touching nuclei, evenly filled, mottled or bright in the middle."""
    radius = between(rng, 5, 45)
    touching = rng.random() < 0.5
    count = _count(rng.uniform(0.1, 0.9 if touching else 0.6), radius)
    blobs = random_blobs(rng, count, radius, aspect=rng.uniform(1.1, 2.2), wobble=rng.uniform(0, 0.12))
    labels, depth = paint_nearest(blobs, apart=0.0 if touching else 0.08)
    level, outside = rng.uniform(0.45, 0.9), rng.uniform(0.03, 0.3)
    paint = per_object(rng, labels, level, rng.uniform(0.0, 0.15), outside)
    inside = labels > 0
    paint += inside * (rng.uniform(0, 0.25) * texture(rng, 100) - rng.uniform(-0.1, 0.35) * depth**2)
    if touching and rng.random() < 0.5:
        paint -= inside * (depth > 0.88) * rng.uniform(0, 0.3)
    return Scene(paint + rng.uniform(0, 0.12) * texture(rng) * ~inside, _stack(labels))


def cells_with_nuclei(rng: np.random.Generator) -> Scene:
    """Draw cell bodies, each with a nucleus, which is an object of its own."""
    radius = between(rng, 16, 75)
    touching = rng.random() < 0.6
    count = _count(rng.uniform(0.2, 1.1), radius, 60)
    blobs = random_blobs(rng, count, radius, aspect=rng.uniform(1.1, 2.0), wobble=rng.uniform(0.02, 0.16))
    cells, depth = paint_nearest(blobs, apart=0.0 if touching else 0.05)
    shift = rng.normal(0, 0.12, (count, 2)) * blobs.radii[:, None]
    inner, inner_depth = paint_nearest(blobs.scaled(rng.uniform(0.3, 0.62), shift.astype(np.float32)))
    inner = np.where(inner == cells, inner, 0)
    outside, body, core = rng.uniform(0, 1, 3) * 0.7 + 0.1
    paint = per_object(rng, cells, body, 0.05, outside) + (cells > 0) * rng.uniform(0, 0.2) * texture(rng)
    core_paint = per_object(rng, inner, core, 0.05, 0) + rng.uniform(0, 0.2) * texture(rng) - 0.1 * inner_depth
    paint = np.where(inner > 0, core_paint, paint - rng.uniform(-0.1, 0.2) * depth)
    return Scene(paint.astype(np.float32), _stack(cells, inner))


def epithelium(rng: np.random.Generator) -> Scene:
    """Draw a sheet of cells without gaps, with dark or bright borders, or told apart by their brightness alone."""
    count = int(between(rng, 6, 130))
    labels, border = tiling(rng, count, rng.uniform(0, 14), rng.uniform(0.6, 1.6))
    width = rng.uniform(0.8, 3.0)
    wall = np.exp(-((border / width) ** 2))
    contrast = rng.uniform(0.15, 0.6) * rng.choice([-1, 1])
    paint = per_object(rng, labels, 0.5, rng.choice([0.02, 0.06, 0.15]), 0.5)
    paint += contrast * wall + rng.uniform(0, 0.15) * texture(rng)
    if rng.random() < 0.35:
        paint -= contrast * 0.5 * np.minimum(border / np.sqrt(SIZE**2 / count) * 2.5, 1)
    if rng.random() < 0.5:
        labels = np.where(border > width * rng.uniform(0.3, 1.0), labels, 0)
    return Scene(paint.astype(np.float32), _stack(labels))


def rods(rng: np.random.Generator) -> Scene:
    """Draw bacteria, fibres, needles: long, straight or bent."""
    radius = between(rng, 5, 26)
    blobs = random_blobs(
        rng,
        _count(rng.uniform(0.1, 0.6), radius, 90),
        radius,
        aspect=rng.uniform(3, 12),
        wobble=0.01,
        bend=rng.uniform(0, 0.6),
        roundness=rng.choice([2.0, 3.5]),
    )
    labels, depth = paint_nearest(blobs, apart=0.0 if rng.random() < 0.4 else 0.05)
    paint = per_object(rng, labels, rng.uniform(0.5, 0.9), 0.08, rng.uniform(0.05, 0.3))
    inside = labels > 0
    paint += inside * (rng.uniform(-0.2, 0.4) * (1 - depth) + rng.uniform(0, 0.15) * texture(rng))
    if rng.random() < 0.3:
        paint += rng.uniform(-0.4, 0.4) * inside * (depth > 0.75)
    return Scene(paint.astype(np.float32), _stack(labels))


def glands(rng: np.random.Generator) -> Scene:
    """Draw glands in stained tissue: a rim of cells round a pale lumen, which is an object of its own."""
    radius = between(rng, 24, 100)
    count = _count(rng.uniform(0.3, 0.9), radius, 14)
    blobs = random_blobs(rng, count, radius, aspect=2.0, wobble=rng.uniform(0.05, 0.18))
    glands_, depth = paint_nearest(blobs, apart=0.06)
    hollow = rng.uniform(0.25, 0.7)
    lumen = np.where(depth + 0.12 * smooth_noise(rng, 14) < hollow, glands_, 0)
    dots, dot_depth = paint_nearest(random_blobs(rng, 110, rng.uniform(4, 8), aspect=1.8))
    rim = (glands_ > 0) & (lumen == 0)
    chance = rng.random(int(dots.max()) + 1) < rng.uniform(0.15, 0.7)
    dots = np.where(rim | chance[dots], dots, 0)
    background, body, pale = (rng.uniform(0.25, 0.95, 3) for _ in range(3))
    paint = np.where(rim[..., None], body, background) * np.ones((SIZE, SIZE, 1))
    paint = np.where((lumen > 0)[..., None], pale, paint) + rng.uniform(0.05, 0.25) * texture(rng)[..., None]
    dark = rng.uniform(0.2, 0.6) * ((dots > 0) * (1 - dot_depth**4))[..., None]
    paint -= dark * rng.uniform(0.5, 1, 3) * np.where(lumen > 0, 0.1, 1.0)[..., None]
    return Scene(paint.astype(np.float32), _stack(glands_, lumen))


def tubes(rng: np.random.Generator) -> Scene:
    """Draw vessels, neurites, roots, cracks: winding lines, the upper ones hiding the lower."""
    width = between(rng, 4, 34)
    canvas = Image.new("I", (SIZE, SIZE))
    drawing, count = ImageDraw.Draw(canvas), int(np.clip(between(rng, 1, 9) * 10 / width, 1, 9))
    for index in range(count):
        stroke(rng, drawing, index + 1, width * between(rng, 0.6, 1.6), rng.uniform(0.05, 0.35))
    labels = np.array(canvas, np.int32)
    paint = per_object(rng, labels, rng.uniform(0.5, 0.9), rng.uniform(0.02, 0.15), rng.uniform(0.1, 0.4))
    paint += rng.uniform(0.02, 0.25) * texture(rng) + rng.uniform(0, 0.15) * (labels > 0) * texture(rng)
    return Scene(paint.astype(np.float32), _stack(labels))


def electron_micrograph(rng: np.random.Generator) -> Scene:
    """Draw membranes between profiles of cells, dark organelles inside them."""
    count = int(between(rng, 4, 60))
    profiles, border = tiling(rng, count, rng.uniform(8, 30), rng.uniform(0.5, 2))
    width = rng.uniform(1.2, 4)
    profiles = np.where(border > width * 0.7, profiles, 0)
    radius = between(rng, 5, 28)
    organelles, depth = paint_nearest(
        random_blobs(rng, _count(rng.uniform(0.05, 0.3), radius, 40), radius, aspect=2.5, wobble=0.06), apart=0.15
    )
    organelles = np.where(border > width + 1, organelles, 0)
    paint = per_object(rng, profiles, 0.65, rng.uniform(0.02, 0.1), 0.6) + rng.uniform(0.05, 0.2) * texture(rng)
    paint -= rng.uniform(0.25, 0.6) * np.exp(-((border / width) ** 2))
    dark = rng.uniform(0.1, 0.35) * (organelles > 0)
    paint -= dark + dark * (depth > 0.8) + 0.1 * (organelles > 0) * texture(rng)
    return Scene(paint.astype(np.float32), _stack(profiles, organelles))


def organs(rng: np.random.Generator) -> Scene:
    """Draw a slice as CT and MR show it: a body, smooth organs in it, and smaller things in those."""
    body_blob = random_blobs(rng, 1, rng.uniform(80, 150), aspect=1.6, wobble=0.03)
    body_blob.centres[:] = SIZE / 2 + rng.normal(0, 10, 2)
    body, _ = paint_over(body_blob)
    inner = random_blobs(rng, int(rng.integers(3, 14)), between(rng, 10, 50), spread=0.5, aspect=2.2, wobble=0.1)
    inner.centres[:] = SIZE / 2 + (inner.centres - SIZE / 2) * 0.7
    organ, _ = paint_over(inner)
    organ = np.where(body > 0, organ, 0)
    small, _ = paint_over(random_blobs(rng, int(rng.integers(1, 7)), between(rng, 5, 22), aspect=1.6, wobble=0.08))
    small = np.where(organ > 0, small, 0)
    spread = rng.uniform(0.04, 0.25)
    paint = per_object(rng, organ, 0.5, spread, rng.uniform(0.25, 0.7))
    paint = np.where(small > 0, per_object(rng, small, 0.5, spread * 1.5, 0.5), paint)
    paint = np.where(body > 0, paint, 0.02) + (body > 0) * rng.uniform(0.02, 0.12) * texture(rng)
    layers = [body, organ, small] if rng.random() < 0.5 else [organ, small]
    return Scene(paint.astype(np.float32), _stack(*layers))


def ultrasound(rng: np.random.Generator) -> Scene:
    """Draw speckle with a few lesions or vessels that differ in brightness, some with shadows, perhaps in a fan."""
    blobs = random_blobs(rng, int(rng.integers(1, 4)), between(rng, 14, 80), spread=0.35, aspect=1.9, wobble=0.09)
    blobs.centres[:] = SIZE / 2 + (blobs.centres - SIZE / 2) * 0.75
    labels, depth = paint_over(blobs)
    level = rng.uniform(0.35, 0.6)
    paint = per_object(rng, labels, level * rng.choice([0.3, 0.55, 1.6]), 0.05, level)
    bands = smooth_noise(rng, 5) * 0.15 + 0.12 * np.sin(np.arange(SIZE)[:, None] / rng.uniform(6, 25))
    paint += np.where(labels > 0, 0.3, 1.0) * bands + rng.uniform(-0.1, 0.3) * (depth > 0.85) * (labels > 0)
    if rng.random() < 0.4:
        below = np.maximum.accumulate(labels > 0, axis=0) & (labels == 0)
        paint *= np.where(below, rng.uniform(0.4, 1.4), 1)
    speckle = rng.rayleigh(0.8, (SIZE // 2, SIZE // 2)) if rng.random() < 0.5 else rng.rayleigh(0.8, (SIZE, SIZE))
    grain = np.asarray(Image.fromarray(speckle.astype(np.float32)).resize((SIZE, SIZE)))
    paint = np.maximum(paint, 0.02) * (1 + rng.uniform(0.4, 1) * (grain - 1))
    if rng.random() < 0.4:
        fan = _fan(rng)
        paint, labels = paint * fan, np.where(fan, labels, 0)
    return Scene(paint.astype(np.float32), _stack(labels))


def _fan(rng: np.random.Generator) -> np.ndarray:
    rows, cols = np.mgrid[:SIZE, :SIZE]
    rows = rows + rng.uniform(10, 60)
    reach = np.hypot(rows, cols - SIZE / 2)
    inside: np.ndarray = (np.abs(cols - SIZE / 2) < rows * rng.uniform(0.6, 1.2)) & (reach < SIZE + 40)
    return inside


def photograph(rng: np.random.Generator) -> Scene:
    """Draw coloured and textured things that hide one another."""
    count = int(between(rng, 1, 14))
    blobs = random_blobs(
        rng,
        count,
        between(rng, 16, 90),
        spread=0.5,
        aspect=3.0,
        wobble=rng.uniform(0.02, 0.2),
        bend=0.4,
        roundness=rng.choice([2.0, 4.0]),
    )
    labels, depth = paint_over(blobs)
    contrast = rng.uniform(0.06, 0.3)
    colours = rng.normal(rng.uniform(0.3, 0.7, 3), contrast, (count + 1, 3)).astype(np.float32)
    strength = rng.uniform(0, 0.35, count + 1).astype(np.float32)[labels]
    grain = np.where(labels % 2, texture(rng), texture(rng) + 0.5 * _stripes(rng))
    shade = 1 - rng.uniform(0, 0.4) * depth * (labels > 0) + rng.uniform(0, 0.3) * smooth_noise(rng, 3)
    paint = (colours[labels] + (strength * grain)[..., None]) * shade[..., None]
    return Scene(paint.astype(np.float32), _stack(labels))


def _stripes(rng: np.random.Generator) -> Floats:
    angle, period = rng.uniform(0, np.pi), between(rng, 4, 40)
    ramp = np.arange(SIZE, dtype=np.float32)
    phase = (np.cos(angle) * ramp[:, None] + np.sin(angle) * ramp[None]) * np.float32(2 * np.pi / period)
    stripes: Floats = np.sin(phase + 2 * smooth_noise(rng, 6))
    return stripes


def lesion(rng: np.random.Generator) -> Scene:
    """Draw one large region in colour with a soft or ragged border: a mole, a polyp, an optic disc, a wound."""
    blob = random_blobs(rng, 1, between(rng, 22, 105), aspect=1.6, wobble=rng.uniform(0.02, 0.14))
    blob.centres[:] = SIZE / 2 + rng.normal(0, 35, 2)
    outer, depth = paint_over(blob)
    inner, _ = paint_over(blob.scaled(rng.uniform(0.3, 0.65), rng.normal(0, 4, (1, 2)).astype(np.float32)))
    inner = np.where(outer > 0, inner, 0)
    skin = rng.uniform(0.35, 0.9, 3)
    step = rng.normal(0, 0.16, (2, 3))
    soft = np.clip((1 - depth) / rng.uniform(0.02, 0.35), 0, 1)[..., None] * (outer > 0)[..., None]
    paint = skin + step[0] * soft + 0.8 * step[1] * (inner > 0)[..., None]
    paint = paint + (rng.uniform(0.02, 0.15) * texture(rng) + 0.15 * smooth_noise(rng, 2))[..., None]
    canvas = Image.new("L", (SIZE, SIZE))
    for _ in range(int(rng.integers(0, 6))):
        stroke(rng, ImageDraw.Draw(canvas), 255, 2.0, 0.1)
    hair = np.asarray(canvas)[..., None] > 0
    paint = np.where(hair, paint * rng.uniform(0.4, 1.3), paint)
    return Scene(paint.astype(np.float32), _stack(outer, inner))


def disks(rng: np.random.Generator) -> Scene:
    """Draw coins, droplets, colonies: round, with relief, on an uneven and noisy ground."""
    radius = between(rng, 7, 42)
    blobs = random_blobs(rng, _count(rng.uniform(0.1, 0.6), radius, 60), radius, aspect=1.1, wobble=0.01)
    labels, depth = paint_nearest(blobs, apart=0.1)
    paint = per_object(rng, labels, rng.uniform(0.4, 0.9), rng.uniform(0.03, 0.15), rng.uniform(0.1, 0.4))
    relief = rng.uniform(0, 0.4) * texture(rng, 60) + rng.uniform(-0.3, 0.3) * (np.abs(depth - 0.85) < 0.08)
    paint += (labels > 0) * relief + rng.uniform(0, 0.3) * smooth_noise(rng, 2) + 0.1 * texture(rng)
    return Scene(paint.astype(np.float32), _stack(labels))


FAMILIES: dict[str, Callable[[np.random.Generator], Scene]] = {
    f.__name__: f
    for f in (
        nuclei,
        cells_with_nuclei,
        epithelium,
        rods,
        glands,
        tubes,
        electron_micrograph,
        organs,
        ultrasound,
        photograph,
        lesion,
        disks,
    )
}
