"""The training loop: a dense warm-up of the encoder, then prompts; it can be stopped and taken up at any time."""

from __future__ import annotations

import json
import math
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from napari_sam.errors import TrainingError
from napari_sam.models.sam import Sam, build_sam
from napari_sam.models.specs import SPECS
from napari_sam.training.checkpoint import FILE, Average, RunState, load_run, save_run
from napari_sam.training.crops import CropRule
from napari_sam.training.curve import draw_curve
from napari_sam.training.dataset import Batch, Batches, Trainset
from napari_sam.training.dense import DenseHead, dense_loss
from napari_sam.training.evaluate import evaluate
from napari_sam.training.export import start_from
from napari_sam.training.optimizer import make_optimizer, set_rate
from napari_sam.training.pixels import normalised
from napari_sam.training.rounds import Pace, mixed_precision, random_course, train_rounds
from napari_sam.training.team import Team, run_together

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_sam.training.plan import TrainingPlan

    Tell = Callable[[str], None]

DENSE_SHARE = 0.3  # weight of the dense task beside the prompts
CLIP = 1.0
LOG_EVERY = 25  # steps
YOUNG = 0.4  # share of `best_after` below which corrections are few


class Networks(nn.Module):
    """The model and the dense head that is thrown away."""

    def __init__(self, spec_name: str) -> None:
        super().__init__()
        spec = SPECS[spec_name]
        self.sam: Sam = build_sam(spec)
        self.dense_head = DenseHead(spec.decoder.width)


def train(plan: TrainingPlan, tell: Tell | None = None) -> Path:
    """Carry out a plan and return the folder of the run.

    Whatever ends it early, a plan with `resume=True` goes on from the last save. `tell` is given a line for people now
    and then, which says how far it is and how well it does.

    Raises
    ------
    TrainingError
        The folder holds a run, which is not to be taken up, or does not fit the plan.
    CheckpointError
        There is no such checkpoint as the plan starts from.
    ImageError
        The pictures cannot be trained on.
    """
    if (plan.out / FILE).exists() and not plan.resume:
        raise TrainingError(f"{plan.out} holds a run: take it up (--resume), or name another folder")
    if plan.together > 1:
        run_together(partial(_carry_out, plan, tell), plan.together)
    else:
        _carry_out(plan, tell, Team())
    return plan.out


def _carry_out(plan: TrainingPlan, tell: Tell | None, team: Team) -> None:
    _Run(plan, team, tell).carry_out()


class _Run:
    def __init__(self, plan: TrainingPlan, team: Team, tell: Tell | None = None) -> None:
        self.plan, self.team, self.tell = plan, team, tell
        plan.out.mkdir(parents=True, exist_ok=True)
        if plan.threads:
            torch.set_num_threads(plan.threads)
        torch.manual_seed(plan.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.networks = Networks(plan.spec).to(self.device).train()
        self.networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as documented
        self.networks.sam.image_encoder.checkpointing = plan.checkpointing
        is_taken_up = plan.resume and (plan.out / FILE).exists()
        if plan.weights is not None and not is_taken_up:
            start_from(plan.weights, self.networks)
        self.average = Average(self.networks.sam, plan.decay)
        self.optimizer = make_optimizer(self.networks, plan.layer_decay)
        self.state = RunState()
        if is_taken_up:
            self.state = load_run(plan.out, self.networks, self.average, self.optimizer)
        self.trainset = Trainset(plan.trainset) if plan.trainset is not None else None
        self._recent: dict[str, list[torch.Tensor]] = {}

    def carry_out(self) -> None:
        """Train until the plan's end."""
        rule = CropRule(SPECS[self.plan.spec].image_size, self.plan.objects)
        images = max(1, self.plan.images // self.team.size)
        batches = Batches(self.trainset, rule, images, self.plan.drawn, self.plan.seed, self.team.rank)
        saved = evaluated = self.state.seconds
        if self.team.leads:
            self.plan.record(held_aside_groups=sorted(self.trainset.held_aside_groups) if self.trainset else [])
        before = time.monotonic()
        for index, batch in batches.stream(self.state.step, self.plan.processes):
            progress = self.team.agree(self._progress())
            if progress >= 1:
                break
            self._step(index, batch.to(self.device), progress)
            now = time.monotonic()
            self.state.seconds, before = self.state.seconds + now - before, now
            if not self.team.leads:
                continue
            if self.state.step % LOG_EVERY == 0:
                self._log()
            if self.state.seconds - saved > 60 * self.plan.save_every:
                self._save()
                saved = self.state.seconds
            if self.plan.evaluate_every and self.state.seconds - evaluated > 60 * self.plan.evaluate_every:
                self._evaluate()
                evaluated = self.state.seconds
        if self.team.leads:
            self._evaluate()
            self._save()

    def _progress(self) -> float:
        if self.plan.steps is not None:
            return self.state.step / self.plan.steps
        return self.state.seconds / (60 * self.plan.minutes)

    def _step(self, index: int, batch: Batch, progress: float) -> None:
        warm_up = 0.0 if self.plan.weights is not None else self.plan.warm_up
        prompted = progress >= warm_up
        self._set_rate(progress, warm_up, prompted)
        self.optimizer.zero_grad(set_to_none=True)
        with mixed_precision(self.device):
            features = self.networks.sam.encode(normalised(batch.images, batch.inside))
            guess = self.networks.dense_head(features)
        dense = dense_loss(guess.float(), batch.dense.float())
        loss = dense
        if prompted:
            leaf = features.detach().requires_grad_()
            pace = self._pace(progress)
            shared = np.random.default_rng([self.plan.seed, index, 1])  # the same for the whole team
            course = random_course(shared, pace.best_share < YOUNG, self.plan.boxes, self.plan.comes_near)
            generator = torch.Generator(self.device).manual_seed(self._seed_of(index))
            self._note(train_rounds(self.networks.sam, leaf, batch, pace, course, generator))
            assert leaf.grad is not None  # the decoder has looked at the features
            loss = DENSE_SHARE * dense + (features * leaf.grad).sum()
            self.state.prompted_steps += 1
        loss.backward()  # type: ignore[no-untyped-call]
        self.team.average_gradients(self.networks)
        nn.utils.clip_grad_norm_(self.networks.parameters(), CLIP)
        self.optimizer.step()
        self.average.update(self.networks.sam)
        self.state.step += 1
        self._note({"dense": dense.detach()})

    def _pace(self, progress: float) -> Pace:
        if self.plan.weights is not None:  # has learnt to answer already
            return Pace(1.0, 1.0)
        return Pace(min(1.0, self.state.prompted_steps / self.plan.best_after), _sharpness(progress))

    def _set_rate(self, progress: float, warm_up: float, prompted: bool) -> None:
        if prompted:
            risen = min(1.0, (self.state.prompted_steps + 1) / self.plan.rises())
            share = (progress - warm_up) / (1 - warm_up)
            rate = self.plan.learning_rate * risen * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))
        else:
            rate = self.plan.warm_up_rate * min(1.0, (self.state.step + 1) / self.plan.rises())
        set_rate(self.optimizer, rate)

    def _seed_of(self, index: int) -> int:
        return int(np.random.SeedSequence([self.plan.seed, index, 2, self.team.rank]).generate_state(1)[0])

    def _note(self, values: dict[str, torch.Tensor]) -> None:
        for name, value in values.items():  # read when the log is written: a GPU is not made to wait
            self._recent.setdefault(name, []).append(value)

    def _log(self, **more: float) -> None:
        row = {"step": self.state.step, "minutes": round(self.state.seconds / 60, 2)}
        row |= {name: round(float(torch.stack(values).mean()), 4) for name, values in self._recent.items()} | more
        self._recent = {}
        self.state.history.append(row)
        with (self.plan.out / "log.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")
        if self.tell is not None:
            self.tell(self._in_words(row))

    def _in_words(self, row: dict[str, float]) -> str:
        steps, minutes = self.plan.steps, self.plan.minutes
        end = f"of {steps}" if steps is not None else f"in minute {row['minutes']:.1f} of {minutes:g}"
        scores = [f"{name} {value:.2f}" for name, value in row.items() if name not in ("step", "minutes")]
        return f"step {row['step']} {end}: {', '.join(scores)}"

    def _save(self) -> None:
        save_run(self.plan.out, self.state, self.networks, self.average, self.optimizer)
        draw_curve(self.state.history, self.plan.out / "curve.png")

    def _evaluate(self) -> None:
        if self.trainset is None or not self.trainset.held_aside or not self.plan.evaluate_every:
            return
        sam = build_sam(SPECS[self.plan.spec]).to(self.device)
        sam.load_state_dict(self.average.state)
        if scores := evaluate(sam, self.trainset):
            self._log(**scores)


def _sharpness(progress: float) -> float:
    """From the balanced loss, with which learning starts, to one whose border lies right, in the middle of the run."""
    return float(np.clip((progress - 0.2) / 0.4, 0, 1))
