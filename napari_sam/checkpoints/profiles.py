"""What each family of checkpoints was trained on, by name or from a TOML file.

A profile is preprocessing, not architecture: Segment Anything, MedSAM and micro-sam share networks and differ here.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ..errors import CheckpointError
from ..geometry import Decoder, Interpolation, Kind, Profile, Resize, Stretch

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_CROP_SIDES = (72, 112, 176, 272, 420, 650)
GREY = (127.5, 127.5, 127.5)

PROFILES: dict[str, Profile] = {
    each.name: each
    for each in (
        Profile("sam", 1024),
        Profile(
            "medsam",
            1024,
            mean=(0.0, 0.0, 0.0),
            std=(255.0, 255.0, 255.0),
            stretch="minmax_image",
            resize="square",
            interpolation="bicubic",
            prompts=("boxes",),
        ),
        Profile("micro_sam", 1024, stretch="minmax"),
        Profile("vit", 224, mean=GREY, std=GREY, resize="square", decoder="prototypes", masks_within_boxes=True),
        Profile("imagenet", 224, resize="square", decoder="prototypes", masks_within_boxes=True),
        Profile("default", 256, crop_sides=DEFAULT_CROP_SIDES, masks_within_boxes=True),
    )
}
"""The profiles by name; their image size is that of the published networks."""


@dataclass(frozen=True)
class About:
    """Where weights come from: the licence's SPDX name, the publisher's page, and what to cite."""

    licence: str = ""
    source: str = ""
    citation: str = ""


@dataclass(frozen=True)
class ProfileChoice:
    """A profile that somebody chose. `sized` tells that its image size was chosen too, not just the network's own."""

    profile: Profile
    about: About = field(default_factory=About)
    sized: bool = False

    def at(self, image_size: int) -> Profile:
        """Return the profile for a network of `image_size` pixels."""
        return self.profile if self.sized else replace(self.profile, image_size=image_size)


def choose_profile(chosen: str | Path | Profile | None) -> ProfileChoice | None:
    """Return the profile that a name, a TOML file or a `Profile` means; None for None.

    Raises
    ------
    CheckpointError
        There is no such profile or file, or the file says something that is no profile.
    """
    if chosen is None:
        return None
    if isinstance(chosen, Profile):
        return ProfileChoice(chosen, sized=True)
    if str(chosen) in PROFILES:
        return ProfileChoice(PROFILES[str(chosen)])
    path = Path(chosen).expanduser()
    if path.suffix.lower() != ".toml" or not path.is_file():
        raise CheckpointError(f"no profile {str(chosen)!r}: choose one of {', '.join(PROFILES)}, or name a .toml file")
    return parse_profile(read_toml(path), str(path), name=path.stem)


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file says; `CheckpointError` if it is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin a file with a mark
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CheckpointError(f"{path} is not a TOML file that can be read ({error}): correct it") from error


def parse_profile(table: Mapping[str, Any], where: str, name: str) -> ProfileChoice:
    """Return the profile that a table gives: what differs from the profile that its `base` names, "sam" if left out.

    Parameters
    ----------
    table
        Any of `name`, `base`, `image_size`, `mean`, `std`, `stretch`, `resize`, `interpolation`, `prompts`,
        `crop_sides`, `logit_offsets`, `masks_within_boxes`, `decoder`, `licence`, `source`, `citation`.
    where
        What to call the table in messages.
    name
        The profile's name where the table does not say it.
    """
    values = dict(table)
    base = values.pop("base", "sam")
    if not isinstance(base, str) or base not in PROFILES:
        raise CheckpointError(f"{where}: base = {base!r} is no profile, choose one of {', '.join(PROFILES)}")
    about = {each.name: values.pop(each.name) for each in fields(About) if each.name in values}
    unknown = values.keys() - {each.name for each in fields(Profile)}
    if unknown:
        allowed = [each.name for each in (*fields(Profile), *fields(About))]
        raise CheckpointError(f"{where}: {min(unknown)!r} is no part of a profile: use {', '.join(['base', *allowed])}")
    checked = {key: _checked(key, value, where) for key, value in values.items()}
    words = {key: _word(key, value, where) for key, value in about.items()}
    profile = replace(PROFILES[base], **({"name": name} | checked))
    return ProfileChoice(profile, About(**words), sized="image_size" in values)


def _checked(key: str, value: Any, where: str) -> Any:
    """Return a value of a profile's table as the dataclass has it, or say what it should be."""
    choices: dict[str, tuple[Any, ...]] = {
        "stretch": get_args(Stretch),
        "resize": get_args(Resize),
        "interpolation": get_args(Interpolation),
        "decoder": get_args(Decoder),
    }
    if key in choices:
        return _one_of(choices[key], value, key, where)
    if key == "prompts":
        given = value if isinstance(value, list) and value else [None]
        return tuple(_one_of(get_args(Kind), each, key, where) for each in given)
    if key == "name":
        return _word(key, value, where)
    if key == "masks_within_boxes":
        return _one_of((False, True), value, key, where)
    if key == "image_size":
        return _whole_number(key, value, where, 16, 4096)
    if key == "crop_sides":
        return tuple(
            _whole_number(key, each, where, 16, 1 << 16) for each in (value if isinstance(value, list) else [value])
        )
    count = 2 if key == "logit_offsets" else 3
    return _numbers(key, value, where, count, above_zero=key == "std")


def _one_of(choices: tuple[Any, ...], value: Any, key: str, where: str) -> Any:
    if value not in choices:
        raise CheckpointError(f"{where}: {key} = {value!r}, choose of {', '.join(map(repr, choices))}")
    return value


def _word(key: str, value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise CheckpointError(f"{where}: {key} = {value!r} should be a text in quotes")
    return value


def _whole_number(key: str, value: Any, where: str, lowest: int, highest: int) -> int:
    if type(value) is not int or not lowest <= value <= highest:
        raise CheckpointError(f"{where}: {key} = {value!r} should be a whole number from {lowest} to {highest}")
    return value


def _numbers(key: str, value: Any, where: str, count: int, *, above_zero: bool) -> tuple[float, ...]:
    numbers = value if isinstance(value, list) else []
    fine = len(numbers) == count and all(map(is_number, numbers))
    if not fine or (above_zero and min(numbers) <= 0):
        kind = "numbers above 0" if above_zero else "numbers"
        raise CheckpointError(f"{where}: {key} = {value!r} should be {count} {kind}, for values of 0 to 255")
    return tuple(float(each) for each in numbers)


def is_number(value: Any) -> bool:
    """Whether a value out of a file is a number that may count: finite, not huge, no truth value."""
    return type(value) in (int, float) and abs(value) < 1e6
