"""Embeddings are found again, in memory and on disk, whatever happens to the disk and whoever else uses it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import PATIENCE
from toys import picture

from napari_sam import cli, embedding_cache
from napari_sam.embedding_cache import (
    MAGIC,
    CacheSettings,
    DiskStore,
    EmbeddingCache,
    configure,
    embeddings_folder,
    key_of,
    settings_path,
    shared_cache,
)

ENTRY = 4 << 10
"""Bytes of the features below."""


def features(seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(ENTRY // 4).astype(np.float32)


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path / "embeddings", 1 << 20)


@pytest.fixture
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Settings, a folder and a shared cache of this test's own."""
    monkeypatch.setattr(embedding_cache, "settings_path", lambda: tmp_path / "config" / "cache.json")
    monkeypatch.setenv(embedding_cache.FOLDER_VARIABLE, str(tmp_path / "store"))
    shared_cache.cache_clear()
    yield
    shared_cache.cache_clear()


def entries(store: DiskStore) -> list[Path]:
    return sorted(store.folder.iterdir())


# --- keys -----------------------------------------------------------------------------------------------------------


def test_a_key_says_what_was_encoded_by_what() -> None:
    pixels = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    other = pixels.copy()
    other[0, 0, 0] = np.nextafter(other[0, 0, 0], 1)
    keys = {
        key_of(pixels, "weights-float32"),
        key_of(other, "weights-float32"),
        key_of(pixels, "weights-bfloat16"),
        key_of(pixels.reshape(3, 1, 4), "weights-float32"),
        key_of(pixels.astype(np.float64), "weights-float32"),
    }
    assert len(keys) == 5
    assert key_of(pixels.copy(), "weights-float32") in keys
    assert key_of(np.asfortranarray(pixels), "weights-float32") == key_of(pixels, "weights-float32")


# --- memory ---------------------------------------------------------------------------------------------------------


def test_memory_holds_its_budget_and_forgets_what_was_not_used_longest() -> None:
    cache = EmbeddingCache(memory_budget=3 * ENTRY)
    for name in "abc":
        cache.put(name, features())
    assert cache.get("a") is not None
    cache.put("d", features())
    assert cache.usage().memory_bytes == 3 * ENTRY
    assert [name for name in "abcd" if cache.get(name) is not None] == ["a", "c", "d"]


def test_what_is_larger_than_the_memory_is_not_held() -> None:
    cache = EmbeddingCache(memory_budget=ENTRY - 1)
    cache.put("a", features())
    assert cache.get("a") is None
    assert cache.usage().memory_bytes == 0


def test_the_same_key_twice_counts_once() -> None:
    cache = EmbeddingCache(memory_budget=10 * ENTRY)
    cache.put("a", features(0))
    cache.put("a", features(1))
    assert cache.usage().memory_bytes == ENTRY
    np.testing.assert_array_equal(cache.get("a"), features(1))


def test_what_does_not_last_is_kept_in_memory_alone(store: DiskStore) -> None:
    cache = EmbeddingCache(store)
    cache.put("a", features(), is_lasting=False)
    cache.put("b", features())
    assert cache.get("a") is not None
    assert store.read("a") is None
    assert store.read("b") is not None


# --- disk -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("array", [features(), features().astype(np.float16), np.arange(4, dtype=np.int16)[None]])
def test_another_process_finds_what_was_stored(store: DiskStore, array: np.ndarray[Any, Any]) -> None:
    store.write("k", array)
    found = DiskStore(store.folder, store.budget).read("k")
    assert found is not None
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_the_folder_holds_its_budget_and_forgets_what_was_not_used_longest(store: DiskStore) -> None:
    store.budget = 5 * (ENTRY + 200)
    for number in range(5):
        store.write(str(number), features(number))
        os.utime(store._path(str(number)), (number, number))
    assert store.read("0") is not None  # now the youngest
    store.write("5", features(5))
    assert store.usage()[1] <= store.budget
    assert store.read("0") is not None
    assert store.read("5") is not None
    assert store.read("1") is None


def test_an_entry_larger_than_the_budget_is_not_stored(store: DiskStore) -> None:
    store.budget = ENTRY
    store.write("k", features())
    assert store.usage() == (0, 0)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[: len(MAGIC) + 3],
        lambda content: content + b"x",
        lambda content: content[:-7] + bytes([content[-7] ^ 1]) + content[-6:],
        lambda content: b"x" + content[1:],
        lambda content: bytes(len(content)),
    ],
    ids=["empty", "truncated", "cut in its digest", "too long", "one bit", "another program's", "zeros"],
)
def test_what_is_not_whole_is_removed_and_not_believed(store: DiskStore, spoil: Any) -> None:
    store.write("k", features())
    (path,) = entries(store)
    path.write_bytes(spoil(path.read_bytes()))
    assert store.read("k") is None
    assert entries(store) == []


def test_signed_content_that_is_no_array_is_not_believed(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "write_array", lambda buffer, *_, **__: buffer.write(b"nonsense"))
        store.write("k", features())
    assert store.read("k") is None


def test_clearing_leaves_other_files_alone(store: DiskStore) -> None:
    store.write("k", features())
    stranger = store.folder / "notes.txt"
    stranger.write_text("mine")
    (store.folder / ".k.1.0.part").write_bytes(b"half")
    assert store.clear() > ENTRY
    assert entries(store) == [stranger]


def test_what_a_dead_process_left_is_swept_up(store: DiskStore) -> None:
    store.folder.mkdir()
    old, young = store.folder / ".a.1.0.part", store.folder / ".b.2.0.part"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    store.write("k", features())
    assert not old.exists()
    assert young.exists()


WRITER = """
import sys
from pathlib import Path
import numpy as np
from napari_sam.embedding_cache import DiskStore
store = DiskStore(Path(sys.argv[1]), int(sys.argv[2]))
for round in range(60):
    for name in range(12):
        store.write(str(name), np.full(4096, name, np.float32))
        found = store.read(str((name * 5 + round) % 12))
        assert found is None or (found == (name * 5 + round) % 12).all()
"""


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    budget = 8 * 16600  # of twelve entries: both remove while the other one reads
    command = [sys.executable, "-c", WRITER, str(tmp_path / "shared"), str(budget)]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    for writer in writers:
        assert writer.communicate(timeout=60)[1] == b""
        assert writer.returncode == 0
    store = DiskStore(tmp_path / "shared", budget)
    assert 1 <= store.usage()[0] <= 12
    assert not store._temporary_files()


FILLER = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from napari_sam.embedding_cache import DiskStore, EmbeddingCache
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))  # as a disk with no more room
cache = EmbeddingCache(DiskStore(Path(sys.argv[1]), 1 << 20))
for name in "abc":
    cache.put(name, np.zeros(4096, np.float32))
    assert cache.get(name) is not None
    print(cache.take_notice())
print(sorted(Path(sys.argv[1]).iterdir()))
"""


def test_a_full_disk_is_said_once_and_leaves_no_half_file(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FILLER, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    lines = run.stdout.splitlines()
    assert lines[0].startswith("Embeddings are not kept on disk any more")
    assert str(tmp_path) in lines[0]
    assert lines[1:] == ["", "", "[]"]


def test_a_folder_that_cannot_be_made_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = EmbeddingCache(DiskStore(tmp_path / "file" / "embeddings", 1 << 20))
    cache.put("a", features())
    assert "cannot be written to" in cache.take_notice()
    cache.put("b", features())
    assert cache.take_notice() == ""
    assert cache.get("b") is not None
    assert cache.clear() == 0


def test_clearing_tries_the_disk_again(tmp_path: Path) -> None:
    blocked = tmp_path / "embeddings"
    blocked.write_text("no folder")
    cache = EmbeddingCache(DiskStore(blocked, 1 << 20))
    cache.put("a", features())
    blocked.unlink()
    cache.clear()
    cache.put("a", features())
    assert cache.usage().entries == 1


def test_many_threads_may_use_one_cache(store: DiskStore) -> None:
    cache = EmbeddingCache(store, memory_budget=4 * ENTRY)
    failures: list[BaseException] = []

    def use(offset: int) -> None:
        try:
            for number in range(40):
                name = str((number + offset) % 8)
                cache.put(name, features(int(name)))
                np.testing.assert_array_equal(cache.get(name), features(int(name)))
        except BaseException as failure:  # noqa: BLE001  raised below
            failures.append(failure)

    threads = [threading.Thread(target=use, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not failures
    assert cache.usage().memory_bytes == 4 * ENTRY


# --- settings and the command line ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("own_settings")
def test_settings_last(tmp_path: Path) -> None:
    assert CacheSettings.load() == CacheSettings(on_disk=True)
    assert shared_cache().disk is not None
    assert embeddings_folder() == tmp_path / "store"
    configure(CacheSettings(on_disk=False, disk_budget=10))
    assert CacheSettings.load() == CacheSettings(on_disk=False, disk_budget=10)
    assert shared_cache().disk is None


@pytest.mark.usefixtures("own_settings")
@pytest.mark.parametrize("saved", ["", "[]", '{"on_disk": true}', '{"on_disk": true, "disk_budget": "much"}'])
def test_settings_that_cannot_be_read_store_nothing(saved: str) -> None:
    path = embedding_cache.settings_path()
    path.parent.mkdir()
    path.write_text(saved)
    assert not CacheSettings.load().on_disk


def test_folders_are_those_of_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(embedding_cache.FOLDER_VARIABLE, raising=False)
    assert embedding_cache.APPLICATION in embeddings_folder().parts
    assert embedding_cache.APPLICATION in settings_path().parts


@pytest.mark.usefixtures("own_settings")
def test_the_command_line_shows_clears_and_turns_off(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, toy_checkpoint: Path
) -> None:
    from skimage.io import imsave

    imsave(tmp_path / "picture.png", picture(30, 40), check_contrast=False)
    segment = ["segment", str(tmp_path / "picture.png"), "--point", "9,9", "--out", str(tmp_path / "mask.png")]
    segment += ["--model", str(toy_checkpoint), "--device", "cpu"]
    assert cli.main(segment) == 0
    assert shared_cache().usage().entries == 0  # where it is not asked for, nothing is kept
    assert cli.main([*segment, "--cache"]) == 0
    assert shared_cache().usage().entries == 1
    capsys.readouterr()
    assert cli.main(["cache"]) == 0
    said = capsys.readouterr().out
    assert str(tmp_path / "store") in said
    assert "1 entries" in said
    assert cli.main(["cache", "off"]) == 0
    assert shared_cache().disk is None
    assert cli.main(["cache", "clear"]) == 0  # also where it is off
    assert not list((tmp_path / "store").iterdir())
    assert cli.main(["cache", "on", "--limit", "0.5"]) == 0
    assert CacheSettings.load() == CacheSettings(on_disk=True, disk_budget=500_000_000)


@pytest.mark.parametrize("limit", ["much", "-1", "nan"])
def test_a_limit_that_is_none_is_refused(limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["cache", "--limit", limit])
    assert "is not a number of gigabytes" in capsys.readouterr().err
