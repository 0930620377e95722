"""Architectures that no table has, folders of other libraries, and files that almost fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from parity import normal_input, state_of_shapes
from toys import toy_state

import napari_sam
from napari_sam import Prompts
from napari_sam.checkpoints import load_sam
from napari_sam.errors import CheckpointError
from napari_sam.models import SPECS, DecoderSpec, SamSpec, TinyViTSpec, ViTSpec, build_sam
from napari_sam.models.recognition import closest, inferred, layout

State = dict[str, torch.Tensor]
DECODER = DecoderSpec(width=32, mlp=48, iou_hidden=24, iou_depth=2, depth=1)
ODD = {
    "narrow, 512 px": SamSpec(
        "odd", ViTSpec(image_size=512, width=384, depth=3, heads=6, global_blocks=(0, 2)), DecoderSpec()
    ),
    "all blocks global": SamSpec(
        "odd",
        ViTSpec(image_size=96, width=32, depth=2, heads=4, global_blocks=(0, 1), mlp_ratio=2.0, neck=32),
        DECODER,
    ),
    "no block global": SamSpec(
        "odd", ViTSpec(image_size=128, width=48, depth=4, heads=3, global_blocks=(), window=5, neck=32), DECODER
    ),
    "TinyViT": SamSpec(
        "odd",
        TinyViTSpec(
            image_size=1024,
            widths=(8, 16, 24, 40),
            depths=(1, 2, 1, 3),
            heads=(1, 2, 3, 5),
            windows=(4, 4, 6, 5),
            mlp_ratio=3.0,
            mbconv_ratio=2.0,
            neck=32,
            classes=7,
        ),
        DECODER,
    ),
}


def deterministic(spec: SamSpec) -> State:
    return state_of_shapes(layout(spec))


@pytest.mark.parametrize("name", ODD)
def test_odd_sizes_are_read_off_the_shapes(name: str, tmp_path: Path) -> None:
    state, spec = deterministic(ODD[name]), ODD[name]
    torch.save(state, tmp_path / "odd.pth")
    loaded = load_sam(tmp_path / "odd.pth")
    assert dataclasses.replace(loaded.spec, name="odd") == spec
    assert loaded.profile.image_size == spec.image_size
    expected = build_sam(spec)
    expected.load_state_dict(state)
    size = 64 if isinstance(spec.encoder, TinyViTSpec) else spec.image_size
    pixels = normal_input("odd", 1, 3, size, size)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.sam.encode(pixels), expected.encode(pixels))


def test_odd_network_answers_prompts(tmp_path: Path) -> None:
    torch.save(deterministic(ODD["no block global"]), tmp_path / "odd.pth")
    predictor = napari_sam.load_predictor(tmp_path / "odd.pth", device="cpu")
    embedding = predictor.encode(torch.zeros(40, 30, 3, dtype=torch.uint8).numpy())
    assert predictor.decode(embedding, Prompts(points=[(3, 4)])).logits.shape == (3, 32, 32)


@pytest.mark.parametrize("name", SPECS)
def test_every_architecture_of_the_table_is_found_in_it(name: str) -> None:
    state = {key: torch.empty(shape, device="meta") for key, shape in layout(SPECS[name]).items()}
    found = closest(state)[0]
    assert found.fits
    assert found.spec == SPECS[name]


@pytest.mark.parametrize(
    "change",
    [
        {"image_encoder.blocks.7000.norm1.weight": (32,)},
        {"image_encoder.patch_embed.proj.weight": (32, 3, 0, 0)},
        {"image_encoder.patch_embed.proj.weight": (10**9, 3, 16, 16)},
        {"image_encoder.pos_embed": (1, 10**6, 10**6, 32)},
        {"image_encoder.blocks.0.attn.rel_pos_h": (7, 0)},
        {"image_encoder.pos_embed": (32,)},
        {"mask_decoder.iou_token.weight": (1, 10**9)},
    ],
)
def test_shapes_of_no_network_infer_none(change: dict[str, tuple[int, ...]]) -> None:
    shapes = layout(SPECS["toy_vit"]) | change
    assert inferred({key: torch.empty(shape, device="meta") for key, shape in shapes.items()}) is None


def test_error_names_the_closest_architecture_first(tmp_path: Path) -> None:
    state = deterministic(ODD["no block global"])
    del state["image_encoder.blocks.2.mlp.lin1.bias"], state["prompt_encoder.no_mask_embed.weight"]
    state["image_encoder.blocks.3.norm1.weight"] = torch.zeros(7)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError) as caught:
        load_sam(tmp_path / "odd.pth")
    message = str(caught.value)
    assert "closest is ViT of width 48, depth 4, 128 px, with 2 missing" in message
    assert "image_encoder.blocks.2.mlp.lin1.bias, prompt_encoder.no_mask_embed.weight" in message
    assert "1 of another shape: image_encoder.blocks.3.norm1.weight (7,) instead of (48,)" in message


def test_torch_em_training_file(tmp_path: Path) -> None:
    """Its optimizer and its own decoder are left aside, whatever they hold."""
    folder = tmp_path / "checkpoints" / "nuclei"
    folder.mkdir(parents=True)
    inner = {f"sam.{key}": value for key, value in toy_state("toy_vit").items()}
    training = {
        "model_state": inner,
        "decoder_state": {"out.weight": torch.zeros(3)},
        "optimizer_state": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-5}]},
        "scaler_state": None,
        "epoch": 7,
        "best_metric": 0.25,
        "init": {"device": torch.device("cpu"), "name": "nuclei"},
    }
    torch.save(training, folder / "best.pt")
    loaded = load_sam(folder)
    assert (loaded.spec.name, loaded.name) == ("toy_vit", "nuclei")
    assert torch.equal(
        loaded.sam.state_dict()["mask_decoder.iou_token.weight"], inner["sam.mask_decoder.iou_token.weight"]
    )


def test_keys_without_the_wrapper_are_kept_beside_those_with_it(tmp_path: Path) -> None:
    """Lightning's files hold the loss's buffers beside the network."""
    state = {f"net.module.{key}": value for key, value in toy_state().items()}
    torch.save({"state_dict": {**state, "loss.weight": torch.ones(2)}}, tmp_path / "lightning.ckpt")
    with pytest.raises(CheckpointError, match=r"closest is toy_tiny_vit, with 1 left over: loss\.weight"):
        load_sam(tmp_path / "lightning.ckpt")


def test_dictionary_that_lies_in_itself_ends(tmp_path: Path) -> None:
    state: dict[str, object] = {}
    state["model"] = state
    torch.save(state, tmp_path / "ring.pt")
    with pytest.raises(CheckpointError, match="not a Segment Anything checkpoint"):
        load_sam(tmp_path / "ring.pt")


def test_sharded_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="several files: save them as one"):
        load_sam(tmp_path)
