"""One object's prompts, put to the encoded regions that hold them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .errors import PromptError
from .masks import Mask, logits_of
from .regions import mask_corners

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .embedding import ImageEmbedding, RegionEmbedding
    from .geometry import Frame
    from .prompts import MaskPrompt, Prompts


@dataclass(frozen=True, eq=False)
class Query:
    """The prompts of the object `owner` put to one region, as its decoder takes them.

    `points` (n, 2), `labels` (n,) and `boxes` (0 or 2, 2: the corners) are (x, y) in the encoder's input, `mask` are
    logits (1, h, w); where the region is turned, so are they.
    """

    owner: int
    prompts: Prompts
    region: RegionEmbedding
    points: NDArray[np.float32]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float32]
    mask: NDArray[np.float32] | None
    multimask: bool

    @property
    def kind(self) -> tuple[int, int, bool, bool]:
        """What queries have in common that can be answered in one pass."""
        return len(self.points), len(self.boxes), self.mask is not None, self.multimask


def queries_of(embedding: ImageEmbedding, prompts: Prompts, owner: int, multimask: bool | None) -> list[Query]:
    """Return the questions that `prompts` put to the regions that hold them."""
    box = checked_box(prompts, embedding.shape)
    anchors = np.concatenate([prompts.positive, box.reshape(-1, 2)])
    if not len(anchors):
        anchors = mask_corners(prompts.mask)
    asked = [region for region in embedding.regions if _is_asked(region.frame, prompts, anchors)]
    if not asked:
        places = anchors if len(anchors) else prompts.points
        raise PromptError(
            f"no encoded region holds {places.tolist()}; encoded are {list(embedding.boxes)}: encode the whole image, "
            "or a region round them"
        )
    multiple = prompts.is_single_click if multimask is None else bool(multimask)  # numpy's is no index
    return [_query(prompts, region, box, owner, multiple) for region in asked]


def _is_asked(frame: Frame, prompts: Prompts, anchors: NDArray[np.float64]) -> bool:
    """Whether a region holds what says where the object is, `anchors` (n, 2); if nothing does, any prompt at all."""
    if len(anchors) or prompts.mask is not None:
        return bool(frame.holds(anchors).all())
    return bool(frame.holds(prompts.points).any())


def _query(prompts: Prompts, region: RegionEmbedding, box: NDArray[np.float64], owner: int, multimask: bool) -> Query:
    frame = region.frame
    seen = frame.holds(prompts.points)
    mask = prompts.mask
    logits = None if mask is None else mask.logits_in(frame) if isinstance(mask, Mask) else logits_of(mask, frame)
    points, corners = frame.to_input(prompts.points[seen]), frame.to_input(box.reshape(-1, 2))
    if region.is_turned:
        points, corners = points[:, ::-1], corners[:, ::-1]
        logits = None if logits is None else logits.T
    return Query(
        owner=owner,
        prompts=prompts,
        region=region,
        points=points,
        labels=prompts.labels[seen],
        boxes=corners,
        mask=None if logits is None else logits[None],
        multimask=multimask,
    )


def cut_to(prompts: Prompts, shape: tuple[int, int]) -> Prompts:
    """Return prompts whose box ends where an image of `shape` does: what is drawn beyond it says nothing.

    Raises
    ------
    PromptError
        As `checked_box` does.
    """
    box = checked_box(prompts, shape)
    return replace(prompts, boxes=box) if len(box) else prompts


def checked_box(prompts: Prompts, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return the one box of `prompts`, cut to an image of `shape`, as (1, 4), or (0, 4) without one.

    Raises
    ------
    PromptError
        The prompts are not about one object of such an image.
    """
    _check_inside(prompts.points, shape)
    _check_mask(prompts.mask, shape)
    if len(prompts.boxes) > 1:
        raise PromptError(f"{len(prompts.boxes)} boxes are several objects: give one `Prompts` each to `decode_many`")
    last = np.array([*shape, *shape]) - 1.0
    low, high = prompts.boxes[:, :2], prompts.boxes[:, 2:]
    if (high < -0.5).any() or (low > last[:2] + 0.5).any():
        raise PromptError(f"box {prompts.boxes.tolist()} lies outside the image of {shape[0]} x {shape[1]}")
    return np.clip(prompts.boxes, 0, last)


def _check_inside(points: NDArray[np.float64], shape: tuple[int, int]) -> None:
    outside = ~((points >= -0.5) & (points <= np.array(shape) - 0.5)).all(axis=1)
    if outside.any():
        raise PromptError(
            f"points {points[outside].tolist()} lie outside the image of {shape[0]} x {shape[1]}: leave them out"
        )


def _check_mask(mask: MaskPrompt, shape: tuple[int, int]) -> None:
    if mask is not None and mask.shape != shape:
        raise PromptError(
            f"a mask prompt of an image of {mask.shape} on one of {shape}: give a mask of this image, of its shape"
        )
