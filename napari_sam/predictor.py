"""The headless API: an image in, masks out, numpy on both sides."""

from __future__ import annotations

import warnings
import zlib
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from .answers import Candidates, choose, within_box
from .appearance import look_of
from .blending import blend, blend_best
from .checkpoints import load_sam
from .embedding import ImageEmbedding, RegionEmbedding
from .embedding_cache import key_of
from .errors import Cancelled, DeviceError
from .geometry import Frame, whole
from .image_input import (
    PictureRule,
    as_array,
    check_fits,
    check_region,
    encoder_input,
    read_picture,
    resolve_rule,
)
from .masks import Mask, MaskResult
from .models.layers import band_rows
from .models.mask_decoder import ImageSide, joined_sides
from .models.placement import Placement, is_large, quickest_on_cpu
from .models.sam import Sam
from .progress import part_of
from .queries import checked_box, queries_of
from .regions import expected_extent, helpful_regions

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from .checkpoints import LoadedCheckpoint
    from .embedding_cache import EmbeddingCache
    from .geometry import Box, Profile
    from .prompts import Prompts
    from .queries import Query

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PROMPTS_PER_PASS = 32
REGIONS_PER_PASS = 8
KEPT_SIDES = 16
"""Regions whose side of the decoder is kept: 16 MB each for SAM."""
FIRST_LOOK = 0.75
"""Share of the work of refining a click that is done before what it shows is looked at more closely."""


def load_predictor(
    name_or_path: str | Path = "default",
    device: str = "auto",
    precision: str = "auto",
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    profile: str | Path | Profile | None = None,
    cache: EmbeddingCache | None = None,
    notify: Callable[[str], None] | None = None,
) -> Predictor:
    """Load a checkpoint, downloading it first where it is a published one that is not on this machine yet.

    Parameters
    ----------
    name_or_path
        A name that `napari-sam models` lists ("default", "mobile_sam", "sam_vit_b", ...), or a checkpoint, a file or
        a folder.
    device
        "auto" (CUDA, else Apple MPS, else the CPU), "cpu", "cuda" or "mps".
    precision
        "auto", "float32", "bfloat16" or "float16": in which numbers the image encoder computes. "auto" is float16 on
        CUDA; on a CPU bfloat16 for large encoders where it is measured to be quicker, and float32 otherwise.
    progress
        Called with the share of a download that is done, 0 to 1.
    cancelled
        Asked during a download; True ends it with `Cancelled`.
    profile
        The preprocessing that the weights were trained with: "sam", "medsam", "micro_sam", "vit", a TOML file or a
        `Profile`. None takes that of a known checkpoint, and Segment Anything's otherwise.
    cache
        Where `encode` and `refine` look before they compute, and what they keep their results in; None always computes.
    notify
        Called with a sentence for the user where something is done otherwise than asked; None warns.

    Raises
    ------
    CheckpointError
        The name or profile is unknown, or the file cannot be downloaded, read or recognised.
    DeviceError
        This machine does not have the device, or the device not the precision.
    """
    chosen = resolve_device(device)
    dtype = resolve_precision(precision, chosen)
    checkpoint = load_sam(name_or_path, progress, cancelled, profile, notify)
    if precision == "auto" and chosen.type == "cpu" and is_large(checkpoint.sam):
        dtype = quickest_on_cpu()
    return Predictor(checkpoint, chosen, dtype, cache, notify or _warn)


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def resolve_device(device: str) -> torch.device:
    """Return the torch device that `device` means on this machine."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if available[name])
    if device not in available:
        raise DeviceError(f"unknown device {device!r}: choose one of {', '.join(DEVICES)}")
    if not available[device]:
        raise DeviceError(f"this machine has no usable {device!r} device: choose 'auto' or 'cpu'")
    return torch.device(device)


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype to compute in; "auto" is float16 on CUDA, whose masks are float32's but for some pixels."""
    if precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if precision not in PRECISIONS:
        raise DeviceError(f"unknown precision {precision!r}: choose 'auto', {', '.join(map(repr, PRECISIONS))}")
    if precision == "float16" and device.type == "cpu":
        raise DeviceError("float16 is not for the CPU: choose 'float32' or 'bfloat16'")
    return PRECISIONS[precision]


class Predictor:
    """A loaded model: encodes images, answers prompts. Stateless between calls, so it may be shared.

    Made by `load_predictor`.
    """

    def __init__(
        self,
        checkpoint: LoadedCheckpoint,
        device: torch.device,
        dtype: torch.dtype,
        cache: EmbeddingCache | None = None,
        notify: Callable[[str], None] = _warn,
    ) -> None:
        self.name = checkpoint.name
        self.profile = checkpoint.profile
        self.about, self.note = checkpoint.about, checkpoint.note
        self.dtype = dtype
        # The same weights fed otherwise make other embeddings.
        self.fingerprint = f"{checkpoint.fingerprint}-{dtype}-{zlib.crc32(repr(self.profile).encode()):08x}"
        self._cache, self._notify = cache, notify
        self._sides: WeakKeyDictionary[RegionEmbedding, ImageSide] = WeakKeyDictionary()
        self._sam = checkpoint.sam
        self._placement = Placement(checkpoint.sam, device, dtype, notify)

    @property
    def device(self) -> torch.device:
        """Where it computes; the CPU where the memory of what was asked for proved too small."""
        return self._placement.device

    @property
    def keeps_embeddings(self) -> bool:
        """Whether what `encode` computes is found again by the next one."""
        return self._cache is not None

    def __repr__(self) -> str:
        precision = str(self.dtype).removeprefix("torch.")
        return f"Predictor({self.name!r}, device={self.device.type!r}, precision={precision!r})"

    def encode(
        self,
        image: Any,
        channels: Sequence[int] | int | None = None,
        limits: Any = None,
        region: Sequence[int] | None = None,
        progress: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> ImageEmbedding:
        """Run the image encoder on an image, or on a region of it.

        Parameters
        ----------
        image
            (height, width) or (height, width, channels), any real dtype, NaN and infinities allowed.
        channels, limits
            Which channels the encoder sees, and the (low, high) values that become black and white; see
            `napari_sam.image_input.resolve_rule` for what None means.
        region
            Half-open (row0, col0, row1, col1); None is the whole image.
        progress
            Called with the rising share of the work that is done, and once with 1.0 at the end.
        cancelled
            Asked between the encoder's blocks; True ends the encoding with `Cancelled`.

        Raises
        ------
        ImageError
            The array is no picture, or channels, limits or region do not fit it.
        Cancelled
            `cancelled` returned True.
        """
        array = as_array(image)
        rule = resolve_rule(array, channels, limits, self.profile.stretch)
        rule = replace(rule, note=" ".join(filter(None, (rule.note, self.note))))
        return self._encode(array, rule, [check_region(region, rule.shape)], progress, cancelled)

    def refine(
        self,
        embedding: ImageEmbedding,
        image: Any,
        prompts: Prompts,
        progress: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> ImageEmbedding:
        """Return `embedding` with the regions that would help with `prompts`, say a crop round a small object.

        Where only clicks say what is meant, crops round what the first ones show are among them. The published
        checkpoints know one scale and return it as it is. `image` is the array that was encoded.

        Raises
        ------
        ValueError
            The image cannot be the one of the embedding: another shape, other channels, another type.
        PromptError
            As `decode` does.
        """
        checked_box(prompts, embedding.shape)
        boxes = self._helpful(embedding, prompts)
        if not boxes or expected_extent(prompts) is not None:
            return self.encode_regions(embedding, image, boxes, progress, cancelled, boxes[::2])
        seen = self.encode_regions(embedding, image, boxes, part_of(progress, 0.0, FIRST_LOOK), cancelled, boxes[::2])
        closer = self._helpful(seen, replace(prompts, mask=self.decode_best(seen, prompts)))
        if progress is not None and not closer:
            progress(1.0)
        return self.encode_regions(seen, image, closer, part_of(progress, FIRST_LOOK, 1.0), cancelled, closer[::2])

    def _helpful(self, embedding: ImageEmbedding, prompts: Prompts) -> Sequence[Box]:
        sides = self.profile.crop_sides
        return helpful_regions(prompts, embedding.shape, embedding.boxes, sides) if sides else ()

    def encode_regions(
        self,
        embedding: ImageEmbedding,
        image: Any,
        regions: Sequence[Sequence[int]],
        progress: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        turned: Collection[Box] = (),
    ) -> ImageEmbedding:
        """Return `embedding` with those of `regions` that it lacks, each as `encode` makes it.

        Of those, what is in `turned` is shown to the encoder with rows and columns exchanged.

        Raises
        ------
        ValueError
            The image cannot be the one of the embedding: another shape, other channels, another type.
        """
        self._check_ours(embedding)
        array = as_array(image)
        check_fits(array, embedding.rule)
        boxes = [check_region(region, embedding.shape) for region in regions]
        missing = [box for box in dict.fromkeys(boxes) if box not in embedding.boxes]
        if not missing:
            return embedding
        return embedding.merge(self._encode(array, embedding.rule, missing, progress, cancelled, turned))

    def decode(self, embedding: ImageEmbedding, prompts: Prompts, multimask: bool | None = None) -> MaskResult:
        """Answer one object's prompts.

        `multimask` None offers three candidates for a single point without box or mask, and one mask otherwise.

        Raises
        ------
        PromptError
            A point or a whole box lies outside the image, no encoded region holds the prompts, or there are several
            boxes.
        """
        return self.decode_many(embedding, [prompts], multimask)[0]

    def decode_many(
        self, embedding: ImageEmbedding, prompts: Sequence[Prompts], multimask: bool | None = None
    ) -> list[MaskResult]:
        """Answer several objects' prompts, one result each in their order, batched where they are alike."""
        objects = list(prompts)
        answers = self._asked(embedding, objects, multimask)
        if not self.profile.crop_sides:
            return [choose(answer, one) for answer, one in zip(answers, objects, strict=True)]
        return [blend(answer, one, embedding.looks) for answer, one in zip(answers, objects, strict=True)]

    def decode_best(self, embedding: ImageEmbedding, prompts: Prompts) -> Mask:
        """Answer one object's prompts with the mask of the highest score alone: less work than `decode`, as it does."""
        (answer,) = self._asked(embedding, [prompts], None)
        if not self.profile.crop_sides:
            result = choose(answer, prompts)
            return result.masks[result.best]
        return blend_best(answer, prompts, embedding.looks)

    def _asked(
        self, embedding: ImageEmbedding, objects: Sequence[Prompts], multimask: bool | None
    ) -> list[list[Candidates]]:
        """Return of each object what each of the regions that hold its prompts answers."""
        self._check_ours(embedding)
        batches: dict[Any, list[Query]] = defaultdict(list)
        for owner, one in enumerate(objects):
            for query in queries_of(embedding, one, owner, multimask):
                batches[query.kind].append(query)
        answers: list[list[Candidates]] = [[] for _ in objects]
        for batch in batches.values():
            # A CPU answers as many at once as stay in its cache: 32 prompts of SAM take it longer together than alone.
            at_once = min(PROMPTS_PER_PASS, band_rows(batch[0].region.features.numel(), self.device))
            for start in range(0, len(batch), at_once):
                part = batch[start : start + at_once]
                for query, answer in zip(part, self._answers(part), strict=True):
                    answers[query.owner].append(answer)
        return answers

    def cells(self, region: RegionEmbedding) -> NDArray[np.float32]:
        """Return what the encoder made of each cell of a region's input: features (C, h, w), the padding's included."""
        cells = np.asarray(self._sam.cells(region.features)[0].float().cpu().numpy(), np.float32)
        return cells.swapaxes(1, 2) if region.is_turned else cells

    def _encode(
        self,
        image: Any,
        rule: PictureRule,
        boxes: Sequence[Box],
        progress: Callable[[float], None] | None,
        cancelled: Callable[[], bool] | None,
        turned: Collection[Box] = (),
    ) -> ImageEmbedding:
        reported = -1.0

        def between_blocks(fraction: float) -> None:
            nonlocal reported
            if cancelled is not None and cancelled():
                raise Cancelled("the encoding was cancelled")
            if progress is not None and reported < fraction < 1:  # what is done again is not told again
                reported = fraction
                progress(fraction)

        def prepared(frame: Frame) -> NDArray[np.float32]:
            between_blocks(0.0)  # reading may take as long as a block
            return encoder_input(read_picture(image, rule, frame.region), frame, self.profile)

        square = self.profile.resize == "square"
        frames = [Frame(rule.shape, box, self.profile.image_size, square) for box in boxes]
        inputs = [prepared(frame) for frame in frames]
        between_blocks(0.0)
        # A network of many scales encodes a crop in no time, and others for every object: on disk they would drive out
        # what took long.
        is_lasting = not self.profile.crop_sides or whole(rule.shape) in boxes
        is_turned = [box in turned for box in boxes]
        ways = [
            np.ascontiguousarray(pixels.swapaxes(1, 2)) if turn else pixels
            for pixels, turn in zip(inputs, is_turned, strict=True)
        ]
        features = self._features(ways, between_blocks, is_lasting=is_lasting)
        if progress is not None:
            progress(1.0)
        looks = [look_of(pixels) if self.profile.crop_sides else None for pixels in inputs]
        regions = tuple(RegionEmbedding(*parts) for parts in zip(frames, features, looks, is_turned, strict=True))
        return ImageEmbedding(rule, regions, self.fingerprint)

    def _features(
        self, inputs: list[NDArray[np.float32]], between_blocks: Callable[[float], None], *, is_lasting: bool
    ) -> list[torch.Tensor]:
        """Return the features (1, C, h, w) of each of the encoder's inputs, from the cache where it has them."""
        if self._cache is None:
            return self._computed(inputs, between_blocks)
        keys = [key_of(pixels, self.fingerprint) for pixels in inputs]
        kept = {key: array for key in keys if (array := self._cache.get(key)) is not None}
        missing = {key: pixels for key, pixels in zip(keys, inputs, strict=True) if key not in kept}
        if missing:
            computed = self._computed(list(missing.values()), between_blocks)
            for key, features in zip(missing, computed, strict=True):
                kept[key] = _array_of(features, self.dtype)
                self._cache.put(key, kept[key], is_lasting=is_lasting)
            if notice := self._cache.take_notice():
                self._notify(notice)
        decoder_dtype = self._sam.decoder_dtype
        return [_tensor_of(kept[key], self.dtype).to(self.device, decoder_dtype) for key in keys]

    def _computed(
        self, inputs: Sequence[NDArray[np.float32]], between_blocks: Callable[[float], None]
    ) -> list[torch.Tensor]:
        def in_passes(count: int) -> list[torch.Tensor]:
            features: list[torch.Tensor] = []
            for start in range(0, len(inputs), count):
                part = inputs[start : start + count]

                def within_pass(done: float, start: int = start, size: int = len(part)) -> None:
                    between_blocks((start + done * size) / len(inputs))

                encoded = self._sam.encode(torch.from_numpy(np.stack(part)).to(self.device), within_pass)
                # Cloned, so that dropping one region frees its memory.
                features += [one[None].clone() for one in encoded]
            return features

        return self._placement.run(lambda: in_passes(REGIONS_PER_PASS), lambda: in_passes(1))

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
            return torch.from_numpy(np.stack(values)).to(self.device, dtype)  # type: ignore[arg-type]

        regions = [query.region for query in queries]
        # What is asked of one region alone goes without a copy for each prompt.
        asked = regions[:1] if all(region is regions[0] for region in regions) else regions
        boxes = stacked([query.boxes for query in queries], torch.float32)
        logits, scores = self._sam.decode(
            self._seen(asked, with_mask=queries[0].mask is not None),
            points=stacked([query.points for query in queries], torch.float32),
            labels=stacked([query.labels for query in queries], torch.int64),
            boxes=None if boxes is None else boxes.reshape(len(queries), 4),
            masks=stacked([query.mask for query in queries], torch.float32),
            multimask=queries[0].multimask,
        )
        offset = self.profile.logit_offsets[queries[0].multimask]
        all_logits, all_scores = (logits.float() - offset).cpu().numpy(), scores.float().cpu().numpy()
        answers = []
        for query, own_logits, own_scores in zip(queries, all_logits, all_scores, strict=True):
            frame = query.region.frame
            kept = own_logits.swapaxes(1, 2) if query.region.is_turned else own_logits
            if self.profile.masks_within_boxes:
                kept = within_box(kept, frame, query.prompts, self.profile.roundness)
            answers.append([(Mask(one, frame), float(score)) for one, score in zip(kept, own_scores, strict=True)])
        return answers

    def _seen(self, regions: Sequence[RegionEmbedding], *, with_mask: bool) -> Any:
        """Return what to give the decoder of `regions`: what it makes of them alone where it can, else the features."""
        if with_mask or not isinstance(self._sam, Sam):
            return torch.cat([region.features.to(self.device) for region in regions])
        sides = []
        for region in regions:
            side = self._sides.pop(region, None)
            if side is None or side.tokens.device.type != self.device.type:  # the model has moved meanwhile
                side = self._sam.image_side(region.features.to(self.device))
            self._sides[region] = side  # behind all others: the first one is the one not used longest
            sides.append(side)
        while len(self._sides) > KEPT_SIDES:
            self._sides.pop(next(iter(self._sides)), None)
        return joined_sides(sides)

    def _check_ours(self, embedding: ImageEmbedding) -> None:
        if embedding.model != self.fingerprint:
            raise ValueError("this embedding was made by other weights or in another precision: encode the image again")


def _array_of(features: torch.Tensor, dtype: torch.dtype) -> NDArray[Any]:
    """Return features as the encoder computed them, in `dtype`, which bfloat16 takes in a guise that numpy knows."""
    exact = features.to("cpu", dtype)
    return (exact.view(torch.int16) if dtype == torch.bfloat16 else exact).numpy()


def _tensor_of(array: NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
    """Undo `_array_of`."""
    exact = torch.from_numpy(array)
    return exact.view(torch.bfloat16) if dtype == torch.bfloat16 else exact
