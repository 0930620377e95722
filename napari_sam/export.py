"""Labels, objects and journals as files that other programs read: OME-TIFF, CSV, JSON lines."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import tifffile
from skimage.measure import regionprops_table

from .errors import ExportError
from .planes import DENSE_IDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from .objects import LabelledObject

TIFF, CSV, JOURNAL = (".tif", ".tiff"), (".csv",), (".jsonl",)
USUAL_AXES = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}
LETTERS = {"time": "T", "channel": "C", "plane": "Z", "depth": "Z", "row": "Y", "column": "X", "col": "X"}
SYMBOLS = {"meter": "m", "centimeter": "cm", "millimeter": "mm", "micrometer": "µm", "nanometer": "nm"}
"""What OME calls the units of a length."""
LARGE = 1 << 31
"""Bytes from which a file is written as BigTIFF: compressed size is not known before."""


@dataclass(frozen=True)
class Grid:
    """How the axes of an image lie in the world: their names, the size of a pixel along each, and its unit."""

    axes: tuple[str, ...] = ()
    scale: tuple[float, ...] = ()
    units: tuple[str, ...] = ()

    def letters(self, ndim: int) -> str | None:
        """Return one letter per axis, as TIFF files name them; None where OME has none."""
        found = "".join(LETTERS.get(name.lower(), name.upper()) for name in self.axes)
        if len(found) == ndim == len(set(found)) and set(found) <= set("TCZYX") and found.endswith("YX"):
            return found
        return USUAL_AXES.get(ndim)


def write_labels(path: Path, labels: NDArray[np.integer], grid: Grid | None = None) -> None:
    """Write ids as a compressed OME-TIFF, in the smallest of uint16, uint32 and wider types that holds them all.

    Raises
    ------
    ExportError
        The name does not end in .tif or .tiff, or the file cannot be written.
    """
    grid = grid or Grid()
    data = _compact(labels)
    axes = grid.letters(data.ndim)
    has_ome = axes is not None and data.dtype.itemsize <= 4  # OME knows no integers of 64 bits
    metadata: dict[str, Any] = {"axes": axes, **_pixel_sizes(axes, grid)} if axes is not None and has_ome else {}
    with _replacing(path, TIFF) as temporary:
        tifffile.imwrite(
            temporary,
            data,
            ome=has_ome,
            metadata=metadata,
            photometric="minisblack",
            compression="zlib",
            bigtiff=data.nbytes > LARGE,
        )


def objects_table(labels: NDArray[np.integer], objects: Iterable[LabelledObject]) -> pd.DataFrame:
    """Return a line per object: label, class, score, area and, as scikit-image names them, bbox-i and centroid-i.

    Everything is in pixels, along the axes of `labels`; boxes are half-open.
    """
    known = {one.id: one for one in objects}
    ids, dense = _dense(labels)
    table = pd.DataFrame(regionprops_table(dense, properties=("label", "area", "bbox", "centroid")))
    table["label"] = [ids[index] for index in table["label"]]
    table["area"] = table["area"].astype(np.int64)
    table.insert(1, "class", [known[one].class_name if one in known else "" for one in table["label"]])
    table.insert(2, "score", [known[one].score if one in known else None for one in table["label"]])
    return table


def write_objects(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV; `ExportError` if the name does not end in .csv, or the file cannot be written."""
    with _replacing(path, CSV) as temporary:
        table.to_csv(temporary, index=False)


def copy_journal(path: Path, journal: Path | None) -> None:
    """Copy a journal, the provenance of the labels.

    Raises
    ------
    ExportError
        There is none yet, the name does not end in .jsonl, or the file cannot be written.
    """
    if journal is None:
        raise ExportError("nothing was journalled yet: commit an object first")
    with _replacing(path, JOURNAL) as temporary:
        shutil.copyfile(journal, temporary)


@contextmanager
def _replacing(path: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Give a file to write into, which takes the place of `path` when it is complete, and not before."""
    if path.suffix.lower() not in suffixes:
        raise ExportError(f"the name of {path} must end in {' or '.join(suffixes)}")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
            temporary = Path(folder, path.name)
            yield temporary
            temporary.replace(path)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}") from error


def _compact(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return the same ids in the smallest type of 16 bits or more that holds them; as they are if some are below 0."""
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    if low < 0:
        return labels
    return labels.astype(np.promote_types(np.uint16, np.min_scalar_type(high)), copy=False)


def _dense(labels: NDArray[np.integer]) -> tuple[dict[int, int], NDArray[np.integer]]:
    """Return labels whose ids are small, and what these stand for; tables over all ids up to the largest stay small."""
    if int(labels.min(initial=0)) >= 0 and int(labels.max(initial=0)) < DENSE_IDS:
        return {one: one for one in range(int(labels.max(initial=0)) + 1)}, labels
    ids, inverse = np.unique(labels, return_inverse=True)
    numbers = np.cumsum(ids > 0) * (ids > 0)
    return dict(zip(numbers.tolist(), ids.tolist(), strict=True)), numbers[inverse].reshape(labels.shape)


def _pixel_sizes(axes: str, grid: Grid) -> dict[str, Any]:
    """Return how large a pixel is, for OME: along the axes of space whose unit is a length."""
    sizes: dict[str, Any] = {}
    for letter, size, unit in zip(axes, grid.scale, grid.units, strict=False):
        if letter in "ZYX" and unit in SYMBOLS:
            sizes |= {f"PhysicalSize{letter}": float(size), f"PhysicalSize{letter}Unit": SYMBOLS[unit]}
    return sizes
