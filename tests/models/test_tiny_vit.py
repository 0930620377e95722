"""TinyViT as a classifier, in the published layout and timm's; what it does in training alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from parity import TOLERANCE, normal_input, relative_error, state_of_shapes
from safetensors.torch import save_file
from torch import Tensor

import napari_sam
from napari_sam import Prompts
from napari_sam.checkpoints import REGISTRY, Entry, load_sam
from napari_sam.checkpoints.download import sums_of
from napari_sam.errors import CheckpointError
from napari_sam.models.recognition import layout
from napari_sam.models.sam import build_sam
from napari_sam.models.specs import SPECS, TINY_VIT_CLASSIFIERS, TinyViTSpec
from napari_sam.models.tiny_vit import TinyViT

TOY = TinyViTSpec(
    image_size=224,
    widths=(8, 16, 24, 32),
    depths=(1, 1, 2, 1),
    heads=(1, 2, 3, 4),
    windows=(7, 7, 14, 7),
    strides=(2, 2, 2),
    neck=0,
    classes=10,
)


def state_of(spec: TinyViTSpec) -> dict[str, Tensor]:
    return state_of_shapes(layout(spec))


def classifier(spec: TinyViTSpec) -> TinyViT:
    vit = TinyViT(spec).eval()
    vit.load_state_dict(state_of(spec))
    return vit


def in_timms_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights under the names that timm gives them: a merging begins a stage, the head is one module."""
    named = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[:2] == ["patch_embed", "seq"]:
            parts[1:3] = ["conv1" if parts[2] == "0" else "conv2"]
        elif parts[0] == "layers":
            parts[0] = "stages"
            if parts[2] == "downsample":
                parts[1] = str(int(parts[1]) + 1)
        elif parts[0] in ("norm_head", "head"):
            parts[:1] = ["head", {"norm_head": "norm", "head": "fc"}[parts[0]]]
        named[".".join("conv" if part == "c" else part for part in parts)] = value
    return named


# --- the published classifiers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "millions"), [("tiny_vit_5m", 5.4), ("tiny_vit_11m", 11.0), ("tiny_vit_21m", 21.2)])
def test_classifiers_have_the_published_size(name: str, millions: float) -> None:
    shapes = layout(TINY_VIT_CLASSIFIERS[name])
    kept = [shape for key, shape in shapes.items() if "running_" not in key and "num_batches" not in key]
    assert sum(np.prod(shape) for shape in kept) / 1e6 == pytest.approx(millions, abs=0.06)


def test_the_smallest_has_the_keys_of_mobile_sams_encoder() -> None:
    encoder = "image_encoder."
    theirs = {key.removeprefix(encoder): s for key, s in layout(SPECS["vit_t"]).items() if key.startswith(encoder)}
    assert layout(TINY_VIT_CLASSIFIERS["tiny_vit_5m"]) == {
        key: shape for key, shape in theirs.items() if not key.startswith("neck.")
    }


def test_scores_are_those_of_the_published_formulation() -> None:
    """Tokens in rows, batch norms of their own, the whole attention matrix with its bias for every pair."""
    vit, pixels = classifier(TOY), normal_input("classifier", 2, 3, 224, 224)
    with torch.inference_mode():
        x = vit.patch_embed.seq[2].bn(
            vit.patch_embed.seq[2].c(F.gelu(vit.patch_embed.seq[0].bn(vit.patch_embed.seq[0].c(pixels))))
        )
        for stage in vit.layers:
            for block in stage.blocks:
                x = plain_convolutions(block, x) if hasattr(block, "conv1") else plain_block(block, x)
            if stage.downsample is not None:
                x = plain_merging(stage.downsample, x)
        assert x.shape == (2, 32, 7, 7)
        expected = vit.head(vit.norm_head(x.flatten(2).transpose(1, 2).mean(1)))
        assert relative_error(vit.classify(pixels), expected.numpy()) < TOLERANCE


def plain_convolutions(block: torch.nn.Module, x: Tensor) -> Tensor:
    inner = F.gelu(block.conv1.bn(block.conv1.c(x)))
    inner = F.gelu(block.conv2.bn(block.conv2.c(inner)))
    return F.gelu(x + block.conv3.bn(block.conv3.c(inner)))


def plain_merging(merging: torch.nn.Module, x: Tensor) -> Tensor:
    x = F.gelu(merging.conv1.bn(merging.conv1.c(x)))
    return merging.conv3.bn(merging.conv3.c(F.gelu(merging.conv2.bn(merging.conv2.c(x)))))


def plain_block(block: torch.nn.Module, x: Tensor) -> Tensor:
    side, (batch, channels, height, width) = block.window, x.shape
    assert (height % side, width % side) == (0, 0)
    rows, columns = height // side, width // side
    tokens = x.view(batch, channels, rows, side, columns, side).permute(0, 2, 4, 3, 5, 1).reshape(-1, side**2, channels)
    attention = block.attn
    qkv = attention.qkv(attention.norm(tokens)).view(len(tokens), side**2, attention.heads, 3, -1)
    q, k, v = qkv.permute(3, 0, 2, 1, 4)
    places = [(row, column) for row in range(side) for column in range(side)]
    far = [[abs(a[0] - b[0]) * side + abs(a[1] - b[1]) for b in places] for a in places]
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + attention.attention_biases[:, torch.tensor(far)]
    tokens = tokens + attention.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(tokens.shape))
    x = tokens.view(batch, rows, columns, side, side, channels).permute(0, 5, 1, 3, 2, 4).reshape(x.shape)
    x = block.local_conv.bn(block.local_conv.c(x)).permute(0, 2, 3, 1)
    x = x + block.mlp.fc2(F.gelu(block.mlp.fc1(block.mlp.norm(x))))
    return x.permute(0, 3, 1, 2)


def test_an_encoder_with_a_neck_is_no_classifier() -> None:
    with pytest.raises(ValueError, match="no classifier"):
        TinyViT(SPECS["vit_t"].encoder).classify(torch.zeros(1, 3, 64, 64))


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout_of", ["published", "nested", "timm", "module."])
def test_files_load_and_give_the_same_scores(tmp_path: Path, layout_of: str) -> None:
    state, path = state_of(TOY), tmp_path / "tiny.pth"
    written = {
        "published": state | {"layers.1.blocks.0.attn.attention_bias_idxs": torch.zeros(49, 49, dtype=torch.int64)},
        "nested": {"model": state, "epoch": 3},
        "timm": in_timms_names(state),
        "module.": {f"module.{key}": value for key, value in state.items()},
    }[layout_of]
    torch.save(written, path)
    loaded = load_sam(path)
    assert loaded.spec == TOY
    assert (loaded.profile.name, loaded.profile.image_size) == ("imagenet", 224)
    pixels = normal_input("classifier", 1, 3, 224, 224)
    encoder = loaded.sam.image_encoder
    assert isinstance(encoder, TinyViT)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.classify(pixels), classifier(TOY).classify(pixels))


def test_a_file_that_is_known_by_its_sum_is_fed_as_its_entry_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.pth"
    torch.save(state_of(TOY), path)
    entry = Entry("theirs", "vit", "", "theirs.pth", sha256=sums_of(path).sha256)
    monkeypatch.setitem(REGISTRY, "theirs", entry)
    assert load_sam(path).profile.name == "vit"
    assert load_sam(path, profile="imagenet").profile.name == "imagenet"


@pytest.mark.parametrize("name", list(TINY_VIT_CLASSIFIERS))
def test_published_sizes_are_recognised(tmp_path: Path, name: str) -> None:
    spec = TINY_VIT_CLASSIFIERS[name]
    save_file(
        {key: value.contiguous() for key, value in TinyViT(spec).state_dict().items()}, tmp_path / "t.safetensors"
    )
    found = load_sam(tmp_path / "t.safetensors").spec
    assert found == TinyViTSpec(**{**vars(spec), "stochastic_depth": 0.0})


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    state = state_of(TOY)
    del state["layers.2.blocks.1.mlp.fc1.bias"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(
        CheckpointError, match=r"TinyViT of widths 8, 16, 24, 32, with 1 missing: layers.2.blocks.1.mlp"
    ):
        load_sam(tmp_path / "part.safetensors")
    save_file({"patch_embed.seq.0.c.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "stem.safetensors")
    with pytest.raises(CheckpointError, match="not a TinyViT that we know"):
        load_sam(tmp_path / "stem.safetensors")


def test_prompts_are_answered_by_likeness(tmp_path: Path) -> None:
    save_file(state_of(TOY), tmp_path / "tiny.safetensors")
    predictor = napari_sam.load_predictor(tmp_path / "tiny.safetensors", device="cpu")
    picture = np.zeros((90, 120, 3), np.uint8)
    picture[20:60, 30:80] = (200, 90, 20)
    result = predictor.decode(predictor.encode(picture), Prompts(boxes=[(20, 30, 59, 79)]))
    assert result.masks[0].area > 0


# --- training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["toy_vit", "toy_tiny_vit"])
def test_checkpointing_changes_no_gradient_and_no_statistics(name: str) -> None:
    outcomes = []
    for checkpointing in (False, True):
        sam = build_sam(SPECS[name])
        sam.load_state_dict(state_of_shapes(layout(SPECS[name])))
        encoder = sam.image_encoder.train()
        encoder.checkpointing = checkpointing
        features = encoder(normal_input("train", 2, 3, 64, 64))
        features.square().mean().backward()
        gradients = {key: parameter.grad for key, parameter in encoder.named_parameters()}
        outcomes.append((features.detach(), gradients, dict(encoder.named_buffers())))
    torch.testing.assert_close(outcomes[0], outcomes[1])


def test_checkpointing_keeps_fewer_activations() -> None:
    kept = []
    for checkpointing in (False, True):
        encoder = TinyViT(TOY).train()
        encoder.checkpointing = checkpointing
        sizes: list[int] = []

        def note(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            encoder(normal_input("train", 1, 3, 224, 224))
        kept.append(sum(sizes))
    assert kept[1] < 0.5 * kept[0]


def test_stochastic_depth_leaves_out_whole_branches_in_training_alone() -> None:
    spec = TinyViTSpec(**{**vars(TOY), "stochastic_depth": 0.9})
    vit, pixels = TinyViT(spec), normal_input("skip", 3, 3, 56, 56)
    shares = [block.skip.share for stage in vit.layers for block in stage.blocks]
    assert shares == pytest.approx([0, 0.225, 0.45, 0.675, 0.9])
    with torch.inference_mode():
        torch.testing.assert_close(vit.eval()(pixels), vit(pixels))
        block = vit.layers[3].blocks[0].train()
        block.local_conv.eval()  # statistics of its own would make every sample depend on the others
        torch.manual_seed(0)
        x = normal_input("tokens", 64, 32, 7, 7)
        mixed = block.local_conv(x)  # both branches left out
        alone = [bool(torch.allclose(one, other, atol=1e-5)) for one, other in zip(block(x), mixed, strict=True)]
    assert 0.6 < np.mean(alone) < 0.95  # 0.81 are to be expected
