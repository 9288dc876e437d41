"""Parameter groups, the course of the learning rate and the moving average."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentinode.model.classifier import build
from sentinode.recipes import OptimizerRecipe
from sentinode.training.optimisation import (
    clip_gradients,
    learning_rate_factor,
    make_optimizer,
    moving_average,
    set_learning_rate,
)


def test_layers_nearer_the_input_learn_more_slowly() -> None:
    network = build("test_resnet")[0]
    optimizer = make_optimizer(network, OptimizerRecipe(lr=1.0, layer_decay=0.5))
    set_learning_rate(optimizer, 1.0)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    names = dict(network.named_parameters())
    assert len(rate) == len(names)
    stem, late, head = (
        rate[id(names[n])] for n in ("backbone.conv1.0.weight", "backbone.layer4.0.conv1.weight", "head.2.weight")
    )
    assert stem < late < head == 1.0


def test_biases_and_norms_have_no_weight_decay() -> None:
    network = build("test_resnet")[0]
    optimizer = make_optimizer(network, OptimizerRecipe(weight_decay=0.1))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in network.named_parameters():
        assert decay[id(parameter)] == (0.1 if parameter.ndim > 1 else 0), name


@given(
    steps=st.integers(1, 500), warmup=st.floats(0, 0.9), schedule=st.sampled_from(["onecycle", "cosine", "constant"])
)
def test_the_learning_rate_rises_then_falls_and_never_exceeds_its_peak(
    steps: int, warmup: float, schedule: str
) -> None:
    recipe = OptimizerRecipe(schedule=schedule, warmup=warmup)
    course = [learning_rate_factor(step, steps, recipe) for step in range(steps)]
    assert all(0 < factor <= 1 + 1e-9 for factor in course)
    top = course.index(max(course))
    assert course[:top] == sorted(course[:top])
    if schedule != "constant":
        assert course[top:] == sorted(course[top:], reverse=True)


def test_onecycle_follows_pytorchs() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    theirs = torch.optim.SGD([weight], lr=1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(theirs, 1.0, total_steps=1000, pct_start=0.3)
    recipe = OptimizerRecipe(schedule="onecycle", warmup=0.3)
    for step in range(999):
        assert theirs.param_groups[0]["lr"] == pytest.approx(learning_rate_factor(step, 1000, recipe), abs=0.02)
        theirs.step()
        cycle.step()


def test_the_average_follows_the_weights_and_the_batch_norms_statistics() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(1))
    average = moving_average(network, 0.9)
    average.update_parameters(network)
    with torch.no_grad():
        network[0].weight.fill_(10)
        network[1].running_mean.fill_(10)
        network[1].num_batches_tracked.fill_(7)
    for _ in range(200):
        average.update_parameters(network)
    assert average.module[0].weight.item() == pytest.approx(10, abs=1e-3)
    assert average.module[1].running_mean.item() == pytest.approx(10, abs=1e-3)
    assert average.module[1].num_batches_tracked.item() == 7


@pytest.mark.parametrize("name", ["adamw", "sgd"])
@pytest.mark.parametrize("largest", [0.5, 1e6])
def test_clipping_moves_the_weights_as_pytorchs_does(name: str, largest: float) -> None:
    torch.manual_seed(0)
    ours, theirs = torch.nn.Linear(20, 20), torch.nn.Linear(20, 20)
    theirs.load_state_dict(ours.state_dict())
    recipe = OptimizerRecipe(name=name, lr=0.01)
    optimizers = [make_optimizer(network, recipe) for network in (ours, theirs)]
    for _ in range(3):
        batch = torch.randn(8, 20)
        for network in (ours, theirs):
            network(batch).pow(2).sum().backward()
        norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), largest)
        assert clip_gradients(optimizers[0], largest) == pytest.approx(float(norm))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    assert torch.allclose(ours.weight, theirs.weight, atol=1e-6)
