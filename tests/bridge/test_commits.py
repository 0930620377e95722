"""Clicks, boxes and commits: what is asked, what is offered, what is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from annotating import BOX, SHAPE, click, ids, pixels, shifted
from fakes import PATIENCE, FakePredictor, disk

from napari_sam.bridge.controller import Controller

# Clicks and boxes


def test_a_click_is_answered_with_three_candidates(annotator: Controller) -> None:
    click(annotator, 20, 30)
    assert len(annotator.candidates) == 3
    assert annotator.chosen == 2
    assert (pixels(annotator.preview) == disk(SHAPE, np.array([(20, 30)]), 16)).all()
    annotator.choose(0)
    assert (pixels(annotator.preview) == disk(SHAPE, np.array([(20, 30)]), 4)).all()


def test_choosing_what_is_not_offered_is_an_error(annotator: Controller) -> None:
    with pytest.raises(IndexError, match="candidate 0 of 0"):
        annotator.choose(0)
    click(annotator, 20, 30)
    with pytest.raises(IndexError, match="candidate 3 of 3"):
        annotator.choose(3)


def test_a_second_click_feeds_the_chosen_candidate_back(annotator: Controller, predictor: FakePredictor) -> None:
    click(annotator, 20, 30)
    annotator.choose(1)
    chosen = annotator.candidates[1][0]
    click(annotator, 22, 33, label=0)
    assert predictor.asked[-1].mask is chosen
    assert predictor.asked[-1].labels.tolist() == [1, 0]


def test_the_next_object_starts_without_the_last_ones_mask(annotator: Controller, predictor: FakePredictor) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    click(annotator, 40, 60)
    assert predictor.asked[-1].mask is None


def test_a_commit_is_the_chosen_mask_under_a_new_id_and_clears_its_prompts(annotator: Controller) -> None:
    seen: list[Any] = []
    annotator.events.committed.connect(seen.append)
    click(annotator, 20, 30)
    annotator.choose(1)
    annotator.commit()
    assert (annotator.labels.data == disk(SHAPE, np.array([(20, 30)]), 8)).all()
    assert len(annotator.points.data) == 0
    assert not pixels(annotator.preview).any()
    assert annotator.candidates == ()
    assert seen == [(1,)]


def test_a_box_then_a_click_are_one_object_and_two_boxes_two(annotator: Controller) -> None:
    annotator.shapes.add_rectangles(BOX)
    click(annotator, 20, 30)
    annotator.commit()
    assert ids(annotator) == {1}
    annotator.shapes.add_rectangles([shifted(25, 0), shifted(25, 35)])
    annotator.wait(PATIENCE)
    annotator.commit()
    assert ids(annotator) == {1, 2, 3}


def test_a_box_is_asked_by_its_corners(annotator: Controller, predictor: FakePredictor) -> None:
    annotator.shapes.add_rectangles(BOX)
    annotator.wait(PATIENCE)
    assert predictor.asked[-1].boxes.tolist() == [[10, 20, 30, 50]]


def test_a_commit_never_overwrites_an_earlier_object(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    first = annotator.labels.data == 1
    click(annotator, 20, 40)
    annotator.commit()
    assert (annotator.labels.data[first] == 1).all()
    assert ids(annotator) == {1, 2}


def test_a_commit_without_a_free_pixel_writes_nothing_and_keeps_its_prompts(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.commit()
    click(annotator, 20, 30)
    annotator.choose(0)
    annotator.commit()
    assert ids(annotator) == {1}
    assert len(annotator.points.data) == 1
    assert "change no pixel" in annotator.status.message
    annotator.clear()
    annotator.undo()
    assert len(annotator.points.data) == 1


def test_a_commit_before_the_answer_waits_for_it(annotator: Controller, predictor: FakePredictor) -> None:
    predictor.may_decode.clear()
    annotator.points.add([(20, 30)])
    annotator.commit()
    assert ids(annotator) == set()
    predictor.may_decode.set()
    annotator.wait(PATIENCE)
    assert ids(annotator) == {1}


def test_committing_nothing_says_so(annotator: Controller) -> None:
    annotator.commit()
    assert "Nothing to commit" in annotator.status.message


@pytest.mark.parametrize("remove", ["undo", "delete"])
def test_when_the_active_box_goes_the_one_before_is_active(annotator: Controller, remove: str) -> None:
    annotator.shapes.add_rectangles(BOX)
    annotator.shapes.add_rectangles(shifted(25, 30))
    if remove == "undo":
        annotator.undo()
    else:
        annotator.shapes.selected_data = {1}
        annotator.shapes.remove_selected()
    click(annotator, 20, 30)
    annotator.commit()
    assert ids(annotator) == {1}


def test_points_are_loose_again_when_the_only_box_goes(annotator: Controller) -> None:
    click(annotator, 50, 80)
    annotator.shapes.add_rectangles(BOX)
    annotator.shapes.data = []
    click(annotator, 50, 70)
    annotator.commit()
    assert ids(annotator) == {1}


# Prompts that do not count


def test_points_outside_the_image_are_left_out_with_a_word(annotator: Controller) -> None:
    annotator.points.add([(-30, 10)])
    annotator.wait(PATIENCE)
    assert "outside the image" in annotator.status.message
    assert annotator.candidates == ()


def test_negative_points_alone_ask_nothing(annotator: Controller, predictor: FakePredictor) -> None:
    click(annotator, 20, 30, label=0)
    assert predictor.asked == []


def test_removing_the_last_prompt_clears_the_preview(annotator: Controller) -> None:
    click(annotator, 20, 30)
    annotator.points.selected_data = {0}
    annotator.points.remove_selected()
    annotator.wait(PATIENCE)
    assert not pixels(annotator.preview).any()


def test_changing_the_label_of_a_point_asks_again(annotator: Controller, predictor: FakePredictor) -> None:
    click(annotator, 20, 30)
    click(annotator, 40, 60)
    annotator.points.features = pd.DataFrame({"label": [1, 0]})
    annotator.wait(PATIENCE)
    assert predictor.asked[-1].labels.tolist() == [1, 0]
