"""How the cells of a feature map lie over the pixels of a region, and feature maps put together from parts.

No PyTorch, so that a scan starts without it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Features = Any
"""A feature map (V, C, h, w), as an engine makes it: an array of numpy, or a tensor of PyTorch on its device. V is 1,
or 8 views where the symmetries are averaged."""


@dataclass(frozen=True)
class Lattice:
    """How the cells of a feature map lie over the pixels of a region.

    Attributes:
        size: pixels a side of a patch, before it is enlarged.
        cells: cells a side of a patch's feature map.
    """

    size: int
    cells: int

    @property
    def unit(self) -> int:
        """The fewest pixels that are a whole number of cells. Regions begin and end at multiples of it."""
        return self.size // math.gcd(self.size, self.cells)

    def up(self, pixels: float) -> int:
        """The least multiple of the unit that is not below ``pixels``."""
        return self.unit * math.ceil(pixels / self.unit)

    def down(self, pixels: float) -> int:
        """The greatest multiple of the unit that is not above ``pixels``."""
        return self.unit * math.floor(pixels / self.unit)


def shares(starts: NDArray[np.float64], length: float, cells: int) -> NDArray[np.float64]:
    """(n, cells): the share that each cell has of ``length`` cells from each start on; each row adds up to 1."""
    edges = np.arange(cells + 1)
    ends = np.minimum(edges[1:], starts[:, None] + length)
    covered: NDArray[np.float64] = np.clip(ends - np.maximum(edges[:-1], starts[:, None]), 0, None) / length
    return covered


def stitch(parts: Sequence[tuple[tuple[int, int], Features]], size: tuple[int, int]) -> Features:
    """A feature map (V, C, h, w) put together from parts of it; cells that no part covers are 0.

    Args:
        parts: for each part the row and the column of its first cell in the result, and its features; what lies outside
            the result is left out.
        size: cells of the result, (h, w).
    """
    first = parts[0][1]
    shape = (*first.shape[:2], *size)
    whole = np.zeros(shape, first.dtype) if isinstance(first, np.ndarray) else first.new_zeros(shape)
    for corner, part in parts:
        low = [max(0, start) for start in corner]
        high = [min(end, start + cells) for end, start, cells in zip(size, corner, part.shape[2:], strict=True)]
        if low[0] < high[0] and low[1] < high[1]:
            rows, columns = (slice(low[axis] - corner[axis], high[axis] - corner[axis]) for axis in (0, 1))
            whole[:, :, low[0] : high[0], low[1] : high[1]] = part[:, :, rows, columns]
    return whole


def check_region(region: NDArray[np.uint8], lattice: Lattice) -> None:
    """
    Raises:
        ValueError: the region's sides are no multiples of the lattice's unit.
    """
    if region.shape[0] % lattice.unit or region.shape[1] % lattice.unit:
        raise ValueError(f"a region of {region.shape[:2]} pixels is not made of whole units of {lattice.unit}")
