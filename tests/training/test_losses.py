"""Losses: what they reward, and what they leave out."""

from __future__ import annotations

import pytest
import torch

from napari_sam.training.losses import candidates_loss, mask_losses, whole_iou


@pytest.fixture
def target():
    target = torch.zeros(1, 16, 16, dtype=torch.bool)
    target[0, 4:8, 4:8] = True
    return target


def logits_of(mask):
    return torch.where(mask, 12.0, -12.0)[:, None]


def test_the_right_mask_loses_least(target):
    known = torch.ones_like(target)
    right = mask_losses(logits_of(target), target, known, 0.0)
    wrong = mask_losses(logits_of(target.roll(2, 1)), target, known, 0.0)
    assert right.shape == (1, 1)
    assert right < 1e-3 < wrong


def test_padding_does_not_count(target):
    known = torch.ones_like(target)
    known[:, 12:] = False
    spilled = target.clone()
    spilled[:, 12:] = True
    assert mask_losses(logits_of(spilled), target, known, 0.5) < 1e-3
    assert whole_iou(logits_of(spilled), target, known, torch.zeros(1)) == 1


def test_a_sharper_loss_minds_spilling_more(target):
    known = torch.ones_like(target)
    spilled = target.clone()
    spilled[:, 2:10, 2:10] = True
    logits = logits_of(spilled)
    assert mask_losses(logits, target, known, 1.0) > mask_losses(logits, target, known, 0.0)


def test_what_is_cut_off_lowers_the_iou(target):
    known = torch.ones_like(target)
    assert whole_iou(logits_of(target), target, known, torch.tensor([16.0])) == pytest.approx(0.5)


def test_candidates_go_from_mean_to_best():
    losses = torch.tensor([[3.0, 1.0, 2.0]])
    assert candidates_loss(losses, 0.0) == 2
    assert candidates_loss(losses, 1.0) == 1
    assert candidates_loss(losses, 0.5) == 1.5
