"""The sample pictures, as files and as napari's layer data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skimage.io import imread

LayerData = tuple[Any, dict[str, Any], str]

_PACKAGE = Path(__file__).parent
# Beside the package in a checkout (an editable install has no others), inside it in a wheel.
_FOLDERS = (_PACKAGE.parent / "sample_data", _PACKAGE / "sample_data")


def sample_path(name: str) -> Path:
    """Return the file `name` of the sample pictures.

    Raises
    ------
    FileNotFoundError
        There is no such picture.
    """
    for folder in _FOLDERS:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"no sample picture {name!r} in {' or '.join(map(str, _FOLDERS))}")


def nuclei() -> list[LayerData]:
    """Return crowded nuclei in fluorescence, (512, 512) uint16, pixels of 0.25 micrometres."""
    meta = {"name": "nuclei", "scale": (0.25, 0.25), "units": "um", "contrast_limits": (150, 3200)}
    return [(imread(sample_path("nuclei.png")), meta, "image")]


def ct_slice() -> list[LayerData]:
    """Return a slice as of a CT, (384, 384) int16 in Hounsfield units, shown in the usual window for soft tissue."""
    meta = {"name": "CT slice", "scale": (0.9, 0.9), "units": "mm", "contrast_limits": (-160, 240)}
    return [(imread(sample_path("ct_slice.tif")), meta, "image")]


def tissue() -> list[LayerData]:
    """Return stained tissue, (448, 448, 3) uint8."""
    return [(imread(sample_path("tissue.png")), {"name": "tissue", "rgb": True}, "image")]


def blobs() -> list[LayerData]:
    """Return a stack of round cells, (8, 256, 256) uint8, slices four times as far apart as pixels."""
    return [(imread(sample_path("blobs.tif")), {"name": "blobs", "scale": (4, 1, 1)}, "image")]
