"""Real pictures from a folder, drawn ones from a seed, and the batches that both make."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from skimage import io
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from napari_sam.errors import ImageError, NapariSamError
from napari_sam.image_input import read_picture, resolve_rule
from napari_sam.training.collage import pasted, textured
from napari_sam.training.crops import CropRule, Picture, Sample, as_picture, random_sample
from napari_sam.training.dense import dense_target
from napari_sam.training.synthetic import draw

if TYPE_CHECKING:
    from collections.abc import Iterator

Entry = dict[str, Any]
SEED_OF_THE_SPLIT = "held aside 1"
WHOLE_OF_DRAWN = 0.55  # drawn pictures have the input's size already, so they are shown whole more often
LARGEST_ID = 1 << 16  # ids beyond it are numbered anew: tables over all ids up to the largest stay small
KEPT = 2 << 30  # bytes of pictures that a process keeps
TRIES = 1000  # pictures without objects in a row before none is expected any more
TEXTURED, PASTED = 0.25, 0.3  # shares, among made pictures, of those that real ones lend texture or objects to


class Trainset:
    """A folder of pictures and masks, read when asked for and then kept; those without objects are passed over.

    Parameters
    ----------
    folder
        With images/ and masks/, whose files have the same names but for the ending; a mask gives each object its own
        whole number, 0 is background. Or with a manifest.json: its `entries` name `image` and `mask`, and perhaps
        `dataset`, `modality`, `independence_group` (what is held aside together, say all slices of a patient), and
        whether all objects are marked (`complete`).
    aside
        About which share of the independence groups of each data set is held aside; at least one of four or more.

    Raises
    ------
    ImageError
        The folder does not say which pictures and masks there are.
    """

    def __init__(self, folder: Path, aside: float = 0.1) -> None:
        self.folder = Path(folder)
        entries = _entries(self.folder)
        self.held_aside_groups = _groups_aside(entries, aside)
        self.held_aside = [e for e in entries if e["independence_group"] in self.held_aside_groups]
        self.entries = [e for e in entries if e["independence_group"] not in self.held_aside_groups]
        self._kept: dict[str, Picture | None] = {}
        self._size = 0

    @cached_property
    def weights(self) -> npt.NDArray[np.float64]:
        """How often each entry is drawn.

        Domains count the same, as far as entries name one; within a domain a data set with n entries gets a share that
        grows with the root of n.
        """
        kinds = [(entry.get("domain"), entry["dataset"], entry["modality"]) for entry in self.entries]
        sizes = Counter(kinds)
        domains: dict[str | None, float] = defaultdict(float)
        for kind, size in sizes.items():
            domains[kind[0]] += size**0.5
        weights = np.array([sizes[kind] ** -0.5 / domains[kind[0]] for kind in kinds])
        result: npt.NDArray[np.float64] = weights / weights.sum()
        return result

    def picture(self, entry: Entry) -> Picture | None:
        """Read an entry's picture, as the predictor would see it, and its objects; None if it has none.

        Raises
        ------
        ImageError
            A file cannot be read, is no picture or no mask of it.
        """
        name = str(entry["image"])
        if name in self._kept:
            return self._kept[name]
        picture = self._read(entry)
        if self._size < KEPT:
            self._kept[name] = picture
            self._size += 0 if picture is None else picture.image.nbytes + picture.layers.nbytes
        return picture

    def _read(self, entry: Entry) -> Picture | None:
        path = self.folder / entry["image"]
        image, mask = _pixels(path), _ids(self.folder / entry["mask"])
        try:
            rule = resolve_rule(image)
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from error
        if mask.shape != rule.shape:
            raise ImageError(
                f"mask {entry['mask']} is {mask.shape}, its image {rule.shape}: give it that size and one channel"
            )
        if not mask.any():
            return None
        rgb = read_picture(image, rule, (0, 0, *rule.shape))
        return as_picture(rgb, mask[None], bool(entry.get("complete", True)))

    def random_picture(self, rng: np.random.Generator) -> Picture:
        """Return one with objects that is not held aside."""
        for _ in range(TRIES):
            picture = self.picture(self.entries[int(rng.choice(len(self.entries), p=self.weights))])
            if picture is not None:
                return picture
        raise ImageError(f"the masks in {self.folder} have no objects: give each object its own number, 1 or more")


def _pixels(path: Path) -> npt.NDArray[Any]:
    try:
        return np.asarray(io.imread(path))
    except Exception as error:  # broad: readers meet foreign bytes with struct.error, SyntaxError, KeyError and others
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ImageError(f"cannot read {path} as an image ({reason}): replace it, or take it out") from error


def _ids(path: Path) -> npt.NDArray[np.int32]:
    """Read a mask: one whole number for each object, 0 for none."""
    mask = _pixels(path)
    low, high = mask.min(), mask.max()
    if low < 0 or (mask.dtype.kind == "f" and (mask % 1).any()):
        raise ImageError(
            f"mask {path} has values from {low} to {high}: give objects whole numbers from 1 on, the rest 0"
        )
    if high > LARGEST_ID:
        ids, places = np.unique(mask, return_inverse=True)
        mask = places.reshape(mask.shape) + (ids[0] > 0)
    return mask.astype(np.int32)


def _entries(folder: Path) -> list[Entry]:
    """Return what the manifest lists, or the pairs of files."""
    manifest = folder / "manifest.json"
    if not manifest.exists():
        return _pairs(folder)
    try:
        listed = json.loads(manifest.read_text(encoding="utf-8-sig"))["entries"]
        about = {"dataset": folder.name, "modality": ""}
        entries = [about | {"independence_group": one["image"], "mask": one["mask"]} | one for one in listed]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ImageError(
            f"{manifest} cannot be used ({error!r}): its `entries` must name `image` and `mask`"
        ) from error
    if not entries:
        raise ImageError(f"{manifest} lists no pictures: its `entries` must name `image` and `mask`")
    return entries


def _pairs(folder: Path) -> list[Entry]:
    """Return the files of images/ with those of masks/ that have their names."""
    images, masks = (
        [path for path in sorted((folder / name).glob("*.*")) if not path.name.startswith(".")]
        for name in ("images", "masks")
    )
    mask_of = {path.stem: path for path in masks}
    pairs = [(path, mask_of.get(path.stem)) for path in images]
    if not pairs:
        raise ImageError(f"{folder} has neither manifest.json nor images/ with files in it: name another folder")
    if alone := [path.name for path, mask in pairs if mask is None]:
        raise ImageError(f"no mask for {alone[0]} in {folder / 'masks'}: add one, or take the image out")
    about = {"dataset": folder.name, "modality": ""}
    return [about | {"image": path, "mask": mask, "independence_group": path.stem} for path, mask in pairs]


def _groups_aside(entries: list[Entry], aside: float) -> set[str]:
    """Choose independence groups by their hash, so that the choice does not move when other data are added."""
    groups: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        groups[entry["dataset"]].add(entry["independence_group"])
    chosen: set[str] = set()
    for members in groups.values():
        count = max(1, round(aside * len(members))) if aside and len(members) >= 4 else 0
        chosen.update(sorted(members, key=_hash)[:count])
    return chosen


def _hash(name: str) -> str:
    return hashlib.sha256(f"{SEED_OF_THE_SPLIT} {name}".encode()).hexdigest()


@dataclass(frozen=True)
class Batch:
    """B images and K objects in each; S is the input's size, masks and dense targets have half of it.

    Attributes
    ----------
    images
        (B, 3, S, S) uint8.
    inside
        (B, 1, S, S) bool, false on the padding.
    dense
        (B, 6, S / 2, S / 2) float16, see `dense_target`.
    masks
        (P, S / 2, S / 2) bool, the objects of all images.
    owner
        (P,) int64, which image each belongs to.
    outside
        (P,) float32, pixels (of the masks' size) that the crop cuts off.
    """

    images: Tensor = field(repr=False)
    inside: Tensor = field(repr=False)
    dense: Tensor = field(repr=False)
    masks: Tensor = field(repr=False)
    owner: Tensor = field(repr=False)
    outside: Tensor = field(repr=False)

    def to(self, device: torch.device) -> Batch:
        """Return it on another device."""
        return Batch(*(value.to(device, non_blocking=True) for value in vars(self).values()))

    def of(self, rows: Tensor) -> Batch:
        """Return a batch of some of the objects, by their indices (n,)."""
        return replace(self, masks=self.masks[rows], owner=self.owner[rows], outside=self.outside[rows])


def collate(samples: list[Sample]) -> Batch:
    """Join samples into one batch."""
    size = samples[0].image.shape[0]
    inside = np.zeros((len(samples), 1, size, size), bool)
    for row, sample in zip(inside, samples, strict=True):
        row[0, : sample.extent[0], : sample.extent[1]] = True
    masks = np.concatenate([sample.masks for sample in samples])
    quarters = masks.reshape(len(masks), size // 2, 2, size // 2, 2).sum((2, 4))
    dense = [dense_target(s.layer[::2, ::2], inside[i, 0, ::2, ::2], s.complete) for i, s in enumerate(samples)]
    owner = np.repeat(np.arange(len(samples)), [len(sample.masks) for sample in samples])
    outside = np.concatenate([sample.outside for sample in samples]) / 4
    return Batch(
        images=torch.from_numpy(np.stack([sample.image for sample in samples]).transpose(0, 3, 1, 2).copy()),
        inside=torch.from_numpy(inside),
        dense=torch.from_numpy(np.stack(dense).astype(np.float16)),
        masks=torch.from_numpy(quarters >= 2),
        owner=torch.from_numpy(owner),
        outside=torch.from_numpy(outside),
    )


class Batches(Dataset[Batch]):
    """Batch i depends on the seed and i alone, so that training can be taken up again anywhere.

    Parameters
    ----------
    trainset
        None: drawn pictures only.
    drawn
        Share of pictures that are made, beside those of a trainset as they are: drawn ones, drawn outlines filled with
        its textures, its objects pasted onto its pictures.
    rank
        Among processes that train together: each sees other batches.
    """

    def __init__(
        self, trainset: Trainset | None, rule: CropRule, images: int, drawn: float, seed: int, rank: int = 0
    ) -> None:
        self.trainset, self.rule, self.images, self.seed = trainset, rule, images, [seed, rank]
        self.drawn = drawn if trainset is not None else 1.0
        self.drawn_rule = CropRule(rule.size, rule.objects, whole=WHOLE_OF_DRAWN, cut=rule.cut)

    def __getitem__(self, index: int) -> Batch:
        """Make batch `index`."""
        rng = np.random.default_rng([*self.seed, index])
        return collate([self._sample(rng) for _ in range(self.images)])

    def _sample(self, rng: np.random.Generator) -> Sample:
        if self.trainset is not None and rng.random() >= self.drawn:
            return random_sample(rng, self.trainset.random_picture(rng), self.rule)
        return random_sample(rng, self._made(rng), self.drawn_rule)

    def _made(self, rng: np.random.Generator) -> Picture:
        kind = rng.random() if self.trainset is not None else 1.0
        if self.trainset is not None and kind < PASTED:
            return pasted(rng, self.trainset.random_picture)
        drawing = draw(rng)
        if self.trainset is not None and kind < PASTED + TEXTURED:
            return textured(rng, drawing, self.trainset.random_picture)
        return as_picture(drawing.image, drawing.layers)

    def stream(self, start: int, processes: int = 1) -> Iterator[tuple[int, Batch]]:
        """Yield (index, batch) from `start` on without end, made ahead by that many processes beside this one."""
        indices = range(start, 2**31)
        ahead = 4 if processes else None
        loader = DataLoader(
            _Outcomes(self), batch_size=None, sampler=indices, num_workers=processes, prefetch_factor=ahead
        )
        for index, outcome in zip(indices, loader, strict=False):
            if isinstance(outcome, NapariSamError):
                raise outcome
            yield index, outcome


class _Outcomes(Dataset["Batch | NapariSamError"]):
    """Batches, or the mistakes that keep one from being made, which torch would wrap in a traceback of its own."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, index: int) -> Batch | NapariSamError:
        """Return batch `index`, or why there is none."""
        try:
            return self.batches[index]
        except NapariSamError as error:
            return error
