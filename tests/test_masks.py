from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from napari_sam.geometry import Frame, whole
from napari_sam.masks import CERTAIN, Mask, MaskResult, logits_of

SHAPES = [(300, 400), (1400, 900), (37, 211), (1, 50), (50, 1), (1, 1), (90, 128), (256, 256)]
EMPTY = (0, 0, 0, 0)


def whole_frame(shape: tuple[int, int], size: int = 256) -> Frame:
    return Frame(shape, whole(shape), size)


def smooth_logits(size: int, seed: int = 0) -> NDArray[np.float32]:
    """Return logits (size / 4, size / 4) with a few hills."""
    noise = np.random.default_rng(seed).standard_normal((size // 4, size // 4))
    hills = gaussian_filter(noise, size / 60)
    return (hills / hills.std() - 0.5).astype(np.float32)


def steep_logits(size: int, seed: int = 0) -> NDArray[np.float32]:
    """Return lonely peaks among logits of very different depth: every neighbour's weight decides pixels."""
    generator = np.random.default_rng(seed)
    side = size // 4
    logits = -generator.random((side, side)) * generator.choice([0.01, 1, 100], (side, side))
    logits[tuple(generator.integers(0, side, (2, 8)))] = 50
    return logits.astype(np.float32)


def published_pixels(logits: NDArray[np.float32], frame: Frame) -> NDArray[np.bool_]:
    """Return the region's pixels by the published way: everything to the padded input, cut, then to the image."""
    height, width = frame.resized
    values = torch.from_numpy(logits)[None, None]
    padded = F.interpolate(values, (frame.image_size,) * 2, mode="bilinear", align_corners=False)
    resized = F.interpolate(padded[..., :height, :width], frame.shape, mode="bilinear", align_corners=False)
    return (resized[0, 0] > 0).numpy()


@pytest.mark.parametrize("size", [64, 256, 1024])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", [smooth_logits, steep_logits])
def test_pixels_are_the_two_full_interpolations(make: object, shape: tuple[int, int], size: int) -> None:
    frame = whole_frame(shape, size)
    for seed in range(3):
        logits = make(size, seed)  # type: ignore[operator]
        assert np.array_equal(np.asarray(Mask(logits, frame)), published_pixels(logits, frame))


def test_pixels_of_a_region_lie_where_the_region_is() -> None:
    frame = Frame((300, 400), (100, 50, 170, 250), 256)
    logits = smooth_logits(256)
    expected = np.zeros((300, 400), bool)
    expected[100:170, 50:250] = published_pixels(logits, frame)
    mask = Mask(logits, frame)
    assert expected.any()
    assert np.array_equal(np.asarray(mask), expected)
    assert mask.region == (100, 50, 170, 250)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", [smooth_logits, steep_logits])
def test_the_box_is_tight_and_half_open(make: object, shape: tuple[int, int]) -> None:
    mask = Mask(make(256), whole_frame(shape))  # type: ignore[operator]
    full = np.asarray(mask)
    inside = np.argwhere(full)
    expected = (*inside.min(0), *(inside.max(0) + 1)) if len(inside) else EMPTY
    assert mask.bbox == expected
    assert all(type(value) is int for value in mask.bbox)
    assert np.array_equal(mask.crop, full[mask.bbox[0] : mask.bbox[2], mask.bbox[1] : mask.bbox[3]])
    assert mask.area == full.sum()


@pytest.mark.parametrize(
    "logits",
    [
        np.full((64, 64), -1, np.float32),
        np.zeros((64, 64), np.float32),
        np.pad(np.full((8, 64), 9, np.float32), ((56, 0), (0, 0)), constant_values=-9),  # in the padding alone
    ],
    ids=["negative", "zero", "padding"],
)
def test_nothing_positive_is_an_empty_mask(logits: NDArray[np.float32]) -> None:
    mask = Mask(logits, whole_frame((200, 400)))
    assert mask.bbox == EMPTY
    assert mask.crop.shape == (0, 0)
    assert mask.area == 0
    assert np.asarray(mask).shape == (200, 400)
    assert not np.asarray(mask).any()


def test_a_mask_is_an_array_to_numpy() -> None:
    mask = Mask(smooth_logits(256), whole_frame((30, 40)))
    full = np.asarray(mask)
    assert full.dtype == bool
    assert full.shape == (30, 40)
    assert np.asarray(mask, dtype=np.uint8).sum() == np.asarray(mask, dtype=bool).sum() == mask.area
    assert np.array(mask, copy=True).flags.writeable
    assert np.stack([mask, mask]).shape == np.array([mask, mask]).shape == (2, 30, 40)
    assert (np.ones((30, 40), int) * np.asarray(mask)).sum() == mask.area
    with pytest.raises(ValueError, match="without a copy"):
        mask.__array__(copy=False)


def test_the_picture_is_the_callers_own_but_the_crop_is_not() -> None:
    mask = Mask(smooth_logits(256), whole_frame((30, 40)))
    np.asarray(mask)[:] = False
    assert np.asarray(mask).any()
    with pytest.raises(ValueError, match="read-only"):
        mask.crop[:] = False


@pytest.mark.parametrize("through", [copy.deepcopy, copy.copy, lambda value: pickle.loads(pickle.dumps(value))])
def test_masks_survive_copies_and_pickles(through: object) -> None:
    mask = Mask(smooth_logits(256), whole_frame((30, 40)))
    for before in (mask, Mask.of_pixels(np.asarray(mask), mask.frame)):
        again = through(before)  # type: ignore[operator]
        assert np.array_equal(again.logits, before.logits)
        assert again.bbox == before.bbox
        assert np.array_equal(np.asarray(again), np.asarray(before))


def test_a_log_line_stays_a_line_and_truth_is_not_the_pixels() -> None:
    mask = Mask(smooth_logits(1024), whole_frame((300, 400), 1024))
    result = MaskResult((mask, mask, mask), np.ones(3, np.float32))
    assert len(repr(mask)) < 150
    assert len(repr(result)) < 500
    assert bool(mask)
    assert len({mask, mask}) == 1


def test_fed_back_to_its_own_region_a_mask_is_its_logits() -> None:
    frame = Frame((300, 400), (100, 50, 170, 250), 256)
    mask = Mask(smooth_logits(256), frame)
    assert mask.logits_in(Frame((300, 400), (100, 50, 170, 250), 256)) is mask.logits


def disk(shape: tuple[int, int], centre: tuple[int, int], radius: float) -> NDArray[np.bool_]:
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(rows - centre[0], cols - centre[1]) <= radius


def overlap(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / (first | second).sum())


@pytest.mark.parametrize("region", [(0, 0, 300, 400), (60, 100, 260, 300), (110, 140, 210, 240)])
def test_fed_to_another_region_a_mask_stays_where_it_is(region: tuple) -> None:
    picture = disk((300, 400), (160, 190), 40)
    own = Frame((300, 400), (40, 90, 290, 340), 256)
    mask = Mask(logits_of(picture, own), own)
    other = Frame((300, 400), region, 256)
    seen = np.zeros((300, 400), bool)
    seen[region[0] : region[2], region[1] : region[3]] = True
    assert overlap(np.asarray(Mask(mask.logits_in(other), other)), picture & seen) > 0.9


def test_what_a_region_did_not_see_is_outside() -> None:
    part = Frame((300, 400), (0, 0, 150, 200), 256)
    full = np.full((64, 64), 5, np.float32)
    logits = Mask(full, part).logits_in(whole_frame((300, 400)))
    assert (logits[:24, :32] > 0).all()
    assert (logits[25:] == -CERTAIN).all()
    assert (logits[:, 33:] == -CERTAIN).all()


@pytest.mark.parametrize("size", [256, 1024])
@pytest.mark.parametrize("shape", [(300, 400), (1400, 900), (60, 45)])
def test_a_bool_picture_becomes_certain_logits_in_place(shape: tuple[int, int], size: int) -> None:
    frame = whole_frame(shape, size)
    picture = disk(shape, (shape[0] // 2, shape[1] // 3), min(shape) / 4)
    logits = logits_of(picture, frame)
    assert logits.shape == (size // 4, size // 4)
    assert logits.dtype == np.float32
    assert set(np.unique(logits)) == {-CERTAIN, CERTAIN}
    assert overlap(np.asarray(Mask(logits, frame)), picture) > 0.9


def test_an_empty_picture_becomes_logits_that_are_all_outside() -> None:
    assert (logits_of(np.zeros((30, 40), bool), whole_frame((30, 40))) == -CERTAIN).all()


def test_a_full_picture_fills_the_image_and_not_the_padding() -> None:
    logits = logits_of(np.ones((200, 400), bool), whole_frame((200, 400)))
    assert (logits[:32] == CERTAIN).all()
    assert (logits[32:] == -CERTAIN).all()


@pytest.mark.parametrize("place", [(0, 0), (700, 450), (1399, 899)])
def test_a_single_pixel_is_not_lost(place: tuple[int, int]) -> None:
    frame = whole_frame((1400, 900))
    picture = np.zeros((1400, 900), bool)
    picture[place] = True
    logits = logits_of(picture, frame)
    assert (logits > 0).sum() == 1
    row, col = np.argwhere(np.asarray(Mask(logits, frame))).mean(0)
    assert abs(row - place[0]) < 22  # a cell of 1400 / 64 pixels
    assert abs(col - place[1]) < 22


def test_of_pixels_keeps_every_pixel() -> None:
    picture = np.random.default_rng(0).random((90, 130)) > 0.97
    mask = Mask.of_pixels(picture, whole_frame((90, 130)))
    assert np.array_equal(np.asarray(mask), picture)
    assert mask.area == picture.sum()
    with pytest.raises(ValueError, match="read-only"):
        mask.crop[:] = True


def test_only_borders_inside_the_image_cut_off() -> None:
    half = np.full((64, 64), -5, np.float32)
    half[:, :20] = 5  # touches top, left and bottom
    assert not Mask(half, whole_frame((100, 100))).is_cut_off()
    assert not Mask(half, Frame((100, 100), (0, 0, 100, 50), 256)).is_cut_off()
    assert Mask(half, Frame((100, 100), (0, 50, 100, 100), 256)).is_cut_off()
    assert Mask(half, Frame((100, 100), (0, 0, 60, 100), 256)).is_cut_off()


def test_a_point_is_central_where_the_mask_is_thickest() -> None:
    strip = np.full((64, 64), -5, np.float32)
    strip[10:21, 5:50] = 5  # its middle row of cells is 15, rows 60 to 63 of an image of 256 px
    mask = Mask(strip, whole_frame((256, 256)))
    middle, aside, edge = (mask.centrality(np.array([row, 110.0])) for row in (61.5, 49.5, 41.5))
    assert middle == pytest.approx(1)
    assert aside == pytest.approx(0.5)
    assert 0 < edge < 0.25
    assert mask.centrality(np.array([150.0, 110.0])) == 0
    assert mask.centrality(np.array([-9.0, 110.0])) == 0
    assert Mask(-np.abs(strip), whole_frame((256, 256))).centrality(np.array([61.5, 110.0])) == 0


def test_a_mask_ends_where_the_padding_begins() -> None:
    everything = Mask(np.full((64, 64), 5, np.float32), whole_frame((256, 128)))
    assert everything.centrality(np.array([127.5, 63.5])) == pytest.approx(1)
    assert everything.centrality(np.array([127.5, 126.0])) < 0.1


def test_results_stack_logits_and_know_the_best() -> None:
    frame = whole_frame((30, 40))
    masks = tuple(Mask(smooth_logits(256, seed), frame) for seed in range(3))
    result = MaskResult(masks, np.array([0.1, 0.9, 0.3], np.float32))
    assert result.logits.shape == (3, 64, 64)
    assert np.array_equal(result.logits[2], masks[2].logits)
    assert result.best == 1
