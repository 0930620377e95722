"""The loop at toy size: it learns something, can be taken up again, and its weights can be exported."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import napari_sam
from napari_sam import cli
from napari_sam.errors import CheckpointError, TrainingError
from napari_sam.models.sam import build_sam
from napari_sam.models.specs import SPECS
from napari_sam.training import TrainingPlan, loop, train
from napari_sam.training.__main__ import main
from napari_sam.training.checkpoint import FILE, Average
from napari_sam.training.export import export_run, load_weights, start_from
from napari_sam.training.loop import Networks
from napari_sam.training.plan import recorded
from napari_sam.training.rounds import random_course
from napari_sam.training.team import Team

TOY = "toy_tiny_vit"


@pytest.fixture
def plan(tmp_path):
    return TrainingPlan(tmp_path / "run", steps=2, spec=TOY, images=2, objects=2, warm_up=0.4, processes=0)


def state(folder):
    return torch.load(folder / FILE, weights_only=True)


def test_two_steps_change_the_weights_and_leave_a_record(plan):
    folder = train(plan)
    parts = state(folder)
    assert parts["state"]["step"] == 2
    assert parts["state"]["prompted_steps"] == 1
    assert (folder / "curve.png").exists()
    assert (folder / "plan.json").exists()
    torch.manual_seed(plan.seed)
    fresh = build_sam(SPECS[TOY]).state_dict()
    assert any((parts["networks"][f"sam.{name}"] != value).any() for name, value in fresh.items())


def test_a_run_taken_up_again_equals_one_that_was_not_stopped(plan, tmp_path):
    plan = replace(plan, steps=3, warm_up=0.0)
    whole = state(train(plan))
    # Stopped before its last step: the same plan, whose clock says that it is over.
    stopped = replace(plan, out=tmp_path / "stopped")
    run = train_until(stopped, 1)
    resumed = state(train(replace(stopped, resume=True)))
    assert run == 1
    for part in ("networks", "average"):
        for name, value in whole[part].items():
            torch.testing.assert_close(resumed[part][name], value, msg=name)


def train_until(plan, steps):
    """Train, save and leave after so many steps; the plan's own end sets the pace."""
    from napari_sam.training.loop import _Run

    class Stopped(_Run):
        def _progress(self):
            return 1.0 if self.state.step >= steps else super()._progress()

    run = Stopped(plan, Team())
    run.carry_out()
    return run.state.step


def test_export_round_trip(plan, tmp_path):
    folder = train(plan)
    path = export_run(folder, tmp_path / "weights" / "toy.safetensors", TOY, licence="BSD-3-Clause")
    sam = build_sam(SPECS[TOY])
    about = load_weights(path, sam)
    assert about["spec"] == TOY
    assert about["licence"] == "BSD-3-Clause"
    assert about["steps"] == "2"
    average = state(folder)["average"]
    for name, value in sam.state_dict().items():
        expected = average[name].half().to(value.dtype) if value.is_floating_point() else average[name]
        assert torch.equal(value, expected), name
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_export_refuses_weights_of_another_size(tmp_path, plan):
    folder = train(plan)
    with pytest.raises(TrainingError, match="the weights are no toy_vit"):
        export_run(folder, tmp_path / "toy.safetensors", "toy_vit")


def test_training_may_start_from_weights(plan, tmp_path):
    path = export_run(train(plan), tmp_path / "toy.safetensors", TOY)
    second = replace(plan, out=tmp_path / "second", weights=path, steps=1)
    assert state(train(second))["state"]["prompted_steps"] == 1


def test_how_it_goes_is_told_now_and_then(plan, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    told = []
    train(plan, told.append)
    assert re.fullmatch(r"step 1 of 2: dense \d\.\d\d", told[0])
    assert re.fullmatch(r"step 2 of 2: .*(click|box) \d\.\d\d.*", told[1])


def test_the_running_mean_follows_fast_at_first():
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    average = Average(network, 0.999)
    torch.nn.init.ones_(network.weight)
    average.update(network)
    assert 0.5 < float(average.state["weight"]) < 1


def test_a_young_network_gets_two_rounds_at_most():
    rng = np.random.default_rng(0)
    assert max(random_course(rng, young=True, boxes=0.3).rounds for _ in range(50)) == 2
    assert max(random_course(rng, young=False, boxes=0.3).rounds for _ in range(50)) == 6


@pytest.mark.parametrize(("boxes", "begun"), [(0.0, {False}), (1.0, {True}), (0.5, {False, True})])
def test_a_plan_says_how_often_a_box_comes_first(boxes, begun):
    rng = np.random.default_rng(0)
    assert {random_course(rng, young=False, boxes=boxes).box for _ in range(30)} == begun


def test_the_command_fine_tunes_what_it_exported(plan, tmp_path, capsys):
    path = export_run(train(plan), tmp_path / "toy.safetensors", TOY)
    shared = ["--steps", "1", "--images", "1", "--processes", "0"]
    main(["--out", str(tmp_path / "tuned"), "--weights", str(path), *shared])
    written = tmp_path / "tuned" / "weights.safetensors"
    assert capsys.readouterr().out == f"{written}\n"
    assert napari_sam.load_predictor(written, device="cpu").name == "weights.safetensors"


def test_a_run_that_goes_on_keeps_to_what_it_was_begun_with(plan, tmp_path):
    """Nothing but the folder has to be said again: not the architecture, not the length, not what it started from."""
    begun = replace(plan, weights=train(plan) / FILE, out=tmp_path / "second")
    train_until(begun, 1)
    main(["--out", str(begun.out), "--resume"])
    assert state(begun.out)["state"] == state(begun.out)["state"] | {"step": 2, "prompted_steps": 2}
    main(["--out", str(begun.out), "--export-only"])
    loaded = napari_sam.load_predictor(begun.out / "weights.safetensors", device="cpu")
    assert loaded.note == ""  # what it was fed with in training needs no guess
    assert loaded.profile.image_size == 64


def test_a_run_that_was_stopped_before_its_first_save_begins_as_it_was_to(plan):
    plan.out.mkdir()
    plan.record()
    main(["--out", str(plan.out), "--resume"])
    assert state(plan.out)["state"]["step"] == 2
    assert recorded(plan.out)["spec"] == TOY


def test_a_run_is_not_written_over(plan):
    before = (train(plan) / FILE).read_bytes()
    with pytest.raises(TrainingError, match=r"holds a run: take it up \(--resume\), or name another folder"):
        train(replace(plan, seed=1))
    assert (plan.out / FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "run", "--resume", "--spec", "toy_vit"], "run holds a run of another architecture"),
        (["--out", "run", "--resume", "--layer-decay", "0.5"], "run holds a run of another .* layer decay"),
        (["--out", "run", "--export-only", "--spec", "toy_vit"], "the weights are no toy_vit"),
        (["--out", "new", "--weights", "run/state.pt", "--spec", "toy_vit"], r"run.state\.pt does not fit"),
        (["--out", "new", "--weights", "gone/state.pt"], r"gone holds no run, state\.pt is missing"),
        (["--out", "torn", "--resume"], r"torn.state\.pt is damaged"),
        (["--out", "foreign", "--export-only"], r"foreign.state\.pt is damaged, or another program's \('networks'\)"),
    ],
)
def test_mistakes_about_runs_are_one_clear_line(plan, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    train(plan)
    for name in ("torn", "foreign"):
        (tmp_path / name).mkdir()
    (tmp_path / "torn" / FILE).write_bytes((plan.out / FILE).read_bytes()[:5000])
    torch.save({"epoch": 3}, tmp_path / "foreign" / FILE)
    assert cli.main(["train", "--images", "1", "--processes", "0", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line


def test_a_download_of_what_a_run_starts_from_is_seen(tmp_path, monkeypatch, capsys):
    def broken_off(source, progress):
        progress(0.5)
        raise CheckpointError(f"no more of {source}")

    monkeypatch.setattr("napari_sam.checkpoints.loading.load_sam", broken_off)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert cli.main(["train", "--out", str(tmp_path / "run"), "--weights", "mobile_sam"]) == 2
    assert "loading the model:  50%" in capsys.readouterr().err


def test_weights_of_another_architecture_are_refused(plan, tmp_path):
    path = export_run(train(plan), tmp_path / "toy.safetensors", TOY)
    with pytest.raises(TrainingError, match="does not fit"):
        start_from(path, Networks("toy_vit"))


def test_details_may_be_added_to_a_model_without(plan):
    run = train(plan)
    networks = Networks("toy_details")
    start_from(run / FILE, networks)
    assert not any(value.any() for value in networks.sam.image_encoder.details.parameters())
