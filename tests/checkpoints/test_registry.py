"""Names: the user's own entries, and what is said of all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toys import toy_state

from napari_sam import cli
from napari_sam.checkpoints import REGISTRY, download, load_sam
from napari_sam.checkpoints.registry import MODELS_VARIABLE, known_checkpoints
from napari_sam.errors import CheckpointError


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the user's file, not written yet; beside it lies a checkpoint."""
    torch.save(toy_state(), tmp_path / "nuclei.pth")
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path / "models.toml"))
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "models.toml"


def test_own_entry_is_loaded_by_its_name(models: Path) -> None:
    models.write_text(
        """
        [nuclei]
        path = "nuclei.pth"
        licence = "CC0-1.0"
        [nuclei.profile]
        base = "micro_sam"
        interpolation = "bicubic"
        """
    )
    loaded = load_sam("nuclei")
    assert (loaded.name, loaded.spec.name, loaded.about.licence) == ("nuclei", "toy_tiny_vit", "CC0-1.0")
    assert (loaded.profile.name, loaded.profile.stretch, loaded.profile.interpolation) == (
        "nuclei",
        "minmax",
        "bicubic",
    )
    assert loaded.profile.image_size == 64
    assert load_sam("nuclei", profile="medsam").profile.name == "medsam"


def test_own_entry_may_have_an_address_with_a_query(models: Path) -> None:
    """As the archives of research data have them; the file begins as some editors on Windows write it."""
    models.write_text('[nuclei]\nurl = "https://example.org/files/best.pth?download=1"', encoding="utf-8-sig")
    assert known_checkpoints()["nuclei"].filename == "nuclei.pth"


def test_own_entry_is_verified(models: Path) -> None:
    models.write_text(f'[nuclei]\npath = "nuclei.pth"\nsha256 = "{"0" * 64}"')
    with pytest.raises(CheckpointError, match=r"nuclei\.pth .*is not the published nuclei"):
        load_sam("nuclei")


def test_own_entry_may_add_mirrors_to_a_published_one(models: Path) -> None:
    models.write_text('[medsam]\nmirrors = ["https://mirror.example.org/medsam.pth"]')
    entry = known_checkpoints()["medsam"]
    assert entry.mirrors == ("https://mirror.example.org/medsam.pth",)
    assert (entry.sha256, entry.url, entry.about) == (
        REGISTRY["medsam"].sha256,
        REGISTRY["medsam"].url,
        REGISTRY["medsam"].about,
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[a]\nlicence = 'MIT'", r"\[a\]: says neither path nor url"),
        ("[a]\npath = 3", r"path = 3 is no part of an entry, or of another type: use path"),
        ("[a]\npath = 'x'\ncolour = 'red'", "colour = 'red'"),
        ("[a]\npath = 'x'\nprofile = 'cellpose'", "no profile 'cellpose'"),
        ("[a]\npath = 'x'\nprofile = {mean = 3}", "mean = 3 should be 3 numbers"),
        ("[a]\npath = 'x'\nsize = -3", "size = -3"),
        ("[a]\npath = 'x'\nmirrors = 'y'", "mirrors = 'y'"),
        ("[default]\npath = 'x'", "name other than 'default'"),
        ("a = 3", "should be a table"),
        ("[a", "not a TOML file"),
    ],
)
def test_mistakes_in_entries_are_named(models: Path, text: str, says: str) -> None:
    models.write_text(text)
    with pytest.raises(CheckpointError, match=rf"(?s)models\.toml.*{says}|{says}"):
        known_checkpoints()


def test_file_that_is_named_but_missing(models: Path) -> None:
    with pytest.raises(CheckpointError, match=f"{MODELS_VARIABLE} is .*not a file"):
        load_sam("nuclei")


def test_entry_whose_file_is_gone(models: Path) -> None:
    models.write_text('[nuclei]\npath = "gone.pth"')
    with pytest.raises(CheckpointError, match=r"the file of nuclei, .*gone\.pth, is not there"):
        load_sam("nuclei")


def test_models_are_listed(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models.write_text('[nuclei]\npath = "nuclei.pth"\nlicence = "CC-BY-NC-4.0"')
    (models.parent / "cache").mkdir()
    (models.parent / "cache" / "vit_t_lm.pt").write_bytes(bytes(1_500_000))
    assert cli.main(["models"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == ["name", "default", *REGISTRY, "nuclei"]
    assert "comes with the package" in lines["default"]
    assert all(word in lines["sam_vit_h"] for word in ("2.6 GB", "Apache-2.0", "downloaded at first use"))
    assert all(word in lines["vit_b_lm"] for word in ("about 375 MB", "MIT", "micro_sam"))
    assert all(word in lines["vit_t_lm"] for word in ("1.5 MB", f"yes, in {models.parent / 'cache'}"))
    assert all(word in lines["nuclei"] for word in ("CC-BY-NC-4.0", "as the file says", f"yes, in {models.parent}"))


def test_all_is_said_of_one(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models.write_text('[nuclei]\npath = "nuclei.pth"\nlicence = "CC-BY-NC-4.0"')
    assert cli.main(["models", "medsam"]) == 0
    said = capsys.readouterr().out
    assert all(
        word in said for word in ("SHA-256: 34b34b78", "https://github.com/bowang-lab/MedSAM", "cite: Ma et al.")
    )
    assert cli.main(["models", "nuclei", "--download"]) == 0
    said = capsys.readouterr().out
    assert "nuclei is for non-commercial use alone" in said
    assert str(models.parent / "nuclei.pth") in said
    assert cli.main(["models", "abacus"]) == 2
    assert "no checkpoint has the name 'abacus': choose one of default, sam_vit_b" in capsys.readouterr().err
