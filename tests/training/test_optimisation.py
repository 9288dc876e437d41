"""Parameter groups, the course of the learning rate and the moving average."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentinode.model.classifier import build_classifier
from sentinode.recipes import OptimizerRecipe
from sentinode.training.optimisation import (
    clip_gradients,
    learning_rate_factor,
    make_optimizer,
    moving_average,
    set_learning_rate,
)


def test_layers_nearer_the_input_learn_more_slowly() -> None:
    network = build_classifier("test_resnet")[0]
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
    network = build_classifier("test_resnet")[0]
    optimizer = make_optimizer(network, OptimizerRecipe(weight_decay=0.1))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in network.named_parameters():
        assert decay[id(parameter)] == (0.1 if parameter.ndim > 1 else 0), name


@pytest.mark.parametrize("layer_decay", [1.0, 0.7])
@pytest.mark.parametrize(
    ("backbone", "kept"),
    [
        ("vit_tiny_patch16_224", {"cls_token": 1, "pos_embed": 1}),
        ("swin_tiny_patch4_window7_224", {"relative_position_bias_table": 12}),
        ("test_vit", {"cls_token": 1, "pos_embed": 1}),
    ],
)
def test_what_a_backbone_says_not_to_decay_is_not_decayed(
    backbone: str, kept: dict[str, int], layer_decay: float
) -> None:
    network = build_classifier(backbone)[0]
    optimizer = make_optimizer(network, OptimizerRecipe(weight_decay=0.1, layer_decay=layer_decay))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decay) == len(list(network.parameters()))
    found = dict.fromkeys(kept, 0)
    for name, parameter in network.named_parameters():
        last = name.rpartition(".")[2]
        found |= {last: found[last] + 1} if last in kept else {}
        assert decay[id(parameter)] == (0 if last in kept or parameter.ndim <= 1 else 0.1), name
    assert found == kept


def test_a_network_of_ones_own_keeps_what_its_parts_say_not_to_decay() -> None:
    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branches = torch.nn.ModuleList([build_classifier("test_vit")[0].backbone for _ in range(2)])
            self.scale = torch.nn.Parameter(torch.ones(2, 2))

        def no_weight_decay(self) -> list[str]:
            return ["scale"]

    network = Own()
    optimizer = make_optimizer(network, OptimizerRecipe(weight_decay=0.1))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    without = {name for name, p in network.named_parameters() if p.ndim > 1 and decay[id(p)] == 0}
    tokens = {f"branches.{number}.{name}" for number in range(2) for name in ("cls_token", "pos_embed")}
    assert without == {"scale", *tokens}


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "p4m_resnet"])
def test_a_convolutional_networks_groups_are_its_matrices_and_the_rest_in_order(backbone: str) -> None:
    network = build_classifier(backbone)[0]
    without, decayed = make_optimizer(network, OptimizerRecipe(weight_decay=0.1)).param_groups
    parameters = list(network.named_parameters())
    assert [id(p) for p in decayed["params"]] == [id(p) for name, p in parameters if p.ndim > 1]
    assert [id(p) for p in without["params"]] == [id(p) for name, p in parameters if p.ndim <= 1]


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_weight_decay_is_decoupled_from_the_gradient(name: str) -> None:
    torch.manual_seed(0)
    network, twin = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    twin.load_state_dict(network.state_dict())
    decaying, undecayed = (
        make_optimizer(each, OptimizerRecipe(name=name, lr=0.1, weight_decay=decay))
        for each, decay in ((network, 0.5), (twin, 0.0))
    )
    # The same gradients throughout: a step differs by the decay of the weights before it, and by nothing else.
    for _ in range(3):
        expected = network.weight.detach() * (1 - 0.1 * 0.5) - twin.weight.detach()
        for each, optimizer in ((network, decaying), (twin, undecayed)):
            each.weight.grad, each.bias.grad = torch.full((2, 3), 0.7), torch.full((2,), 0.7)
            optimizer.step()
        torch.testing.assert_close(network.weight.detach() - twin.weight.detach(), expected)
        torch.testing.assert_close(network.bias, twin.bias)


def test_decay_follows_the_learning_rate_of_each_layer() -> None:
    network = torch.nn.Linear(3, 2)
    before = network.weight.detach().clone()
    optimizer = make_optimizer(network, OptimizerRecipe(name="sgd", lr=0.1, weight_decay=0.5))
    set_learning_rate(optimizer, 0.01)
    network.weight.grad = torch.zeros(2, 3)
    optimizer.step()
    torch.testing.assert_close(network.weight.detach(), before * (1 - 0.01 * 0.5))
    network.weight.grad = None  # a layer that took no part in a step stays as it is
    optimizer.step()
    torch.testing.assert_close(network.weight.detach(), before * (1 - 0.01 * 0.5))


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
