"""Weights from a name or a file: registry, download, verification, recognition, strict loading.

A published checkpoint is looked for in the folder that `NAPARI_SAM_CHECKPOINTS` names, then in the user's cache, and is
downloaded into the cache otherwise. Its size and SHA-256 are checked on every load, which takes less time than reading
the weights does, so that neither a broken download nor a damaged disk is ever taken for the checkpoint.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open

from .errors import Cancelled, CheckpointError
from .geometry import Profile
from .models.specs import SPECS, SamSpec
from .models.state_dicts import closest, compare, empty_sam, unwrap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from .models.sam import Sam

    Progress = Callable[[float], None]
    CancelledQuestion = Callable[[], bool]

FOLDER_VARIABLE = "NAPARI_SAM_CHECKPOINTS"
DEFAULT = "default"
DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "default.safetensors"
DEFAULT_CROP_SIDES = (72, 112, 176, 272, 420, 650)
# Its loss weighs object and background alike, however small the object, which makes masks too large. Measured on
# training pictures that were held aside.
DEFAULT_LOGIT_OFFSETS = (1.0, 1.5)
RECOGNISABLE = 0.1
"""Share of agreeing keys below which a file is not called a damaged Segment Anything model but something else."""
CHUNK = 1 << 20
TIMEOUT = 30  # seconds without a byte


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A checkpoint that others publish: where it is, and how to know it again."""

    name: str
    spec: str
    url: str
    size: int
    sha256: str
    licence: str = "Apache-2.0"

    @property
    def filename(self) -> str:
        """Name of the file, in the cache as where it is published."""
        return self.url.rsplit("/", 1)[-1]


_META = "https://dl.fbaipublicfiles.com/segment_anything/"
_PUBLISHED = (
    PublishedCheckpoint(
        "sam_vit_b",
        "vit_b",
        _META + "sam_vit_b_01ec64.pth",
        375042383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    PublishedCheckpoint(
        "sam_vit_l",
        "vit_l",
        _META + "sam_vit_l_0b3195.pth",
        1249524607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    PublishedCheckpoint(
        "sam_vit_h",
        "vit_h",
        _META + "sam_vit_h_4b8939.pth",
        2564550879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
    PublishedCheckpoint(
        "mobile_sam",
        "vit_t",
        "https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
        40728226,
        "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
    ),
)
REGISTRY: dict[str, PublishedCheckpoint] = {each.name: each for each in _PUBLISHED}
"""The published checkpoints by name; `default` is not among them, it comes with the package."""


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A network with its weights (float32, CPU, evaluation mode), and how to feed it.

    `fingerprint` is the SHA-256 of the file, in hexadecimal: two checkpoints with the same one are the same.
    """

    sam: Sam
    spec: SamSpec
    profile: Profile
    name: str
    fingerprint: str


def load_sam(
    name_or_path: str | Path = DEFAULT,
    progress: Progress | None = None,
    cancelled: CancelledQuestion | None = None,
) -> LoadedCheckpoint:
    """Load a checkpoint by its name in the registry or from a file.

    Parameters
    ----------
    name_or_path
        `"default"`, a name in `REGISTRY`, or a file: a PyTorch checkpoint or safetensors.
    progress
        Called with the share of a download that is done, rising to 1.
    cancelled
        Asked while a file is downloaded or verified.

    Raises
    ------
    CheckpointError
        The name is unknown, or the file cannot be downloaded, read, verified, recognised or loaded.
    Cancelled
        `cancelled` said so.
    """
    if name_or_path == DEFAULT:
        return _load_default(cancelled)
    entry = REGISTRY.get(str(name_or_path))
    if entry is None:
        path = _existing(name_or_path)
        return _load_file(path, path.name, _sha256(path, cancelled))
    path = fetch(entry, progress, cancelled)
    return _load_file(path, entry.name, entry.sha256, SPECS[entry.spec])


def _load_default(cancelled: CancelledQuestion | None) -> LoadedCheckpoint:
    if not DEFAULT_WEIGHTS.is_file():
        raise CheckpointError(
            f"the weights of 'default' are not part of this installation ({DEFAULT_WEIGHTS} is missing): "
            f"install the package again, or choose one of {', '.join(REGISTRY)}"
        )
    return _load_file(DEFAULT_WEIGHTS, DEFAULT, _sha256(DEFAULT_WEIGHTS, cancelled))


def _existing(name_or_path: str | Path) -> Path:
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder: choose a checkpoint file in it")
    if not path.is_file():
        raise CheckpointError(
            f"no checkpoint {str(name_or_path)!r}: it is neither a known name ({', '.join([DEFAULT, *REGISTRY])}) "
            "nor a file on this machine"
        )
    return path


# --- published files: find, download, verify ------------------------------------------------------------------------


def cache_folder() -> Path:
    """Return the folder that downloads go to."""
    import pooch  # here: an installed default model needs no downloads

    return Path(pooch.os_cache("napari-sam-live"))


def fetch(
    entry: PublishedCheckpoint, progress: Progress | None = None, cancelled: CancelledQuestion | None = None
) -> Path:
    """Return the verified file of a published checkpoint, downloading it where it is not on this machine.

    Raises
    ------
    CheckpointError
        It cannot be downloaded, or is not the published file.
    """
    own = _in_own_folder(entry, cancelled)
    if own is not None:
        return own
    path = cache_folder() / entry.filename
    if not (_has_size(path, entry) and _sha256(path, cancelled) == entry.sha256):
        _download(entry, path, progress, cancelled)
    return path


def _in_own_folder(entry: PublishedCheckpoint, cancelled: CancelledQuestion | None) -> Path | None:
    """Return the file in the folder that the user named, None if there is no such folder or file."""
    named = os.environ.get(FOLDER_VARIABLE)
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise CheckpointError(f"{FOLDER_VARIABLE} is {named!r}, which is not a folder: correct it or leave it out")
    path = folder / entry.filename
    if not path.is_file():
        return None
    if not _has_size(path, entry) or _sha256(path, cancelled) != entry.sha256:
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) is not the published {entry.name} "
            f"({entry.size} bytes, SHA-256 {entry.sha256}): replace it, or remove it to have it downloaded"
        )
    return path


def _has_size(path: Path, entry: PublishedCheckpoint) -> bool:
    return path.is_file() and path.stat().st_size == entry.size


def _sha256(path: Path, cancelled: CancelledQuestion | None) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                _stop_if(cancelled, path.name)
                digest.update(chunk)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    return digest.hexdigest()


def _stop_if(cancelled: CancelledQuestion | None, what: str) -> None:
    if cancelled is not None and cancelled():
        raise Cancelled(f"loading {what} was cancelled")


class _Meter:
    """What pooch takes for a progress bar: counts bytes, reports their share, ends the download when asked to."""

    total = 0  # set by pooch from the response's header, 0 if that says nothing

    def __init__(self, entry: PublishedCheckpoint, progress: Progress | None, cancelled: CancelledQuestion | None):
        self._entry, self._progress, self._cancelled = entry, progress, cancelled
        self._done = 0
        self._reported = -1.0

    def update(self, count: int) -> None:
        _stop_if(self._cancelled, self._entry.name)
        self._done += count
        share = min(1.0, self._done / (self.total or self._entry.size))
        if self._progress is not None and share > self._reported:
            self._reported = share
            self._progress(share)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        """Nothing to close."""


def _download(
    entry: PublishedCheckpoint, path: Path, progress: Progress | None, cancelled: CancelledQuestion | None
) -> None:
    """Download into a temporary file, check its hash and move it to `path`: all or nothing."""
    import pooch

    def download(url: str, target: str, _: object) -> None:
        meter = _Meter(entry, progress, cancelled)
        pooch.HTTPDownloader(progressbar=meter, chunk_size=CHUNK, timeout=TIMEOUT)(url, target, None)
        _check_download(entry, Path(target))

    _stop_if(cancelled, entry.name)
    try:
        pooch.retrieve(entry.url, f"sha256:{entry.sha256}", path.name, path.parent, downloader=download)
    except (OSError, ValueError) as error:  # what requests raises is an OSError, a wrong hash a ValueError
        raise CheckpointError(
            f"{entry.name} could not be downloaded from {entry.url} into {path.parent}: {error}. Check the network and "
            f"try again, or put {entry.filename} into a folder that {FOLDER_VARIABLE} names"
        ) from error


def _check_download(entry: PublishedCheckpoint, path: Path) -> None:
    """Say what is wrong with a download more clearly than its hash would."""
    size = path.stat().st_size
    if _is_markup(_head(path)):
        raise ValueError("the server sent a web page instead (a login or an error page?)")
    if size != entry.size:
        raise ValueError(f"{size} bytes came instead of {entry.size}")


# --- files: read, recognise, load -----------------------------------------------------------------------------------


def _load_file(path: Path, name: str, fingerprint: str, spec: SamSpec | None = None) -> LoadedCheckpoint:
    """Load weights whose architecture is `spec`, or what the file says, or what keys and shapes say."""
    loaded, metadata = read_file(path)
    try:
        state = unwrap(loaded)
    except ValueError as error:
        raise CheckpointError(f"{path} is not a Segment Anything checkpoint: {error}") from error
    spec = _recognise(path, state, spec or SPECS.get(metadata.get("spec", "")))
    sam = empty_sam(spec)
    floats = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    sam.load_state_dict(floats, strict=True, assign=True)
    return LoadedCheckpoint(sam, spec, _profile(spec), name, fingerprint)


def _recognise(path: Path, state: Mapping[str, Tensor], spec: SamSpec | None) -> SamSpec:
    found = closest(state) if spec is None else compare(state, spec)
    if found.fits:
        return found.spec
    if found.share < RECOGNISABLE:
        keys = ", ".join(list(state)[:3])
        raise CheckpointError(f"{path} is not a Segment Anything checkpoint that we know: its weights are {keys}, ...")
    raise CheckpointError(
        f"{path} is no complete checkpoint of any architecture that we know; closest is {found.spec.name}, with "
        f"{found.describe()}"
    )


def _profile(spec: SamSpec) -> Profile:
    if spec.name == DEFAULT:
        return Profile(DEFAULT, spec.image_size, crop_sides=DEFAULT_CROP_SIDES, logit_offsets=DEFAULT_LOGIT_OFFSETS)
    return Profile("sam", spec.image_size)


def read_file(path: Path) -> tuple[object, dict[str, str]]:
    """Return what a checkpoint file holds, on the CPU, and its metadata; no code in it is run.

    Raises
    ------
    CheckpointError
        The file is empty, damaged, of another kind, or its pickle would run code.
    """
    head = _head(path)
    if not head:
        raise CheckpointError(f"{path} is empty (0 bytes): copy or download it again")
    if _is_markup(head):
        raise CheckpointError(f"{path} is a web page, not a checkpoint: download the file itself")
    if head[8:9] == b"{" or path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_torch(path), {}


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _is_markup(head: bytes) -> bool:
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def _read_safetensors(path: Path) -> tuple[object, dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  it is no dict
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}): copy or download it again") from error


def _read_torch(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked is None:
            raise _damaged(path, error) from error
        raise CheckpointError(
            f"{path} was not opened: besides tensors it asks for {asked.group(1)}, which could run code. "
            "Save its state dict alone, on the machine that made it"
        ) from error
    # Whatever a damaged archive or pickle makes of the reader.
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return CheckpointError(
        f"{path} ({path.stat().st_size} bytes) is damaged or not a checkpoint ({reason}): copy or download it again"
    )
