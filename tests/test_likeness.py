"""Other objects like one, the embedding as a picture, and the encoder's own input in its place."""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from parity import state_of_shapes
from safetensors.torch import save_file
from scipy import ndimage
from toys import CROP_SIDES, make_predictor

import napari_sam
from napari_sam import Predictor, Prompts, likeness
from napari_sam.encoder_view import embedding_picture, encoder_picture, principal_components
from napari_sam.errors import Cancelled
from napari_sam.likeness import find_similar
from napari_sam.models.recognition import layout
from napari_sam.models.specs import PlainViTSpec
from napari_sam.regions import tiles_round
from napari_sam.samples import sample_path

SHAPE = (160, 240)
CENTRES = [(30, 40), (35, 130), (110, 60), (120, 200), (40, 210)]
ROWS, COLS = np.mgrid[: SHAPE[0], : SHAPE[1]]


def disc(centre: tuple[int, int], radius: int = 14) -> NDArray[np.bool_]:
    return np.hypot(ROWS - centre[0], COLS - centre[1]) < radius


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    """Five orange discs, a blue one and a large orange one, on green."""
    image = np.full((*SHAPE, 3), (60.0, 80, 60))
    for centre in CENTRES:
        image[disc(centre)] = (200, 120, 60)
    image[disc((110, 130))] = (50, 90, 210)
    return np.clip(image + np.random.default_rng(0).normal(0, 6, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    path = tmp_path_factory.mktemp("vit") / "vit.safetensors"
    save_file(state_of_shapes(layout(PlainViTSpec(width=128, depth=2, heads=2, image_size=320))), path)
    return napari_sam.load_predictor(path, device="cpu", profile="vit")


@pytest.fixture(scope="module")
def default() -> Predictor:
    return napari_sam.load_predictor("default", device="cpu")


def nearest(points: list[tuple[float, float]]) -> list[float]:
    """Return each disc's distance, the first one aside, to the nearest point."""
    return [min(np.hypot(r - row, c - col) for row, col in points) for r, c in CENTRES[1:]]


@pytest.mark.parametrize("name", ["vit", "default"])
def test_objects_like_one_are_found(name: str, picture: NDArray[np.uint8], request: pytest.FixtureRequest) -> None:
    predictor: Predictor = request.getfixturevalue(name)
    shares: list[float] = []
    found = find_similar(predictor, predictor.encode(picture), picture, disc(CENTRES[0]), progress=shares.append)
    assert all(earlier < later for earlier, later in pairwise(shares))
    assert shares[-1] == 1.0
    assert len(shares) > 1
    assert max(nearest([each.point for each in found])) < 14
    assert len(found) <= 6
    assert all(not disc(CENTRES[0])[tuple(np.round(each.point).astype(int))] for each in found)
    likenesses = [each.likeness for each in found]
    assert likenesses == sorted(likenesses, reverse=True)
    assert all(np.asarray(each.mask)[tuple(np.round(each.point).astype(int))] for each in found)


def test_what_is_taken_is_not_proposed_again(vit: Predictor, picture: NDArray[np.uint8]) -> None:
    taken = disc(CENTRES[1]) | disc(CENTRES[2])
    found = find_similar(vit, vit.encode(picture), picture, disc(CENTRES[0]), taken)
    assert not any(taken[tuple(np.round(each.point).astype(int))] for each in found)
    distances = nearest([each.point for each in found])
    assert max(distances[2:]) < 14
    assert min(distances[:2]) > 14


def test_the_model_may_have_drawn_the_example(vit: Predictor, picture: NDArray[np.uint8]) -> None:
    embedding = vit.encode(picture)
    result = vit.decode(embedding, Prompts(points=[CENTRES[0]]))
    assert len(find_similar(vit, embedding, picture, result.masks[1], most=2)) == 2


def test_nothing_like_it_is_an_empty_list(vit: Predictor, picture: NDArray[np.uint8]) -> None:
    found = find_similar(vit, vit.encode(picture), picture, disc((110, 130)))
    assert not any(disc(centre)[tuple(np.round(each.point).astype(int))] for each in found for centre in CENTRES)


@pytest.mark.parametrize("example", [np.zeros(SHAPE, bool), np.ones((3, 3), bool)])
def test_example_that_is_none_is_named(vit: Predictor, picture: NDArray[np.uint8], example: NDArray[np.bool_]) -> None:
    with pytest.raises(ValueError, match="give the mask of an object"):
        find_similar(vit, vit.encode(picture), picture, example)


def test_example_outside_of_what_is_encoded_is_named(vit: Predictor, picture: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="encode the whole image"):
        find_similar(vit, vit.encode(picture, region=(0, 100, 160, 240)), picture, disc(CENTRES[0]))


@pytest.fixture(scope="module")
def nuclei() -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """A quarter of the sample picture, and which nucleus each pixel belongs to, as the script draws them."""
    spec = importlib.util.spec_from_file_location("draw", sample_path("nuclei.png").with_name("draw.py"))
    assert spec is not None
    assert spec.loader is not None
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    outlines: list[NDArray[np.bool_]] = []
    wavy_ellipse = draw.wavy_ellipse

    def noted(
        shape: tuple[int, int], centre: object, radii: tuple[float, float], *rest: object
    ) -> NDArray[np.floating]:
        radius: NDArray[np.floating] = wavy_ellipse(shape, centre, radii, *rest)
        if radii != (3.0, 4.0):  # no nucleolus
            outlines.append(radius < 1)
        return radius

    draw.wavy_ellipse = noted
    picture, truth = draw.nuclei(), np.zeros((512, 512), int)
    for number, outline in enumerate(outlines, 1):
        truth[outline] = number
    return picture[:256, 256:], truth[:256, 256:]


def test_crowded_nuclei_are_found_and_outlined(
    default: Predictor, nuclei: tuple[NDArray[np.uint16], NDArray[np.int64]]
) -> None:
    picture, truth = nuclei
    example = truth == truth[105, 165]  # (105, 421) in the whole
    found = find_similar(default, default.encode(picture), picture, example)
    there = [truth[tuple(np.round(each.point).astype(int))] for each in found]
    assert len(set(there) - {0}) >= 10
    assert np.mean(np.array(there) > 0) > 0.85
    overlaps = []
    for each, number in zip(found, there, strict=True):
        mask, nucleus = np.asarray(each.mask), truth == number
        overlaps.append((mask & nucleus).sum() / (mask | nucleus).sum() if number else 0)
    assert np.median(overlaps) > 0.6
    assert all(ndimage.label(each.mask.crop)[1] == 1 for each in found)  # no crumbs elsewhere


@pytest.mark.parametrize("name", ["vit", "default"])
def test_looking_can_be_cancelled(name: str, picture: NDArray[np.uint8], request: pytest.FixtureRequest) -> None:
    predictor: Predictor = request.getfixturevalue(name)
    with pytest.raises(Cancelled):
        find_similar(predictor, predictor.encode(picture), picture, disc(CENTRES[0]), cancelled=lambda: True)


def test_what_is_too_far_away_to_be_looked_at_is_said(
    picture: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, said = make_predictor(CROP_SIDES), list[str]()
    embedding = predictor.encode(picture)
    find_similar(predictor, embedding, picture, disc(CENTRES[0]), notify=said.append)
    assert said == []
    monkeypatch.setattr(likeness, "MOST_TILES", 2)
    find_similar(predictor, embedding, picture, disc(CENTRES[0]), notify=said.append)
    assert len(said) == 1
    assert said[0].startswith("Looked at the 2 tiles round the object alone, of ")


@pytest.mark.parametrize(("shape", "side"), [((100, 240), 60), ((40, 300), 60), ((50, 50), 60), ((61, 61), 60)])
def test_tiles_cover_the_image_and_overlap(shape: tuple[int, int], side: int) -> None:
    boxes = tiles_round(np.array([30.0, 20.0]), side, 20, shape)
    assert len(set(boxes)) == len(boxes)
    counts = np.zeros(shape, int)
    for row0, col0, row1, col1 in boxes:
        assert (row1 - row0, col1 - col0) == (min(side, shape[0]), min(side, shape[1]))
        counts[row0:row1, col0:col1] += 1
    assert counts.min() >= 1
    for start in range(shape[1] - 20 + 1):  # whatever is 20 px wide lies whole in one of them
        assert any(col0 <= start and start + 20 <= col1 for _, col0, _, col1 in boxes)
    distances = [np.hypot((b[0] + b[2]) / 2 - 30, (b[1] + b[3]) / 2 - 20) for b in boxes]
    assert distances == sorted(distances)


def test_regions_encoded_together_are_those_encoded_apart(default: Predictor, picture: NDArray[np.uint8]) -> None:
    embedding = default.encode(picture)
    boxes = [(0, 0, 80, 90), (10, 50, 160, 200), (0, 0, 80, 90), *((0, n, 40, n + 40) for n in range(9))]
    shares: list[float] = []
    together = default.encode_regions(embedding, picture, boxes, shares.append)
    assert together.boxes == (*embedding.boxes, *dict.fromkeys(boxes))
    assert shares == sorted(shares)
    assert shares[-1] == 1
    alone = default.encode(picture, region=boxes[1])
    np.testing.assert_allclose(together.regions[2].features, alone.regions[0].features, atol=1e-4)
    assert default.encode_regions(together, picture, boxes) is together


def test_principal_components_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    cells = (rng.normal(size=(3, 8, 8)) * np.array([9, 3, 1])[:, None, None]).astype(np.float32)
    mixed = np.tensordot(np.linalg.qr(rng.normal(size=(10, 3)))[0], cells, 1).astype(np.float32)
    colours = principal_components(mixed)
    assert colours.shape == (8, 8, 3)
    assert (colours.min((0, 1)) == 0).all()
    assert (colours.max((0, 1)) == 1).all()
    for channel in range(3):
        assert abs(np.corrcoef(colours[..., channel].ravel(), cells[channel].ravel())[0, 1]) > 0.95
    np.testing.assert_array_equal(colours, principal_components(mixed))


def test_few_channels_and_flat_features_are_pictures_too() -> None:
    assert np.isfinite(principal_components(np.zeros((5, 3, 4), np.float32))).all()
    assert principal_components(np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)).shape == (3, 4, 3)


def test_embedding_picture_lies_on_the_image(default: Predictor, picture: NDArray[np.uint8]) -> None:
    placed = embedding_picture(default, default.encode(picture))
    assert placed.pixels.shape == (11, 16, 3)
    assert placed.step == pytest.approx((240 / 256 * 16, 240 / 256 * 16), rel=0.01)
    assert placed.origin == pytest.approx((7, 7), abs=0.1)  # the centre of the first cell


@pytest.mark.parametrize("region", [None, (20, 30, 100, 150)])
def test_encoder_picture_is_what_the_network_sees(
    default: Predictor, picture: NDArray[np.uint8], region: tuple[int, int, int, int] | None
) -> None:
    embedding = default.encode(picture)
    placed = encoder_picture(default, embedding, picture, region)
    row0, col0, row1, col1 = region or (0, 0, *SHAPE)
    assert max(placed.pixels.shape[:2]) == 256
    assert placed.pixels.dtype == np.uint8
    # Sampled where its pixels say they lie, the picture is the image, but for the resize.
    rows = np.clip(np.round(placed.origin[0] + placed.step[0] * np.arange(placed.pixels.shape[0])), row0, row1 - 1)
    cols = np.clip(np.round(placed.origin[1] + placed.step[1] * np.arange(placed.pixels.shape[1])), col0, col1 - 1)
    expected = picture[np.ix_(rows.astype(int), cols.astype(int))].astype(float)
    assert np.abs(placed.pixels - expected).mean() < 8


def test_encoder_picture_shows_the_profile(picture: NDArray[np.uint8], toy_checkpoint: Path) -> None:
    predictor = napari_sam.load_predictor(toy_checkpoint, device="cpu", profile="medsam")
    placed = encoder_picture(predictor, predictor.encode(picture), picture)
    assert placed.pixels.shape == (64, 64, 3)
    assert placed.step == pytest.approx((160 / 64, 240 / 64))
    assert (placed.pixels.min(), placed.pixels.max()) == (0, 255)
