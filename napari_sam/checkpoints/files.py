"""What a checkpoint file holds, read so that nothing in it can run, and nothing takes more memory than the file.

safetensors cannot hold code. Pickles are read by torch's restricted unpickler, after a look of our own at what they ask
for: a few of the calls that torch allows can be made to fill the memory (`bytearray(10**12)`, for one).
"""

from __future__ import annotations

import pickle
import pickletools
import re
import zipfile
from typing import IO, TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open

from ..errors import CheckpointError
from .download import head_of, is_markup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HARMLESS = re.compile(
    r"""collections\ OrderedDict | __builtin__\ set | builtins\ set | _codecs\ encode
    | torch\._utils\ _rebuild_(tensor(_v2)?|parameter)
    | torch\.nn\.parameter\ Parameter
    | torch\.storage\ (Untyped|Typed)Storage
    | torch\ (\w+Storage|Size|device|float\d\w*|bfloat16|u?int\d+|bool)""",
    re.VERBOSE,
)
"""What a file of weights may ask for: containers, tensors, their types; none of it allocates what the file lacks."""
STRANGE_OPCODES = ("INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4")
"""Other ways to make objects, which nobody writes any more."""
LEGACY_PICKLES = 5
"""Before the weights in torch's old format: a magic number, a version, the system, the objects, the storages' keys."""
TORCHSCRIPT = "constants.pkl"


def read_file(path: Path) -> tuple[object, dict[str, str]]:
    """Return what a checkpoint file holds, on the CPU, and its metadata; no code in it is run.

    Raises
    ------
    CheckpointError
        The file is empty, damaged, of another kind, or its pickle would run code.
    """
    head = head_of(path)
    if not head:
        raise CheckpointError(f"{path} is empty (0 bytes): copy or download it again")
    if is_markup(head):
        raise CheckpointError(f"{path} is a web page, not a checkpoint: download the file itself")
    if head[8:9] == b"{" or path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_torch(path), {}


def _read_safetensors(path: Path) -> tuple[object, dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  it is no dict
            return tensors, dict(file.metadata() or {})
    # Besides its own errors: types that torch has no name for, and lengths that no memory has room for.
    except (SafetensorError, OSError, RuntimeError, ValueError, LookupError, TypeError, MemoryError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}): copy or download it again") from error


def _read_torch(path: Path) -> object:
    try:
        _check_pickles(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked is None:
            raise _damaged(path, error) from error
        raise _refused(path, asked.group(1)) from error
    # Whatever a damaged archive or pickle makes of the reader.
    except (
        *(RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError),
        *(AssertionError, MemoryError, RecursionError, NotImplementedError, zipfile.BadZipFile),
    ) as error:
        raise _damaged(path, error) from error


def _check_pickles(path: Path) -> None:
    """Raise unless the pickles in a file ask for harmless things alone and its archive holds what it says."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return _check_names(path, (name for _ in range(LEGACY_PICKLES) for name in _asked_for(file)))
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        _check_sizes(path, entries)
        if any(entry.filename.endswith(f"/{TORCHSCRIPT}") for entry in entries):
            raise CheckpointError(
                f"{path} was not opened: it is a TorchScript program, which could run code. Save its state dict "
                "alone, on the machine that made it"
            )
        for entry in entries:
            if entry.filename.endswith("/data.pkl"):
                with archive.open(entry) as file:
                    _check_names(path, _asked_for(file))
    return None


def _check_sizes(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Refuse an archive that would grow: torch writes its own uncompressed, one entry after the other."""
    held, size = sum(entry.file_size for entry in entries), path.stat().st_size
    if held > size:
        raise CheckpointError(
            f"{path} was not opened: its {size} bytes would become {held}, which no checkpoint does. Get it from "
            "whom you trust, or unpack it and save it with torch.save"
        )


def _check_names(path: Path, names: Iterator[str]) -> None:
    for name in names:
        if HARMLESS.fullmatch(name) is None:
            raise _refused(path, name.replace(" ", "."))


def _asked_for(file: IO[bytes]) -> Iterator[str]:
    """Yield "module name" of everything that the next pickle in a file would import."""
    texts: list[str] = ["", ""]
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "GLOBAL":
            yield str(argument)
        elif opcode.name == "STACK_GLOBAL":  # newer pickles put the two names on the stack first
            yield " ".join(texts[-2:])
        elif opcode.name in STRANGE_OPCODES:
            raise ValueError(f"no program writes the pickle opcode {opcode.name}")
        elif isinstance(argument, str):
            texts = [texts[-1], argument]


def _refused(path: Path, asked: str) -> CheckpointError:
    return CheckpointError(
        f"{path} was not opened: besides tensors it asks for {asked}, which could run code. "
        "Save its state dict alone, on the machine that made it"
    )


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return CheckpointError(
        f"{path} ({path.stat().st_size} bytes) is damaged or not a checkpoint ({reason}): copy or download it again"
    )
