"""What the benchmarks compare with is what was published."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import TOLERANCE, figures, normal_input, reference_state, relative_error, state_of_shapes

from napari_sam.geometry import Frame, whole
from napari_sam.masks import Mask
from napari_sam.models import SPECS, DecoderSpec, Sam, ViTSpec, build_sam
from napari_sam.models.mask_decoder import MaskDecoder
from napari_sam.models.prompt_encoder import PromptEncoder
from napari_sam.models.vit import ImageEncoderViT

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _folder() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield
    for name in ("networks", "published", "table"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def published() -> Any:
    return importlib.import_module("published")


@pytest.fixture(scope="module")
def table() -> Any:
    return importlib.import_module("table")


def filled(name: str) -> Sam:
    sam = build_sam(SPECS[name])
    sam.load_state_dict(state_of_shapes({key: tuple(value.shape) for key, value in sam.state_dict().items()}))
    return sam


def test_the_plain_vit_is_the_published_one(published: Any) -> None:
    spec = ViTSpec(image_size=128, width=48, depth=4, heads=4, window=3, global_blocks=(1, 3), neck=32)
    encoder = ImageEncoderViT(spec).eval()
    encoder.load_state_dict(reference_state("small_vit"))
    with torch.inference_mode():
        embedding = published.vit(encoder, normal_input("small_vit", 2, 3, 128, 128))
    assert relative_error(embedding, figures("modules")["small_vit"]) < TOLERANCE


@pytest.mark.timeout(600)
def test_the_plain_tiny_vit_is_the_published_one(published: Any) -> None:
    sam = build_sam(SPECS["vit_t"])
    sam.load_state_dict(reference_state("vit_t"))
    with torch.inference_mode():
        embedding = published.encode(sam, normal_input("vit_t", 1, 3, 1024, 1024))
    assert relative_error(embedding[:, :, ::8, ::8], figures("vit_t")["embedding_every_8"]) < TOLERANCE


@pytest.mark.parametrize("name", ["toy_vit", "toy_tiny_vit"])
def test_plain_encoders_are_ours(published: Any, name: str) -> None:
    sam, pixels = filled(name), normal_input("plain", 2, 3, 64, 64)
    with torch.inference_mode():
        assert relative_error(published.encode(sam, pixels), sam.encode(pixels).numpy()) < TOLERANCE


def test_the_plain_decoder_is_the_published_one(published: Any) -> None:
    prompts, decoder = PromptEncoder(256).eval(), MaskDecoder(DecoderSpec()).eval()
    prompts.load_state_dict(reference_state("prompt_encoder"))
    decoder.load_state_dict(reference_state("mask_decoder"))
    boxes = torch.tensor([[10.0, 20, 200, 220], [0, 0, 255, 255]])
    features = normal_input("image_embedding", 1, 256, 16, 16)
    with torch.inference_mode():
        sparse, dense = prompts((16, 16), boxes=boxes)
        logits, iou = published.mask_decoder(decoder, features, prompts.dense_pe((16, 16)), sparse, dense)
    reference = figures("modules")
    assert relative_error(logits[:, 1:, ::2, ::2], reference["decoder_boxes_multi_masks_every_2"]) < TOLERANCE
    assert relative_error(iou[:, 1:], reference["decoder_boxes_multi_iou"]) < TOLERANCE


def test_plain_masks_are_ours(published: Any) -> None:
    shape = (90, 140)
    frame = Frame(shape, whole(shape), 64)
    logits = normal_input("masks", 1, 2, 16, 16)
    full = published.masks(logits, frame.resized, shape, 64)[0].numpy()
    for ours, theirs in zip(logits[0].numpy(), full, strict=True):
        np.testing.assert_array_equal(np.asarray(Mask(ours, frame)), theirs)


def test_a_row_says_whether_its_bar_is_held(table: Any) -> None:
    assert "held" in str(table.Row("speed", 2.0, bar=1.5))
    assert "MISSED" in str(table.Row("speed", 1.4, bar=1.5))
    assert "MISSED" in str(table.Row("memory", 1.4, " GB", 1, at_least=False))
    assert not {"held", "MISSED"} & set(str(table.Row("speed", 1.4)).split())


def test_what_is_compared_runs_in_turns_and_the_fastest_counts(table: Any) -> None:
    log: list[str] = []
    seconds = table.in_turns({"a": lambda: log.append("a"), "b": lambda: log.append("b")}, 2)
    assert log == ["a", "b"] * 3  # the first time to warm up
    assert all(0 <= value < 1 for value in seconds.values())


def test_operations_are_those_of_the_published_encoder(table: Any) -> None:
    assert table.operations("vit_t") == pytest.approx(77.5e9, rel=0.01)


def test_encoders_are_measured(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table.torch, "randn", lambda *shape, **options: torch.ones(tuple(min(n, 64) for n in shape)))
    rows = list(table.encoder("toy_vit", table.CPU, torch.float32))
    assert [row.figure > 0 for row in rows] == [True, True]


def test_the_cache_is_measured_in_memory_and_on_disk(table: Any) -> None:
    rows = list(table.cache(["toy_tiny_vit"]))
    assert [row.figure > 0 for row in rows] == [True, True]


def test_decoding_needs_no_encoder(table: Any) -> None:
    embedding = table._embedding(table.predictor_of("toy_tiny_vit"), np.zeros((32, 32), np.uint8))
    assert len(embedding.regions) == 1


def test_peak_memory_is_that_of_a_process_of_its_own(table: Any) -> None:
    said = subprocess.run(
        [sys.executable, table.__file__, "--peak", "toy_vit"], capture_output=True, check=True, text=True
    )
    figures = json.loads(said.stdout)
    assert 0 < figures["weights"] < figures["before"] <= figures["peak"]
