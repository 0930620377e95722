"""`Predictor`: a loaded model, which encodes images and answers prompts."""

from __future__ import annotations

import warnings
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..answers import choose
from ..appearance import look_of
from ..blending import blend, blend_best
from ..embedding import ImageEmbedding, RegionEmbedding
from ..embedding_cache import key_of
from ..errors import Cancelled
from ..geometry import Frame, whole
from ..image_input import (
    PictureRule,
    as_array,
    check_fits,
    check_region,
    encoder_input,
    read_picture,
    resolve_rule,
)
from ..models.placement import Placement
from ..progress import part_of
from ..queries import cut_to
from ..regions import expected_extent, helpful_regions
from .decoding import Decoding

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray

    from ..checkpoints import LoadedCheckpoint
    from ..embedding_cache import EmbeddingCache
    from ..geometry import Box
    from ..masks import Mask, MaskResult
    from ..prompts import Prompts

REGIONS_PER_PASS = 8
FIRST_LOOK = 0.75
"""Share of the work of refining a click that is done before what it shows is looked at more closely."""


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
        notify: Callable[[str], None] | None = None,
        *,
        graphs: bool = False,
    ) -> None:
        self.name = checkpoint.name
        self.profile = checkpoint.profile
        self.about, self.note = checkpoint.about, checkpoint.note
        self.dtype = dtype
        # The same weights fed otherwise make other embeddings.
        self.fingerprint = f"{checkpoint.fingerprint}-{dtype}-{zlib.crc32(repr(self.profile).encode()):08x}"
        self._cache, self._notify = cache, notify or _warn
        self._sam = checkpoint.sam
        self._placement = Placement(checkpoint.sam, device, dtype, self._notify)
        self._decoding = Decoding(checkpoint.sam, self._placement, checkpoint.profile, graphs=graphs)

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
        prompts = cut_to(prompts, embedding.shape)
        helpful = self._helpful(embedding, prompts)
        if not helpful or expected_extent(prompts) is not None:
            return self._look_at(embedding, image, helpful, progress, cancelled)
        seen = self._look_at(embedding, image, helpful, part_of(progress, 0.0, FIRST_LOOK), cancelled)
        closer = self._helpful(seen, replace(prompts, mask=self.decode_best(seen, prompts)))
        if progress is not None and not closer:
            progress(1.0)
        return self._look_at(seen, image, closer, part_of(progress, FIRST_LOOK, 1.0), cancelled)

    def _helpful(self, embedding: ImageEmbedding, prompts: Prompts) -> dict[Box, bool]:
        sides = self.profile.crop_sides
        return helpful_regions(prompts, embedding.shape, embedding.boxes, sides) if sides else {}

    def _look_at(
        self,
        embedding: ImageEmbedding,
        image: Any,
        helpful: dict[Box, bool],
        progress: Callable[[float], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> ImageEmbedding:
        turned = [box for box, is_turned in helpful.items() if is_turned]
        return self.encode_regions(embedding, image, list(helpful), progress, cancelled, turned)

    def encode_regions(
        self,
        embedding: ImageEmbedding,
        image: Any,
        regions: Sequence[Sequence[int]],
        progress: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        turned: Collection[Sequence[int]] = (),
    ) -> ImageEmbedding:
        """Return `embedding` with those of `regions` that it lacks, each as `encode` makes it, unless it is `turned`.

        Those are shown to the encoder with rows and columns exchanged.

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
        exchanged = {check_region(region, embedding.shape) for region in turned}
        return embedding.merge(self._encode(array, embedding.rule, missing, progress, cancelled, exchanged))

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
        self._check_ours(embedding)
        objects = [cut_to(one, embedding.shape) for one in prompts]
        answers = self._decoding.ask(embedding, objects, multimask)
        if not self.profile.crop_sides:
            return [choose(answer, one) for answer, one in zip(answers, objects, strict=True)]
        looks, within = embedding.looks, self.profile.masks_within_boxes
        return [blend(answer, one, looks, within_boxes=within) for answer, one in zip(answers, objects, strict=True)]

    def decode_best(self, embedding: ImageEmbedding, prompts: Prompts) -> Mask:
        """Answer one object's prompts as `decode` does, with the best-scored mask alone, which is less work."""
        self._check_ours(embedding)
        prompts = cut_to(prompts, embedding.shape)
        (answer,) = self._decoding.ask(embedding, [prompts], None)
        if not self.profile.crop_sides:
            result = choose(answer, prompts)
            return result.masks[result.best]
        return blend_best(answer, prompts, embedding.looks, within_boxes=self.profile.masks_within_boxes)

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
        self, inputs: list[NDArray[np.float32]], between_blocks: Callable[[float], None], *, is_lasting: bool = True
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

    def _check_ours(self, embedding: ImageEmbedding) -> None:
        if embedding.model != self.fingerprint:
            raise ValueError("this embedding was made by other weights or in another precision: encode the image again")


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def _array_of(features: torch.Tensor, dtype: torch.dtype) -> NDArray[Any]:
    """Return features as the encoder computed them, in `dtype`, which bfloat16 takes in a guise that numpy knows."""
    exact = features.to("cpu", dtype)
    return (exact.view(torch.int16) if dtype == torch.bfloat16 else exact).numpy()


def _tensor_of(array: NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
    """Undo `_array_of`."""
    exact = torch.from_numpy(array)
    return exact.view(torch.bfloat16) if dtype == torch.bfloat16 else exact
