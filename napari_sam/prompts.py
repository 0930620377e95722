"""`Prompts`: what a person says about one object, validated and frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import PromptError
from .masks import Mask

if TYPE_CHECKING:
    from typing import TypeAlias

MaskPrompt: TypeAlias = "Mask | NDArray[np.bool_] | None"


@dataclass(frozen=True, eq=False)
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
        No prompt at all, values that are not finite, lengths that differ, labels other than 1 and 0, corners of a box in
        the wrong order, a mask that is not a bool picture.
    """

    points: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    labels: NDArray[np.int64] = field(default=None)  # type: ignore[assignment]  # an array after __post_init__
    boxes: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 4)))
    mask: MaskPrompt = field(default=None, repr=False)

    if TYPE_CHECKING:

        def __init__(
            self,
            points: ArrayLike | Sequence[Any] = ...,
            labels: ArrayLike | None = ...,
            boxes: ArrayLike | Sequence[Any] = ...,
            mask: MaskPrompt = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        points = _rows("points", self.points, ("row", "column"))
        labels = np.ones(len(points)) if self.labels is None else np.asarray(self.labels)
        boxes = _rows("boxes", self.boxes, ("row0", "col0", "row1", "col1"))
        if labels.shape != (len(points),):
            raise PromptError(
                f"{len(points)} points have labels of shape {labels.shape}: give one label for each point"
            )
        if not np.isin(labels, (0, 1)).all():
            raise PromptError(f"labels {labels.tolist()}: use 1 for a point on the object, 0 for one beside it")
        if (boxes[:, :2] > boxes[:, 2:]).any():
            raise PromptError(f"box {boxes.tolist()}: give (row0, col0, row1, col1) with row0 <= row1 and col0 <= col1")
        if not (len(points) or len(boxes) or self.mask is not None):
            raise PromptError("no prompt at all: give at least one point, box or mask")
        for name, value in {"points": points, "labels": labels.astype(np.int64), "boxes": boxes}.items():
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        if self.mask is not None and not isinstance(self.mask, Mask):
            object.__setattr__(self, "mask", _bool_picture(self.mask))

    @property
    def positive(self) -> NDArray[np.float64]:
        """The points (n, 2) that lie on the object."""
        return self.points[self.labels == 1]

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


def _rows(name: str, value: Any, columns: tuple[str, ...]) -> NDArray[np.float64]:
    """Return `value` as a fresh float array (n, columns)."""
    try:
        rows = np.array(value if value is not None else [], dtype=float)
    except (TypeError, ValueError) as error:
        raise PromptError(f"{name} {value!r} are not numbers: give rows of ({', '.join(columns)})") from error
    if rows.size == 0:
        return np.zeros((0, len(columns)))
    if rows.ndim != 2 or rows.shape[1] != len(columns):
        raise PromptError(f"{name} have shape {rows.shape}: give rows of ({', '.join(columns)})")
    if not np.isfinite(rows).all():
        raise PromptError(f"{name} {rows.tolist()} are not all finite: leave out NaN and infinite ones")
    return rows


def _bool_picture(mask: Any) -> NDArray[np.bool_]:
    picture = np.array(mask)
    if picture.ndim != 2 or picture.dtype != bool:
        raise PromptError(
            f"a mask prompt of shape {picture.shape} and type {picture.dtype}: give an earlier Mask or a bool array "
            "(height, width), for example `labels == 3`"
        )
    picture.setflags(write=False)
    return picture
