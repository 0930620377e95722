"""Plain ViTs against `transformers`, through files that it saved, and in the layouts of timm and of autoencoders."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from parity import TOLERANCE, normal_input, photo_input, relative_error, state_of_shapes
from safetensors.torch import save_file

import napari_sam
from napari_sam.checkpoints import load_sam
from napari_sam.errors import CheckpointError
from napari_sam.geometry import Frame, whole
from napari_sam.image_input import encoder_input
from napari_sam.models.plain_vit import PlainViT, StochasticDepth
from napari_sam.models.recognition import layout
from napari_sam.models.specs import PlainViTSpec

transformers = pytest.importorskip("transformers")

TOY = PlainViTSpec(width=48, depth=3, heads=4, image_size=64, norm_eps=1e-12)
BASE = PlainViTSpec(width=768, depth=12, heads=12, norm_eps=1e-12)
SPECS = {"toy": TOY, "wide": dataclasses.replace(BASE, depth=3), "base": BASE}
SIZES = ["toy", "wide", pytest.param("base", marks=pytest.mark.slow)]


def theirs_of(kind: str, spec: PlainViTSpec, **config: Any) -> torch.nn.Module:
    """Return a network of `transformers` with deterministic weights."""
    settings = transformers.ViTConfig(
        hidden_size=spec.width,
        num_hidden_layers=spec.depth,
        num_attention_heads=spec.heads,
        intermediate_size=4 * spec.width,
        image_size=spec.image_size,
        attn_implementation="eager",
        **config,
    )
    network = getattr(transformers, kind)(settings).eval()
    network.load_state_dict(state_of_shapes({key: tuple(value.shape) for key, value in network.state_dict().items()}))
    return network


def ours_from(theirs: torch.nn.Module, folder: Path) -> PlainViT:
    theirs.save_pretrained(folder)
    return vit_of(folder)


def vit_of(path: Path) -> PlainViT:
    vit = load_sam(path, profile="vit").sam.image_encoder
    assert isinstance(vit, PlainViT)
    return vit


def state_of(spec: PlainViTSpec) -> dict[str, torch.Tensor]:
    return state_of_shapes(layout(spec))


# --- parity ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_tokens_and_pooler(size: str, tmp_path: Path) -> None:
    spec = SPECS[size]
    theirs = theirs_of("ViTModel", spec)
    ours = ours_from(theirs, tmp_path)
    assert ours.spec == dataclasses.replace(spec, pooler=True)
    pixels = normal_input("vit", 2, 3, spec.image_size, spec.image_size)
    with torch.inference_mode():
        expected = theirs(pixels)
        assert relative_error(ours(pixels), expected.last_hidden_state.numpy()) < TOLERANCE
        assert relative_error(ours.pooled(pixels), expected.pooler_output.numpy()) < TOLERANCE


@pytest.mark.parametrize("size", SIZES)
def test_class_scores(size: str, tmp_path: Path) -> None:
    spec = SPECS[size]
    theirs = theirs_of("ViTForImageClassification", spec, num_labels=11)
    ours = ours_from(theirs, tmp_path)
    assert ours.spec.classes == 11
    pixels = normal_input("vit", 2, 3, spec.image_size, spec.image_size)
    with torch.inference_mode():
        assert relative_error(ours.classify(pixels), theirs(pixels).logits.numpy()) < TOLERANCE


@pytest.mark.parametrize("size", [(96, 128), (48, 64)])
def test_positions_at_another_size(size: tuple[int, int], tmp_path: Path) -> None:
    theirs = theirs_of("ViTModel", TOY)
    ours = ours_from(theirs, tmp_path)
    pixels = normal_input("vit", 1, 3, *size)
    with torch.inference_mode():
        expected = theirs(pixels, interpolate_pos_encoding=True).last_hidden_state
        assert relative_error(ours(pixels), expected.numpy()) < TOLERANCE


def test_heads_that_are_not_64_wide_are_read_from_the_folder(tmp_path: Path) -> None:
    theirs = theirs_of("ViTModel", dataclasses.replace(TOY, heads=2))
    assert ours_from(theirs, tmp_path).spec.heads == 2


# --- parts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_patch_embedding_is_a_linear_layer_over_unfolded_patches(channels: int) -> None:
    vit = PlainViT(dataclasses.replace(TOY, channels=channels))
    pixels = normal_input("channels", 2, channels, 32, 48)
    unfolded = F.unfold(pixels, 16, stride=16).transpose(1, 2)  # (B, patches, channels * 16 * 16)
    weight = vit.patch_embed.proj.weight.flatten(1)
    expected = F.linear(unfolded, weight, vit.patch_embed.proj.bias)
    found = vit.patch_embed(pixels).flatten(2).transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert vit(pixels).shape == (2, 1 + 2 * 3, TOY.width)


def test_class_token_comes_first_and_patches_keep_their_places() -> None:
    vit = PlainViT(TOY).eval()
    vit.load_state_dict(state_of(TOY))
    pixels = normal_input("vit", 1, 3, 64, 64)
    with torch.inference_mode():
        tokens, features = vit(pixels), vit.features(pixels)
    assert features.shape == (1, 48, 4, 4)
    torch.testing.assert_close(features[0, :, 1, 2], tokens[0, 1 + 4 + 2])


def test_row_and_column_positions() -> None:
    spec = dataclasses.replace(TOY, positions="axes")
    vit = PlainViT(spec).eval()
    vit.load_state_dict(state_of(spec))
    with torch.inference_mode():
        table = vit._axes(4, 4).view(4, 4, -1)
        torch.testing.assert_close(table[1, 2], vit.row_embed[0, 1] + vit.column_embed[0, 2])
        assert vit._axes(6, 2).shape == (1, 12, 48)
        torch.testing.assert_close(vit._axes(8, 4).view(8, 4, -1)[:, 0].mean(0), table[:, 0].mean(0))
        assert vit(normal_input("vit", 1, 3, 96, 32)).shape == (1, 13, 48)


def test_dropout_and_stochastic_depth_act_in_training_alone() -> None:
    vit = PlainViT(dataclasses.replace(TOY, dropout=0.2, stochastic_depth=0.5))
    assert [block.skip.share for block in vit.blocks] == [0, 0.25, 0.5]
    pixels = normal_input("vit", 2, 3, 64, 64)
    torch.manual_seed(0)
    with torch.inference_mode():
        assert not torch.equal(vit(pixels), vit(pixels))
        vit.eval()
        assert torch.equal(vit(pixels), vit(pixels))


def test_stochastic_depth_keeps_the_mean() -> None:
    torch.manual_seed(0)
    left = StochasticDepth(0.25)(torch.ones(4000, 2, 3))
    assert sorted(set(left.flatten().tolist())) == pytest.approx([0, 4 / 3])
    assert left.mean() == pytest.approx(1, abs=0.05)
    assert (left.flatten(1).std(1) == 0).all()  # a sample goes or stays as a whole


def test_blocks_can_be_counted_and_stopped() -> None:
    shares: list[float] = []
    PlainViT(TOY)(normal_input("vit", 1, 3, 64, 64), shares.append)
    assert shares == pytest.approx([1 / 3, 2 / 3, 1])


def test_no_head_is_named() -> None:
    with pytest.raises(ValueError, match="no classification head"):
        PlainViT(TOY).classify(normal_input("vit", 1, 3, 64, 64))


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", ["", "module.", "backbone.", "model.encoder."])
def test_timm_layout(wrap: str, tmp_path: Path) -> None:
    spec = dataclasses.replace(TOY, width=128, heads=2, norm_eps=1e-6, classes=5)
    state = state_of(spec)
    save_file({wrap + key: value for key, value in state.items()}, tmp_path / "timm.safetensors")
    vit = vit_of(tmp_path / "timm.safetensors")
    assert vit.spec == spec
    assert all(torch.equal(value, state[key]) for key, value in vit.state_dict().items())


def test_masked_autoencoder(tmp_path: Path) -> None:
    spec = dataclasses.replace(TOY, width=64, heads=1, norm_eps=1e-6)
    extra = {"mask_token": (1, 1, 32), "decoder_pos_embed": (1, 17, 32), "decoder_blocks.0.norm1.weight": (32,)}
    torch.save({"model": state_of(spec) | state_of_shapes(extra)}, tmp_path / "mae.pth")
    loaded = load_sam(tmp_path / "mae.pth")
    assert loaded.spec == spec
    assert (loaded.profile.name, loaded.note) == ("imagenet", "")


def test_classifier_over_the_mean_of_patches(tmp_path: Path) -> None:
    spec = dataclasses.replace(TOY, width=64, heads=1, norm_eps=1e-6, classes=3, pool="mean", layer_scale=True)
    save_file(state_of(spec), tmp_path / "finetuned.safetensors")
    vit = vit_of(tmp_path / "finetuned.safetensors")
    assert vit.spec == spec
    pixels = normal_input("vit", 1, 3, 64, 64)
    with torch.inference_mode():
        expected = vit.head(vit.fc_norm(vit(pixels)[:, 1:].mean(1)))
        torch.testing.assert_close(vit.classify(pixels), expected)


def test_preprocessing_of_the_folder_is_used(tmp_path: Path) -> None:
    theirs_of("ViTModel", TOY).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.5, 1], "resample": 3, "size": {"height": 64}}'
    )
    profile = load_sam(tmp_path).profile
    assert profile.mean == pytest.approx((25.5, 51, 76.5))
    assert profile.std == pytest.approx((127.5, 127.5, 255))
    assert (profile.image_size, profile.resize, profile.interpolation) == (64, "square", "bicubic")


def test_plain_vit_without_a_word_is_fed_as_the_first_ones(tmp_path: Path) -> None:
    save_file(state_of(TOY), tmp_path / "some.safetensors")
    loaded = load_sam(tmp_path / "some.safetensors")
    assert (loaded.profile.name, loaded.profile.mean, loaded.profile.resize) == ("vit", (127.5,) * 3, "square")
    assert "choose the profile 'imagenet'" in loaded.note


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ('{"num_attention_heads": 7}', "7 heads do not divide its width 48"),
        ('{"hidden_act": "relu"}', "activation is 'relu'"),
        ("[]", "holds list instead of an object"),
        ("{", "cannot be read"),
        ('{"num_attention_heads": "many"}', "not a plain ViT"),
        ('{"num_attention_heads": Infinity}', "inf heads do not divide its width 48"),
        ('{"layer_norm_eps": NaN}', "layer_norm_eps is nan"),
    ],
)
def test_mistakes_in_the_folder_are_named(tmp_path: Path, config: str, says: str) -> None:
    save_file(state_of(TOY), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match=says):
        load_sam(tmp_path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    state = state_of(TOY)
    del state["blocks.1.attn.qkv.bias"]
    state["extra.weight"] = torch.zeros(1)
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(
        CheckpointError, match=r"closest is a plain ViT of width 48.*1 missing: blocks\.1\.attn\.qkv\.bias"
    ):
        load_sam(tmp_path / "part.safetensors")


def test_other_numbers_of_channels_are_refused_for_pictures(tmp_path: Path) -> None:
    save_file(state_of(dataclasses.replace(TOY, channels=5)), tmp_path / "five.safetensors")
    with pytest.raises(CheckpointError, match="takes 5 channels"):
        load_sam(tmp_path / "five.safetensors")


def test_input_that_is_no_multiple_of_the_patches_is_named(tmp_path: Path) -> None:
    save_file(state_of(TOY), tmp_path / "some.safetensors")
    (tmp_path / "odd.toml").write_text('base = "vit"\nimage_size = 100')
    with pytest.raises(CheckpointError, match=r"no multiple of the 16 px .*choose 96"):
        load_sam(tmp_path / "some.safetensors", profile=tmp_path / "odd.toml")


def test_picture_is_fed_as_hugging_face_feeds_it(tmp_path: Path) -> None:
    processor = transformers.ViTImageProcessor(size={"height": 64, "width": 64})
    image = photo_input("vit", 90, 140)
    expected = processor(image, return_tensors="np")["pixel_values"][0]
    save_file(state_of(TOY), tmp_path / "some.safetensors")
    profile = napari_sam.load_predictor(tmp_path / "some.safetensors", device="cpu").profile
    frame = Frame((90, 140), whole((90, 140)), 64, square=True)
    assert np.abs(encoder_input(image, frame, profile) - expected).max() < 0.02
