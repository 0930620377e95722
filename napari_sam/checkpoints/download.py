"""Published files: find, download, verify.

A published checkpoint is looked for in the folder that `NAPARI_SAM_CHECKPOINTS` names, then in the user's cache, and is
downloaded into the cache otherwise. Its sum is checked on every load, which takes less time than reading the weights
does, so that neither a broken download nor a damaged disk is ever taken for the checkpoint. Where no sum is published,
that of the first download is written down beside the file, so that at least a later change is noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import xxhash

from ..errors import Cancelled, CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .registry import Entry

    Progress = Callable[[float], None]
    CancelledQuestion = Callable[[], bool]
    Notify = Callable[[str], None]

FOLDER_VARIABLE = "NAPARI_SAM_CHECKPOINTS"
MIRROR_VARIABLE = "NAPARI_SAM_MIRROR"
"""The address of a folder on a web server that holds the published files; it is asked first."""
CHUNK = 1 << 20
TIMEOUT = 10.0
"""Seconds without a byte after which a connection is given up and a new one goes on; no cancelling takes longer."""
ATTEMPTS = 4
"""Connections in a row that bring nothing before a server is given up."""
LARGEST = 20 << 30
"""Bytes at which a download ends whose size is not published."""
LOCK_POLL = 0.2
OK = 200
"""The status of an answer with the whole file, also where a part was asked for."""


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
    entry: Entry,
    progress: Progress | None = None,
    cancelled: CancelledQuestion | None = None,
    notify: Notify | None = None,
) -> tuple[Path, Sums]:
    """Return the verified file of a checkpoint with a name, and its sums; it is downloaded where it is not here yet.

    Of several processes that want the same file, one downloads it and the others wait for that.

    Raises
    ------
    CheckpointError
        It cannot be downloaded, or is not the published file.
    """
    there = _in_own_folder(entry, cancelled)
    if there is not None:
        return there
    path = cache_folder() / entry.filename
    if (sums := _verified(path, entry, cancelled)) is not None:
        return path, sums
    if notify is not None and entry.warning:
        notify(entry.warning)
    _stop_if(cancelled, entry.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path, entry, cancelled):
            # Somebody else may have brought it while we waited.
            return path, _verified(path, entry, cancelled) or _download(entry, path, progress, cancelled)
    except OSError as error:
        raise CheckpointError(
            f"{entry.name} cannot be kept in {path.parent}: {error}. Make room there, or {_by_hand(entry)}"
        ) from error


def is_here(entry: Entry) -> Path | None:
    """Return where the file of a checkpoint lies on this machine, by its name and size alone; None if nowhere."""
    own = os.environ.get(FOLDER_VARIABLE)
    places = [entry.path, Path(own).expanduser() / entry.filename if own else None, cache_folder() / entry.filename]
    return next((path for path in places if path is not None and _has_size(path, entry)), None)


def _verified(path: Path, entry: Entry, cancelled: CancelledQuestion | None) -> Sums | None:
    """Return the sums of a file in the cache if it is the published one, None if it is not or is not there."""
    if not _has_size(path, entry):
        return None
    sums = sums_of(path, cancelled)
    noted = _note_of(path)
    changed = not (entry.sha256 or entry.xxh128) and noted.is_file() and noted.read_text().strip() != sums.sha256
    return sums if sums.fit(entry) and not changed else None


def _note_of(path: Path) -> Path:
    """Return where the sum of a file's first download is written down."""
    return path.with_name(f"{path.name}.sha256")


@contextlib.contextmanager
def _alone(path: Path, entry: Entry, cancelled: CancelledQuestion | None) -> Iterator[None]:
    """Let one process at a time into the block; the others wait."""
    from filelock import FileLock, Timeout  # here and below: an installed default model needs no downloads

    lock = FileLock(path.with_name(f"{path.name}.lock"))
    while True:
        try:
            lock.acquire(timeout=LOCK_POLL)
            break
        except Timeout:
            _stop_if(cancelled, entry.name)
    try:
        yield
    finally:
        lock.release()


def _in_own_folder(entry: Entry, cancelled: CancelledQuestion | None) -> tuple[Path, Sums] | None:
    """Return the file that the user's entry or folder has, None if there is no such folder or file."""
    if entry.path is not None:
        if not entry.path.is_file():
            raise CheckpointError(
                f"the file of {entry.name}, {entry.path}, is not there: correct your entry, or bring it"
            )
        return _checked(entry.path, entry, cancelled)
    named = os.environ.get(FOLDER_VARIABLE)
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise CheckpointError(f"{FOLDER_VARIABLE} is {named!r}, which is not a folder: correct it or leave it out")
    path = folder / entry.filename
    if not path.is_file():
        return None
    return _checked(path, entry, cancelled)


def _checked(path: Path, entry: Entry, cancelled: CancelledQuestion | None) -> tuple[Path, Sums]:
    """Return a file that the user put there, and its sums; raise where it is another one, and leave it alone."""
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


class Share(float):
    """The share of a download that is done, with what to tell a person beside it."""

    detail = ""


class _Meter:
    """What pooch takes for a progress bar: reports how far the file has come, ends the download when asked to."""

    total = 0  # set by pooch from the response's header, 0 if that says nothing

    def __init__(
        self, file: IO[bytes], entry: Entry, progress: Progress | None, cancelled: CancelledQuestion | None
    ) -> None:
        self._file, self._entry, self._progress, self._cancelled = file, entry, progress, cancelled
        self._started, self._first = time.monotonic(), 0
        self._reported = -1.0

    def begin(self) -> None:
        """Note where a connection goes on."""
        self._started, self._first = time.monotonic(), self._file.tell()

    def update(self, _count: int) -> None:
        """Report, after a chunk was written."""
        _stop_if(self._cancelled, self._entry.name)
        done = self._file.tell()
        if done > (self._entry.size or LARGEST):
            raise ValueError(f"more came than the {self._entry.size or LARGEST} bytes of the file")
        whole = self._entry.size or self._first + self.total or self._entry.about_size or done
        share = Share(min(1.0, done / max(1, whole)))
        share.detail = self._detail(done, whole)
        if self._progress is not None and share > self._reported:
            self._reported = share
            self._progress(share)

    def _detail(self, done: int, whole: int) -> str:
        """Return the speed, and how long the rest takes at it."""
        speed = (done - self._first) / max(1e-3, time.monotonic() - self._started)
        if speed <= 0:
            return ""
        left = max(0, whole - done) / speed
        time_left = f"{left:.0f} s" if left < 100 else f"{left / 60:.0f} min"
        return f"{megabytes(int(speed))}/s, {time_left} left"

    def reset(self) -> None:
        """Nothing to count anew: the file knows."""

    def close(self) -> None:
        """Nothing to close."""


def megabytes(count: int) -> str:
    """Return a number of bytes for people."""
    if count < 1_000_000:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e6:.{0 if count >= 10_000_000 else 1}f} MB" if count < 1_000_000_000 else f"{count / 1e9:.1f} GB"


def _download(entry: Entry, path: Path, progress: Progress | None, cancelled: CancelledQuestion | None) -> Sums:
    """Download into a temporary file, check it and move it to `path`: all or nothing."""
    _check_room(entry, path.parent)
    partial = path.with_name(f".{path.name}.part")
    failures = []
    try:
        for url in _addresses(entry):
            try:
                sums = _download_from(url, entry, partial, progress, cancelled)
            except (OSError, ValueError) as error:  # what requests raises is an OSError
                failures.append(f"from {url}: {error}")
                continue
            if not (entry.sha256 or entry.xxh128):
                _note_of(path).write_text(sums.sha256)
            partial.replace(path)
            return sums
    finally:
        partial.unlink(missing_ok=True)
    raise CheckpointError(
        f"{entry.name} could not be downloaded {'; '.join(failures)}. Check the network and try again, or "
        f"{_by_hand(entry)}"
    )


def _by_hand(entry: Entry) -> str:
    """Return what can be done where downloading does not work."""
    return f"put {entry.filename} into a folder that {FOLDER_VARIABLE} names"


def _addresses(entry: Entry) -> list[str]:
    """Return where to ask for a file, in order."""
    mirror = os.environ.get(MIRROR_VARIABLE, "").rstrip("/")
    return [f"{mirror}/{entry.filename}"] * bool(mirror) + [entry.url, *entry.mirrors]


def _check_room(entry: Entry, folder: Path) -> None:
    needed, free = entry.size or entry.about_size or 0, shutil.disk_usage(folder).free
    if free < needed:
        raise CheckpointError(
            f"{entry.name} needs {megabytes(needed)}, but {folder} has {megabytes(free)} left: make room, or "
            f"{_by_hand(entry)}"
        )


def _download_from(
    url: str, entry: Entry, partial: Path, progress: Progress | None, cancelled: CancelledQuestion | None
) -> Sums:
    """Download from one address, going on where a connection broke off; raise `OSError` or `ValueError`."""
    with partial.open("wb") as file:
        _stream(url, file, _Meter(file, entry, progress, cancelled), entry, cancelled)
    _check_download(entry, partial)
    sums = sums_of(partial, cancelled)
    if not sums.fit(entry):
        raise ValueError(f"its hash is not that of the published file ({_description(entry)})")
    return sums


def _stream(url: str, file: IO[bytes], meter: _Meter, entry: Entry, cancelled: CancelledQuestion | None) -> None:
    """Write what a server sends; a connection that breaks off or stalls is followed by one for the rest."""
    import pooch
    from requests import HTTPError, RequestException

    in_vain = 0
    while in_vain < ATTEMPTS:
        _stop_if(cancelled, entry.name)
        meter.begin()
        before = file.tell()
        get = pooch.HTTPDownloader(
            progressbar=meter,
            chunk_size=CHUNK,
            timeout=TIMEOUT,
            headers={"Accept-Encoding": "identity"} | ({"Range": f"bytes={before}-"} if before else {}),
            hooks={"response": lambda answer, **_: _begin_anew(file, meter) if answer.status_code == OK else None},
        )
        try:
            return get(url, file, None)  # type: ignore[no-any-return]
        except HTTPError:
            if not before:
                raise
            _begin_anew(file, meter)  # it does not give parts
            in_vain += 1
        except RequestException:
            if file.tell() == entry.size:
                return None
            if not file.tell():  # nobody there, or nothing to give
                raise
            in_vain = in_vain + 1 if file.tell() <= before else 0
    raise TimeoutError(f"the server stalls or breaks off, {file.tell()} bytes came")


def _begin_anew(file: IO[bytes], meter: _Meter) -> None:
    """Drop what came: the server sends the whole file."""
    file.seek(0)
    file.truncate()
    meter.begin()


def _check_download(entry: Entry, path: Path) -> None:
    """Say what is wrong with a download more clearly than its hash would."""
    size = path.stat().st_size
    if is_markup(head_of(path)):
        raise ValueError("the server sent a web page instead (a login or an error page?)")
    if entry.size not in (None, size) or not size:
        raise ValueError(f"{size} bytes came instead of {entry.size or 'a file'}")


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
