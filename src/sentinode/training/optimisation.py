"""The optimiser: groups of parameters, the schedule of the learning rate, the moving average."""

from __future__ import annotations

import math
from typing import Any

import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from sentinode.model.classifier import Classifier
from sentinode.recipes import OptimizerRecipe


def make_optimizer(network: nn.Module, recipe: OptimizerRecipe, *, head_only: bool = False) -> torch.optim.Optimizer:
    """AdamW or SGD over groups that carry ``lr_scale``, the share of the learning rate that each gets.

    Layers nearer the input get ``layer_decay`` times the learning rate of the layer above them (Clark et al. 2020).
    Weight decay is decoupled; biases, norms and what :func:`undecayed` names have none.
    """
    rate = recipe.head_lr if head_only else recipe.lr
    if head_only or not isinstance(network, Classifier) or recipe.layer_decay == 1:
        groups = param_groups_weight_decay(network, recipe.weight_decay, no_weight_decay_list=undecayed(network))
    else:
        backbone, decay = network.backbone, recipe.layer_decay
        groups = param_groups_layer_decay(backbone, recipe.weight_decay, undecayed(backbone), layer_decay=decay)
        for group in groups:  # timm gives the backbone's last layer 1, which is the head's
            group["lr_scale"] *= decay
        groups += param_groups_weight_decay(network.head, recipe.weight_decay)
    for group in groups:
        group.setdefault("lr_scale", 1.0)
    options: dict[str, Any] = {"lr": rate, "fused": True}
    if recipe.name == "sgd":
        return DecoupledSGD(groups, momentum=0.9, nesterov=True, **options)
    return torch.optim.AdamW(groups, **options)


def undecayed(network: nn.Module) -> set[str]:
    """The parameters that the network, or a part of it, says not to decay.

    timm's networks name their position embeddings, class tokens and tables of relative positions in
    ``no_weight_decay()``; so may a network of one's own.
    """
    names: set[str] = set()
    for part, module in network.named_modules():
        listed = getattr(module, "no_weight_decay", None)
        if callable(listed):
            names |= {f"{part}.{name}" if part else name for name in listed()}
    return names


class DecoupledSGD(torch.optim.SGD):
    """SGD whose weight decay multiplies the weights by 1 - lr * weight_decay before the step, as AdamW's does.

    Loshchilov and Hutter (2019), *Decoupled Weight Decay Regularization*, algorithm 1. PyTorch's SGD adds it
    to the gradient, and a momentum of 0.9 makes that ten times as strong.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        decays = [group["weight_decay"] for group in self.param_groups]
        for group, decay in zip(self.param_groups, decays, strict=True):
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if decay and weights:
                torch._foreach_mul_(weights, 1 - group["lr"] * decay)
            group["weight_decay"] = 0.0
        try:
            return super().step(closure)
        finally:
            for group, decay in zip(self.param_groups, decays, strict=True):
                group["weight_decay"] = decay


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give each group its share of ``rate``."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def clip_gradients(optimizer: torch.optim.Optimizer, largest: float) -> Tensor:
    """Limit the norm of all gradients together to ``largest`` in the coming step. Returns their norm.

    The gradients themselves stay as they are: the fused steps divide by ``grad_scale``, as they do for PyTorch's
    GradScaler, while they read the gradients anyway. Multiplying them before costs a pass of reading and writing.
    """
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    optimizer.grad_scale = (norm / largest).clamp(min=1)  # type: ignore[attr-defined]
    return norm


def learning_rate_factor(step: int, steps: int, recipe: OptimizerRecipe) -> float:
    """The learning rate of ``step`` in 0 .. ``steps`` - 1 as a share of its peak.

    ``onecycle`` rises from 1/25 and falls to nearly nothing, both along half a cosine (Smith & Topin 2018, as PyTorch's
    OneCycleLR); ``cosine`` rises in a straight line from nothing (Loshchilov & Hutter 2017).
    """
    rise = recipe.warmup * steps
    if step < rise:
        done = (step + 1) / (rise + 1)
        return _between(0.04, 1, done) if recipe.schedule == "onecycle" else done
    if recipe.schedule == "constant":
        return 1.0
    return _between(1, 4e-6, (step - rise) / max(steps - rise, 1))


def _between(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


AVERAGED_EVERY = 4
"""Steps between two updates of the moving average: neighbouring weights differ little, and an update reads them all."""


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of the weights and the batch norms' statistics, to update every so many steps.

    In the first steps it forgets faster, min(decay, (1 + n) / (10 + n)), so that it is not the initial weights.

    Args:
        network: whose weights are averaged.
        decay: per step.
    """

    def blend(averaged: Any, current: Any, count: Tensor | int) -> None:
        """Called with tensors of one type at a time: floating ones are averaged, counters copied."""
        if not averaged[0].is_floating_point():
            torch._foreach_copy_(averaged, current)
            return
        n = AVERAGED_EVERY * float(count)
        kept = min(decay, (1 + n) / (10 + n)) ** AVERAGED_EVERY
        torch._foreach_lerp_(averaged, [tensor.detach() for tensor in current], 1 - kept)

    return AveragedModel(network, multi_avg_fn=blend, use_buffers=True)
