"""Downloads, verification and recognition of checkpoints; a server in this process stands in for the publishers'."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from napari_sam import checkpoints
from napari_sam.checkpoints import FOLDER_VARIABLE, REGISTRY, PublishedCheckpoint, fetch, load_sam
from napari_sam.errors import Cancelled, CheckpointError
from napari_sam.geometry import Profile
from napari_sam.models import SPECS, build_sam

State = dict[str, torch.Tensor]


@pytest.fixture
def state() -> State:
    torch.manual_seed(0)
    return build_sam(SPECS["toy_tiny_vit"]).state_dict()


def saved(value: object, path: Path) -> Path:
    torch.save(value, path)
    return path


def assert_same_weights(path: Path, state: State) -> None:
    loaded = load_sam(path).sam.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


# --- the registry ---------------------------------------------------------------------------------------------------


def test_registry_has_the_four_published_checkpoints() -> None:
    assert {name: entry.spec for name, entry in REGISTRY.items()} == {
        "sam_vit_b": "vit_b",
        "sam_vit_l": "vit_l",
        "sam_vit_h": "vit_h",
        "mobile_sam": "vit_t",
    }
    for entry in REGISTRY.values():
        assert entry.url.startswith("https://")
        assert len(entry.sha256) == 64
        assert entry.licence == "Apache-2.0"
        assert entry.size > 1e7


# --- local files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["toy_vit", "toy_tiny_vit", "default", "vit_t"])
def test_architecture_is_recognised_by_keys_and_shapes(name: str, tmp_path: Path) -> None:
    path = saved(build_sam(SPECS[name]).state_dict(), tmp_path / "some.pth")
    loaded = load_sam(str(path))
    assert loaded.spec == SPECS[name]
    assert loaded.profile.image_size == loaded.spec.image_size
    assert loaded.name == "some.pth"
    assert loaded.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state, "epoch": 3},
        lambda state: {"state_dict": state},
        lambda state: {"model_state": {f"sam.{key}": value for key, value in state.items()}, "decoder_state": {}},
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {f"module.sam.{key}": value for key, value in state.items()},
        lambda state: {**state, "pixel_mean": torch.zeros(3, 1, 1), "pixel_std": torch.ones(3, 1, 1)},
    ],
    ids=["plain", "model", "state_dict", "model_state and sam.", "model and module.", "module.sam.", "normalisation"],
)
def test_wrappers_are_taken_off(state: State, tmp_path: Path, wrap: Callable[[State], object]) -> None:
    assert_same_weights(saved(wrap(state), tmp_path / "wrapped.pt"), state)


def test_old_pickle_format_is_read(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_same_weights(tmp_path / "old.pth", state)


def test_safetensors_are_known_by_their_content(state: State, tmp_path: Path) -> None:
    save_file(state, tmp_path / "weights.bin")
    assert_same_weights(tmp_path / "weights.bin", state)


def test_half_precision_is_loaded_as_float32(state: State, tmp_path: Path) -> None:
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    save_file(half, tmp_path / "half.safetensors", metadata={"spec": "toy_tiny_vit"})
    sam = load_sam(tmp_path / "half.safetensors").sam
    assert {value.dtype for value in sam.parameters()} == {torch.float32}
    assert not any(module.training for module in sam.modules())
    sam.encode(torch.zeros(1, 3, 64, 64))


def test_published_architectures_get_the_sam_profile(tmp_path: Path) -> None:
    path = saved(build_sam(SPECS["vit_t"]).state_dict(), tmp_path / "mobile.pt")
    assert load_sam(path).profile == Profile("sam", 1024)


# --- the default model ----------------------------------------------------------------------------------------------


def test_default_weights_come_with_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    weights = build_sam(SPECS["default"]).state_dict()
    save_file(weights, tmp_path / "default.safetensors", metadata={"spec": "default"})
    monkeypatch.setattr(checkpoints, "DEFAULT_WEIGHTS", tmp_path / "default.safetensors")
    loaded = load_sam()
    assert (loaded.name, loaded.spec, loaded.profile.image_size) == ("default", SPECS["default"], 256)
    assert loaded.profile.crop_sides


def test_missing_default_weights_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checkpoints, "DEFAULT_WEIGHTS", tmp_path / "gone.safetensors")
    with pytest.raises(CheckpointError, match=r"gone\.safetensors is missing.*install the package again"):
        load_sam("default")


# --- bad files ------------------------------------------------------------------------------------------------------


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match=r"'sam_vit_x'.*default, sam_vit_b.*mobile_sam"):
        load_sam("sam_vit_x")


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder"):
        load_sam(tmp_path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"\n <!DOCTYPE html><html><body>404</body></html>", "is a web page"),
        (b"just some text, and no weights at all", "copy or download it again"),
        (bytes(range(256)) * 8, "copy or download it again"),
        (b"\x80", "copy or download it again"),
    ],
    ids=["empty", "html", "text", "bytes", "one byte"],
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes, says: str, suffix: str) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=says) as caught:
        load_sam(path)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["zip", "pickle", "safetensors"])
def test_truncated_file_is_refused(state: State, tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / "broken"
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(CheckpointError, match="copy or download it again"):
        load_sam(path)


def test_other_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "slides.zip", "w") as archive:
        archive.writestr("slide.txt", "hello")
    with pytest.raises(CheckpointError, match=r"slides\.zip"):
        load_sam(tmp_path / "slides.zip")


class Payload:
    """Its unpickling would create a folder."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("new", [True, False])
def test_pickle_that_would_run_code_is_not_opened(state: State, tmp_path: Path, new: bool) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    torch.save({**state, "extra": Payload(trace)}, path, _use_new_zipfile_serialization=new)
    with pytest.raises(CheckpointError, match=r"evil\.pth was not opened.*mkdir.*could run code"):
        load_sam(path)
    assert not trace.exists()


def test_other_network_is_not_called_a_damaged_sam(tmp_path: Path) -> None:
    path = saved({"fc.weight": torch.zeros(2, 2), "fc.bias": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"not a Segment Anything checkpoint that we know.*fc\.weight"):
        load_sam(path)


@pytest.mark.parametrize("value", [[torch.zeros(2)], {}, {"model": {"weight": "none"}}, {1: torch.zeros(1)}])
def test_file_without_weights_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(CheckpointError, match="not a Segment Anything checkpoint"):
        load_sam(saved(value, tmp_path / "odd.pth"))


def test_differences_are_named_against_the_closest_architecture(state: State, tmp_path: Path) -> None:
    del state["image_encoder.neck.0.weight"]
    state["mask_decoder.extra.weight"] = torch.zeros(2)
    state["mask_decoder.iou_token.weight"] = torch.zeros(1, 7)
    with pytest.raises(CheckpointError) as caught:
        load_sam(saved(state, tmp_path / "edited.pth"))
    message = str(caught.value)
    assert "closest is toy_tiny_vit" in message
    assert "1 missing: image_encoder.neck.0.weight" in message
    assert "1 left over: mask_decoder.extra.weight" in message
    assert "1 of another shape: mask_decoder.iou_token.weight (1, 7) instead of (1, 32)" in message


def test_file_that_says_what_it_is_is_compared_with_that(state: State, tmp_path: Path) -> None:
    del state["image_encoder.neck.0.weight"]
    save_file(state, tmp_path / "said.safetensors", metadata={"spec": "toy_tiny_vit"})
    with pytest.raises(CheckpointError, match="closest is toy_tiny_vit, with 1 missing"):
        load_sam(tmp_path / "said.safetensors")


# --- downloads ------------------------------------------------------------------------------------------------------


class Publisher:
    """A web server that answers with what a test puts there, and counts who asks."""

    def __init__(self) -> None:
        self.body = b""
        self.status = 200
        self.announced: int | None = None  # another length than that of the body
        self.requests = 0
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.requests += 1
                self.send_response(publisher.status)
                self.send_header("Content-Length", str(publisher.announced or len(publisher.body)))
                self.end_headers()
                self.wfile.write(publisher.body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/files/toy.pt"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join(10)
        self.server.server_close()


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    publisher = Publisher()
    yield publisher
    publisher.close()


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the folder of downloads, empty."""
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(checkpoints, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def entry(publisher: Publisher, state: State, cache: Path, monkeypatch: pytest.MonkeyPatch) -> PublishedCheckpoint:
    """Return a toy checkpoint that is published under the name `toy`."""
    publisher.body = saved(state, cache.parent / "published.pt").read_bytes()
    digest = hashlib.sha256(publisher.body).hexdigest()
    entry = PublishedCheckpoint("toy", "toy_tiny_vit", publisher.url, len(publisher.body), digest)
    monkeypatch.setitem(REGISTRY, "toy", entry)
    return entry


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*"))


def test_download_is_verified_loaded_and_kept(entry: PublishedCheckpoint, publisher: Publisher, cache: Path) -> None:
    shares: list[float] = []
    first = load_sam("toy", progress=shares.append)
    assert (first.name, first.spec.name, first.fingerprint) == ("toy", "toy_tiny_vit", entry.sha256)
    assert shares == sorted(set(shares))
    assert shares[-1] == 1
    load_sam("toy")
    assert publisher.requests == 1
    assert files_in(cache) == ["toy.pt"]


def test_progress_rises_in_steps(
    entry: PublishedCheckpoint, monkeypatch: pytest.MonkeyPatch, publisher: Publisher
) -> None:
    monkeypatch.setattr(checkpoints, "CHUNK", 10_000)
    shares: list[float] = []
    fetch(entry, shares.append)
    assert len(shares) > 5
    assert shares == sorted(set(shares))
    assert shares[-1] == 1


@pytest.mark.parametrize("damage", ["truncated", "changed", "empty"])
def test_damaged_file_in_the_cache_is_downloaded_again(
    entry: PublishedCheckpoint, publisher: Publisher, cache: Path, damage: str
) -> None:
    cache.mkdir()
    body = {"truncated": publisher.body[:-1], "changed": b"?" + publisher.body[1:], "empty": b""}[damage]
    (cache / "toy.pt").write_bytes(body)
    load_sam("toy")
    assert publisher.requests == 1
    assert (cache / "toy.pt").read_bytes() == publisher.body


def test_wrong_hash_is_refused_and_leaves_nothing(
    entry: PublishedCheckpoint, publisher: Publisher, cache: Path
) -> None:
    publisher.body = publisher.body[:-1] + b"?"
    with pytest.raises(CheckpointError, match=rf"toy could not be downloaded from {publisher.url}.*hash"):
        load_sam("toy")
    assert files_in(cache) == []


def test_web_page_in_place_of_the_file_is_named(entry: PublishedCheckpoint, publisher: Publisher, cache: Path) -> None:
    publisher.body = b"<html>Please log in</html>"
    with pytest.raises(CheckpointError, match="sent a web page instead"):
        load_sam("toy")
    assert files_in(cache) == []


def test_short_file_is_named(entry: PublishedCheckpoint, publisher: Publisher, cache: Path) -> None:
    publisher.body = publisher.body[:1000]
    with pytest.raises(CheckpointError, match=f"1000 bytes came instead of {entry.size}"):
        load_sam("toy")
    assert files_in(cache) == []


def test_broken_connection_is_never_taken_for_a_whole_file(
    entry: PublishedCheckpoint, publisher: Publisher, cache: Path
) -> None:
    publisher.announced = len(publisher.body)
    publisher.body = publisher.body[: len(publisher.body) // 2]
    with pytest.raises(CheckpointError, match="could not be downloaded"):
        load_sam("toy")
    assert files_in(cache) == []


@pytest.mark.parametrize("status", [403, 404, 500])
def test_refusal_of_the_server_is_named(
    entry: PublishedCheckpoint, publisher: Publisher, cache: Path, status: int
) -> None:
    publisher.status = status
    with pytest.raises(CheckpointError, match=f"{status}.*Check the network.*{FOLDER_VARIABLE}"):
        load_sam("toy")
    assert files_in(cache) == []


def test_no_network_is_named_with_a_remedy(
    entry: PublishedCheckpoint, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.close()  # its port answers nobody from now on
    with pytest.raises(CheckpointError, match=f"refused.*put toy.pt into a folder that {FOLDER_VARIABLE} names"):
        load_sam("toy")


def test_cancelling_a_download_leaves_nothing(
    entry: PublishedCheckpoint, publisher: Publisher, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "CHUNK", 10_000)
    shares: list[float] = []
    with pytest.raises(Cancelled):
        load_sam("toy", progress=shares.append, cancelled=lambda: len(shares) >= 2)
    assert len(shares) == 2
    assert files_in(cache) == []


def test_cancelled_before_it_begins_asks_nobody(entry: PublishedCheckpoint, publisher: Publisher) -> None:
    with pytest.raises(Cancelled):
        load_sam("toy", cancelled=lambda: True)
    assert publisher.requests == 0


def test_own_folder_is_looked_at_first(
    entry: PublishedCheckpoint, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "toy.pt").write_bytes(publisher.body)
    monkeypatch.setenv(FOLDER_VARIABLE, str(own))
    assert fetch(entry) == own / "toy.pt"
    assert publisher.requests == 0


def test_own_folder_without_the_file_leaves_the_download(
    entry: PublishedCheckpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> None:
    (tmp_path / "own").mkdir()
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "own"))
    assert fetch(entry) == cache / "toy.pt"


def test_wrong_file_in_the_own_folder_is_left_alone_and_named(
    entry: PublishedCheckpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "toy.pt").write_bytes(b"short")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(CheckpointError, match=rf"\(5 bytes\) is not the published toy.*{entry.sha256}.*replace it"):
        load_sam("toy")
    assert (tmp_path / "toy.pt").read_bytes() == b"short"


def test_own_folder_that_is_none_is_named(
    entry: PublishedCheckpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "missing"))
    with pytest.raises(CheckpointError, match=f"{FOLDER_VARIABLE} is .*not a folder"):
        load_sam("toy")


def test_verified_file_that_does_not_fit_its_architecture_is_named(
    entry: PublishedCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REGISTRY, "toy", dataclasses.replace(entry, spec="toy_vit"))
    with pytest.raises(CheckpointError, match="closest is toy_vit"):
        load_sam("toy")
