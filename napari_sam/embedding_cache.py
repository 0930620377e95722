"""What the image encoder made of a picture, kept so that it need not be made again: in memory, and on disk.

An entry is the features of one region. Its key is a digest of the encoder's own input, its weights and its precision,
so that it does not matter where a picture came from, and no entry can be taken for another one's. What is stored are
these features alone: no pixels, no file names. A store that is full, damaged or not to be written to stops nobody: what
cannot be kept is computed again.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import threading
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs
import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

APPLICATION = "napari-sam-live"
FOLDER_VARIABLE = "NAPARI_SAM_EMBEDDINGS"
MEMORY_BUDGET = 512 << 20
DISK_BUDGET = 2 << 30
SUFFIX = ".embedding"
MAGIC = b"napari-sam embedding 2\n"
DIGEST_SIZE = 16
"""Bytes of XXH3's 128 bits, which take a hundredth of the time of a cryptographic digest: nobody forges entries."""
ABANDONED = 3600.0
"""Seconds after which a temporary file is taken for one of a process that died."""
LEFT_AFTER_EVICTION = 0.9
WRITES_PER_LOOK = 64
"""Other processes write too: after so many writes of ours the folder is measured again."""


def key_of(pixels: NDArray[Any], model: str) -> str:
    """Return the key of the features that `model`, a fingerprint of weights and precision, makes of an input."""
    digest = xxhash.xxh3_128(f"{model} {pixels.dtype.str} {pixels.shape} ".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


class DiskStore:
    """A folder with one file per entry, the least recently used ones removed beyond `budget` bytes.

    Every file carries a digest of its content and comes into being whole, by a rename, so that several processes can
    share the folder. Methods that write raise `OSError`.
    """

    def __init__(self, folder: Path, budget: int) -> None:
        self.folder, self.budget = folder, budget
        self._used: int | None = None
        self._writes = 0
        self._names = itertools.count()

    def read(self, key: str) -> NDArray[Any] | None:
        """Return an entry, None if there is none or it is not whole; one that is not whole is removed."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        array = _unpacked(content)
        if array is None:
            _remove(path)
            return None
        with contextlib.suppress(OSError):  # in a folder that we may only read
            os.utime(path)  # used just now
        return array

    def write(self, key: str, array: NDArray[Any]) -> None:
        """Keep an entry, if it is no larger than the whole budget, and remove the oldest ones beyond that."""
        content = _packed(array)
        if len(content) > self.budget:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{key}.{os.getpid()}.{next(self._names)}.part"
        try:
            temporary.write_bytes(content)
            temporary.replace(self._path(key))
        except OSError:
            _remove(temporary)
            raise
        self._make_room(len(content))

    def clear(self) -> int:
        """Remove every entry; return how many bytes that freed."""
        freed = sum(size for path, size, _ in self._entries() if _remove(path))
        for path in self._temporary_files():
            _remove(path)
        self._used = None
        return freed

    def usage(self) -> tuple[int, int]:
        """Return the number of entries and their bytes."""
        sizes = [size for _, size, _ in self._entries()]
        return len(sizes), sum(sizes)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"

    def _make_room(self, written: int) -> None:
        self._writes += 1
        if self._used is not None and self._writes % WRITES_PER_LOOK:
            self._used += written
        else:
            self._used = self.usage()[1]
            _remove_abandoned(self._temporary_files())
        if self._used <= self.budget:
            return
        entries = sorted(self._entries(), key=lambda entry: entry[2])
        self._used = sum(size for _, size, _ in entries)
        for path, size, _ in entries[:-1]:  # the last one was written just now
            if self._used <= LEFT_AFTER_EVICTION * self.budget:
                return
            if _remove(path):
                self._used -= size

    def _entries(self) -> Iterator[tuple[Path, int, int]]:
        """Yield (path, bytes, time of last use) of every entry; other processes may remove some meanwhile."""
        for path in self._files(SUFFIX):
            try:
                about = path.stat()
            except OSError:
                continue
            yield path, about.st_size, about.st_mtime_ns

    def _temporary_files(self) -> list[Path]:
        return self._files(".part")

    def _files(self, suffix: str) -> list[Path]:
        try:
            return [path for path in self.folder.iterdir() if path.suffix == suffix]
        except OSError:
            return []


def _packed(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    content = buffer.getbuffer()
    return b"".join((MAGIC, xxhash.xxh3_128(content).digest(), content))


def _unpacked(content: bytes) -> NDArray[Any] | None:
    """Return the array that `_packed` made `content` of, None if a byte of it is wrong or missing."""
    start = len(MAGIC) + DIGEST_SIZE
    whole = memoryview(content)
    expected = xxhash.xxh3_128(whole[start:]).digest()
    if whole[: len(MAGIC)] != MAGIC or whole[len(MAGIC) : start] != expected:
        return None
    try:
        array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(whole[start:]), allow_pickle=False)
    except (ValueError, EOFError):  # written by another program that knows how we sign
        return None
    return array


def _remove(path: Path) -> bool:
    """Remove a file; False if that is not possible, say because another process reads it or was faster."""
    try:
        path.unlink()
    except OSError:
        return False
    return True


def _remove_abandoned(files: list[Path]) -> None:
    for path in files:
        try:
            age = time.time() - path.stat().st_mtime
        except OSError:
            continue
        if age > ABANDONED:
            _remove(path)


@dataclass(frozen=True)
class Usage:
    """What a cache holds: entries and bytes on disk, bytes in memory."""

    entries: int
    disk_bytes: int
    memory_bytes: int


class EmbeddingCache:
    """Features by key: the latest ones in memory, the lasting ones in `disk`, None for none; safe in several threads.

    What goes wrong with the disk ends writing to it, and is said once, by `take_notice`.
    """

    def __init__(self, disk: DiskStore | None = None, memory_budget: int = MEMORY_BUDGET) -> None:
        self.disk = disk
        self.memory_budget = memory_budget
        self._memory: OrderedDict[str, NDArray[Any]] = OrderedDict()
        self._held = 0
        self._lock = threading.RLock()
        self._may_write = True
        self._notice = ""

    def get(self, key: str) -> NDArray[Any] | None:
        """Return the features kept under `key`, not to be changed, or None."""
        with self._lock:
            if key in self._memory:
                self._memory.move_to_end(key)
                return self._memory[key]
            disk = self.disk
        array = None if disk is None else disk.read(key)
        if array is not None:
            self._remember(key, array)
        return array

    def put(self, key: str, features: NDArray[Any], *, is_lasting: bool = True) -> None:
        """Keep features, on disk too if they are lasting; they are held by reference and must not change."""
        self._remember(key, features)
        disk = self.disk
        if disk is None or not is_lasting or not self._may_write:
            return
        try:
            disk.write(key, features)
        except OSError as error:
            self._may_write = False
            self._notice = (
                f"Embeddings are not kept on disk any more: {disk.folder} cannot be written to "
                f"({error.strerror or error}). Make room there, or name another folder in {FOLDER_VARIABLE}"
            )

    def take_notice(self) -> str:
        """Return what a person should know, once; empty if there is nothing."""
        notice, self._notice = self._notice, ""
        return notice

    def clear(self) -> int:
        """Forget everything, in memory and on disk; return how many bytes the disk has more."""
        with self._lock:
            self._memory.clear()
            self._held = 0
        self._may_write = True
        return 0 if self.disk is None else self.disk.clear()

    def usage(self) -> Usage:
        """Say how much is kept."""
        entries, size = (0, 0) if self.disk is None else self.disk.usage()
        return Usage(entries, size, self._held)

    def _remember(self, key: str, array: NDArray[Any]) -> None:
        with self._lock:
            former = self._memory.pop(key, None)
            self._held += array.nbytes - (0 if former is None else former.nbytes)
            self._memory[key] = array
            while self._held > self.memory_budget:
                self._held -= self._memory.popitem(last=False)[1].nbytes


# --- the cache of this user's processes -----------------------------------------------------------------------------


@dataclass(frozen=True)
class CacheSettings:
    """What this user wants of the store on disk, the same in every process and session."""

    on_disk: bool = True
    disk_budget: int = DISK_BUDGET

    @classmethod
    def load(cls) -> CacheSettings:
        """Return what was saved; what cannot be read is taken to mean that nothing may be stored."""
        path = settings_path()
        try:
            saved = json.loads(path.read_text())
            return cls(bool(saved["on_disk"]), int(saved["disk_budget"]))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, TypeError, KeyError):
            return cls(on_disk=False)

    def save(self) -> None:
        """Write the settings; `OSError` where that is not possible."""
        path = settings_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.part")
        temporary.write_text(json.dumps(asdict(self)))
        temporary.replace(path)

    def store(self) -> DiskStore | None:
        """Return the store on disk, None if nothing is to be stored."""
        return DiskStore(embeddings_folder(), self.disk_budget) if self.on_disk else None


def settings_path() -> Path:
    """Return the file that remembers the settings."""
    return platformdirs.user_config_path(APPLICATION) / "embedding_cache.json"


def embeddings_folder() -> Path:
    """Return the folder of the store: the one that the environment variable names, else in the user's cache."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named).expanduser() if named else platformdirs.user_cache_path(APPLICATION) / "embeddings"


@cache
def shared_cache() -> EmbeddingCache:
    """Return the one cache of this process, as the settings want it."""
    return EmbeddingCache(CacheSettings.load().store())


def configure(settings: CacheSettings) -> None:
    """Save settings, for this and for later processes; turning the store off leaves what is stored: see `clear`."""
    settings.save()
    shared_cache().disk = settings.store()


def clear() -> int:
    """Remove everything, what is on disk also where the store is turned off; return how many bytes that freed."""
    freed = shared_cache().clear()
    return freed + DiskStore(embeddings_folder(), 0).clear()
