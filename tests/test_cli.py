"""The console command, with toy weights in a real checkpoint file."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.io import imread, imsave

import napari_sam
from napari_sam import Prompts, cli
from napari_sam.errors import ImageError
from napari_sam.samples import sample_path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    rows, cols = np.indices((40, 60))
    path = tmp_path / "disc.png"
    imsave(path, np.uint8(40 + 180 * (np.hypot(rows - 15, cols - 35) < 9)), check_contrast=False)
    return path


def test_writes_the_mask_that_the_api_gives(picture: Path, toy_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "mask.tif"
    arguments = [str(picture), "--point", "15,35", "--negative", "30,5", "--box", "5,25,25,45", "--out", str(out)]
    assert cli.main(["segment", *arguments, "--model", str(toy_checkpoint), "--device", "cpu"]) == 0

    predictor = napari_sam.load_predictor(toy_checkpoint, device="cpu")
    prompts = Prompts(points=[(15, 35), (30, 5)], labels=[1, 0], boxes=[(5, 25, 25, 45)])
    result = predictor.decode(predictor.encode(imread(picture)), prompts)
    mask = imread(out)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask == 255, result.masks[result.best])
    assert set(np.unique(mask)) <= {0, 255}


def test_writes_a_picture_and_says_where(
    picture: Path, toy_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mask.png"
    assert (
        cli.main(["segment", str(picture), "--point", "15,35", "--out", str(out), "--model", str(toy_checkpoint)]) == 0
    )
    shown = imread(tmp_path / "mask_outline.png")
    assert shown.shape == (40, 60, 3)
    assert tuple(shown[15, 35]) == (0, 230, 90)  # the point
    said = capsys.readouterr().out
    assert str(out) in said
    assert str(tmp_path / "mask_outline.png") in said


def test_chooses_a_slice_of_a_stack(toy_checkpoint: Path, tmp_path: Path) -> None:
    stack, out = str(sample_path("blobs.tif")), str(tmp_path / "mask.tif")
    shared = ["--point", "90,60", "--out", out, "--model", str(toy_checkpoint)]
    assert cli.main(["segment", stack, "--slice", "3", *shared]) == 0
    assert imread(out).shape == (256, 256)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.png"], "no such image: absent.png"),
        (["notes.txt"], "cannot read notes.txt as an image.*give a TIFF"),
        (["letter.txt"], "cannot read letter.txt as an image"),
        (["."], "cannot read . as an image"),
        (["planes.tif", "--slice", "3"], r"no slice 3 in planes.tif of shape \(3, 40, 60\)"),
        (["stack.tif"], "looks like a stack: choose a slice"),
        (["stack.tif", "--slice", "9"], r"no slice 9 in stack.tif of shape \(8, 256, 256\)"),
        (["stack.tif", "--slice", "1,9"], r"slice 1,9 in stack.tif of shape \(8, 256, 256\) is no picture"),
        (["disc.png", "--point", "400,35", "--model", "absent.pt"], "lie outside the image of 40 x 60"),
        (["disc.png", "--point", "nan,35"], "not all finite"),
        (["disc.png", "--model", "absent.pt"], "no checkpoint 'absent.pt'"),
        (["disc.png", "--device", "abacus"], "unknown device 'abacus'"),
        (["disc.png", "--profile", "abacus"], "no profile 'abacus': choose one of sam, medsam"),
    ],
)
def test_mistakes_are_one_clear_line(
    arguments: list[str],
    message: str,
    picture: Path,
    toy_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(picture.parent)
    Path("notes.txt").write_text("no image")
    Path("letter.txt").write_text("x")  # too short for some readers
    tifffile.imwrite("planes.tif", np.zeros((3, 40, 60), np.uint16), photometric="minisblack")
    Path("stack.tif").write_bytes(sample_path("blobs.tif").read_bytes())
    defaults = ["--model", str(toy_checkpoint), "--point", "15,35", "--out", "mask.tif"]
    assert cli.main(["segment", *defaults, *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("napari-sam: error: ")
    assert re.search(message, line), line
    assert not Path("mask.tif").exists()


@pytest.mark.parametrize("outputs", [["disc.png"], ["mask.png", "--picture", "mask.png"], ["./disc.png"]])
def test_nothing_is_written_over(
    outputs: list[str], picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(picture.parent)
    before = picture.read_bytes()
    assert cli.main(["segment", "disc.png", "--point", "15,35", "--out", *outputs]) == 2
    assert "would be written over: give the result a name of its own" in capsys.readouterr().err
    assert picture.read_bytes() == before
    assert not Path("mask.png").exists()


def test_labels_are_not_rebuilt_over_the_image(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = str(picture.with_suffix(".tif"))
    assert cli.main(["replay", "a.jsonl", "--image", image, "--out", image]) == 2
    assert "would be written over" in capsys.readouterr().err


def test_ctrl_c_ends_without_a_traceback(
    picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "read_image", pressed)
    assert cli.main(["segment", str(picture), "--point", "15,35", "--out", str(picture.with_name("mask.tif"))]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "napari-sam: stopped"


def test_a_file_that_is_no_image_is_not_left_open(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("x")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(ImageError):
            cli.read_image(tmp_path / "letter.txt")
        gc.collect()
    assert not [str(one.message) for one in said if one.category is ResourceWarning]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "mask.jpg"], "the name of mask.jpg must end in .png or .tif or .tiff"),
        (["--out", "absent/mask.tif"], "there is no folder absent"),
        (["--out", "mask.tif", "--picture", "outline.tif"], "must end in .png"),
        (["--out", "mask.tif", "--point", "3"], "'3' is not ROW,COLUMN"),
        (["--out", "mask.tif", "--box", "1,2,x,4"], "'1,2,x,4' is not ROW0,COL0,ROW1,COL1"),
        (["--out", "mask.tif", "--slice", "a"], "'a' is not an index"),
        ([], "the following arguments are required: --out"),
    ],
)
def test_arguments_are_checked_before_the_work(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(["segment", "disc.png", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_no_prompt_is_a_mistake(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["segment", str(picture), "--out", str(tmp_path / "mask.tif")]) == 2
    assert "no prompt at all" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models", "--download"], "name it, as in models mobile_sam --download"),
        (["models", "abacus"], "no checkpoint has the name 'abacus'"),
        (["train", "--out", "run", "--spec", "abacus"], "no architecture 'abacus': choose one of vit_b"),
        (["train", "--out", "run", "--steps", "0"], "steps = 0 should be at least 1"),
        (["train", "--out", "run", "--minutes", "nan"], "minutes = nan should be above 0"),
        (["train", "--out", "run", "--layer-decay", "1.5"], "layer_decay = 1.5 should lie in 0 to 1"),
        (["train", "--out", "run", "--drawn", "-1"], "drawn = -1.0 should lie in 0 to 1"),
        (["train", "--out", "run", "--threads", "-1"], "threads = -1 should not be below 0"),
        (["train", "--out", "run", "--seed", "-1"], "seed = -1 should not be below 0"),
        (["train", "--out", "run", "--export-only"], "run holds no run, state.pt is missing"),
        (["train", "--out", "run", "--trainset", "absent"], "absent has neither manifest.json nor images/"),
        (["replay", "absent.jsonl", "--image", "a.tif", "--out", "b.tif"], "cannot read the journal absent.jsonl"),
    ],
)
def test_mistakes_of_other_commands_are_one_clear_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("napari-sam: error: ")
    assert re.search(message, line), line


def test_run_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(SystemExit):
        cli.main(["train", "--out", str(tmp_path / "run")])
    assert "is a file: name a folder for the run" in capsys.readouterr().err


def test_a_reader_who_has_seen_enough_is_no_mistake() -> None:
    command = [sys.executable, "-m", "napari_sam.cli", "models"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(60) == 0
