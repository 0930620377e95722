"""Processes that train together."""

from __future__ import annotations

import pytest
import torch

from napari_sam.errors import ImageError
from napari_sam.training import TrainingPlan, train
from napari_sam.training.checkpoint import FILE
from napari_sam.training.team import Team


def test_two_processes_train_one_model(tmp_path):
    plan = TrainingPlan(tmp_path, steps=2, spec="toy_tiny_vit", images=2, objects=1, together=2, processes=0)
    parts = torch.load(train(plan) / FILE, weights_only=True)
    assert parts["state"]["step"] == 2


def test_a_mistake_in_one_process_arrives_as_it_is(tmp_path):
    with pytest.raises(ImageError, match=r"^\S+ has neither manifest\.json nor images/"):
        train(TrainingPlan(tmp_path / "run", trainset=tmp_path, spec="toy_tiny_vit", together=2, processes=0))


def test_gradients_keep_the_layout_of_their_weights(monkeypatch):
    monkeypatch.setattr("torch.distributed.all_reduce", lambda joined: joined.mul_(4))
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(2, 2)).to(memory_format=torch.channels_last)
    kernel, unused = network[0].weight, network[1].weight
    gradient = torch.rand(4, 3, 3, 3)
    kernel.grad = gradient.clone(memory_format=torch.channels_last)
    Team(0, 2).average_gradients(network)
    torch.testing.assert_close(kernel.grad, 2 * gradient)
    assert kernel.grad.stride() == kernel.stride()
    assert not unused.grad.any()


def test_one_alone_decides_for_itself():
    assert Team().leads
    assert Team().agree(0.25) == 0.25
