"""`Prompts`: what a person says about one object, validated and frozen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .errors import PromptError
from .masks import Mask

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    MaskPrompt: TypeAlias = Mask | NDArray[np.bool_] | None


@dataclass(frozen=True, eq=False, init=False)
class Prompts:
    """The prompts of one object, in image coordinates: (row, column), pixel centres at integers.

    Parameters
    ----------
    points
        (n, 2) positions.
    labels
        (n,) 1 where a point lies on the object, 0 where it does not; all 1 if left out.
    boxes
        (m, 4) as (row0, col0, row1, col1), the corners inclusive pixel centres. One object takes at most one box; the
        predictor says so, and `decode_many` takes several objects.
    mask
        An earlier answer (`Mask`), or a bool array (height, width) of the image's shape.

    Raises
    ------
    PromptError
        No prompt at all, values that are not finite, lengths that differ, labels other than 1 and 0, corners of a box
        in the wrong order, a mask that is not a bool picture.
    """

    points: NDArray[np.float64]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float64]
    mask: MaskPrompt = field(repr=False)

    def __init__(
        self,
        points: ArrayLike = (),
        labels: ArrayLike | None = None,
        boxes: ArrayLike = (),
        mask: MaskPrompt = None,
    ) -> None:
        places = _rows("points", points, ("row", "column"))
        corners = _rows("boxes", boxes, ("row0", "col0", "row1", "col1"))
        signs = np.ones(len(places), np.int64) if labels is None else _signs(labels, len(places))
        if (corners[:, :2] > corners[:, 2:]).any():
            raise PromptError(f"box {corners.tolist()}: give (row0, col0, row1, col1), row0 <= row1 and col0 <= col1")
        if not (len(places) or len(corners) or mask is not None):
            raise PromptError("no prompt at all: give at least one point, box or mask")
        object.__setattr__(self, "points", _frozen(places))
        object.__setattr__(self, "labels", _frozen(signs))
        object.__setattr__(self, "boxes", _frozen(corners))
        object.__setattr__(self, "mask", mask if mask is None or isinstance(mask, Mask) else _bool_picture(mask))

    @property
    def positive(self) -> NDArray[np.float64]:
        """The points (n, 2) that lie on the object."""
        positive: NDArray[np.float64] = self.points[self.labels == 1]
        return positive

    @property
    def is_single_click(self) -> bool:
        """Whether this is one point alone, which is ambiguous: candidates are worth offering."""
        return len(self.points) == 1 and not len(self.boxes) and self.mask is None

    def extends(self, other: Prompts) -> bool:
        """Whether these are the points and boxes of `other` and more, so that its answer is a fair start."""
        shared = len(other.points)
        return (
            len(self.points) + len(self.boxes) > shared + len(other.boxes)
            and np.array_equal(self.points[:shared], other.points)
            and np.array_equal(self.labels[:shared], other.labels)
            and (not len(other.boxes) or np.array_equal(self.boxes, other.boxes))
        )

    def same_places(self, other: Prompts) -> bool:
        """Whether points, labels and boxes are those of `other`."""
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in ("points", "labels", "boxes"))


def _frozen(values: NDArray[Any]) -> NDArray[Any]:
    values.setflags(write=False)
    return values


def _rows(name: str, value: Any, columns: tuple[str, ...]) -> NDArray[np.float64]:
    """Return `value` as a fresh float array (n, columns)."""
    try:
        rows: NDArray[np.float64] = np.array(value if value is not None else [], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PromptError(f"{name} {value!r} are not numbers: give rows of ({', '.join(columns)})") from error
    if rows.size == 0:
        return np.zeros((0, len(columns)))
    if rows.ndim != 2 or rows.shape[1] != len(columns):
        raise PromptError(f"{name} have shape {rows.shape}: give rows of ({', '.join(columns)})")
    if not np.isfinite(rows).all():
        raise PromptError(f"{name} {rows.tolist()} are not all finite: leave out NaN and infinite ones")
    return rows


def _signs(labels: Any, count: int) -> NDArray[np.int64]:
    """Return the labels of `count` points as a fresh array (count,) of 1 and 0."""
    try:
        signs = np.array(labels)
    except ValueError as error:
        raise PromptError(f"labels {labels!r}: give one label for each point") from error
    if signs.shape != (count,):
        raise PromptError(f"{count} points have labels of shape {signs.shape}: give one label for each point")
    if not ((signs == 0) | (signs == 1)).all():
        raise PromptError(f"labels {signs.tolist()}: use 1 for a point on the object, 0 for one beside it")
    return signs.astype(np.int64)


def _bool_picture(mask: Any) -> NDArray[np.bool_]:
    try:
        picture = np.array(mask)
    except ValueError as error:
        raise PromptError("a mask prompt has rows that differ in length: give a bool array (height, width)") from error
    if picture.ndim != 2 or picture.dtype != bool:
        raise PromptError(
            f"a mask prompt of shape {picture.shape} and type {picture.dtype}: give an earlier Mask or a bool array "
            "(height, width), for example `labels == 3`"
        )
    return _frozen(picture)
