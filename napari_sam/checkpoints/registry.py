"""Checkpoints known by name: those that others publish, and a user's own, which a TOML file lists.

    [nuclei]
    path = "nuclei.safetensors"       # beside the TOML file; or url = "https://...", and mirrors = ["https://..."]
    sha256 = "..."                    # or xxh128; and size in bytes
    profile = "micro_sam"             # or a table, [nuclei.profile], as in a profile's own TOML file
    licence = "CC-BY-NC-4.0"          # and source, citation

An entry with the name of a published checkpoint changes what it says of it, say `mirrors` alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import platformdirs

from ..errors import CheckpointError
from .profiles import About, ProfileChoice, choose_profile, parse_profile, read_toml

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT = "default"
MODELS_VARIABLE = "NAPARI_SAM_MODELS"
NON_COMMERCIAL = ("-nc", "noncommercial", "non-commercial")
DEFAULT_WEIGHTS = Path(__file__).parents[1] / "weights" / "default.safetensors"


@dataclass(frozen=True)
class Entry:
    """A checkpoint with a name: where it is, how to know it again, and what it was trained on.

    `sha256` is empty where the publisher gives no such sum. `xxh128` tells a damaged file from a whole one, but unlike
    SHA-256 cannot tell whether somebody made a file to match. `size` is in bytes, None where it is not published;
    `about_size` is a guess for people. `spec` names the architecture, None lets keys and shapes say it. `path` is set
    for a file that needs no download; `mirrors` are asked where `url` does not answer.
    """

    name: str
    profile: str | ProfileChoice | None
    url: str
    filename: str
    size: int | None = None
    sha256: str = ""
    xxh128: str = ""
    about: About = field(default_factory=About)
    spec: str | None = None
    about_size: int | None = None
    path: Path | None = None
    mirrors: tuple[str, ...] = ()

    @property
    def chosen_profile(self) -> ProfileChoice | None:
        """The profile, None if the entry leaves it to the file."""
        return self.profile if isinstance(self.profile, ProfileChoice) else choose_profile(self.profile)

    @property
    def warning(self) -> str:
        """A sentence to read before the download, empty if the licence forbids nothing that we know of."""
        if any(mark in self.about.licence.lower() for mark in NON_COMMERCIAL):
            return f"{self.name} is for non-commercial use alone: its licence is {self.about.licence}."
        return ""


_SAM = "Kirillov et al., Segment Anything, ICCV 2023, arXiv:2304.02643"
_MOBILE = "Zhang et al., Faster Segment Anything, 2023, arXiv:2306.14289"
_MEDSAM = "Ma et al., Segment anything in medical images, Nature Communications 15, 654, 2024"
_MICRO = "Archit et al., Segment Anything for Microscopy, Nature Methods 22, 2025"
_VIT = "Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021, arXiv:2010.11929"
_META = "https://dl.fbaipublicfiles.com/segment_anything/"
_BIOIMAGE = "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io/"


def _sam(name: str, filename: str, size: int, sha256: str) -> Entry:
    about = About("Apache-2.0", "https://github.com/facebookresearch/segment-anything", _SAM)
    spec = name.removeprefix("sam_")
    return Entry(name, "sam", _META + filename, filename, size, sha256, about=about, spec=spec)


def _micro_sam(name: str, path: str, xxh128: str) -> Entry:
    about = About("MIT", "https://github.com/computational-cell-analytics/micro-sam", _MICRO)
    spec = name[:5]
    like = {"vit_t": 40_728_226, "vit_b": 375_042_383, "vit_l": 1_249_524_607}[spec]  # the same networks' files
    return Entry(
        name, "micro_sam", _BIOIMAGE + path, f"{name}.pt", xxh128=xxh128, about=about, spec=spec, about_size=like
    )


_PUBLISHED = (
    _sam(
        "sam_vit_b",
        "sam_vit_b_01ec64.pth",
        375042383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    _sam(
        "sam_vit_l",
        "sam_vit_l_0b3195.pth",
        1249524607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    _sam(
        "sam_vit_h",
        "sam_vit_h_4b8939.pth",
        2564550879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
    Entry(
        "mobile_sam",
        "sam",
        "https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
        "mobile_sam.pt",
        40728226,
        "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        about=About("Apache-2.0", "https://github.com/ChaoningZhang/MobileSAM", _MOBILE),
        spec="vit_t",
    ),
    Entry(
        "medsam",
        "medsam",
        "https://zenodo.org/records/10689643/files/medsam_vit_b.pth",
        "medsam_vit_b.pth",
        375049145,
        "34b34b78c1d18cb8c6bf84cf9c00e135d6d6c965699f3c0e31ef1bc9dcb5be74",
        about=About("Apache-2.0", "https://github.com/bowang-lab/MedSAM", _MEDSAM),
        spec="vit_b",
    ),
    _micro_sam("vit_t_lm", "faithful-chicken/1.1/files/vit_t.pt", "72ec5074774761a6e5c05a08942f981e"),
    _micro_sam("vit_b_lm", "diplomatic-bug/1.2/files/vit_b.pt", "fe9252a29f3f4ea53c15a06de471e186"),
    _micro_sam("vit_l_lm", "idealistic-rat/1.2/files/vit_l.pt", "017f20677997d628426dec80a8018f9d"),
    _micro_sam("vit_t_em_organelles", "greedy-whale/1/files/vit_t.pt", "253474720c497cce605e57c9b1d18fd9"),
    _micro_sam("vit_b_em_organelles", "noisy-ox/1.2/files/vit_b.pt", "f3bf2ed83d691456bae2c3f9a05fb438"),
    _micro_sam("vit_l_em_organelles", "humorous-crab/1.2/files/vit_l.pt", "810b084b6e51acdbf760a993d8619f2d"),
    Entry(
        "vit_base_patch16_224",
        "vit",
        "https://huggingface.co/google/vit-base-patch16-224/resolve/main/model.safetensors",
        "vit_base_patch16_224.safetensors",
        about=About("Apache-2.0", "https://huggingface.co/google/vit-base-patch16-224", _VIT),
        about_size=346_000_000,
    ),
)
REGISTRY: dict[str, Entry] = {each.name: each for each in _PUBLISHED}
"""The published checkpoints by name; `default` is not among them, it comes with the package."""


def models_file() -> Path:
    """Return the TOML file with a user's own entries, which need not exist."""
    named = os.environ.get(MODELS_VARIABLE)
    return Path(named).expanduser() if named else platformdirs.user_config_path("napari-sam-live") / "models.toml"


def known_checkpoints() -> dict[str, Entry]:
    """Return every checkpoint that can be loaded by its name, `default` aside: the published ones and the user's.

    Raises
    ------
    CheckpointError
        The user's file cannot be read or says something that is no entry.
    """
    path = models_file()
    if not path.is_file():
        if os.environ.get(MODELS_VARIABLE):
            raise CheckpointError(
                f"{MODELS_VARIABLE} is {str(path)!r}, which is not a file: correct it or leave it out"
            )
        return dict(REGISTRY)
    own = {name: _parse_entry(name, table, path) for name, table in read_toml(path).items()}
    return REGISTRY | own


def _parse_entry(name: str, table: Any, path: Path) -> Entry:
    where = f"{path}, [{name}]"
    if not isinstance(table, dict) or name == DEFAULT:
        raise CheckpointError(f"{where}: should be a table with a name other than {DEFAULT!r}")
    known = REGISTRY.get(name, Entry(name, None, "", ""))
    values = _checked_entry(table, where, known)
    if "path" in values:
        values["path"] = path.parent / Path(values["path"]).expanduser()
    if "profile" in values:
        values["profile"] = _parse_profile(values["profile"], where, path, name)
    entry = replace(known, **values)
    if not (entry.path or entry.url):
        raise CheckpointError(f"{where}: says neither path nor url")
    suffix = PurePosixPath(urlsplit(entry.url).path).suffix or ".pt"
    filename = entry.filename or (entry.path.name if entry.path else f"{name}{suffix}")
    return replace(entry, filename=filename)


def _checked_entry(table: Mapping[str, Any], where: str, known: Entry) -> dict[str, Any]:
    """Return the values of an entry's table, of the right types, licence, source and citation as one."""
    texts = ("path", "url", "sha256", "xxh128", "filename", *(each.name for each in fields(About)))
    values: dict[str, Any] = {}
    for key, value in table.items():
        is_fine = (
            (key in texts and isinstance(value, str) and bool(value))
            or (key == "size" and type(value) is int and value > 0)
            or (key == "profile" and isinstance(value, str | dict))
            or (key == "mirrors" and isinstance(value, list) and all(isinstance(each, str) for each in value))
        )
        if not is_fine:
            allowed = ", ".join([*texts, "size", "profile", "mirrors"])
            raise CheckpointError(
                f"{where}: {key} = {value!r} is no part of an entry, or of another type: use {allowed}"
            )
        values[key] = tuple(value) if key == "mirrors" else value
    for key in ("sha256", "xxh128"):
        if key in values:
            values[key] = values[key].lower()
    about = {each.name: values.pop(each.name) for each in fields(About) if each.name in values}
    return values | {"about": replace(known.about, **about)}


def _parse_profile(value: str | dict[str, Any], where: str, path: Path, name: str) -> ProfileChoice | None:
    if isinstance(value, dict):
        return parse_profile(value, where, name)
    return choose_profile(path.parent / value if value.endswith(".toml") else value)


def entry_of_file(sha256: str, xxh128: str) -> Entry | None:
    """Return the checkpoint whose file has these sums, if it is a known one."""
    entries = known_checkpoints().values()
    return next((each for each in entries if sha256 == each.sha256 or xxh128 == each.xxh128), None)
