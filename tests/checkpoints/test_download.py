"""Downloads and their verification; a server in this process stands in for the publishers'."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import xxhash
from publisher import Publisher
from toys import toy_state

from napari_sam.checkpoints import REGISTRY, Entry, download, load_sam
from napari_sam.checkpoints.download import FOLDER_VARIABLE, fetch
from napari_sam.checkpoints.profiles import About
from napari_sam.errors import Cancelled, CheckpointError


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    publisher = Publisher()
    yield publisher
    publisher.close()


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the folder of downloads, empty."""
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def entry(publisher: Publisher, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """Return a toy checkpoint that is published under the name `toy`."""
    file = io.BytesIO()
    torch.save(toy_state(), file)
    publisher.body = file.getvalue()
    digest = hashlib.sha256(publisher.body).hexdigest()
    entry = Entry("toy", "sam", publisher.url, "toy.pt", len(publisher.body), digest, spec="toy_tiny_vit")
    monkeypatch.setitem(REGISTRY, "toy", entry)
    return entry


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*") if path.suffix != ".lock")


def test_download_is_verified_loaded_and_kept(entry: Entry, publisher: Publisher, cache: Path) -> None:
    shares: list[float] = []
    first = load_sam("toy", progress=shares.append)
    assert (first.name, first.spec.name, first.fingerprint) == ("toy", "toy_tiny_vit", entry.sha256)
    assert shares == sorted(set(shares))
    assert shares[-1] == 1
    load_sam("toy")
    assert publisher.requests == 1
    assert files_in(cache) == ["toy.pt"]


def test_progress_rises_in_steps(entry: Entry, monkeypatch: pytest.MonkeyPatch, publisher: Publisher) -> None:
    monkeypatch.setattr(download, "CHUNK", 10_000)
    shares: list[float] = []
    fetch(entry, shares.append)
    assert len(shares) > 5
    assert shares == sorted(set(shares))
    assert shares[-1] == 1


@pytest.mark.parametrize("damage", ["truncated", "changed", "empty"])
def test_damaged_file_in_the_cache_is_downloaded_again(
    entry: Entry, publisher: Publisher, cache: Path, damage: str
) -> None:
    cache.mkdir()
    body = {"truncated": publisher.body[:-1], "changed": b"?" + publisher.body[1:], "empty": b""}[damage]
    (cache / "toy.pt").write_bytes(body)
    load_sam("toy")
    assert publisher.requests == 1
    assert (cache / "toy.pt").read_bytes() == publisher.body


def test_wrong_hash_is_refused_and_leaves_nothing(entry: Entry, publisher: Publisher, cache: Path) -> None:
    publisher.body = publisher.body[:-1] + b"?"
    with pytest.raises(CheckpointError, match=rf"toy could not be downloaded from {publisher.url}.*hash"):
        load_sam("toy")
    assert files_in(cache) == []


def test_web_page_in_place_of_the_file_is_named(entry: Entry, publisher: Publisher, cache: Path) -> None:
    publisher.body = b"<html>Please log in</html>"
    with pytest.raises(CheckpointError, match="sent a web page instead"):
        load_sam("toy")
    assert files_in(cache) == []


def test_short_file_is_named(entry: Entry, publisher: Publisher, cache: Path) -> None:
    publisher.body = publisher.body[:1000]
    with pytest.raises(CheckpointError, match=f"1000 bytes came instead of {entry.size}"):
        load_sam("toy")
    assert files_in(cache) == []


def test_broken_connection_is_never_taken_for_a_whole_file(entry: Entry, publisher: Publisher, cache: Path) -> None:
    publisher.announced = len(publisher.body)
    publisher.body = publisher.body[: len(publisher.body) // 2]
    with pytest.raises(CheckpointError, match="could not be downloaded"):
        load_sam("toy")
    assert files_in(cache) == []


@pytest.mark.parametrize("status", [403, 404, 500])
def test_refusal_of_the_server_is_named(entry: Entry, publisher: Publisher, cache: Path, status: int) -> None:
    publisher.status = status
    with pytest.raises(CheckpointError, match=f"{status}.*Check the network.*{FOLDER_VARIABLE}"):
        load_sam("toy")
    assert files_in(cache) == []


def test_no_network_is_named_with_a_remedy(entry: Entry, publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher.close()  # its port answers nobody from now on
    with pytest.raises(CheckpointError, match=f"refused.*put toy.pt into a folder that {FOLDER_VARIABLE} names"):
        load_sam("toy")


def test_cancelling_a_download_leaves_nothing(
    entry: Entry, publisher: Publisher, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "CHUNK", 10_000)
    shares: list[float] = []
    with pytest.raises(Cancelled):
        load_sam("toy", progress=shares.append, cancelled=lambda: len(shares) >= 2)
    assert len(shares) == 2
    assert files_in(cache) == []


def test_cancelled_before_it_begins_asks_nobody(entry: Entry, publisher: Publisher) -> None:
    with pytest.raises(Cancelled):
        load_sam("toy", cancelled=lambda: True)
    assert publisher.requests == 0


def test_own_folder_is_looked_at_first(
    entry: Entry, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "toy.pt").write_bytes(publisher.body)
    monkeypatch.setenv(FOLDER_VARIABLE, str(own))
    assert fetch(entry)[0] == own / "toy.pt"
    assert publisher.requests == 0


def test_own_folder_without_the_file_leaves_the_download(
    entry: Entry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> None:
    (tmp_path / "own").mkdir()
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "own"))
    assert fetch(entry)[0] == cache / "toy.pt"


def test_wrong_file_in_the_own_folder_is_left_alone_and_named(
    entry: Entry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "toy.pt").write_bytes(b"short")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(CheckpointError, match=rf"\(5 bytes\) is not the published toy.*{entry.sha256}.*replace it"):
        load_sam("toy")
    assert (tmp_path / "toy.pt").read_bytes() == b"short"


def test_own_folder_that_is_none_is_named(entry: Entry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "missing"))
    with pytest.raises(CheckpointError, match=f"{FOLDER_VARIABLE} is .*not a folder"):
        load_sam("toy")


def test_verified_file_that_does_not_fit_its_architecture_is_named(
    entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REGISTRY, "toy", dataclasses.replace(entry, spec="toy_vit"))
    with pytest.raises(CheckpointError, match="closest is toy_vit"):
        load_sam("toy")


# --- bad days -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranges", [True, False])
def test_broken_connections_are_followed_by_others(
    entry: Entry, publisher: Publisher, ranges: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "CHUNK", 1000)
    publisher.ranges, publisher.piece = ranges, len(publisher.body) // 3 + 1
    if ranges:
        assert fetch(entry)[0].read_bytes() == publisher.body
        assert 3 <= publisher.requests <= 5
    else:
        with pytest.raises(CheckpointError, match="stalls or breaks off"):
            fetch(entry)
        assert publisher.requests > download.ATTEMPTS


def test_server_that_stalls_is_given_up(
    entry: Entry, publisher: Publisher, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    monkeypatch.setattr(download, "CHUNK", 100)
    publisher.stalls, publisher.piece = True, 1000
    with pytest.raises(CheckpointError, match=r"stalls or breaks off, 1000 bytes came.*Check the network"):
        fetch(entry)
    assert files_in(cache) == []


def test_cancelling_ends_a_stalled_download(
    entry: Entry, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    monkeypatch.setattr(download, "CHUNK", 5)
    publisher.stalls, publisher.piece, publisher.ranges = True, 10, True
    with pytest.raises(Cancelled):
        fetch(entry, cancelled=lambda: publisher.requests >= 2)
    assert publisher.requests == 2


def test_redirects_are_followed(entry: Entry, publisher: Publisher) -> None:
    publisher.moved = {"/files/toy.pt": "/elsewhere/toy.pt"}
    assert fetch(entry)[0].read_bytes() == publisher.body
    assert publisher.asked == ["/files/toy.pt", "/elsewhere/toy.pt"]


def test_redirects_in_a_ring_end(entry: Entry, publisher: Publisher) -> None:
    publisher.moved = {"/files/toy.pt": "/b", "/b": "/files/toy.pt"}
    with pytest.raises(CheckpointError, match=r"[Rr]edirects"):
        fetch(entry)


@pytest.mark.parametrize("lie", [1000, 10**9])
def test_wrong_announced_length_is_never_believed(entry: Entry, publisher: Publisher, cache: Path, lie: int) -> None:
    publisher.announced = lie
    with pytest.raises(CheckpointError, match=f"1000 bytes came instead of {entry.size}|[Ii]ncomplete|broken"):
        fetch(entry)
    assert files_in(cache) == []


def test_more_than_the_file_is_not_kept(entry: Entry, publisher: Publisher, cache: Path) -> None:
    publisher.body += bytes(10_000)
    with pytest.raises(CheckpointError, match=f"more came than the {entry.size} bytes"):
        fetch(entry)
    assert not (cache / "toy.pt").exists()


def test_full_disk_is_named_before_the_download(
    entry: Entry, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: SimpleNamespace(free=5_000_000))
    huge = dataclasses.replace(entry, size=2_500_000_000)
    with pytest.raises(CheckpointError, match=r"toy needs 2\.5 GB, but .* has 5\.0 MB left: make room"):
        fetch(huge)
    assert publisher.requests == 0


def test_mirrors_are_asked_in_turn(
    entry: Entry, publisher: Publisher, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = publisher.url.removesuffix("/files/toy.pt")
    gone = dataclasses.replace(entry, url="http://127.0.0.1:9/toy.pt", mirrors=(f"{base}/third/toy.pt",))
    fetch(gone)
    (cache / "toy.pt").unlink()
    monkeypatch.setenv(download.MIRROR_VARIABLE, f"{base}/first/")
    fetch(gone)
    assert publisher.asked == ["/third/toy.pt", "/first/toy.pt"]


def test_progress_says_speed_and_time_left(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "CHUNK", 10_000)
    shares: list[float] = []
    fetch(entry, shares.append)
    assert all(re.fullmatch(r"\d+(\.\d)? [kMG]B/s, \d+ (s|min) left", share.detail) for share in shares)
    assert shares[-1].detail.endswith(", 0 s left")


def test_file_without_a_published_sum_may_not_change_later(entry: Entry, publisher: Publisher, cache: Path) -> None:
    unknown = dataclasses.replace(entry, sha256="", size=None)
    _, sums = fetch(unknown)
    assert sums.sha256 == entry.sha256
    (cache / "toy.pt").write_bytes(b"?" + publisher.body[1:])
    assert fetch(unknown)[1].sha256 == entry.sha256
    assert publisher.requests == 2


def test_xxh128_is_verified(entry: Entry, publisher: Publisher) -> None:
    known = dataclasses.replace(entry, sha256="", xxh128=xxhash.xxh3_128(publisher.body).hexdigest())
    assert fetch(known)[1].xxh128 == known.xxh128
    publisher.body = b"?" + publisher.body[1:]
    with pytest.raises(CheckpointError, match="hash"):
        fetch(dataclasses.replace(known, filename="other.pt"))


def test_licence_is_said_before_the_download(entry: Entry, publisher: Publisher) -> None:
    heard: list[tuple[str, int]] = []
    bound = dataclasses.replace(entry, about=About("CC-BY-NC-SA-4.0"))
    for _ in range(2):
        fetch(bound, notify=lambda sentence: heard.append((sentence, publisher.requests)))
    assert heard == [("toy is for non-commercial use alone: its licence is CC-BY-NC-SA-4.0.", 0)]


FETCH = """
import sys
from pathlib import Path
from napari_sam.checkpoints import download
from napari_sam.checkpoints.registry import Entry
download.cache_folder = lambda: Path(sys.argv[1])
entry = Entry("toy", "sam", sys.argv[2], "toy.pt", int(sys.argv[3]), sys.argv[4])
print("ready", flush=True)
sys.stdin.readline()
print(download.fetch(entry)[1].sha256)
"""


def test_two_processes_download_once(entry: Entry, publisher: Publisher, cache: Path) -> None:
    command = [sys.executable, "-c", FETCH, str(cache), publisher.url, str(entry.size), entry.sha256]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as one, subprocess.Popen(command, **pipes) as two:
        for process in (one, two):
            assert process.stdout.readline() == "ready\n"
        for process in (one, two):
            process.stdin.write("\n")
            process.stdin.flush()
        said = [process.communicate(timeout=60)[0].strip() for process in (one, two)]
    assert said == [entry.sha256] * 2
    assert publisher.requests == 1
