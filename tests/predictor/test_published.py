"""The published networks, through the real loading path: answers as their own predictor gives them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from parity import TOLERANCE, figures, photo_input, reference_state, relative_error
from toys import INSIDE, SHAPE, assert_same, make_predictor, picture, toy_state

import napari_sam
from napari_sam import Predictor, Prompts

FIGURES = ("low_every_4", "iou", "area", "logits_every_16")


@pytest.fixture(scope="module", params=["vit_t", pytest.param("vit_b", marks=pytest.mark.slow)])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Predictor]:
    name = request.param
    path = tmp_path_factory.mktemp("weights") / f"{name}.pth"
    torch.save(reference_state(name), path)
    predictor = napari_sam.load_predictor(str(path), device="cpu", precision="float32")
    path.unlink()
    return name, predictor


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("height", "width"), [(300, 400), (1400, 900)])
def test_answers_are_those_of_the_published_predictor(loaded: tuple[str, Predictor], height: int, width: int) -> None:
    name, predictor = loaded
    expected, about = figures(name), f"photo_{height}x{width}"
    embedding = predictor.encode(photo_input(f"{name}-{height}x{width}", height, width))
    features = embedding.regions[0].features[:, :, ::8, ::8]
    assert relative_error(features, expected[f"{about}_embedding_every_8"]) < TOLERANCE
    points, box = [(0.3 * height, 0.4 * width), (0.8 * height, 0.7 * width)], (0.2 * height, 0.1 * width)
    boxes = [(*box, 0.9 * height, 0.6 * width)]
    cases = {
        "point": Prompts(points=points[:1], labels=[1]),
        "points": Prompts(points=points, labels=[1, 0]),
        "box": Prompts(boxes=boxes),
        "box_points": Prompts(points=points, labels=[1, 0], boxes=boxes),
    }
    for case, prompts in cases.items():
        for kind in ("multi", "single"):
            result = predictor.decode(embedding, prompts, multimask=kind == "multi")
            figure = {key: expected[f"{about}_{case}_{kind}_{key}"] for key in FIGURES}
            assert relative_error(result.logits[:, ::4, ::4], figure["low_every_4"]) < TOLERANCE
            assert relative_error(result.scores, figure["iou"]) < TOLERANCE
            # A pixel on the very border may fall on either side, by the last digit of the network.
            assert [mask.area for mask in result.masks] == pytest.approx(figure["area"], abs=4)
            signs = np.stack([np.asarray(mask)[::16, ::16] for mask in result.masks])
            steep = np.abs(figure["logits_every_16"]) > 1e-4
            assert np.array_equal(signs[steep], figure["logits_every_16"][steep] > 0)


@pytest.mark.parametrize("as_text", [True, False])
def test_a_file_is_loaded_by_its_path(tmp_path: Path, as_text: bool) -> None:
    path = tmp_path / "small.pth"
    torch.save(toy_state(), path)
    predictor = napari_sam.load_predictor(str(path) if as_text else path, device="cpu")
    ours = make_predictor()
    image, prompts = picture(*SHAPE), Prompts(points=[INSIDE])
    answer = predictor.decode(predictor.encode(image), prompts)
    assert_same(answer, ours.decode(ours.encode(image), prompts), 0)
    assert predictor.name == "small.pth"
