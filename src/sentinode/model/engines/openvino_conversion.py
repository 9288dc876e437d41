"""A classifier of PyTorch's as a model of OpenVINO's. Only a network that is not in the cache needs this."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import openvino
import torch
from torch import Tensor, nn

from sentinode.geometry import PatchGeometry
from sentinode.model.classifier import Classifier


def converted(network: nn.Module, geometry: PatchGeometry, *, dense: bool, regions: int = 1) -> Any:
    """The model that takes batches of patches, uint8 (B, S, S, 3), and answers with logits (B, 2).

    With ``dense`` it takes regions, uint8 (R, H, W, 3), and answers with their feature maps (R, C, h, w). R is
    ``regions``, and -1 stands for any number.
    """
    # The converter changes the module that it is given.
    network = copy.deepcopy(_Features(network) if dense else network)
    shape = (regions, -1, -1, 3) if dense else (-1, *geometry.shape)
    example = torch.zeros(1 if dense and regions == 1 else 2, *geometry.shape, dtype=torch.uint8)
    with _quiet():
        return openvino.convert_model(network, example_input=example, input=openvino.PartialShape(list(shape)))


class _Features(nn.Module):
    """A classifier up to its feature map."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        assert isinstance(network, Classifier)
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.features(images)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings of tracing, since comparing with PyTorch shows what they warn of; and the root logger left as it was.

    OpenVINO's converter sets its level, handler and filter, and would silence everybody's messages from then on.
    """
    root = logging.getLogger()
    level, handlers, filters = root.level, root.handlers[:], root.filters[:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            root.setLevel(level)
            root.handlers[:], root.filters[:] = handlers, filters
