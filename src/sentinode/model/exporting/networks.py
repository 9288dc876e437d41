"""A bundle's network in the shape that other programs run: calibrated, in plain operations, tied to no device."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from sentinode.model.bundle import Bundle
from sentinode.model.classifier import CENTRED, Classifier, Pool
from sentinode.model.engines.torch_engine import fold_batch_norms


class Calibrated(nn.Module):
    """uint8 (B, S, S, 3) RGB to float32 logits (B, 2), whose softmax is Sentinode's calibrated probabilities."""

    temperature: Tensor

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network = network
        # A plain number would be traced as float64, which Apple's GPUs do not have.
        self.register_buffer("temperature", torch.tensor(temperature, dtype=torch.float32))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images).float() / self.temperature
        return logits


class FromFloats(nn.Module):
    """float32 (B, 3, S, S) from 0 to 1, as ``ToTensor`` makes them of bytes, to what ``network`` says of those bytes.

    The network normalises its input itself, so what feeds it must not.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network((images * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1))
        return logits


class WeightedPool(nn.Module):
    """A pooling of averages as one product of matrices.

    :class:`Pool` computes the cells' shares of the centre in each pass, on the device on which it then is. A traced
    network would keep the device of the tracing; a buffer goes where the network goes.

    Args:
        pool: its pooling is ``centre`` or ``avgcentre``.
        cells: a feature map (1, C, h, w) of the size that it pools.
    """

    weights: Tensor

    def __init__(self, pool: Pool, cells: Tensor) -> None:
        super().__init__()
        height, width = cells.shape[2:]
        # The pooling is linear: what it makes of a map that is 1 in one cell is that cell's weight.
        units = torch.eye(height * width).view(-1, 1, height, width)
        self.register_buffer("weights", pool(units))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C) or (B, 2 C)."""
        return torch.matmul(x.flatten(2), self.weights).transpose(1, 2).flatten(1)


@torch.inference_mode()
def exportable(bundle: Bundle) -> nn.Module:
    """A copy of the bundle's network, in eval mode on the CPU, with the temperature inside.

    Raises:
        BundleError: the network is the user's own class, and the class was not given.
    """
    network = fold_batch_norms(copy.deepcopy(bundle.classifier()))
    if isinstance(network, Classifier):
        pool = network.head[0] if isinstance(network.head, nn.Sequential) else None
        if isinstance(pool, Pool) and pool.pooling in CENTRED:
            blank = torch.zeros(1, *bundle.card.geometry.shape, dtype=torch.uint8)
            network.head[0] = WeightedPool(pool, network.features(blank))  # type: ignore[operator]
    return Calibrated(network, bundle.card.temperature).eval().requires_grad_(False)
