"""The classifier's head for the windows of a region, in numpy: what :meth:`Head.windows` computes, without PyTorch.

OpenVINO computes the feature map. With this head, a scan whose network is in the cache needs no PyTorch, which takes
longer to import than the network takes to open.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentinode.errors import DeviceError
from sentinode.geometry import PatchGeometry
from sentinode.model.lattice import Lattice, shares

if TYPE_CHECKING:
    from sentinode.model.classifier import Head

Array = NDArray[np.float32]
Floats = NDArray[np.float64]

LEAST = np.float32(1e-6)
"""Below it, the generalised mean takes a feature for this, as :class:`~sentinode.model.classifier.Pool` does."""


@dataclass(frozen=True)
class PooledHead:
    """A head with its weights, and the lattice over which it pools.

    Attributes:
        pooling: one of :data:`~sentinode.model.classifier.POOLINGS`.
        geometry: of the patches.
        lattice: how cells lie over pixels.
        layers: weight (out, in) and bias (out,) of each linear layer; there is a ReLU between two of them.
        power: of the pooling ``gem``.
    """

    pooling: str
    geometry: PatchGeometry
    lattice: Lattice
    layers: tuple[tuple[Array, Array], ...]
    power: float = 3.0

    @classmethod
    def of(cls, head: Head, lattice: Lattice) -> PooledHead:
        """The same head with a network's weights.

        Raises:
            DeviceError: it has a layer that is none of Sentinode's.
        """
        from torch import nn

        from sentinode.model.classifier import Pool

        pool, *others = head.children()
        if not isinstance(pool, Pool) or not all(isinstance(each, nn.Dropout | nn.Linear | nn.ReLU) for each in others):
            raise DeviceError("OpenVINO reads densely only with a head of pooling, linear layers and ReLUs.")
        linear = [each for each in others if isinstance(each, nn.Linear)]
        layers = tuple(
            (each.weight.detach().float().cpu().numpy(), each.bias.detach().float().cpu().numpy()) for each in linear
        )
        return cls(pool.pooling, pool.geometry, lattice, layers, 3.0 if pool.power is None else pool.power.item())

    def margins(self, features: Array, tops: ArrayLike, lefts: ArrayLike) -> Array:
        """The margin of each window of a region: its logit of label 1 minus that of label 0, float32 (R, K).

        Args:
            features: of the region, (C, h, w).
            tops: pixels from the region's upper edge to that of each row of windows, (R,).
            lefts: pixels from the region's left edge to that of each column of windows, (K,).
        """
        lattice = self.lattice
        down, right = (np.asarray(each, np.float64) * lattice.cells / lattice.size for each in (tops, lefts))
        if len(self.layers) == 1 and self.pooling in ("avg", "centre", "avgcentre"):
            return self._linear_margins(features, down, right)
        values = self._pooled(features, down, right)
        for number, (weight, bias) in enumerate(self.layers):
            values = (np.maximum(values, 0) if number else values) @ weight.T + bias
        return np.asarray(values[..., 1] - values[..., 0], np.float32)

    def _linear_margins(self, features: Array, tops: Floats, lefts: Floats) -> Array:
        """Where pooling and layer are linear, each cell is weighed before it is pooled: one number a cell, not C."""
        ((weight, bias),) = self.layers
        parts = (weight[1] - weight[0]).reshape(-1, len(features))
        planes = (parts @ features.reshape(len(features), -1)).reshape(-1, *features.shape[1:])
        pools = {"avg": (self._averages,), "centre": (self._centres,), "avgcentre": (self._averages, self._centres)}
        found = [
            pool(plane[None], tops, lefts)[..., 0] for pool, plane in zip(pools[self.pooling], planes, strict=True)
        ]
        return np.asarray(sum(found) + (bias[1] - bias[0]), np.float32)

    def _pooled(self, features: Array, tops: Floats, lefts: Floats) -> Array:
        """(R, K, C) or (R, K, 2 C)."""
        match self.pooling:
            case "gem":
                raised = np.maximum(features, LEAST) ** np.float32(self.power)
                return self._averages(raised, tops, lefts) ** np.float32(1 / self.power)
            case "max":
                return self._maxima(features, tops, lefts)
            case "centre":
                return self._centres(features, tops, lefts)
        average = self._averages(features, tops, lefts)
        match self.pooling:
            case "avgmax":
                return np.concatenate([average, self._maxima(features, tops, lefts)], 2)
            case "avgcentre":
                return np.concatenate([average, self._centres(features, tops, lefts)], 2)
        return average

    def _averages(self, features: Array, tops: Floats, lefts: Floats, side: float | None = None) -> Array:
        side = self.lattice.cells if side is None else side
        rows, columns = (
            shares(starts, side, cells).astype(np.float32)
            for starts, cells in zip((tops, lefts), features.shape[1:], strict=True)
        )
        return (rows @ (features @ columns.T)).transpose(1, 2, 0)

    def _centres(self, features: Array, tops: Floats, lefts: Floats) -> Array:
        scale = self.lattice.cells / self.geometry.size
        inwards = scale * self.geometry.margin
        return self._averages(features, tops + inwards, lefts + inwards, scale * self.geometry.label_region)

    def _maxima(self, features: Array, tops: Floats, lefts: Floats) -> Array:
        cells = self.lattice.cells
        firsts = [np.rint(starts).astype(int) for starts in (tops, lefts)]
        rows = np.stack([features[:, first : first + cells].max(1) for first in firsts[0]])
        return np.stack([rows[..., first : first + cells].max(-1) for first in firsts[1]], 1)

    def to_bytes(self) -> bytes:
        """The head as bytes that :meth:`from_bytes` reads."""
        arrays = {
            "pooling": np.array(self.pooling),
            "cells": np.array(self.lattice.cells),
            "power": np.array(self.power),
        }
        for number, (weight, bias) in enumerate(self.layers):
            arrays |= {f"weight{number}": weight, f"bias{number}": bias}
        stream = io.BytesIO()
        np.savez(stream, **arrays)  # type: ignore[arg-type]
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, geometry: PatchGeometry) -> PooledHead:
        """The head that :meth:`to_bytes` wrote, of a network of patches of this geometry."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            count = sum(name.startswith("weight") for name in arrays)
            layers = tuple((arrays[f"weight{number}"], arrays[f"bias{number}"]) for number in range(count))
            lattice = Lattice(geometry.size, int(arrays["cells"]))
            return cls(str(arrays["pooling"]), geometry, lattice, layers, float(arrays["power"]))
