"""Published files: find, download, verify.

A published checkpoint is looked for in the folder that `NAPARI_SAM_CHECKPOINTS` names, then in the user's cache, and is
downloaded into the cache otherwise. Its sum is checked on every load, which takes less time than reading the weights
does, so that neither a broken download nor a damaged disk is ever taken for the checkpoint.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from ..errors import Cancelled, CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .registry import Entry

    Progress = Callable[[float], None]
    CancelledQuestion = Callable[[], bool]

FOLDER_VARIABLE = "NAPARI_SAM_CHECKPOINTS"
CHUNK = 1 << 20
TIMEOUT = 30  # seconds without a byte


@dataclass(frozen=True)
class Sums:
    """A file's two sums, in hexadecimal."""

    sha256: str
    xxh128: str

    def fit(self, entry: Entry) -> bool:
        """Whether they are those of a published file, as far as it has any."""
        return entry.sha256 in ("", self.sha256) and entry.xxh128 in ("", self.xxh128)


def cache_folder() -> Path:
    """Return the folder that downloads go to."""
    import pooch  # here: an installed default model needs no downloads

    return Path(pooch.os_cache("napari-sam-live"))


def fetch(
    entry: Entry, progress: Progress | None = None, cancelled: CancelledQuestion | None = None
) -> tuple[Path, Sums]:
    """Return the verified file of a published checkpoint and its sums; it is downloaded where it is not here yet.

    Raises
    ------
    CheckpointError
        It cannot be downloaded, or is not the published file.
    """
    own = _in_own_folder(entry, cancelled)
    if own is not None:
        return own
    path = cache_folder() / entry.filename
    if _has_size(path, entry) and (sums := sums_of(path, cancelled)).fit(entry):
        return path, sums
    _download(entry, path, progress, cancelled)
    return path, sums_of(path, cancelled)


def _in_own_folder(entry: Entry, cancelled: CancelledQuestion | None) -> tuple[Path, Sums] | None:
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
    sums = sums_of(path, cancelled)
    if not (_has_size(path, entry) and sums.fit(entry)):
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) is not the published {entry.name} "
            f"({_description(entry)}): replace it, or remove it to have it downloaded"
        )
    return path, sums


def _description(entry: Entry) -> str:
    parts = (("", f"{entry.size} bytes" if entry.size else ""), ("SHA-256 ", entry.sha256), ("XXH128 ", entry.xxh128))
    return ", ".join(name + value for name, value in parts if value)


def _has_size(path: Path, entry: Entry) -> bool:
    return path.is_file() and entry.size in (None, path.stat().st_size)


def sums_of(path: Path, cancelled: CancelledQuestion | None = None) -> Sums:
    """Read a file once for both sums.

    Raises
    ------
    CheckpointError
        It cannot be read.
    Cancelled
        `cancelled` said so.
    """
    sha256, xxh128 = hashlib.sha256(), xxhash.xxh3_128()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                _stop_if(cancelled, path.name)
                sha256.update(chunk)
                xxh128.update(chunk)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    return Sums(sha256.hexdigest(), xxh128.hexdigest())


def _stop_if(cancelled: CancelledQuestion | None, what: str) -> None:
    if cancelled is not None and cancelled():
        raise Cancelled(f"loading {what} was cancelled")


class _Meter:
    """What pooch takes for a progress bar: counts bytes, reports their share, ends the download when asked to."""

    total = 0  # set by pooch from the response's header, 0 if that says nothing

    def __init__(self, entry: Entry, progress: Progress | None, cancelled: CancelledQuestion | None):
        self._entry, self._progress, self._cancelled = entry, progress, cancelled
        self._done = 0
        self._reported = -1.0

    def update(self, count: int) -> None:
        _stop_if(self._cancelled, self._entry.name)
        self._done += count
        share = min(1.0, self._done / (self.total or self._entry.size or self._entry.about_size or self._done))
        if self._progress is not None and share > self._reported:
            self._reported = share
            self._progress(share)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        """Nothing to close."""


def _download(entry: Entry, path: Path, progress: Progress | None, cancelled: CancelledQuestion | None) -> None:
    """Download into a temporary file, check its hash and move it to `path`: all or nothing."""
    import pooch

    def download(url: str, target: str, _: object) -> None:
        meter = _Meter(entry, progress, cancelled)
        pooch.HTTPDownloader(progressbar=meter, chunk_size=CHUNK, timeout=TIMEOUT)(url, target, None)
        _check_download(entry, Path(target))

    _stop_if(cancelled, entry.name)
    try:
        pooch.retrieve(entry.url, _known_hash(entry), path.name, path.parent, downloader=download)
    except (OSError, ValueError) as error:  # what requests raises is an OSError, a wrong hash a ValueError
        raise CheckpointError(
            f"{entry.name} could not be downloaded from {entry.url} into {path.parent}: {error}. Check the network and "
            f"try again, or put {entry.filename} into a folder that {FOLDER_VARIABLE} names"
        ) from error


def _check_download(entry: Entry, path: Path) -> None:
    """Say what is wrong with a download more clearly than its hash would."""
    size = path.stat().st_size
    if is_markup(head_of(path)):
        raise ValueError("the server sent a web page instead (a login or an error page?)")
    if entry.size not in (None, size):
        raise ValueError(f"{size} bytes came instead of {entry.size}")


def _known_hash(entry: Entry) -> str | None:
    """Return the published sum in pooch's words."""
    if entry.sha256:
        return f"sha256:{entry.sha256}"
    return f"xxh128:{entry.xxh128}" if entry.xxh128 else None


def head_of(path: Path) -> bytes:
    """Return the first bytes of a file; `CheckpointError` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def is_markup(head: bytes) -> bool:
    """Whether a file that begins like this is a web page."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")
