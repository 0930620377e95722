"""Journals that are torn, damaged, foreign or cannot be written: what was whole is kept, the rest is said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from annotating import Begin, crash, put, work

from napari_sam.errors import JournalError
from napari_sam.journal import read_journal


def test_a_torn_last_line_is_ignored_and_gone_on_after(begin: Begin) -> None:
    first = begin()
    put(first, 1, 20, 20)
    before = first.labels.data.copy()
    put(first, 1, 40, 60)
    path = crash(first)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 40])
    second = begin(restore=True)
    assert (second.labels.data == before).all()
    put(second, 1, 40, 60)
    assert (read_journal(path).labels() == second.labels.data).all()


def test_a_journal_that_is_cut_anywhere_gives_what_was_whole(begin: Begin) -> None:
    first = begin()
    work(first)
    path = crash(first)
    content, known = path.read_bytes(), read_journal(path).entries
    for end in range(0, len(content), 97):
        path.write_bytes(content[:end])
        lines = content[:end].count(b"\n")
        if not lines:
            with pytest.raises(JournalError, match="is no journal"):
                read_journal(path)
            continue
        recorded = read_journal(path).check()
        assert recorded.entries == known[: lines - 1]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"shape":[4', '"shop":[4'),
        ('"mask":"', '"mask":"!!'),
        ('"pixels":[{"id"', '"pixels":[{"di"'),
        ('"box":[', '"box":[1,'),
        ('"kind":"point"', '"kin":"point"'),
        ('"model":{', '"modell":{'),
    ],
)
def test_a_damaged_journal_changes_nothing(begin: Begin, old: str, new: str) -> None:
    first = begin()
    put(first, 1, 20, 20)
    put(first, 1, 40, 60)
    path = crash(first)
    content = path.read_text()
    assert old in content
    path.write_text(new.join(content.rsplit(old, 1)))
    second = begin()
    with pytest.raises(JournalError, match="damaged"):
        second.journal.restore(read_journal(path))
    assert not second.labels.data.any()
    put(second, 1, 20, 20)
    assert second.journal.path != path


def test_a_journal_that_cannot_be_written_is_said_once(begin: Begin, tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    annotator = begin(journal=blocked / "journals")
    said: list[str] = []
    annotator.events.warned.connect(said.append)
    put(annotator, 1, 20, 20)
    put(annotator, 1, 40, 60)
    assert len(annotator.objects) == 2
    assert len(said) == 1
    assert "cannot write the journal" in said[0]
    blocked.unlink()
    put(annotator, 1, 50, 10)
    recorded = read_journal(annotator.journal.path)  # type: ignore[arg-type]
    assert (recorded.labels() == annotator.labels.data).all()


def test_a_full_disk_leaves_no_torn_line(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    annotator = begin()
    put(annotator, 1, 20, 20)
    writing = annotator.journal._journal
    assert writing is not None
    file = writing._file
    assert file is not None

    class Full:
        def __getattr__(self, name: str) -> Any:
            return getattr(file, name)

        def write(self, rest: Any) -> int:
            if len(rest) > 50:
                return file.write(rest[:50])
            raise OSError(28, "No space left on device")

    before = writing.path.read_bytes()
    writing._file = Full()  # type: ignore[assignment]
    put(annotator, 1, 40, 60)
    assert writing.path.read_bytes().startswith(before)
    assert len(writing.path.read_bytes().splitlines()) == len(before.splitlines())
    writing._file = file
    put(annotator, 1, 50, 10)
    assert (read_journal(writing.path).labels() == annotator.labels.data).all()


@pytest.mark.parametrize("text", ["", "no json\n", '{"format": "another"}\n'])
def test_files_that_are_no_journals(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    with pytest.raises(JournalError, match="is no journal"):
        read_journal(path)


def test_journals_of_later_versions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"format": "napari-sam-live journal", "version": 2}\n')
    with pytest.raises(JournalError, match="update napari-sam-live"):
        read_journal(path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [('"version":1', '"version":2', "update napari-sam-live"), ('"mode":"instance"', '"mode":"odd"', "is damaged")],
)
def test_the_latest_journal_is_not_passed_over_where_it_cannot_be_read(
    begin: Begin, old: str, new: str, said: str
) -> None:
    first = begin()
    put(first, 1, 20, 20)
    crash(first)
    second = begin()
    put(second, 1, 40, 60)
    path = crash(second)
    content = path.read_text().replace(old, new)
    path.write_text(content)
    with pytest.raises(JournalError, match=said) as raised:
        begin(restore=True)
    assert str(path) in str(raised.value)
    plain = begin()
    put(plain, 1, 30, 30)
    crash(plain)
    assert path.read_text() == content
    os.utime(path, (0, 0))  # an earlier one concerns nobody
    assert begin(restore=True).labels.data[1, 30, 30] == 1
