from __future__ import annotations

import numpy as np
import pytest

from napari_sam import Mask, Prompts
from napari_sam.geometry import Frame
from napari_sam.regions import helpful_regions, mask_corners

SHAPE = (400, 600)
WHOLE = (0, 0, *SHAPE)
SIDES = (72, 176, 420)


def helpful(prompts: Prompts, *known: tuple, shape: tuple[int, int] = SHAPE) -> list[tuple]:
    return list(helpful_regions(prompts, shape, [(0, 0, *shape), *known], SIDES))  # type: ignore[list-item]


def sides(boxes: list[tuple]) -> list[tuple[int, int]]:
    return [(row1 - row0, col1 - col0) for row0, col0, row1, col1 in boxes]


def test_a_click_asks_for_crops_of_every_side_round_it() -> None:
    boxes = helpful(Prompts(points=[(200, 300)]))
    assert sides(boxes) == [(72, 72), (176, 176), (400, 420)]
    for row0, col0, row1, col1 in boxes:
        assert row0 <= 200 < row1
        assert col0 <= 300 < col1
        assert (col0 + col1) / 2 == pytest.approx(300, abs=1)


def test_crops_at_a_corner_lie_inside_the_image() -> None:
    for corner in ((0, 0), (399, 599), (0, 599)):
        for row0, col0, row1, col1 in helpful(Prompts(points=[corner])):
            assert 0 <= row0 < row1 <= 400
            assert 0 <= col0 < col1 <= 600


def test_what_is_known_is_not_asked_for_again() -> None:
    prompts = Prompts(points=[(200, 300)])
    assert helpful(prompts, *helpful(prompts)) == []


def test_crops_hold_all_positive_clicks_and_care_for_no_negative_one() -> None:
    both = helpful(Prompts(points=[(100, 200), (220, 200)]))
    assert sides(both) == [(400, 420)]
    beside = helpful(Prompts(points=[(100, 200), (220, 200)], labels=[1, 0]))
    assert beside == helpful(Prompts(points=[(100, 200)]))


def test_negative_clicks_alone_ask_for_nothing() -> None:
    assert helpful(Prompts(points=[(100, 200)], labels=[0])) == []


def test_a_box_asks_for_two_crops_somewhat_larger() -> None:
    crops = helpful(Prompts(boxes=[(100, 200, 139, 259)]))
    assert sides(crops) == [(78, 78), (114, 114)]
    for row0, col0, row1, col1 in crops:
        assert row0 < 100
        assert row1 > 139
        assert col0 < 200
        assert col1 > 259


def test_a_region_that_shows_the_box_well_will_do() -> None:
    box = Prompts(boxes=[(100, 200, 139, 259)])
    small, large = helpful(box)
    assert helpful(box, (80, 190, 160, 270)) == [large]
    assert helpful(box, (80, 190, 160, 270), (65, 175, 175, 285)) == []
    assert helpful(box, (80, 210, 160, 290)) == [small, large]  # cuts it
    assert helpful(box, (50, 50, 350, 350)) == [small, large]  # shows it tiny


def test_every_other_crop_is_seen_from_another_side_whatever_is_known() -> None:
    click, box = Prompts(points=[(200, 300)]), Prompts(boxes=[(100, 200, 139, 259)])
    assert list(helpful_regions(click, SHAPE, [WHOLE], SIDES).values()) == [True, False, True]
    asked = helpful_regions(box, SHAPE, [WHOLE], SIDES)
    small, large = asked
    assert asked == {small: True, large: False}
    assert helpful_regions(box, SHAPE, [WHOLE, small], SIDES) == {large: False}
    assert helpful_regions(box, SHAPE, [WHOLE, large], SIDES) == {small: True}


def test_an_object_as_large_as_the_image_needs_no_crop() -> None:
    assert helpful(Prompts(boxes=[(10, 10, 390, 590)])) == []


def test_a_small_image_needs_no_crop() -> None:
    assert helpful(Prompts(points=[(20, 30)]), shape=(60, 70)) == []


@pytest.mark.parametrize("given", ["bool", "Mask"])
def test_a_mask_tells_the_scale_as_a_box_does(given: str) -> None:
    picture = np.zeros(SHAPE, bool)
    picture[100:140, 200:260] = True
    mask = picture if given == "bool" else Mask.of_pixels(picture, Frame(SHAPE, WHOLE, 256))
    assert mask_corners(mask).tolist() == [[100, 200], [139, 259]]
    assert helpful(Prompts(mask=mask)) == helpful(Prompts(boxes=[(100, 200, 139, 259)]))


def test_an_empty_mask_tells_nothing() -> None:
    empty = np.zeros(SHAPE, bool)
    assert mask_corners(empty).shape == (0, 2)
    assert mask_corners(Mask.of_pixels(empty, Frame(SHAPE, WHOLE, 256))).shape == (0, 2)
    assert helpful(Prompts(mask=empty)) == []
    assert helpful(Prompts(mask=empty, points=[(200, 300)])) == helpful(Prompts(points=[(200, 300)]))
