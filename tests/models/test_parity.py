"""Our networks against the published ones, number by number, with weights that are loaded strictly."""

from __future__ import annotations

import pytest
import torch
from parity import TOLERANCE, figures, layout, normal_input, reference_state, relative_error

from napari_sam.models import SPECS, DecoderSpec, ViTSpec, build_sam
from napari_sam.models.mask_decoder import MaskDecoder
from napari_sam.models.prompt_encoder import PromptEncoder
from napari_sam.models.vit import ImageEncoderViT

GRID = (16, 16)
POINTS = torch.tensor([[[10, 20], [200.5, 31.25], [128, 250]], [[0, 0], [255, 255], [60, 61]]])
LABELS = torch.tensor([[1, 0, 1], [0, 1, -1]])
BOXES = torch.tensor([[10.0, 20, 200, 220], [0, 0, 255, 255]])
CASES = {
    "points": {"points": POINTS, "labels": LABELS},
    "boxes": {"boxes": BOXES},
    "points_boxes": {"points": POINTS, "labels": LABELS, "boxes": BOXES},
    "masks": {"masks": normal_input("mask_prompt", 2, 1, 64, 64)},
    "all": {
        "points": POINTS,
        "labels": LABELS,
        "boxes": BOXES,
        "masks": normal_input("mask_prompt", 2, 1, 64, 64),
    },
}


@pytest.fixture(scope="module")
def reference() -> dict:
    return figures("modules")


@pytest.fixture(scope="module")
def prompt_encoder() -> PromptEncoder:
    encoder = PromptEncoder(256)
    encoder.load_state_dict(reference_state("prompt_encoder"))
    return encoder.eval()


@pytest.fixture(scope="module")
def mask_decoder() -> MaskDecoder:
    decoder = MaskDecoder(DecoderSpec())
    decoder.load_state_dict(reference_state("mask_decoder"))
    return decoder.eval()


def test_small_vit(reference: dict) -> None:
    spec = ViTSpec(image_size=128, width=48, depth=4, heads=4, window=3, global_blocks=(1, 3), neck=32)
    encoder = ImageEncoderViT(spec).eval()
    encoder.load_state_dict(reference_state("small_vit"))
    with torch.inference_mode():
        embedding = encoder(normal_input("small_vit", 2, 3, 128, 128))
    assert relative_error(embedding, reference["small_vit"]) < TOLERANCE


def test_positions_of_the_image_embedding(prompt_encoder: PromptEncoder, reference: dict) -> None:
    assert relative_error(prompt_encoder.dense_pe(GRID), reference["dense_pe"]) < TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_prompt_encoder(prompt_encoder: PromptEncoder, reference: dict, case: str) -> None:
    sparse, dense = prompt_encoder(GRID, **CASES[case])
    batch = len(reference[f"prompt_{case}_dense"])
    dense = dense.expand(batch, -1, -1, -1)[:, :, ::4, ::4]
    assert relative_error(sparse, reference[f"prompt_{case}_sparse"]) < TOLERANCE
    assert relative_error(dense, reference[f"prompt_{case}_dense"]) < TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_mask_decoder(prompt_encoder: PromptEncoder, mask_decoder: MaskDecoder, reference: dict, case: str) -> None:
    features = normal_input("image_embedding", 1, 256, *GRID)
    with torch.inference_mode():
        prompts = prompt_encoder(GRID, **CASES[case])
        logits, iou = mask_decoder(features, prompt_encoder.dense_pe(GRID), *prompts)
    for kind, chosen in (("single", slice(0, 1)), ("multi", slice(1, None))):
        every_2 = logits[:, chosen, ::2, ::2]
        assert relative_error(every_2, reference[f"decoder_{case}_{kind}_masks_every_2"]) < TOLERANCE
        assert relative_error(iou[:, chosen], reference[f"decoder_{case}_{kind}_iou"]) < TOLERANCE


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "name",
    [
        "vit_t",
        pytest.param("vit_b", marks=pytest.mark.slow),
        pytest.param("vit_l", marks=pytest.mark.slow),
        pytest.param("vit_h", marks=pytest.mark.slow),
    ],
)
def test_image_embedding_of_a_published_architecture(name: str) -> None:
    sam = build_sam(SPECS[name])
    sam.load_state_dict(reference_state(name), strict=True)
    with torch.inference_mode():
        embedding = sam.encode(normal_input(name, 1, 3, 1024, 1024))
    expected = figures(name)
    assert relative_error(embedding[:, :, ::8, ::8], expected["embedding_every_8"]) < TOLERANCE
    assert float(embedding.norm()) == pytest.approx(float(expected["embedding_norm"]), rel=TOLERANCE)


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h", "vit_t"])
def test_keys_and_shapes_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        ours = {key: tuple(value.shape) for key, value in build_sam(SPECS[name]).state_dict().items()}
    assert ours == layout(name)
