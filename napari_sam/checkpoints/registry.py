"""Checkpoints known by name: those that come with the package, those that others publish, and a user's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .profiles import About

DEFAULT = "default"
DEFAULT_WEIGHTS = Path(__file__).parents[1] / "weights" / "default.safetensors"


@dataclass(frozen=True)
class Entry:
    """A checkpoint with a name: where it is, how to know it again, and what it was trained on.

    `sha256` is empty where the publisher gives no such sum. `xxh128` tells a damaged file from a whole one, but unlike
    SHA-256 cannot tell whether somebody made a file to match. `size` is in bytes, None where it is not published;
    `about_size` is a guess for people. `spec` names the architecture, None lets keys and shapes say it.
    """

    name: str
    profile: str
    url: str
    filename: str
    size: int | None = None
    sha256: str = ""
    xxh128: str = ""
    about: About = field(default_factory=About)
    spec: str | None = None
    about_size: int | None = None


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
)
REGISTRY: dict[str, Entry] = {each.name: each for each in _PUBLISHED}
"""The published checkpoints by name; `default` is not among them, it comes with the package."""


def known_checkpoints() -> dict[str, Entry]:
    """Return every checkpoint that can be loaded by its name, `default` aside."""
    return dict(REGISTRY)


def entry_of_file(sha256: str, xxh128: str) -> Entry | None:
    """Return the checkpoint whose file has these sums, if it is a known one."""
    entries = known_checkpoints().values()
    return next((each for each in entries if sha256 == each.sha256 or xxh128 == each.xxh128), None)
