"""A slide in regions for dense reading: where they lie, and which windows are pooled from each.

All regions lie on one lattice, which begins at the slide's first window. So a window has the same place in the cells of
the feature map however the slide is cut into regions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentinode.model.engines import Engine
from sentinode.model.lattice import Lattice
from sentinode.slides.reading.pyramid import Pixels
from sentinode.slides.reading.slide import Box, Slide

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """Where windows and regions lie, in pixels at the resolution of the windows.

    Attributes:
        lattice: of the network.
        step: from one window to the next.
        window: side of a window.
        halo: what is read around the windows, a multiple of the lattice's unit.
        block: pixels a side of the regions that suit the engine.
    """

    lattice: Lattice
    step: int
    window: int
    halo: int
    block: int

    @property
    def side(self) -> int:
        """How many windows a side regions have at most; whole units where that is possible, so that all are alike."""
        period = math.lcm(self.step, self.lattice.unit) // self.step
        most = max(1, (self.block - 2 * self.halo - self.window) // self.step + 1)
        return most // period * period or most

    def extent(self, first: int, count: int) -> tuple[int, int]:
        """Where the region of ``count`` windows from number ``first`` on begins, from the first window's edge, and its
        length."""
        start = self.lattice.down(first * self.step - self.halo)
        length = (first + count - 1) * self.step + self.window + self.halo - start
        return start, self.lattice.up(length)


@dataclass(frozen=True)
class Region:
    """Part of a slide, and the windows that are pooled from it.

    Attributes:
        pixels: uint8 (H, W, 3).
        tops: pixels from its upper edge to that of each row of windows, (R,).
        lefts: pixels from its left edge to that of each column of windows, (K,).
        wanted: the row and the column, among these, of each window that is wanted, (n, 2).
    """

    pixels: Pixels
    tops: NDArray[np.int64]
    lefts: NDArray[np.int64]
    wanted: Places

    @property
    def corners(self) -> Places:
        """The upper edge and the left edge of each wanted window in ``pixels``, int64 (n, 2)."""
        return np.stack([self.tops[self.wanted[:, 0]], self.lefts[self.wanted[:, 1]]], 1)

    def margins(self, engine: Engine) -> NDArray[np.float32]:
        """The margins of the wanted windows, float32 (n,)."""
        answer: NDArray[np.float32] = engine.dense(self.pixels, self.tops, self.lefts)[tuple(self.wanted.T)]
        return answer


def layout_for(engine: Engine, step: int, halo: int) -> Layout:
    """The layout that suits an engine."""
    return Layout(engine.lattice, step, engine.geometry.size, halo, engine.block)


def read_regions(
    slide: Slide, layout: Layout, blocks: Sequence[Places], *, mpp: float, scale: float, threads: int
) -> Iterator[Region]:
    """The regions of blocks of windows, in order, read ahead.

    Args:
        slide: the slide.
        layout: where windows lie.
        blocks: the row and column of each window of each block, int64 (n, 2).
        mpp: microns per pixel of the windows.
        scale: level-0 pixels per pixel at ``mpp``.
        threads: that read.
    """
    before = (layout.step - layout.window) // 2  # from the slide's edge to the first window's
    boxes: list[Box] = []
    for places in blocks:
        first, last = places.min(0), places.max(0)
        top, height = layout.extent(int(first[0]), int(last[0] - first[0]) + 1)
        left, width = layout.extent(int(first[1]), int(last[1] - first[1]) + 1)
        boxes.append(((left + before) * scale, (top + before) * scale, width, height))
    for places, box, pixels in zip(blocks, boxes, slide.regions(boxes, mpp, threads=threads), strict=True):
        (rows, wanted_rows), (columns, wanted_columns) = (
            np.unique(places[:, axis], return_inverse=True) for axis in (0, 1)
        )
        left, top = (round(corner / scale) - before for corner in box[:2])
        yield Region(
            pixels,
            rows * layout.step - top,
            columns * layout.step - left,
            np.stack([wanted_rows, wanted_columns], 1),
        )
