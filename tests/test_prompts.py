from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from napari_sam import Mask, PromptError, Prompts
from napari_sam.geometry import Frame

NAN, INF = np.nan, np.inf


def test_everything_given_is_kept_as_frozen_arrays() -> None:
    points, labels = np.array([[1.5, 2], [3, 4]]), [1, 0]
    prompts = Prompts(points=points, labels=labels, boxes=[(0, 1, 2, 3)])
    points[0] = 99  # the caller's own array stays the caller's
    assert prompts.points.tolist() == [[1.5, 2], [3, 4]]
    assert prompts.labels.tolist() == [1, 0]
    assert prompts.labels.dtype == np.int64
    assert prompts.boxes.tolist() == [[0, 1, 2, 3]]
    assert prompts.positive.tolist() == [[1.5, 2]]
    for values in (prompts.points, prompts.labels, prompts.boxes):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0
    with pytest.raises(AttributeError):
        prompts.points = points  # type: ignore[misc]


def test_points_without_labels_are_positive() -> None:
    assert Prompts(points=[(1, 2), (3, 4)]).labels.tolist() == [1, 1]


@pytest.mark.parametrize("labels", [[True, False], np.array([1, 0], np.uint8), [1.0, 0.0], (1, 0)])
def test_labels_of_any_type_are_one_and_zero(labels: object) -> None:
    assert Prompts(points=[(1, 2), (3, 4)], labels=labels).labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "no prompt at all"),
        ({"points": [], "labels": []}, "no prompt at all"),
        ({"points": None, "boxes": None}, "no prompt at all"),
        ({"points": np.zeros((0, 2))}, "no prompt at all"),
        ({"points": [(NAN, 1)]}, r"nan.*leave out"),
        ({"points": [(1, INF)]}, r"inf.*leave out"),
        ({"boxes": [(0, 0, NAN, 9)]}, r"nan.*leave out"),
        ({"points": [(1, 2)], "labels": [1, 0]}, r"1 points .* \(2,\)"),
        ({"points": [(1, 2)], "labels": []}, r"1 points .* \(0,\)"),
        ({"points": [(1, 2)], "labels": 1}, r"shape \(\)"),
        ({"points": [(1, 2)], "labels": [[1]]}, r"\(1, 1\)"),
        ({"points": [(1, 2), (3, 4)], "labels": [1, [0, 1]]}, "one label for each point"),
        ({"labels": [1]}, "0 points"),
        ({"points": [(1, 2)], "labels": [2]}, r"\[2\]"),
        ({"points": [(1, 2)], "labels": [-1]}, r"\[-1\]"),
        ({"points": [(1, 2)], "labels": [NAN]}, "nan"),
        ({"points": [(1, 2)], "labels": ["1"]}, "use 1"),
        ({"points": (1, 2)}, r"shape \(2,\).*\(row, column\)"),
        ({"points": [(1, 2, 3)]}, r"shape \(1, 3\)"),
        ({"points": [(1, 2), (3,)]}, "row, column"),
        ({"points": "here"}, "not numbers"),
        ({"boxes": (0, 0, 9, 9)}, r"shape \(4,\)"),
        ({"boxes": [(0, 0, 9)]}, r"row0, col0, row1, col1"),
        ({"boxes": [(9, 0, 0, 9)]}, r"9\.0.*row0 <= row1"),
        ({"mask": np.zeros((4, 5), np.uint8)}, "uint8.*bool"),
        ({"mask": np.zeros((4, 5, 1), bool)}, r"\(4, 5, 1\)"),
        ({"mask": [[True, False], [True]]}, "differ in length"),
    ],
)
def test_what_is_no_prompt_is_refused_with_its_value_and_a_remedy(arguments: dict, said: str) -> None:
    with pytest.raises(PromptError, match=said):
        Prompts(**arguments)


def test_an_empty_mask_alone_is_a_prompt() -> None:
    prompts = Prompts(mask=np.zeros((4, 5), bool))
    assert prompts.mask is not None
    assert not prompts.is_single_click


def test_a_bool_mask_is_copied() -> None:
    picture = np.zeros((4, 5), bool)
    prompts = Prompts(mask=picture)
    picture[:] = True
    assert not np.asarray(prompts.mask).any()


def test_an_earlier_mask_is_held_as_it_is() -> None:
    mask = Mask(np.zeros((16, 16), np.float32), Frame((4, 5), (0, 0, 4, 5), 64))
    assert Prompts(mask=mask).mask is mask


def test_only_one_point_alone_is_a_single_click() -> None:
    point = [(1, 2)]
    assert Prompts(points=point).is_single_click
    assert not Prompts(points=[*point, (3, 4)]).is_single_click
    assert not Prompts(points=point, boxes=[(0, 0, 4, 4)]).is_single_click
    assert not Prompts(points=point, mask=np.ones((9, 9), bool)).is_single_click
    assert not Prompts(boxes=[(0, 0, 4, 4)]).is_single_click


def test_more_prompts_extend_fewer_ones() -> None:
    first = Prompts(points=[(1, 2)])
    more = Prompts(points=[(1, 2), (3, 4)], labels=[1, 0])
    boxed = Prompts(points=[(1, 2)], boxes=[(0, 0, 5, 5)])
    assert more.extends(first)
    assert boxed.extends(first)
    assert not first.extends(more)
    assert not first.extends(first)
    assert not more.extends(Prompts(points=[(1, 2.5)]))
    assert not more.extends(Prompts(points=[(1, 2)], labels=[0]))
    assert not more.extends(boxed)
    assert first.same_places(Prompts(points=[(1, 2)], mask=np.ones((4, 4), bool)))
    assert not first.same_places(boxed)


@pytest.mark.parametrize("through", [copy.deepcopy, copy.copy, lambda value: pickle.loads(pickle.dumps(value))])
def test_prompts_survive_copies_and_pickles(through: object) -> None:
    prompts = Prompts(points=[(1, 2)], labels=[0], boxes=[(0, 0, 4, 4)], mask=np.eye(5, dtype=bool))
    again = through(prompts)  # type: ignore[operator]
    assert again.same_places(prompts)
    assert np.array_equal(again.mask, np.eye(5, dtype=bool))


def test_a_log_line_stays_a_line() -> None:
    prompts = Prompts(points=[(1, 2)], mask=np.ones((400, 500), bool))
    assert len(repr(prompts)) < 200
