"""The head in numpy answers for windows as the network's own head does, and comes out of the cache as it went in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sentinode.errors import DeviceError
from sentinode.geometry import PCAM, PatchGeometry
from sentinode.model.classifier import POOLINGS, Head
from sentinode.model.lattice import Lattice
from sentinode.model.pooled_head import PooledHead

LATTICE = Lattice(96, 8)
FEATURES = np.random.default_rng(0).normal(size=(5, 30, 26)).astype(np.float32)
TOPS, LEFTS = [0, 5.5, 32, 251], [0, 7, 96.25, 213]
"""Pixels, of which twelve make a cell: most windows begin within one."""


def theirs(head: Head, tops: list[float], lefts: list[float]) -> np.ndarray:
    """The margins by the network's own head."""
    down, right = (np.array(each) * LATTICE.cells / LATTICE.size for each in (tops, lefts))
    with torch.inference_mode():
        logits = head.windows(torch.from_numpy(FEATURES)[None], down, right, LATTICE.cells)[0].numpy()
    margins: np.ndarray = logits[..., 1] - logits[..., 0]
    return margins


@pytest.mark.parametrize("hidden", [(), (7,), (7, 3)])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_its_margins_are_those_of_the_networks_head(pooling: str, hidden: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    head = Head(5, pooling, hidden, 0.5).eval()
    pooled = PooledHead.of(head, LATTICE)
    answer = pooled.margins(FEATURES, TOPS, LEFTS)
    assert answer.dtype == np.float32 and answer.shape == (4, 4)
    np.testing.assert_allclose(answer, theirs(head, TOPS, LEFTS), atol=1e-5)


def test_the_label_of_another_region_has_another_centre() -> None:
    torch.manual_seed(0)
    head = Head(5, "avgcentre", geometry=PatchGeometry(96, 0.5, 60)).eval()
    pooled = PooledHead.of(head, LATTICE)
    np.testing.assert_allclose(pooled.margins(FEATURES, TOPS, LEFTS), theirs(head, TOPS, LEFTS), atol=1e-5)


@pytest.mark.parametrize("pooling", ["gem", "avgcentre"])
def test_it_comes_back_from_its_bytes(pooling: str) -> None:
    torch.manual_seed(0)
    head = Head(5, pooling, (7,)).eval()
    if pooling == "gem":
        with torch.no_grad():
            next(head.children()).power.fill_(2.5)  # type: ignore[operator, union-attr]
    pooled = PooledHead.of(head, LATTICE)
    again = PooledHead.from_bytes(pooled.to_bytes(), PCAM)
    assert (again.pooling, again.lattice, again.power) == (pooled.pooling, LATTICE, pooled.power)
    assert again.margins(FEATURES, TOPS, LEFTS).tobytes() == pooled.margins(FEATURES, TOPS, LEFTS).tobytes()


def test_a_head_of_other_layers_is_refused() -> None:
    head = Head(5)
    head.append(nn.Tanh())
    with pytest.raises(DeviceError, match="linear layers"):
        PooledHead.of(head, LATTICE)
