"""The journal of an annotation: what was committed, deleted, classified, line by line as it happens.

A file per annotation, appended to and never changed, one JSON object a line. Each line is with the operating system
before the commit returns, so that it outlives the process however that ends; a last line that was torn is ignored. The
file stays locked while its annotation is open, which tells a crashed one from one that goes on, in this process or
another. It is the provenance of the labels, too: `Recorded.labels` rebuilds them pixel for pixel.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import platformdirs

from .errors import JournalError
from .export import Grid
from .journal_format import Identified, ImageIdentity, Json, classes_of_json, largest_id, painted, put_objects
from .objects import LabelledObject, Mode, ObjectClass, ObjectRecord, tabulate
from .planes import Census

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

FORMAT, VERSION = "napari-sam-live journal", 1
"""A later version still says in its first line which image it is about, so that an earlier one can tell of it."""
SUFFIX = ".jsonl"
FOLDER_VARIABLE = "NAPARI_SAM_JOURNALS"
BESIDE = "beside"
LOCKED_BYTE = 1 << 40
"""Which byte is locked where locks keep others from reading: one that no journal has."""


def journal_folder(where: bool | str | Path = True, image_path: str | None = None) -> Path | None:
    """Return where journals are kept.

    True is the folder that `NAPARI_SAM_JOURNALS` names, else the user's data folder; "beside" is the folder of the
    image's file, if it has one; another text or path is that folder; False is None: no journal.
    """
    if where is False:
        return None
    if where == BESIDE and image_path is not None and Path(image_path).parent.is_dir():
        return Path(image_path).parent
    if where in (True, BESIDE):
        named = os.environ.get(FOLDER_VARIABLE)
        return Path(named) if named else platformdirs.user_data_path("napari-sam-live") / "journals"
    return Path(where)  # type: ignore[arg-type]  # of a bool only True and False are left, which went before


class Journal:
    """A journal that is being written; its file is made with the first line.

    Parameters
    ----------
    path
        A file that does not exist yet, or the journal of an earlier annotation that goes on.
    header
        What the first line of a new file says.
    """

    def __init__(self, path: Path, header: Json) -> None:
        self.path = path
        self._waiting: list[Json] = [header] if not path.exists() else []
        self._file: BinaryIO | None = None

    @classmethod
    def new(cls, folder: Path, header: Json) -> Journal:
        """Return a journal under a name that no other process takes."""
        name = re.sub(r"[^\w.-]+", "_", str(header["image"].get("name") or "image"))[:40]
        stamp = time.strftime("%Y%m%d-%H%M%S")
        described = {"format": FORMAT, "version": VERSION, "started": _now(), **header}
        return cls(folder / f"{stamp}-{name}-{secrets.token_hex(4)}{SUFFIX}", described)

    def append(self, *entries: Json) -> None:
        """Write a line for each entry, and those that could not be written before.

        Raises
        ------
        JournalError
            The file cannot be written; the lines are kept, and written with the next one if that is possible.
        """
        self._waiting += [{"time": _now(), **entry} for entry in entries]
        lines = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in self._waiting)
        try:
            self._write(self._opened(), lines)
        except OSError as error:
            raise JournalError(
                f"cannot write the journal {self.path}: {error.strerror or error}; commits go on, but a crash would "
                "lose what is not saved: save the labels, and make room or choose another folder"
            ) from error
        self._waiting.clear()

    def resume(self) -> None:
        """Open an earlier journal to go on with it, so that nobody else does.

        Raises
        ------
        JournalError
            It cannot be written, or another annotation is writing it.
        """
        try:
            self._opened()
        except OSError as error:
            raise JournalError(f"cannot go on with the journal {self.path}: {error.strerror or error}") from error

    def close(self) -> None:
        """Note that the annotation ended, if anything was noted before, and let the file go; safe to call again."""
        if self._file is not None:
            try:
                self.append({"kind": "end"})
                os.fsync(self._file.fileno())
            except (JournalError, OSError):
                pass  # nothing that was committed is missing for it
            self.release()

    def release(self) -> None:
        """Let the file go as it is: for others, the annotation was cut off."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("ab+", buffering=0)
            if not _lock(file):
                file.close()
                raise OSError(0, "another annotation is writing it")
            end = file.seek(0, os.SEEK_END)
            if end and _last_byte(file, end) != b"\n":
                file.write(b"\n")  # the torn line of a crash stays a line of its own
            self._file = file
        return self._file

    def _write(self, file: BinaryIO, lines: bytes) -> None:
        """Append all of it or, on a disk that is full, nothing."""
        start, rest = file.seek(0, os.SEEK_END), memoryview(lines)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            file.truncate(start)
            raise


@dataclass(frozen=True)
class Recorded:
    """A journal that was read: its header, its entries, and whether the annotation was ended by its user."""

    path: Path
    header: Json = field(repr=False)
    entries: tuple[Json, ...] = field(repr=False)

    @property
    def image(self) -> ImageIdentity:
        """The image that was annotated."""
        return ImageIdentity.of_json(self.header["image"])

    @property
    def is_finished(self) -> bool:
        """Whether the annotation was closed, and not cut off."""
        return not self.entries or self.entries[-1]["kind"] == "end"

    @property
    def last_time(self) -> str:
        """When the last line was written, as "2024-05-31T14:05:09+00:00"."""
        return str(self.entries[-1]["time"] if self.entries else self.header["started"])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the labels."""
        return tuple(self.header["labels"]["shape"])

    @property
    def grid(self) -> Grid:
        """How their axes lie in the world."""
        labels = self.header["labels"]
        return Grid(*(tuple(labels.get(name, ())) for name in ("axes", "scale", "units")))

    @property
    def mode(self) -> Mode:
        """What the numbers in the labels mean."""
        return Mode(next((one["mode"] for one in reversed(self.entries) if "mode" in one), self.header["mode"]))

    @property
    def is_partial(self) -> bool:
        """Whether the labels held what was not journalled, which is known only in slices that were changed."""
        return not self.header["labels"]["was_empty"] or any("base" in entry for entry in self.entries)

    @property
    def models(self) -> dict[str, str]:
        """The models that masks came from, as {weights: name}; weights are "" where no image was encoded."""
        return {one["model"]["weights"]: one["model"]["name"] for one in self.entries if one["kind"] == "commit"}

    @property
    def last_weights(self) -> str:
        """The weights that the last masks came from, "" if none did."""
        return next(reversed(self.models), "")

    def check(self) -> Recorded:
        """Return it; raise `JournalError` if any of it is damaged, so that nothing is begun that cannot be ended."""
        self.labels()
        self.objects()
        return self

    def check_outline(self) -> Recorded:
        """Return it; raise `JournalError` if that is damaged which can be told without looking at pixels."""
        with self._telling_of_damage():
            _ = self.image, self.shape, self.grid, self.mode, self.is_partial, self.models, self.last_time
            self.classes()
        return self

    @contextmanager
    def _telling_of_damage(self) -> Iterator[None]:
        try:
            yield
        except (IndexError, KeyError, TypeError, ValueError, zlib.error) as error:
            raise JournalError(
                f"the journal {self.path} is damaged ({type(error).__name__}, {error}): put a whole copy in its "
                "place, or move it elsewhere to begin without it"
            ) from error

    def paint(self, data: NDArray[np.integer], *, with_base: bool = True) -> NDArray[np.integer]:
        """Write all that was committed into `data` (of `shape`); return it, or a wider copy if an id does not fit."""
        with self._telling_of_damage():
            for entry in self.entries:
                data = painted(entry, data, with_base=with_base)
        return data

    def labels(self) -> NDArray[np.integer]:
        """Rebuild the labels, uint16 or wider."""
        return self.paint(np.zeros(self.shape, np.uint16))

    def objects(self) -> dict[int, ObjectRecord]:
        """Rebuild what was known of the objects."""
        records: dict[int, ObjectRecord] = {}
        with self._telling_of_damage():
            for entry in self.entries:
                put_objects(entry, records)
        return records

    def table(self, labels: NDArray[np.integer]) -> list[LabelledObject]:
        """Return a line for each object that `labels` hold."""
        areas = Census(is_empty=False).areas(labels)
        return list(tabulate(areas, self.objects(), self.classes(), self.mode).values())

    def classes(self) -> tuple[ObjectClass, ...]:
        """Rebuild the classes."""
        found = [entry["classes"] for entry in (self.header, *self.entries) if "classes" in entry]
        return classes_of_json(found[-1])

    @property
    def largest_id(self) -> int:
        """The largest id that was ever in the labels, 0 if none was."""
        return max((largest_id(entry) for entry in self.entries), default=0)

    @property
    def has_commits(self) -> bool:
        """Whether it holds anything that could be restored."""
        return any(entry["kind"] != "end" for entry in self.entries)


def read_journal(path: Path) -> Recorded:
    """Read a journal; lines that were torn are left out.

    Raises
    ------
    JournalError
        There is no such file, it is no journal, it is damaged, or a newer version of this package wrote it.
    """
    try:
        lines = list(_lines(path))
    except OSError as error:
        raise JournalError(f"cannot read the journal {path}: {error.strerror or error}") from error
    if not lines or lines[0].get("format") != FORMAT:
        raise JournalError(f"{path} is no journal of napari-sam-live")
    if (version := lines[0].get("version", VERSION)) != VERSION:
        raise JournalError(
            f"the journal {path} was written by a newer napari-sam-live (version {version} of the format): update "
            "napari-sam-live to go on with it, or move it elsewhere to begin without it"
        )
    return Recorded(path, lines[0], tuple(lines[1:])).check_outline()


@dataclass(frozen=True)
class Unreadable:
    """A journal of an image that is known, and why it cannot be read: it is damaged, or a newer version wrote it."""

    path: Path
    error: JournalError

    @property
    def last_time(self) -> str:
        """When the file was written last, in the words of `Recorded`."""
        return _in_words(self.path.stat().st_mtime)


def find_journals(folder: Path, image: Identified) -> list[Recorded | Unreadable]:
    """Return the journals of an image that hold commits and that no open annotation is writing, the latest first."""
    found: list[Recorded | Unreadable] = []
    for path in folder.glob(f"*{SUFFIX}") if folder.is_dir() else ():
        try:
            there = ImageIdentity.of_json(_first_line(path)["image"])
            if image.may_be(there) and image.resolved == there and not is_open(path):
                found.append(_read_if_possible(path))
        except (OSError, KeyError, TypeError):
            continue  # not ours, or one of which nobody can tell
    found = [one for one in found if isinstance(one, Unreadable) or one.has_commits]
    return sorted(found, key=lambda one: (one.last_time, isinstance(one, Unreadable)), reverse=True)


def _read_if_possible(path: Path) -> Recorded | Unreadable:
    try:
        return read_journal(path)
    except JournalError as error:
        return Unreadable(path, error)


def dismiss(recorded: Recorded) -> None:
    """Note that nobody wants to go on with a journal; `JournalError` if it cannot be written."""
    journal = Journal(recorded.path, recorded.header)
    journal.resume()
    journal.close()


def is_open(path: Path) -> bool:
    """Whether an open annotation, of this process or another, is writing a journal."""
    with path.open("rb") as file:
        return not _lock(file)


def _lines(path: Path) -> Iterator[Json]:
    with path.open("rb") as file:
        for line in file:
            try:
                entry: Any = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and ("kind" in entry or "format" in entry):
                yield entry


def _first_line(path: Path) -> Json:
    return next(_lines(path), {})


def _last_byte(file: BinaryIO, end: int) -> bytes:
    file.seek(end - 1)
    return file.read(1)


def _now() -> str:
    return _in_words(time.time())


def _in_words(seconds: float) -> str:
    """Return a time, in seconds since 1970, as it is written in journals."""
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(seconds))


def _lock(file: BinaryIO) -> bool:
    """Lock a file until it is closed or the process ends, however that happens; False if another holds it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(LOCKED_BYTE)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return sys.platform != "win32"
    return True
