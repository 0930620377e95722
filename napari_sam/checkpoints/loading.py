"""From a name, a file or a folder to a network with its weights, and to the profile that says how to feed it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..errors import CheckpointError
from ..models.prototypes import PrototypeSam
from ..models.recognition import closest, compare, empty_sam, inferred_tiny_vit
from ..models.specs import EMBEDDING_STRIDE, SPECS, SamSpec
from ..models.state_dicts import unwrap, without_foreign_names
from ..models.tiny_vit_files import empty_tiny_vit, is_tiny_vit, tiny_vit_state
from ..models.vit_files import THEIRS, empty_vit, has_decoder, inferred_vit, is_plain_vit, plain_vit_state
from . import registry
from .download import Sums, fetch, sums_of
from .files import read_file
from .folders import CONFIG, PREPROCESSING, json_beside, parse_preprocessing, weights_in
from .profiles import PROFILES, About, ProfileChoice, choose_profile
from .registry import DEFAULT, entry_of_file, known_checkpoints

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from ..geometry import Profile
    from ..models.recognition import Comparison
    from ..models.sam import Sam
    from ..models.specs import PlainViTSpec, TinyViTSpec
    from .download import CancelledQuestion, Notify, Progress
    from .registry import Entry

RECOGNISABLE = 0.1
"""Share of agreeing keys below which a file is not called a damaged Segment Anything model but something else."""
NEARLY = 0.5
"""Share of agreeing keys from which a second architecture is worth naming too."""
LARGEST_GROWTH = 2.0
"""Weights over file, in bytes, beyond which the weights do not come out of the file; shared ones count twice."""


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A network with its weights (float32, CPU, evaluation mode), and how to feed it.

    `sam` is a Segment Anything model, or an encoder without a decoder, which answers prompts by likeness alone.

    `fingerprint` is the SHA-256 of the file, in hexadecimal: two checkpoints with the same one are the same. `note`
    says what was taken for granted, or is empty.
    """

    sam: Sam | PrototypeSam
    spec: SamSpec | PlainViTSpec | TinyViTSpec
    profile: Profile
    name: str
    fingerprint: str
    about: About = field(default_factory=About)
    note: str = ""


@dataclass(frozen=True)
class _Source:
    """A file to load, and what is known of it beforehand; `chosen` is the profile that the user asked for."""

    path: Path
    name: str
    sums: Sums
    entry: Entry | None
    chosen: ProfileChoice | None

    @property
    def profile(self) -> ProfileChoice | None:
        """The profile that goes before what the file itself says: the chosen one, else that of the entry."""
        return self.chosen or (None if self.entry is None else self.entry.chosen_profile)


def load_sam(
    name_or_path: str | Path = DEFAULT,
    progress: Progress | None = None,
    cancelled: CancelledQuestion | None = None,
    profile: str | Path | Profile | None = None,
    notify: Notify | None = None,
) -> LoadedCheckpoint:
    """Load a checkpoint by its name in the registry, or from a file or folder.

    Parameters
    ----------
    name_or_path
        `"default"`, a name in the registry, a file (a PyTorch checkpoint or safetensors), or a folder in which Hugging
        Face's library or a training program saved one.
    progress
        Called with the share of a download that is done, rising to 1.
    cancelled
        Asked while a file is downloaded or verified.
    profile
        The preprocessing: a name in `PROFILES`, a TOML file or a `Profile`. None takes that of a file that is known by
        its sum, else what the file itself says, else Segment Anything's.
    notify
        Told in a sentence what should be known before a download: that the licence forbids commercial use.

    Raises
    ------
    CheckpointError
        The name or the profile is unknown, or the file cannot be downloaded, read, verified, recognised or loaded.
    Cancelled
        `cancelled` said so.
    """
    chosen = choose_profile(profile)
    if str(name_or_path) == DEFAULT:
        return _load_default(cancelled, chosen)
    entry = known_checkpoints().get(str(name_or_path))
    if entry is not None:
        path, sums = fetch(entry, progress, cancelled, notify)
        return _load(_Source(path, entry.name, sums, entry, chosen))
    path = _existing(name_or_path)
    weights = weights_in(path) if path.is_dir() else path
    sums = sums_of(weights, cancelled)
    return _load(_Source(weights, path.name, sums, entry_of_file(sums.sha256, sums.xxh128), chosen))


def _load_default(cancelled: CancelledQuestion | None, chosen: ProfileChoice | None) -> LoadedCheckpoint:
    path = registry.DEFAULT_WEIGHTS
    if not path.is_file():
        raise CheckpointError(
            f"the weights of 'default' are not part of this installation ({path} is missing): "
            f"install the package again, or choose one of {', '.join(known_checkpoints())}"
        )
    return _load(_Source(path, DEFAULT, sums_of(path, cancelled), None, chosen))


def _existing(name_or_path: str | Path) -> Path:
    path = Path(name_or_path).expanduser()
    if not path.exists():
        raise CheckpointError(
            f"no checkpoint {str(name_or_path)!r}: it is neither a known name "
            f"({', '.join([DEFAULT, *known_checkpoints()])}) nor a file on this machine"
        )
    return path


def _load(source: _Source) -> LoadedCheckpoint:
    loaded, metadata = read_file(source.path)
    try:
        state = unwrap(loaded)
    except ValueError as error:
        raise CheckpointError(f"{source.path} is not a Segment Anything checkpoint: {error}") from error
    if is_plain_vit(state):
        return _load_vit(source, state)
    if is_tiny_vit(state):
        return _load_tiny_vit(source, tiny_vit_state(state))
    state = without_foreign_names(state)
    said = source.entry.spec if source.entry is not None else metadata.get("spec")
    spec = _recognise(source.path, state, SPECS.get(said or ""))
    sam = empty_sam(spec)
    sam.load_state_dict(_checked(source.path, state, sam.state_dict()), strict=True, assign=True)
    profile, note = _profile(source, spec, metadata)
    _check_size(profile, EMBEDDING_STRIDE, source)
    if profile.decoder == "prototypes":
        by_likeness = PrototypeSam(sam.image_encoder, EMBEDDING_STRIDE).eval()
        return LoadedCheckpoint(by_likeness, spec, profile, source.name, source.sums.sha256, _about(source), note)
    return LoadedCheckpoint(sam, spec, profile, source.name, source.sums.sha256, _about(source), note)


def _load_vit(source: _Source, theirs: dict[str, Tensor]) -> LoadedCheckpoint:
    """Load a plain ViT, whose embedding answers prompts by likeness."""
    path, state = source.path, plain_vit_state(theirs)
    try:
        spec = inferred_vit(state, json_beside(path, CONFIG), hugging_face=any(key.endswith(THEIRS) for key in theirs))
        found = compare(state, spec)
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not a plain ViT that we know: {error}") from error
    if spec.channels != 3 and found.fits:
        raise CheckpointError(f"{path} takes {spec.channels} channels: only encoders of 3 can be used on pictures")
    profile, note = _vit_profile(source, spec, is_mae=has_decoder(theirs))
    return _by_likeness(source, state, found, spec, empty_vit(spec), spec.patch_size, profile, note)


def _load_tiny_vit(source: _Source, state: dict[str, Tensor]) -> LoadedCheckpoint:
    """Load a TinyViT classifier, whose embedding answers prompts by likeness."""
    try:
        spec = inferred_tiny_vit(state)
        found = compare(state, spec)
    except ValueError as error:
        raise CheckpointError(f"{source.path} is not a TinyViT that we know: {error}") from error
    encoder = empty_tiny_vit(spec)
    profile = (source.profile or ProfileChoice(PROFILES["imagenet"])).at(spec.image_size)
    return _by_likeness(source, state, found, spec, encoder, encoder.stride, profile)


def _by_likeness(
    source: _Source,
    state: dict[str, Tensor],
    found: Comparison,
    spec: PlainViTSpec | TinyViTSpec,
    encoder: nn.Module,
    stride: int,
    profile: Profile,
    note: str = "",
) -> LoadedCheckpoint:
    """Return an encoder without a decoder, filled with weights that were `found` to fit it."""
    if not found.fits:
        raise CheckpointError(
            f"{source.path} is no complete checkpoint; closest is a {spec.name}, with {found.describe()}"
        )
    encoder.load_state_dict(_checked(source.path, state, encoder.state_dict()), strict=True, assign=True)
    _check_size(profile, stride, source)
    sam = PrototypeSam(encoder, stride).eval()
    return LoadedCheckpoint(sam, spec, profile, source.name, source.sums.sha256, _about(source), note)


def _check_size(profile: Profile, stride: int, source: _Source) -> None:
    if profile.image_size % stride:
        raise CheckpointError(
            f"profile {profile.name!r}: image_size = {profile.image_size} is no multiple of the {stride} px of "
            f"{source.name}'s patches: choose {round(profile.image_size / stride) * stride}"
        )


def _recognise(path: Path, state: Mapping[str, Tensor], said: SamSpec | None) -> SamSpec:
    """Return the architecture of weights: the one that they are `said` to have, else what keys and shapes tell."""
    found, *others = closest(state) if said is None else [compare(state, said)]
    if found.fits and isinstance(found.spec, SamSpec):
        return found.spec
    if found.share < RECOGNISABLE:
        keys = ", ".join(list(state)[:3])
        raise CheckpointError(f"{path} is not a Segment Anything checkpoint that we know: its weights are {keys}, ...")
    raise CheckpointError(
        f"{path} is no complete checkpoint of any architecture that we know; closest is {_distance(found, others)}. "
        "Save the whole network's state dict, or choose a checkpoint of one of these architectures"
    )


def _distance(found: Comparison, others: list[Comparison]) -> str:
    """Name the closest architecture with its differences, and the next one if it is near."""
    said = f"{found.spec.name}, with {found.describe()}"
    if others and others[0].share >= NEARLY:
        said += f"; next is {others[0].spec.name}, with {others[0].differences} differences"
    return said


def _checked(path: Path, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights as float32; raise where they are not numbers that the file holds."""
    held, size = sum(value.numel() * value.element_size() for value in state.values()), path.stat().st_size
    if held > LARGEST_GROWTH * size:
        raise CheckpointError(f"{path} claims {held} bytes of weights in a file of {size}: it is damaged or was forged")
    checked = {}
    for key, value in state.items():
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise CheckpointError(f"{path}: {key} is a tensor without plain values: save the weights as float tensors")
        if value.is_floating_point() != expected[key].is_floating_point() or value.is_complex():
            raise CheckpointError(f"{path}: {key} is {_dtype(value)} instead of {_dtype(expected[key])}: save floats")
        checked[key] = value.float() if value.is_floating_point() else value
        # The sum of finite weights is finite, and takes no memory.
        if value.is_floating_point() and not torch.isfinite(checked[key].sum()):
            raise CheckpointError(
                f"{path}: {key} has values that are not finite: the training diverged or the file is damaged. Take an "
                "earlier checkpoint, or copy or download it again"
            )
    return checked


def _dtype(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _profile(source: _Source, spec: SamSpec, metadata: Mapping[str, str]) -> tuple[Profile, str]:
    """Return how to feed the network, and what was taken for granted."""
    if source.profile is not None:
        return source.profile.at(spec.image_size), ""
    for said in (metadata.get("profile"), spec.name):
        if said in PROFILES:
            return ProfileChoice(PROFILES[said]).at(spec.image_size), ""
    return ProfileChoice(PROFILES["sam"]).at(spec.image_size), (
        f"{source.name} is fed as Segment Anything is, for weights do not tell their preprocessing: choose another "
        "profile if they are MedSAM's or micro-sam's."
    )


def _vit_profile(source: _Source, spec: PlainViTSpec, *, is_mae: bool) -> tuple[Profile, str]:
    """Return how to feed a plain ViT, and what was taken for granted."""
    if source.profile is not None:
        return source.profile.at(spec.image_size), ""
    said = json_beside(source.path, PREPROCESSING)
    if said:
        return parse_preprocessing(said, str(source.path.with_name(PREPROCESSING)), spec.image_size), ""
    if is_mae:  # all of them were trained so
        return ProfileChoice(PROFILES["imagenet"]).at(spec.image_size), ""
    return ProfileChoice(PROFILES["vit"]).at(spec.image_size), (
        f"{source.name} is fed with mean and deviation 0.5, as the first ViTs were: choose the profile 'imagenet' if "
        "it was trained with ImageNet's."
    )


def _about(source: _Source) -> About:
    if source.profile is not None and source.profile.about != About():
        return source.profile.about
    return About() if source.entry is None else source.entry.about
