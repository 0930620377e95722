"""What puts prompts to the mask decoder: alike ones at once, each region's share of the work done once."""

from __future__ import annotations

from collections import defaultdict
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from ..box_prompts import within_box
from ..masks import Mask
from ..models.captured import CapturedDecoder
from ..models.layers import band_rows
from ..models.mask_decoder import ImageSide, joined_sides
from ..models.sam import Sam
from ..queries import queries_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ..answers import Candidates
    from ..embedding import ImageEmbedding, RegionEmbedding
    from ..geometry import Profile
    from ..models.placement import Placement
    from ..models.prototypes import PrototypeSam
    from ..prompts import Prompts
    from ..queries import Query

PROMPTS_PER_PASS = 32
KEPT_SIDES = 16
"""Regions whose side of the decoder is kept: 16 MB each for SAM."""


class Decoding:
    """Puts objects' prompts to a network's decoder.

    Parameters
    ----------
    sam, placement
        The network, and where it computes.
    profile
        How its answers are read.
    graphs
        Whether single objects are decoded by captured graphs, where the device has such.
    """

    def __init__(
        self, sam: Sam | PrototypeSam, placement: Placement, profile: Profile, *, graphs: bool = False
    ) -> None:
        self._sam, self._placement, self._profile = sam, placement, profile
        self._sides: WeakKeyDictionary[RegionEmbedding, ImageSide] = WeakKeyDictionary()
        self._sides_lock = Lock()  # threads may share a predictor
        self._captured: CapturedDecoder | None = None
        if graphs and isinstance(sam, Sam) and placement.device.type == "cuda":
            self._captured = CapturedDecoder(sam)
            placement.before_retreat = self._captured.drop

    def ask(
        self, embedding: ImageEmbedding, objects: Sequence[Prompts], multimask: bool | None
    ) -> list[list[Candidates]]:
        """Return of each object what each of the regions that hold its prompts answers."""
        batches: dict[Any, list[Query]] = defaultdict(list)
        for owner, one in enumerate(objects):
            for query in queries_of(embedding, one, owner, multimask):
                batches[query.kind].append(query)
        answers: list[list[Candidates]] = [[] for _ in objects]
        for batch in batches.values():
            # A CPU answers as many at once as stay in its cache: 32 prompts of SAM take it longer together than alone.
            at_once = min(PROMPTS_PER_PASS, band_rows(batch[0].region.features.numel(), self._placement.device))
            for start in range(0, len(batch), at_once):
                part = batch[start : start + at_once]
                for query, answer in zip(part, self._answers(part), strict=True):
                    answers[query.owner].append(answer)
        return answers

    def _answers(self, queries: Sequence[Query]) -> list[Candidates]:
        """Ask the decoder for queries of one kind, at once if they fit the memory."""
        return self._placement.run(
            lambda: self._answer(queries), lambda: [answer for one in queries for answer in self._answer([one])]
        )

    def _answer(self, queries: Sequence[Query]) -> list[Candidates]:
        """Ask the decoder once for queries of one kind."""

        def stacked(values: Sequence[NDArray[Any] | None], dtype: torch.dtype) -> torch.Tensor | None:
            if values[0] is None or not len(values[0]):
                return None
            return torch.from_numpy(np.stack(values)).to(self._placement.device, dtype)  # type: ignore[arg-type]

        regions = [query.region for query in queries]
        # What is asked of one region alone goes without a copy for each prompt.
        asked = regions[:1] if all(region is regions[0] for region in regions) else regions
        seen = self._seen(asked, with_mask=queries[0].mask is not None)
        boxes = stacked([query.boxes for query in queries], torch.float32)
        prompts: dict[str, Any] = {
            "points": stacked([query.points for query in queries], torch.float32),
            "labels": stacked([query.labels for query in queries], torch.int64),
            "boxes": None if boxes is None else boxes.reshape(len(queries), 4),
        }
        if queries[0].mask is not None:
            prompts["masks"] = stacked([query.mask for query in queries], torch.float32)
        is_single = len(queries) == 1 and isinstance(seen, ImageSide)
        decode = self._captured.decode if self._captured is not None and is_single else self._sam.decode
        logits, scores = decode(seen, **prompts, multimask=queries[0].multimask)
        offset = self._profile.logit_offsets[queries[0].multimask]
        all_logits, all_scores = (logits.float() - offset).cpu().numpy(), scores.float().cpu().numpy()
        answers = []
        for query, own_logits, own_scores in zip(queries, all_logits, all_scores, strict=True):
            frame = query.region.frame
            kept = own_logits.swapaxes(1, 2) if query.region.is_turned else own_logits
            if self._profile.masks_within_boxes:
                kept = within_box(kept, frame, query.prompts)
            answers.append([(Mask(one, frame), float(score)) for one, score in zip(kept, own_scores, strict=True)])
        return answers

    def _seen(self, regions: Sequence[RegionEmbedding], *, with_mask: bool) -> Any:
        """Return what to give the decoder of `regions`: what it makes of them alone where it can, else the features."""
        if with_mask or not isinstance(self._sam, Sam):
            return torch.cat([region.features.to(self._placement.device) for region in regions])
        sides = []
        with self._sides_lock:
            for region in regions:
                side = self._sides.pop(region, None)
                if side is None or side.tokens.device.type != self._placement.device.type:  # the model moved meanwhile
                    side = self._sam.image_side(region.features.to(self._placement.device))
                self._sides[region] = side  # behind all others: the first one is the one not used longest
                sides.append(side)
            while len(self._sides) > KEPT_SIDES:
                self._sides.pop(next(iter(self._sides)), None)
        return joined_sides(sides)
