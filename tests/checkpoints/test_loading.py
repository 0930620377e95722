"""Checkpoint files: recognised by their keys and shapes, loaded whole, or refused with a reason."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from napari_sam.checkpoints import load_sam, registry
from napari_sam.errors import CheckpointError
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
        lambda state: {key.replace("encoder.", "encoder._orig_mod.", 1): value for key, value in state.items()},
        lambda state: {"epoch": 3, "optimizer": {"state": {}}, "net": state},
        lambda state: {**state, "pixel_mean": torch.zeros(3, 1, 1), "pixel_std": torch.ones(3, 1, 1)},
    ],
    ids=[
        *("plain", "model", "state_dict", "model_state and sam.", "model and module.", "module.sam.", "compiled parts"),
        *("any nest", "normalisation"),
    ],
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
    monkeypatch.setattr(registry, "DEFAULT_WEIGHTS", tmp_path / "default.safetensors")
    for loaded in (load_sam(), load_sam(Path("default"))):
        assert (loaded.name, loaded.spec, loaded.profile.image_size) == ("default", SPECS["default"], 256)
        assert loaded.profile.crop_sides


def test_missing_default_weights_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry, "DEFAULT_WEIGHTS", tmp_path / "gone.safetensors")
    with pytest.raises(CheckpointError, match=r"gone\.safetensors is missing.*install the package again"):
        load_sam("default")


# --- bad files ------------------------------------------------------------------------------------------------------


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match=r"'sam_vit_x'.*default, sam_vit_b.*mobile_sam"):
        load_sam("sam_vit_x")


def test_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is a folder without model\.safetensors"):
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
