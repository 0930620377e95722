"""Killing an annotation loses nothing; `python tests/crashes.py` does it a hundred times."""

from __future__ import annotations

from pathlib import Path

from crashes import kill_once


def test_no_commit_is_lost(tmp_path: Path) -> None:
    assert sum(kill_once(tmp_path / "journals", seed) for seed in range(2)) > 0
