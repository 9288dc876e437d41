"""How weights follow gradients: groups of parameters, the course of the learning rate, the moving average."""

from __future__ import annotations

import math
from typing import Any

import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from sentinode.classifier import Classifier
from sentinode.recipes import OptimizerRecipe


def make_optimizer(network: nn.Module, recipe: OptimizerRecipe, *, head_only: bool = False) -> torch.optim.Optimizer:
    """AdamW or SGD over groups that carry ``lr_scale``, the share of the learning rate that each gets.

    Layers nearer the input get ``layer_decay`` times the learning rate of the layer above them (Clark et al. 2020);
    biases and norms have no weight decay.
    """
    rate = recipe.head_lr if head_only else recipe.lr
    if head_only or not isinstance(network, Classifier) or recipe.layer_decay == 1:
        groups = param_groups_weight_decay(network, recipe.weight_decay)
    else:
        backbone, decay = network.backbone, recipe.layer_decay
        groups = param_groups_layer_decay(backbone, recipe.weight_decay, layer_decay=decay)
        groups += param_groups_weight_decay(network.head, recipe.weight_decay)
    for group in groups:
        group.setdefault("lr_scale", 1.0)
    options: dict[str, Any] = {"lr": rate}
    if recipe.name == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, nesterov=True, **options)
    return torch.optim.AdamW(groups, fused=True, **options)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give each group its share of ``rate``."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


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


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of the weights and the batch norms' statistics.

    In the first steps it forgets faster, min(decay, (1 + n) / (10 + n)), so that it is not the initial weights.
    """

    def blend(averaged: Any, current: Any, count: Tensor | int) -> None:
        """Called with tensors of one type at a time: floating ones are averaged, counters copied."""
        if not averaged[0].is_floating_point():
            torch._foreach_copy_(averaged, current)
            return
        n = float(count)
        torch._foreach_lerp_(averaged, [tensor.detach() for tensor in current], 1 - min(decay, (1 + n) / (10 + n)))

    return AveragedModel(network, multi_avg_fn=blend, use_buffers=True)
