"""Devices and precisions: which one is taken, what it may change, and what happens where its memory is too small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import photo_input, relative_error
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from toys import CROP_SIDES, INSIDE, SHAPE, make_predictor, picture, toy_state

import napari_sam
from napari_sam import DeviceError, Predictor, Prompts
from napari_sam.checkpoints import load_sam
from napari_sam.models import placement
from napari_sam.training.synthetic import draw


@pytest.mark.parametrize(
    ("device", "precision", "said"),
    [
        ("tpu", "auto", "'tpu'.*auto, cpu, cuda, mps"),
        ("", "auto", "unknown device"),
        (None, "auto", "None"),
        ("cpu", "float16", "float16.*'float32' or 'bfloat16'"),
        ("cpu", "int8", "'int8'.*'auto'"),
        ("cpu", torch.float32, "torch.float32"),
        pytest.param("cuda", "auto", "no usable 'cuda'", marks=pytest.mark.skipif("torch.cuda.is_available()")),
        pytest.param("mps", "auto", "no usable 'mps'", marks=pytest.mark.skipif("torch.backends.mps.is_available()")),
    ],
)
def test_a_device_or_precision_that_there_is_not_is_said_before_loading(device: Any, precision: Any, said: str) -> None:
    with pytest.raises(DeviceError, match=said):
        napari_sam.load_predictor("no such file", device=device, precision=precision)


def test_auto_is_float32_on_the_cpu(tmp_path: Path) -> None:
    torch.save(toy_state(), tmp_path / "small.pth")
    predictor = napari_sam.load_predictor(tmp_path / "small.pth", device="cpu", precision="auto")
    assert (predictor.device.type, predictor.dtype) == ("cpu", torch.float32)
    assert "cpu" in repr(predictor)
    assert "float32" in repr(predictor)


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("quickest", [torch.float32, torch.bfloat16])
def test_auto_is_what_was_measured_for_large_models_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_large: bool, quickest: torch.dtype
) -> None:
    torch.save(toy_state(), tmp_path / "small.pth")
    monkeypatch.setattr("napari_sam.predictor.loading.quickest_on_cpu", lambda: quickest)
    monkeypatch.setattr(placement, "LARGE", 10 if is_large else 10**9)
    predictor = napari_sam.load_predictor(tmp_path / "small.pth", device="cpu")
    assert predictor.dtype == (quickest if is_large else torch.float32)
    asked = napari_sam.load_predictor(tmp_path / "small.pth", device="cpu", precision="float32")
    assert asked.dtype == torch.float32


@pytest.mark.parametrize(("exact", "rough"), [(1.0, 6.0), (1.0, 0.9), (1.0, 0.5)])
def test_bfloat16_is_chosen_where_products_are_much_quicker_in_it(
    monkeypatch: pytest.MonkeyPatch, exact: float, rough: float
) -> None:
    monkeypatch.setattr(placement, "_seconds_of_a_product", {torch.float32: exact, torch.bfloat16: rough}.get)
    placement.quickest_on_cpu.cache_clear()
    assert placement.quickest_on_cpu() == (torch.bfloat16 if rough == 0.5 else torch.float32)
    placement.quickest_on_cpu.cache_clear()


@pytest.mark.parametrize(("family", "seed"), [("nuclei", 0), ("disks", 11)])
def test_half_precision_gives_the_masks_of_float32_with_the_default_model(family: str, seed: int) -> None:
    drawing = draw(seed, family)
    ids, counts = np.unique(drawing.layers[0][drawing.layers[0] > 0], return_counts=True)
    places = [np.argwhere(drawing.layers[0] == one) for one in ids[np.argsort(-counts)][:3]]
    prompts = [Prompts(points=[inside[len(inside) // 2]]) for inside in places]
    masks: dict[torch.dtype, list[Any]] = {}
    chosen: list[int] = []
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        predictor = Predictor(load_sam("default"), torch.device("cpu"), dtype)
        results = predictor.decode_many(predictor.encode(drawing.image), prompts)
        chosen = chosen or [result.best for result in results]  # those of float32, which comes first
        masks[dtype] = [np.asarray(result.masks[best]) for result, best in zip(results, chosen, strict=True)]
    agreement = {
        dtype: [(a & b).sum() / (a | b).sum() for a, b in zip(masks[torch.float32], masks[dtype], strict=True)]
        for dtype in (torch.float16, torch.bfloat16)
    }
    assert min(agreement[torch.float16]) > 0.99
    assert np.mean(agreement[torch.bfloat16]) > 0.98  # why "auto" never chooses it for a model that is quick anyway


@pytest.mark.parametrize("name", ["toy_tiny_vit", "toy_vit"])
def test_bfloat16_answers_about_as_float32_does(name: str) -> None:
    exact, rough = make_predictor(name=name), make_predictor(dtype=torch.bfloat16, name=name)
    image, prompts = photo_input("toy", *SHAPE), Prompts(points=[INSIDE])
    answers = [each.decode(each.encode(image), prompts) for each in (exact, rough)]
    assert relative_error(answers[1].logits, answers[0].logits) < 0.1
    assert answers[1].scores == pytest.approx(answers[0].scores, abs=0.1)
    assert answers[1].logits.dtype == answers[1].scores.dtype == np.float32


class NoDoubles(TorchDispatchMode):
    """Fails where a tensor of float64 takes part in anything, or comes of it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, out)):
            assert not isinstance(value, torch.Tensor) or value.dtype != torch.float64, f"{func} has to do with float64"
        return out


@pytest.mark.parametrize("name", ["toy_vit", "toy_tiny_vit", "toy_details"])
def test_no_float64_is_on_the_way_since_apples_gpus_have_none(name: str) -> None:
    predictor, image = make_predictor(CROP_SIDES, name=name), picture(*SHAPE).astype(np.float64)
    with NoDoubles():
        embedding = predictor.encode(image)
        click = Prompts(points=[INSIDE], labels=[1])
        embedding = predictor.refine(embedding, image, click)
        answer = predictor.decode(embedding, click)
        fed_back = Prompts(points=[INSIDE, (5.0, 5.0)], labels=[1, 0], mask=answer.masks[0])
        drawn = Prompts(boxes=[(10, 10, 60, 80)], mask=np.asarray(answer.masks[1]))
        predictor.decode_many(embedding, [fed_back, drawn, Prompts(boxes=[(10, 10, 60, 80)])])


# A device whose memory is too small


def out_of_memory_until(predictor: Predictor, monkeypatch: pytest.MonkeyPatch, name: str, fits: Any) -> list[int]:
    """Let the network's `name` fail as a full GPU does, for every batch that does not `fits`; return the batches."""
    work, sizes = getattr(predictor._sam, name), []

    def limited(tensor: Any, *arguments: Any, **options: Any) -> Any:
        points = options.get("points")
        sizes.append(len(tensor) if points is None else len(points))
        if not fits(sizes):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return work(tensor, *arguments, **options)

    monkeypatch.setattr(predictor._sam, name, limited)
    return sizes


def test_regions_that_do_not_fit_the_memory_together_are_encoded_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    image, click = picture(60, 90), Prompts(points=[(30, 40)], labels=[1])
    plain, predictor = make_predictor(CROP_SIDES), make_predictor(CROP_SIDES, notify=said.append)
    expected = plain.refine(plain.encode(image), image, click)
    sizes = out_of_memory_until(predictor, monkeypatch, "encode", lambda sizes: sizes[-1] == 1)
    shares: list[float] = []
    refined = predictor.refine(predictor.encode(image), image, click, progress=shares.append)
    assert sizes == [1, 2, *[1] * (len(expected.regions) - 1)]
    assert shares == sorted(set(shares))
    assert "smaller parts" in "".join(said)
    for ours, theirs in zip(refined.regions, expected.regions, strict=True):
        torch.testing.assert_close(ours.features, theirs.features)
    before = len(sizes)
    predictor.refine(predictor.encode(image), image, click)
    assert sizes[before:] == [1] * len(expected.regions)  # it has learnt
    assert len(said) == 1


def test_a_gpu_that_is_too_small_leaves_the_work_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    predictor = make_predictor(dtype=torch.bfloat16, notify=said.append)
    before = predictor.encode(picture(60, 90))
    sizes = out_of_memory_until(predictor, monkeypatch, "encode", lambda sizes: len(sizes) > 2)
    embedding = predictor.encode(picture(60, 90))
    assert len(sizes) == 3
    assert ["smaller parts" in said[0], "computing on the CPU" in said[1], len(said)] == [True, True, 2]
    assert predictor.device.type == "cpu"
    assert {p.dtype for p in predictor._sam.parameters()} == {torch.float32}
    merged = before.merge(embedding)  # what was computed before stays valid
    assert len(predictor.decode(merged, Prompts(points=[(9, 9)], labels=[1])).masks) == 3


def test_prompts_that_do_not_fit_the_memory_together_are_decoded_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    predictor = make_predictor(notify=said.append)
    embedding = predictor.encode(picture(60, 90))
    many = [Prompts(points=[(row, 20)], labels=[1]) for row in (5, 15, 25)]
    expected = predictor.decode_many(embedding, many)
    sizes = out_of_memory_until(predictor, monkeypatch, "decode", lambda sizes: sizes[-1] == 1)
    for ours, theirs in zip(predictor.decode_many(embedding, many), expected, strict=True):
        np.testing.assert_allclose(ours.logits, theirs.logits, rtol=1e-4, atol=1e-4)
    assert sizes == [3, 1, 1, 1]
    assert len(said) == 1


def test_other_failures_are_not_taken_for_a_full_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = make_predictor()
    monkeypatch.setattr(predictor._sam, "encode", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predictor.encode(picture(20, 20))
