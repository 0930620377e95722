"""Our networks against those of `transformers`, through a file that it saved and our own loading."""

from __future__ import annotations

import pytest
import torch
from parity import TOLERANCE, normal_input, relative_error, state_of_shapes

from napari_sam.checkpoints import load_sam
from napari_sam.models import SPECS, Sam
from napari_sam.models.state_dicts import published_key

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Sam]:
    """Their network at our toy size with deterministic weights, and ours loaded from the file that it saved."""
    theirs = transformers.SamModel(_config()).eval()
    theirs.load_state_dict(state_of_shapes({key: tuple(value.shape) for key, value in theirs.state_dict().items()}))
    folder = tmp_path_factory.mktemp("saved")
    # The prompt encoder shares these; names differ, so the weights above do too.
    shared = theirs.shared_image_embedding.positional_embedding
    with torch.no_grad():
        theirs.prompt_encoder.shared_embedding.positional_embedding.copy_(shared)
    theirs.save_pretrained(folder)
    assert load_sam(folder / "model.safetensors").spec == SPECS["toy_vit"]
    return theirs, load_sam(folder).sam


def _config() -> transformers.SamConfig:
    vision = {
        "hidden_size": 32,
        "output_channels": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 16,
        "window_size": 3,
        "global_attn_indexes": [1],
        "mlp_dim": 128,
        "num_pos_feats": 16,
    }
    prompts = {"hidden_size": 32, "image_size": 64, "patch_size": 16}
    decoder = {
        "hidden_size": 32,
        "mlp_dim": 64,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 32,
        "layer_norm_eps": 1e-5,  # what the published decoder was trained with; theirs is 1e-6 unless told
    }
    return transformers.SamConfig(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder, attn_implementation="eager"
    )


def test_architecture_is_recognised(pair: tuple[torch.nn.Module, Sam]) -> None:
    assert pair[1].spec == SPECS["toy_vit"]


def test_image_embedding(pair: tuple[torch.nn.Module, Sam]) -> None:
    theirs, ours = pair
    pixels = normal_input("transformers", 2, 3, 64, 64)
    with torch.inference_mode():
        expected = theirs.vision_encoder(pixels).last_hidden_state
        assert relative_error(ours.encode(pixels), expected.numpy()) < TOLERANCE


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("kind", ["points", "boxes"])
def test_decoding(pair: tuple[torch.nn.Module, Sam], kind: str, multimask: bool) -> None:
    theirs, ours = pair
    features = normal_input("features", 1, 32, 4, 4)
    points, labels = torch.tensor([[[5.0, 7], [40, 33]], [[20, 20], [1, 60]]]), torch.tensor([[1, 0], [1, 1]])
    boxes = torch.tensor([[3.0, 4, 50, 40], [10, 10, 30, 20]])
    mine = {"points": points, "labels": labels} if kind == "points" else {"boxes": boxes}
    same = {f"input_{name}": value[None] for name, value in mine.items()}
    with torch.inference_mode():
        expected = theirs(image_embeddings=features, multimask_output=multimask, **same)
        logits, iou = ours.decode(features, multimask=multimask, **mine)
    assert relative_error(logits, expected.pred_masks[0].numpy()) < TOLERANCE
    assert relative_error(iou, expected.iou_scores[0].numpy()) < TOLERANCE


def test_our_own_keys_are_left_as_they_are() -> None:
    assert published_key("image_encoder.blocks.0.norm1.weight") == "image_encoder.blocks.0.norm1.weight"
