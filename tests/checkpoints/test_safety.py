"""Files that were forged or broken: each is a clear error, runs no code, and takes no more memory than it is large."""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from parity import state_of_shapes
from safetensors.torch import save, save_file
from toys import toy_state

from napari_sam import Predictor, Prompts
from napari_sam.checkpoints import load_sam
from napari_sam.errors import CheckpointError
from napari_sam.geometry import Profile
from napari_sam.models.recognition import layout
from napari_sam.models.specs import PlainViTSpec

EXAMPLES = int(os.environ.get("NAPARI_SAM_FUZZ", "40"))
"""How many broken files each fuzz test tries; a nightly run may take more."""
FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
HUGE = 10**11
LARGEST_TRIED = 512
"""Input sides of networks that are run, in pixels."""


class Call:
    """Unpickled, it calls."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def saved(value: object, path: Path, *, new: bool = True) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=new)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_sam(path)
    message = str(caught.value)
    assert path.name in message
    return message


# --- forged ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (Call(os.system, "true"), "posix.system"),
        (Call(eval, "1"), r"(__builtin__|builtins).eval"),
        (Call(bytearray, 10), r"(__builtin__|builtins).bytearray"),
        (Call(torch.load, "x"), "torch.serialization.load"),
        (Call(torch.hub.load, "x"), "torch.hub.load"),
        (Call(getattr, "x", "y"), r"(__builtin__|builtins).getattr"),
    ],
)
def test_calls_are_refused_by_name(tmp_path: Path, payload: Call, named: str, new: bool) -> None:
    message = refusal(saved({**toy_state(), "extra": payload}, tmp_path / "evil.pth", new=new))
    assert re.search(rf"asks for {named}, which could run code", message)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickle_of_any_protocol_is_refused(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"model": Call(os.mkdir, str(trace))}, protocol))
    assert "mkdir" in refusal(tmp_path / "evil.pkl")
    assert not trace.exists()


def test_names_hidden_behind_others_are_refused(tmp_path: Path) -> None:
    """The last two texts before the import look harmless; what is imported lies deeper."""
    code = b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x8c\x0bcollections\x8c\x0bOrderedDict00\x93\x8c\x04true\x85R."
    (tmp_path / "sly.pkl").write_bytes(code)
    assert "sly.pkl" in refusal(tmp_path / "sly.pkl")


def test_zip_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(saved({"w": torch.zeros(2)}, tmp_path / "small.pth")) as small:
        entries = {entry.filename: small.read(entry) for entry in small.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as bomb:
        for name, content in entries.items():
            bomb.writestr(name, bytes(20_000_000) if name.endswith("data/0") else content)
    assert path.stat().st_size < 100_000
    assert re.search(r"its \d+ bytes would become 20\d+", refusal(path))


def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    with zipfile.ZipFile(path, "w") as archive:  # what torch.jit.save writes, in outline
        for name, content in {
            "data.pkl": b"\x80\x02}.",
            "code/net.py": b"import os",
            "constants.pkl": b"\x80\x02).",
        }.items():
            archive.writestr(f"script/{name}", content)
    assert "TorchScript" in refusal(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_expanded_tensors_are_not_made(tmp_path: Path, dtype: torch.dtype) -> None:
    """One stored number can claim to be a tensor of any size."""
    state = dict(toy_state("toy_vit"))
    width = 4096
    for key, value in state.items():
        state[key] = torch.ones((), dtype=dtype).expand([width if side == 32 else side for side in value.shape])
    assert refusal(saved(state, tmp_path / "wide.pth"))


def safetensors_file(header: dict[str, Any], content: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


@pytest.mark.parametrize(
    "content",
    [
        safetensors_file({}, length=2**62),
        safetensors_file({"w": {"dtype": "F32", "shape": [HUGE], "data_offsets": [0, 4 * HUGE]}}),
        safetensors_file({"w": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, bytes(4)),
        safetensors_file({"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4)),
        safetensors_file({"w": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
        safetensors_file(
            {name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in ("a", "b")}, bytes(4)
        ),
        safetensors_file({"w": 3}),
    ],
    ids=["header", "tensor", "overflow", "backwards", "type", "overlap", "nonsense"],
)
def test_forged_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "forged.safetensors").write_bytes(content)
    assert "not a whole safetensors file" in refusal(tmp_path / "forged.safetensors")


BOMBS = """
import resource, sys
import torch, torch.nn.functional
from napari_sam import Predictor, Prompts
from napari_sam.checkpoints import load_sam
from napari_sam.errors import CheckpointError
from napari_sam.geometry import Profile
from napari_sam.models.recognition import layout
from napari_sam.models.specs import PlainViTSpec
load_sam()  # what reading costs at all
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        load_sam(path)
    except CheckpointError as error:
        continue
    sys.exit(f"{path} was loaded")
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
sys.exit(f"grew by {grown} MiB" if grown > 100 else 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory in Linux's units")
def test_nothing_fills_the_memory(tmp_path: Path) -> None:
    wide, half = torch.ones(()).expand(HUGE), torch.ones((), dtype=torch.float16).expand(HUGE)
    bombs = [
        saved({"w": Call(bytearray, HUGE)}, tmp_path / "array.pth"),
        saved({"w": Call(bytearray, HUGE)}, tmp_path / "array_old.pth", new=False),
        saved({"image_encoder.a": wide, "image_encoder.b": half}, tmp_path / "wide.pth"),
        saved({f"image_encoder.{index}": torch.zeros(1) for index in range(10_000)}, tmp_path / "many.pth"),
    ]
    for name, content in {
        "text.pkl": b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"short",
        "long.pkl": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"short",
        "storage.pth": saved({"w": torch.zeros(9)}, tmp_path / "old.pth", new=False)
        .read_bytes()
        .replace(struct.pack("<q", 9), struct.pack("<q", HUGE)),
    }.items():
        (tmp_path / name).write_bytes(content)
        bombs.append(tmp_path / name)
    run = subprocess.run([sys.executable, "-c", BOMBS, *map(str, bombs)], capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr


# --- broken ---------------------------------------------------------------------------------------------------------


def test_ten_thousand_tensors_are_no_checkpoint(tmp_path: Path) -> None:
    state = {f"layer.{index}.weight": torch.zeros(1) for index in range(10_000)}
    save_file(state, tmp_path / "many.safetensors")
    assert "not a Segment Anything checkpoint" in refusal(tmp_path / "many.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    state = {key: value.clone() for key, value in toy_state().items()}
    state["mask_decoder.iou_token.weight"][0, 3] = value
    message = refusal(saved(state, tmp_path / "diverged.pth"))
    assert "mask_decoder.iou_token.weight has values that are not finite" in message
    assert "earlier checkpoint" in message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda weight: weight.to(torch.int8), "is int8 instead of float32"),
        (lambda weight: weight.to(torch.complex64), "is complex64 instead of float32"),
        (lambda weight: weight.to_sparse(), "_rebuild_sparse_tensor"),
        (lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8), "was not opened|without plain values"),
        (lambda weight: weight.to("meta"), "was not opened"),
    ],
    ids=["int8", "complex", "sparse", "quantised", "meta"],
)
@pytest.mark.filterwarnings("ignore")
def test_other_kinds_of_tensors_are_refused(
    tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor], says: str
) -> None:
    state = dict(toy_state())
    state["mask_decoder.iou_token.weight"] = change(state["mask_decoder.iou_token.weight"])
    assert re.search(says, refusal(saved(state, tmp_path / "odd.pth")))


# --- fuzzed ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    return {
        "zip": saved(toy_state(), folder / "new.pth").read_bytes(),
        "pickle": saved({"model": toy_state()}, folder / "old.pth", new=False).read_bytes(),
        "safetensors": save(toy_state(), {"spec": "toy_tiny_vit"}),
        "plain": save(plain_state()),
    }


def plain_state() -> dict[str, torch.Tensor]:
    return state_of_shapes(layout(PlainViTSpec(width=16, depth=1, heads=2, image_size=32, patch_size=8)))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "file.bin"


def is_loaded_or_refused(path: Path, **options: Any) -> bool:
    """Whether a checkpoint is loaded whole and answers a prompt, else refused; anything else is an error of its own."""
    try:
        loaded = load_sam(path, **options)
    except CheckpointError:
        return False
    assert all(value.isfinite().all() for value in loaded.sam.state_dict().values())
    assert not any(value.is_meta for value in loaded.sam.state_dict().values())
    if loaded.profile.image_size <= LARGEST_TRIED:
        predictor = Predictor(loaded, torch.device("cpu"), torch.float32)
        result = predictor.decode(predictor.encode(np.zeros((9, 8), np.uint8)), Prompts(points=[(4, 4)]))
        assert result.logits.ndim == 3
    return True


KINDS = st.sampled_from(["zip", "pickle", "safetensors", "plain"])


@FUZZ
@given(kind=KINDS, share=st.floats(0, 1, exclude_max=True))
@example(kind="zip", share=0.999999)
@example(kind="pickle", share=0.0)
def test_fuzz_truncated_at_any_byte(whole_files: dict[str, bytes], scratch: Path, kind: str, share: float) -> None:
    content = whole_files[kind]
    scratch.write_bytes(content[: int(share * len(content))])
    assert not is_loaded_or_refused(scratch)


EDIT = st.tuples(
    st.floats(0, 1, exclude_max=True), st.sampled_from(["flip", "cut", "insert", "repeat"]), st.binary(max_size=9)
)


@FUZZ
@given(kind=KINDS, near_start=st.booleans(), edits=st.lists(EDIT, min_size=1, max_size=5))
def test_fuzz_edited(
    whole_files: dict[str, bytes], scratch: Path, kind: str, near_start: bool, edits: list[tuple[float, str, bytes]]
) -> None:
    content = bytearray(whole_files[kind])
    for share, edit, junk in edits:
        at = int(share * (min(4000, len(content)) if near_start else len(content)))
        length = max(1, len(junk))
        if edit == "flip":
            content[at : at + length] = bytes(byte ^ (junk[0] if junk else 255) for byte in content[at : at + length])
        elif edit == "cut":
            del content[at : at + length]
        elif edit == "insert":
            content[at:at] = junk
        else:
            content[at:at] = content[max(0, at - length) : at]
    scratch.write_bytes(content)
    is_loaded_or_refused(scratch)


@FUZZ
@given(
    content=st.binary(max_size=400), start=st.sampled_from([b"", b"\x80\x02", b"PK\x03\x04", b"\x10" + bytes(7) + b"{"])
)
def test_fuzz_random_bytes(scratch: Path, content: bytes, start: bytes) -> None:
    scratch.write_bytes(start + content)
    assert not is_loaded_or_refused(scratch)


NAMES = st.sampled_from(["model", "state_dict", "average", "sam.", "image_encoder.blocks.0.norm1.weight", "x", ""])
LEAVES = st.one_of(
    st.none(),
    st.integers(),
    st.text(max_size=5),
    st.lists(st.integers(0, 3), max_size=5).map(torch.zeros),
    st.sampled_from([torch.tensor(3), torch.zeros(2, dtype=torch.bool), torch.tensor(float("nan"))]),
)
NESTED = st.recursive(LEAVES, lambda inner: st.one_of(st.dictionaries(NAMES, inner), st.lists(inner, max_size=3)))


@FUZZ
@given(content=NESTED, new=st.booleans())
def test_fuzz_other_contents(scratch: Path, content: Any, new: bool) -> None:
    assert not is_loaded_or_refused(saved(content, scratch, new=new))


@FUZZ
@given(
    name=st.sampled_from(["toy_vit", "toy_tiny_vit", "plain"]),
    keys=st.lists(st.integers(0, 10**6), min_size=1, max_size=4),
    shape=st.lists(st.sampled_from([0, 1, 2, 3, 8, 16, 32]), max_size=4),
)
def test_fuzz_other_shapes(scratch: Path, name: str, keys: list[int], shape: list[int]) -> None:
    """Shapes say the architecture: those of no network may not end in one that fails later."""
    state = plain_state() if name == "plain" else dict(toy_state(name))
    for key in keys:
        state[list(state)[key % len(state)]] = torch.zeros(shape)
    scratch.write_bytes(save(state))
    is_loaded_or_refused(scratch)


NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, 1, 2, 8, 16, 0.5]))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=5), st.sampled_from(["gelu", "sam", "minmax"])),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
)
CONFIG_KEYS = st.sampled_from(["num_attention_heads", "hidden_act", "layer_norm_eps", "image_size", "model_type"])
PREPROCESSING_KEYS = st.sampled_from(["image_mean", "image_std", "resample", "size"])


@FUZZ
@given(config=st.dictionaries(CONFIG_KEYS, VALUES), preprocessing=st.dictionaries(PREPROCESSING_KEYS, VALUES))
@example(config={"layer_norm_eps": float("nan")}, preprocessing={})
@example(config={"num_attention_heads": float("inf")}, preprocessing={})
@example(config={}, preprocessing={"image_mean": [0.5, float("nan"), 0.5], "image_std": [0.5] * 3})
def test_fuzz_what_lies_beside(scratch: Path, config: dict[str, Any], preprocessing: dict[str, Any]) -> None:
    folder = scratch.with_name("folder")
    folder.mkdir(exist_ok=True)
    save_file(plain_state(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    is_loaded_or_refused(folder)


PROFILE_KEYS = st.sampled_from([each.name for each in fields(Profile)] + ["base", "licence", "nonsense"])


@FUZZ
@given(table=st.dictionaries(PROFILE_KEYS, VALUES, max_size=4), plain=st.booleans())
def test_fuzz_profiles(scratch: Path, table: dict[str, Any], plain: bool) -> None:
    path = scratch.with_name("weights.safetensors")
    save_file(plain_state() if plain else toy_state(), path)
    profile = scratch.with_name("profile.toml")
    # A value is the same in JSON and TOML, most of the time.
    profile.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items()))
    is_loaded_or_refused(path, profile=profile)
