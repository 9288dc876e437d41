"""How the cells of a feature map lie over the pixels of a region. No PyTorch, so that a scan starts without it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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


def check_region(region: NDArray[np.uint8], lattice: Lattice) -> None:
    """
    Raises:
        ValueError: the region's sides are no multiples of the lattice's unit.
    """
    if region.shape[0] % lattice.unit or region.shape[1] % lattice.unit:
        raise ValueError(f"a region of {region.shape[:2]} pixels is not made of whole units of {lattice.unit}")
