"""What there is to say of the checkpoints that have names, for a terminal and for the dock."""

from __future__ import annotations

from ..errors import CheckpointError
from .download import is_here, megabytes
from .profiles import About
from .registry import DEFAULT, DEFAULT_WEIGHTS, Entry, known_checkpoints

HEADINGS = ("name", "size", "licence", "fed as", "on this machine")


def all_checkpoints() -> dict[str, Entry]:
    """Return every checkpoint that has a name, `default` first."""
    size = DEFAULT_WEIGHTS.stat().st_size if DEFAULT_WEIGHTS.is_file() else None
    default = Entry(DEFAULT, DEFAULT, "", DEFAULT_WEIGHTS.name, size, about=About("BSD-3-Clause"), path=DEFAULT_WEIGHTS)
    return {DEFAULT: default} | known_checkpoints()


def entry_named(name: str) -> Entry:
    """Return a checkpoint by its name; `CheckpointError` if there is none."""
    entries = all_checkpoints()
    if name not in entries:
        raise CheckpointError(f"no checkpoint has the name {name!r}: choose one of {', '.join(entries)}")
    return entries[name]


def listing() -> list[str]:
    """Return a table of all checkpoints, one line each below the headings."""
    rows = [HEADINGS, *(_row(entry) for entry in all_checkpoints().values())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def described(entry: Entry) -> list[str]:
    """Return all that is known of a checkpoint, a line each."""
    about = {
        **dict(zip(HEADINGS, _row(entry), strict=True)),
        "source": entry.about.source,
        "cite": entry.about.citation,
    }
    sums = (
        {"SHA-256": entry.sha256, "XXH128": entry.xxh128} if entry.sha256 or entry.xxh128 else {"sum": "not published"}
    )
    return [f"{name}: {value}" for name, value in (about | sums).items() if value] + (
        [entry.warning] * bool(entry.warning)
    )


def size_of(entry: Entry) -> str:
    """Return the size of a checkpoint's file for people."""
    here = is_here(entry)
    exact = entry.size or (here.stat().st_size if here is not None else None)
    return megabytes(exact) if exact else f"about {megabytes(entry.about_size)}" if entry.about_size else "unknown"


def state_of(entry: Entry) -> str:
    """Return whether a checkpoint is on this machine."""
    if entry.name == DEFAULT:
        return "comes with the package"
    here = is_here(entry)
    if here is not None:
        return f"yes, in {here.parent}"
    return f"missing: {entry.path}" if entry.path is not None else "downloaded at first use"


def _row(entry: Entry) -> tuple[str, ...]:
    chosen = entry.chosen_profile
    fed_as = "as the file says" if chosen is None else chosen.profile.name
    return entry.name, size_of(entry), entry.about.licence or "unknown", fed_as, state_of(entry)
