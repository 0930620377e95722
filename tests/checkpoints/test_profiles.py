"""Which preprocessing a checkpoint gets: by its sum, by its own word, by choice."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from parity import photo_input
from safetensors.torch import save_file
from skimage import transform
from toys import toy_state

import napari_sam
from napari_sam import Prompts
from napari_sam.checkpoints import REGISTRY, load_sam
from napari_sam.checkpoints.profiles import PROFILES, About, choose_profile
from napari_sam.checkpoints.registry import Entry
from napari_sam.errors import CheckpointError
from napari_sam.geometry import Frame, Profile, whole
from napari_sam.image_input import encoder_input, read_picture, resolve_rule


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "colleague.pth"
    torch.save(toy_state("toy_vit"), path)
    return path


# --- which one ------------------------------------------------------------------------------------------------------


def test_registry_names_every_published_checkpoint_with_its_profile() -> None:
    profiles = {name: entry.profile for name, entry in REGISTRY.items()}
    micro_sam = [name for name in profiles if name.endswith(("_lm", "_em_organelles"))]
    assert len(micro_sam) == 6
    assert profiles == {
        **dict.fromkeys(("sam_vit_b", "sam_vit_l", "sam_vit_h", "mobile_sam"), "sam"),
        "medsam": "medsam",
        **dict.fromkeys(micro_sam, "micro_sam"),
        "vit_base_patch16_224": "vit",
    }
    for entry in REGISTRY.values():
        assert entry.url.startswith("https://")
        assert len(entry.sha256) == 64 or len(entry.xxh128) == 32 or entry.name == "vit_base_patch16_224"
        assert all(dataclasses.astuple(entry.about))


def test_names_of_cached_files_are_distinct() -> None:
    assert len({entry.filename for entry in REGISTRY.values()}) == len(REGISTRY)


@pytest.mark.parametrize("kind", ["sha256", "xxh128"])
def test_known_sum_gives_the_profile(file: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_sam.checkpoints.download import sums_of

    sums = dataclasses.asdict(sums_of(file))
    assert sums["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    about = About("MIT", "https://example.org", "Somebody 2024")
    entry = Entry("theirs", "medsam", "", "theirs.pth", about=about, **{kind: sums[kind]})
    monkeypatch.setitem(REGISTRY, "theirs", entry)
    loaded = load_sam(file)
    assert loaded.profile == dataclasses.replace(PROFILES["medsam"], image_size=64)
    assert loaded.about == about
    assert loaded.note == ""


def test_unknown_file_is_fed_as_sam_is_and_says_so(file: Path) -> None:
    predictor = napari_sam.load_predictor(file, device="cpu")
    assert predictor.profile == Profile("sam", 64)
    embedding = predictor.encode(np.zeros((20, 30, 3), np.uint8))
    assert "colleague.pth is fed as Segment Anything is" in embedding.rule.note
    assert "choose another profile" in embedding.rule.note


@pytest.mark.parametrize("name", ["sam", "medsam", "micro_sam"])
def test_chosen_profile_goes_before_everything(file: Path, name: str) -> None:
    loaded = load_sam(file, profile=name)
    assert loaded.profile == dataclasses.replace(PROFILES[name], image_size=64)
    assert loaded.note == ""


def test_own_training_output_says_its_profile(tmp_path: Path) -> None:
    save_file(toy_state(), tmp_path / "mine.safetensors", metadata={"spec": "toy_tiny_vit", "profile": "micro_sam"})
    assert load_sam(tmp_path / "mine.safetensors").profile.name == "micro_sam"


# --- TOML -----------------------------------------------------------------------------------------------------------


def test_profile_from_a_file(file: Path, tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text(
        """
        base = "micro_sam"
        mean = [0, 0, 0]
        std = [255, 255, 255]
        interpolation = "bicubic"
        prompts = ["boxes", "points"]
        licence = "CC-BY-NC-4.0"
        """
    )
    loaded = load_sam(file, profile=tmp_path / "lab.toml")
    assert loaded.profile == dataclasses.replace(
        PROFILES["micro_sam"],
        name="lab",
        image_size=64,
        mean=(0.0, 0.0, 0.0),
        std=(255.0, 255.0, 255.0),
        interpolation="bicubic",
        prompts=("boxes", "points"),
    )
    assert loaded.about == About("CC-BY-NC-4.0")


def test_every_part_of_a_profile_can_be_said_in_a_file(tmp_path: Path) -> None:
    given = PROFILES["default"]
    lines = [f"{key} = {json.dumps(value)}" for key, value in dataclasses.asdict(given).items()]
    (tmp_path / "ours.toml").write_text("\n".join(lines))
    chosen = choose_profile(tmp_path / "ours.toml")
    assert chosen is not None
    assert chosen.profile == given


def test_profile_may_choose_another_input_size(file: Path, tmp_path: Path) -> None:
    (tmp_path / "large.toml").write_text('name = "large"\nimage_size = 96')
    predictor = napari_sam.load_predictor(file, device="cpu", profile=str(tmp_path / "large.toml"))
    result = predictor.decode(predictor.encode(np.zeros((20, 30), np.uint8)), Prompts(points=[(3, 4)]))
    assert predictor.profile.image_size == 96
    assert result.logits.shape[1:] == (24, 24)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mean = [1, 2]", "mean = .*should be 3 numbers"),
        ('mean = "grey"', "mean = 'grey' should be 3 numbers"),
        ("std = [0, 1, 1]", "std = .*above 0"),
        ("mean = [nan, 0, 0]", "mean = .*should be 3 numbers"),
        ('stretch = "often"', "stretch = 'often', choose of 'robust', 'minmax', 'minmax_image'"),
        ("prompts = []", "prompts"),
        ('prompts = "boxes"', "prompts"),
        ("image_size = 1e3", "image_size = 1000.0 should be a whole number from 16 to 4096"),
        ("image_size = true", "image_size"),
        ("colour = 1", "'colour' is no part of a profile: use base, name"),
        ('base = "cellpose"', "base = 'cellpose' is no profile, choose one of sam"),
        ("base = []", "base = .* is no profile"),
        ("licence = 3", "licence = 3 should be a text"),
        ("mean = [", "not a TOML file"),
    ],
)
def test_mistakes_in_a_profile_are_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "odd.toml").write_text(text)
    with pytest.raises(CheckpointError, match=rf"odd\.toml.*{says}"):
        choose_profile(tmp_path / "odd.toml")


@pytest.mark.parametrize("name", ["cellpose", "missing.toml", "/"])
def test_unknown_profile_lists_the_known_ones(file: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"no profile '{name}'.*sam, medsam, micro_sam"):
        load_sam(file, profile=name)


# --- what the profiles do -------------------------------------------------------------------------------------------


def seen(image: np.ndarray, profile: Profile) -> np.ndarray:
    """Return what a network of `profile` sees of a whole image (3, size, size)."""
    rule = resolve_rule(image, stretch=profile.stretch)
    frame = Frame(rule.shape, whole(rule.shape), profile.image_size, profile.resize == "square")
    return encoder_input(read_picture(image, rule, frame.region), frame, profile)


@pytest.mark.parametrize("shape", [(60, 90), (300, 200)])
def test_medsam_is_fed_as_published(shape: tuple[int, int]) -> None:
    image = 10 + photo_input("medsam", *shape) // 2  # neither 0 nor 255
    profile = dataclasses.replace(PROFILES["medsam"], image_size=128)
    resized = transform.resize(image, (128, 128), order=3, preserve_range=True, anti_aliasing=True)
    expected = (resized - resized.min()) / np.ptp(resized)
    found = seen(image, profile)
    assert (found.min(), found.max()) == (0, 1)
    assert np.abs(found - expected.transpose(2, 0, 1)).mean() < 0.01


def test_medsam_stretches_the_channels_together() -> None:
    image = np.zeros((8, 8, 3), np.int16)
    image[..., 0], image[..., 1], image[4:, :, 2] = 100, 300, 500
    found = seen(image, dataclasses.replace(PROFILES["medsam"], image_size=64))
    np.testing.assert_allclose([found[0].mean(), found[1].mean()], [0.2, 0.6], atol=0.01)


def test_medsam_masks_are_cut_as_published() -> None:
    from napari_sam.masks import Mask

    logits = np.random.default_rng(0).normal(0, 4, (16, 16)).astype(np.float32)
    frame = Frame((50, 90), (0, 0, 50, 90), 64, square=True)
    probability = torch.sigmoid(torch.from_numpy(logits))[None, None]
    expected = F.interpolate(probability, size=(50, 90), mode="bilinear", align_corners=False)[0, 0].numpy() > 0.5
    np.testing.assert_array_equal(np.asarray(Mask(logits, frame)), expected)


def test_medsam_prompts_are_scaled_along_each_side() -> None:
    frame = Frame((50, 100), (0, 0, 50, 100), 1024, square=True)
    np.testing.assert_allclose(frame.to_input(np.array([[25.0, 25.0]])), [[256, 512]])


def test_micro_sam_stretches_every_channel_between_its_extremes() -> None:
    image = photo_input("micro", 40, 64) // 3 + np.array([5, 50, 100], np.uint8)
    rule = resolve_rule(image, stretch="minmax")
    picture = read_picture(image, rule, whole(rule.shape))
    floats = image.astype(float) - image.min((0, 1))
    expected = 255 * floats / floats.max((0, 1))
    assert np.abs(picture - expected).max() <= 0.5
    assert (picture.min((0, 1)) == 0).all()
    assert (picture.max((0, 1)) == 255).all()


@pytest.mark.parametrize("stretch", ["minmax", "minmax_image"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 7.0])
def test_extremes_of_odd_images(stretch: str, value: float) -> None:
    image = np.full((4, 5, 2), value)
    low, high = resolve_rule(image, stretch=stretch).limits[0]
    assert low < high
    image[0, 0] = 3, 9
    assert np.isfinite(resolve_rule(image, stretch=stretch).limits).all()


def test_regions_share_the_extremes_of_the_whole_image(file: Path) -> None:
    predictor = napari_sam.load_predictor(file, device="cpu", profile="medsam")
    image = np.arange(40 * 60, dtype=np.float32).reshape(40, 60)
    whole_image, part = predictor.encode(image), predictor.encode(image, region=(10, 10, 30, 30))
    assert part.limits == ((0.0, 2399.0),)
    assert len(whole_image.merge(part).regions) == 2


def test_another_profile_makes_another_embedding(file: Path) -> None:
    one, other = (napari_sam.load_predictor(file, device="cpu", profile=name) for name in ("sam", "micro_sam"))
    with pytest.raises(ValueError, match="other weights"):
        other.decode(one.encode(np.zeros((9, 9), np.uint8)), Prompts(points=[(1, 1)]))
