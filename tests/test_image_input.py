from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
from PIL import Image

from napari_sam import ImageError
from napari_sam.geometry import Frame, Profile, whole
from napari_sam.image_input import (
    SharedLimits,
    as_array,
    check_fits,
    check_region,
    encoder_input,
    read_picture,
    resolve_rule,
    robust_limits,
    to_uint8,
)

INTEGERS = [np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int16, np.int32, np.int64]
FLOATS = [np.float16, np.float32, np.float64, np.longdouble]
PROFILE = Profile("sam", 64)


def picture_of(image: Any, region: Any = None, **how: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return what the encoder sees of `image`, before it is resized."""
    rule = resolve_rule(image, **how)
    return read_picture(image, rule, check_region(region, rule.shape))


def ramp(height: int = 30, width: int = 40) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return values rising from 0 to 1 along the rows."""
    return np.linspace(0, 1, height * width).reshape(height, width)


# --- any dtype --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_from_end_to_end_of_their_range_become_a_rising_picture(dtype: type, order: str) -> None:
    info = np.iinfo(dtype)
    exact = [info.min + (int(info.max) - int(info.min)) * step // 1199 for step in range(1200)]
    image = np.array(exact, dtype=dtype).reshape(30, 40).astype(np.dtype(dtype).newbyteorder(order))
    picture = picture_of(image)
    assert picture.dtype == np.uint8
    assert picture.shape == (30, 40, 3)
    seen = picture[..., 0].ravel().astype(int)
    assert (np.diff(seen) >= 0).all()  # no wrap-around
    assert (seen[0], seen[-1]) == (0, 255)
    assert seen[600] == pytest.approx(128, abs=2)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_near_the_ends_of_their_range_become_a_rising_picture(dtype: type, order: str) -> None:
    top = np.finfo(dtype).max if dtype is not np.longdouble else np.finfo(np.float64).max
    image = ((2 * ramp() - 1) * np.float64(top) * 0.999).astype(dtype)
    picture = picture_of(image.astype(image.dtype.newbyteorder(order)))
    seen = picture[..., 0].ravel().astype(int)
    assert (np.diff(seen) >= 0).all()
    assert (seen[0], seen[-1]) == (0, 255)


def test_bool_becomes_black_and_white() -> None:
    image = ramp() > 0.5
    assert np.array_equal(picture_of(image)[..., 0], 255 * image.astype(np.uint8))


def test_twelve_bit_data_in_sixteen_bits_are_not_black() -> None:
    picture = picture_of((4095 * ramp()).astype(np.uint16))
    assert picture.min() == 0
    assert picture.max() == 255
    assert picture.mean() == pytest.approx(127, abs=2)


def test_one_hot_pixel_does_not_darken_the_rest() -> None:
    image = 100 * ramp(100, 120)
    image[3, 4] = 1e9
    assert picture_of(image).mean() == pytest.approx(127, abs=3)


def test_sparse_foreground_beyond_the_percentiles_is_still_seen() -> None:
    image = np.zeros((200, 300))
    image[50:52, 60:63] = 7
    assert picture_of(image)[51, 61].tolist() == [255] * 3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_pixels_that_are_no_number_change_nothing_else(dtype: type, bad: float) -> None:
    image = ramp().astype(dtype)
    holed = image.copy()
    holed[10:12, 10:20] = bad
    clean, picture = picture_of(image), picture_of(holed)
    others = np.ones(image.shape, bool)
    others[10:12, 10:20] = False
    assert np.abs(clean[others].astype(int) - picture[others]).max() <= 1
    assert (picture[~others] == (255 if bad == np.inf else 0)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nothing_but_no_numbers_is_one_colour(value: float) -> None:
    assert len(np.unique(picture_of(np.full((5, 7), value)))) == 1


@pytest.mark.parametrize("dtype", [*INTEGERS, np.float16, np.float32, np.float64, bool])
@pytest.mark.parametrize("end", ["lowest", "zero", "highest"])
def test_a_constant_is_one_colour_with_limits_that_can_be_given_again(dtype: type, end: str) -> None:
    ends = (0, 1) if dtype is bool else (np.finfo(dtype) if np.dtype(dtype).kind == "f" else np.iinfo(dtype))
    lowest, highest = ends if isinstance(ends, tuple) else (ends.min, ends.max)
    image = np.full((5, 7), {"lowest": lowest, "zero": 0, "highest": highest}[end], dtype)
    rule = resolve_rule(image)
    assert rule.limits is not None
    assert rule.limits[0][0] < rule.limits[0][1]
    assert resolve_rule(image, limits=rule.limits) == rule
    assert len(np.unique(read_picture(image, rule, whole(rule.shape)))) == 1


def test_zeros_are_black() -> None:
    assert not picture_of(np.zeros((5, 7))).any()


@pytest.mark.parametrize("limits", [(0.0, 5e-324), (-5e-324, 0.0), (1.0, np.nextafter(1.0, 2))])
def test_limits_as_close_as_numbers_can_lie_are_no_mistake(limits: tuple[float, float]) -> None:
    assert to_uint8(np.array([[limits[0] - 1, limits[1] + 1]]), limits).tolist() == [[0, 255]]


@pytest.mark.parametrize("seed", range(20))
def test_limits_of_any_values_are_a_finite_range_of_them(seed: int) -> None:
    generator = np.random.default_rng(seed)
    bits = generator.integers(0, 2**64, 50, dtype=np.uint64).view(np.float64)  # every kind of float
    low, high = robust_limits(np.concatenate([bits, [np.nan, np.inf, -np.inf]]))
    finite = bits[np.isfinite(bits)]
    assert finite.min() <= low < high <= finite.max()
    assert (to_uint8(finite[None], (low, high))[0][finite >= high] == 255).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (1, 9, 3), (1, 1, 2)])
def test_the_thinnest_images_are_pictures(shape: tuple[int, ...]) -> None:
    for dtype in (np.uint8, np.float32):
        image = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
        assert picture_of(image).shape == (*shape[:2], 3)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 5), complex), "complex128.*magnitude"),
        (np.zeros((4, 5), object), "object"),
        (np.zeros((4, 5), "datetime64[s]"), "datetime64"),
        (np.zeros((4, 5), [("x", float)]), "type"),
        (np.full((4, 5), "x"), "<U1"),
        (np.zeros(5), r"shape \(5,\)"),
        (np.zeros((2, 3, 4, 5)), r"shape \(2, 3, 4, 5\)"),
        (np.zeros((0, 5)), r"shape \(0, 5\).*not empty"),
        (np.zeros((4, 5, 0)), "not empty"),
        ("a file name", "shape"),
        (None, "shape"),
        ([[1, 2], [3]], "no array"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_picture_is_refused(image: object, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        resolve_rule(as_array(image))


def test_lists_tensors_and_pil_pictures_are_arrays() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    for image in (values.tolist(), torch.from_numpy(values), Image.fromarray(values)):
        assert np.array_equal(picture_of(as_array(image)), picture_of(values))


def test_views_and_read_only_arrays_are_read_as_they_are() -> None:
    image = np.random.default_rng(0).integers(0, 4000, (60, 80, 3)).astype(np.uint16)
    view = image[::-2, ::2, ::-1]
    view.setflags(write=False)
    before = image.copy()
    assert np.array_equal(picture_of(view), picture_of(np.ascontiguousarray(view)))
    assert np.array_equal(image, before)


# --- channels ---------------------------------------------------------------------------------------------------------


def test_a_uint8_colour_picture_is_unchanged() -> None:
    image = np.random.default_rng(0).integers(50, 90, (30, 40, 3), dtype=np.uint8)
    assert np.array_equal(picture_of(image), image)
    assert resolve_rule(image).limits is None


def test_the_alpha_of_uint8_is_dropped_without_a_word() -> None:
    image = np.random.default_rng(0).integers(50, 90, (30, 40, 4), dtype=np.uint8)
    rule = resolve_rule(image)
    assert rule.channels == (0, 1, 2)
    assert rule.note == ""
    assert np.array_equal(picture_of(image), image[..., :3])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_one_channel_is_repeated_and_more_than_three_are_cut(dtype: type, count: int) -> None:
    image = np.random.default_rng(0).integers(0, 200, (30, 40, count)).astype(dtype)
    image[..., 1:] += 55
    rule, picture = resolve_rule(image), picture_of(image)
    assert rule.channels == tuple(range(min(count, 3)))
    if count == 1:
        assert (picture == picture[..., :1]).all()
        assert np.array_equal(picture, picture_of(image[..., 0]))
    if count == 2:
        assert not picture[..., 2].any()
        assert picture[..., :2].std(axis=(0, 1)).min() > 30
    if count > 3:
        assert np.array_equal(picture, picture_of(image[..., :3]))
    assert bool(rule.note) == (count in (2, 5, 7) or (count == 4 and dtype != np.uint8))


@pytest.mark.parametrize("channels", [5, np.int64(5), np.uint8(5), [5], (np.int32(5),), np.array([5]), -2])
def test_one_channel_is_picked_whatever_type_names_it(channels: object) -> None:
    image = np.random.default_rng(0).random((30, 40, 7))
    rule = resolve_rule(image, channels=channels)  # type: ignore[arg-type]
    assert rule.channels == (5,)
    assert rule.note == ""
    assert np.array_equal(picture_of(image, channels=channels), picture_of(image[..., 5]))


@pytest.mark.parametrize("channels", [(2, 0), (6, 1, 3), (1, 1, 4), np.array([4, 2])])
def test_channels_are_taken_in_the_order_given(channels: Any) -> None:
    image = np.random.default_rng(0).random((30, 40, 7))
    assert np.array_equal(picture_of(image, channels=channels), picture_of(image[..., list(channels)]))


@pytest.mark.parametrize(
    "channels",
    [3, -4, (), (0, 1, 2, 0), (0, 9), 1.0, "red", [[0]], np.array([0.5]), [[0], [1, 2]], [True, False, False], False],
)
def test_channels_that_there_are_not_are_refused(channels: Any) -> None:
    with pytest.raises(ImageError, match=r"of an image with 3: name one to three of 0 to 2"):
        resolve_rule(np.zeros((4, 5, 3)), channels=channels)


def test_an_image_without_channel_axis_has_channel_0_alone() -> None:
    for channels in (0, (0,), np.array([0])):
        assert resolve_rule(np.zeros((4, 5)), channels=channels).channels == ()
    for channels in (1, (0, 0), (0, 1)):
        with pytest.raises(ImageError):
            resolve_rule(np.zeros((4, 5)), channels=channels)


# --- limits -----------------------------------------------------------------------------------------------------------


def test_one_pair_of_limits_holds_for_all_channels() -> None:
    image = np.dstack([ramp() * 1000 - 100] * 3)
    picture = picture_of(image, limits=(0, 510))
    expected = np.rint(np.clip((ramp() * 1000 - 100) / 2, 0, 255))
    assert (picture == expected[..., None]).all()


def test_a_pair_of_limits_for_each_channel() -> None:
    image = np.dstack([ramp(), 10 * ramp(), 100 * ramp()])
    picture = picture_of(image, limits=[(0, 1), (0, 10), (0, 100)])
    assert (picture == picture[..., :1]).all()
    assert (picture.min(), picture.max()) == (0, 255)


def test_limits_hold_for_uint8_too_and_clip() -> None:
    image = np.dstack([np.arange(256, dtype=np.uint8).reshape(16, 16)] * 3)
    picture = picture_of(image, limits=(100, 200))
    assert (picture[image < 100] == 0).all()
    assert (picture[image > 200] == 255).all()


def test_limits_are_kept_as_they_were_resolved() -> None:
    assert resolve_rule(np.zeros((4, 5, 2)), limits=np.array([1, 2])).limits == ((1.0, 2.0), (1.0, 2.0))
    assert resolve_rule(np.zeros((4, 5)), limits=[[1, 2]]).limits == ((1.0, 2.0),)


@pytest.mark.parametrize(
    "limits",
    [
        5,
        (1,),
        (1, 2, 3),
        [(0, 1), (0, 1)],
        (2, 1),
        (1, 1),
        (np.nan, 1),
        (0, np.inf),
        "auto",
        [(0, 1), (0,), (1, 2)],
        (),
    ],
)
def test_limits_that_are_no_range_are_refused(limits: Any) -> None:
    with pytest.raises(ImageError, match="limits"):
        resolve_rule(np.zeros((4, 5, 3)), limits=limits)


# --- regions and lazy arrays ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(50, 70), (50, 70, 3), (50, 70, 5), (1500, 1100)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_region_looks_as_it_does_in_the_whole(shape: tuple[int, ...], dtype: type) -> None:
    image = (np.random.default_rng(0).random(shape) * np.arange(1, shape[1] + 1)[:, *[None] * (len(shape) - 2)]).astype(
        dtype
    )
    assert np.array_equal(picture_of(image, region=(10, 20, 41, 33)), picture_of(image)[10:41, 20:33])


@pytest.mark.parametrize("region", [(0, 0, 4, 5), [1, 2, 3, 4], np.array([1, 2, 3, 4]), (1.0, 2.0, 3.0, 4.0)])
def test_a_region_is_four_whole_numbers(region: Any) -> None:
    box = check_region(region, (4, 5))
    assert box == tuple(region)
    assert all(type(value) is int for value in box)


@pytest.mark.parametrize(
    "region",
    [
        (0, 0, 5, 5),
        (-1, 0, 3, 3),
        (2, 2, 2, 4),
        (3, 2, 2, 4),
        (0, 0, 4),
        (0, 0, 4, 5, 6),
        (0, 0, 2.5, 3),
        (0, 0, np.nan, 3),
        (0, 0, np.inf, 3),
        5,
        "all",
        (None, 0, 1, 1),
    ],
)
def test_a_region_that_is_not_inside_is_refused(region: Any) -> None:
    with pytest.raises(ImageError, match="half-open, inside the image"):
        check_region(region, (4, 5))


class Counted:
    """An array that is read by slicing alone, and says how much of it was."""

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self.values, self.shape, self.dtype, self.read = values, values.shape, values.dtype, 0

    def __getitem__(self, window: Any) -> np.ndarray[Any, Any]:
        part = self.values[window]
        self.read += part.size
        return part

    def __array__(self, *_: Any, **__: Any) -> np.ndarray[Any, Any]:
        raise AssertionError("the whole array was asked for")


def test_of_a_lazy_array_the_region_and_the_channels_between_alone_are_read() -> None:
    image = Counted(np.random.default_rng(0).random((300, 400, 20)))
    picture_of(image, region=(10, 20, 40, 70), channels=(3, 5), limits=(0, 1))
    assert image.read == 30 * 50 * 3


def test_of_a_large_image_a_sample_decides_the_limits() -> None:
    image = Counted(np.random.default_rng(0).random((3000, 2500)).astype(np.float32))
    limits = resolve_rule(image).limits
    assert image.read <= 1 << 20
    assert limits is not None
    assert limits[0] == pytest.approx((0.001, 0.999), abs=0.001)


def test_a_dask_array_gives_what_its_values_give_and_computes_its_region_alone() -> None:
    values = np.random.default_rng(0).integers(0, 4000, (300, 400)).astype(np.uint16)
    computed = []

    def noted(block: np.ndarray[Any, Any], block_info: Any = None) -> np.ndarray[Any, Any]:
        computed.append(block_info[0]["chunk-location"])
        return block

    lazy = da.from_array(values, chunks=(100, 100)).map_blocks(noted, dtype=values.dtype, meta=values[:0, :0])
    region = (110, 120, 190, 260)
    assert np.array_equal(picture_of(lazy), picture_of(values))
    computed.clear()
    assert np.array_equal(
        picture_of(lazy, region=region, limits=(0, 4000)), picture_of(values, region=region, limits=(0, 4000))
    )
    assert set(computed) == {(1, 1), (1, 2)}


def test_limits_shared_by_a_stack_are_those_of_all_its_slices() -> None:
    stack = np.stack([ramp() + level for level in range(40)])
    low, high = SharedLimits(stack).resolved
    assert low < 0.1
    assert high > 38


@pytest.mark.parametrize(
    "other",
    [
        np.zeros((30, 41, 3), np.uint8),
        np.zeros((30, 40), np.uint8),
        np.zeros((30, 40, 2), np.uint8),
        np.zeros((30, 40, 3), np.uint16),  # would wrap round
        np.zeros((3, 30, 40, 3), np.uint8),
    ],
)
def test_an_image_that_a_rule_was_not_made_for_does_not_fit_it(other: np.ndarray[Any, Any]) -> None:
    rule = resolve_rule(np.zeros((30, 40, 3), np.uint8))
    check_fits(np.ones((30, 40, 3), np.uint8), rule)
    with pytest.raises(ImageError):
        check_fits(other, rule)


def test_an_image_without_channels_is_not_one_with_them() -> None:
    rule = resolve_rule(np.zeros((30, 40), np.uint16))
    check_fits(np.zeros((30, 40)), rule)
    with pytest.raises(ImageError, match="channels"):
        check_fits(np.zeros((30, 40, 1)), rule)


# --- the encoder's input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(300, 400), (140, 90), (10, 10), (1, 50)])
def test_the_input_is_resized_normalised_and_padded_as_published(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    frame = Frame(shape, whole(shape), 64)
    height, width = frame.resized
    seen = encoder_input(picture, frame, PROFILE)
    resized = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
    assert seen.shape == (3, 64, 64)
    assert seen.dtype == np.float32
    for index, (mean, std) in enumerate([(123.675, 58.395), (116.28, 57.12), (103.53, 57.375)]):
        assert seen[index, :height, :width] == pytest.approx((resized[..., index] - mean) / std, abs=1e-5)
    assert not seen[:, height:].any()
    assert not seen[:, :, width:].any()
