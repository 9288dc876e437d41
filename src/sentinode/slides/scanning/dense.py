"""A slide in tiles for dense reading: which are computed, what is read for each, and which windows end in it.

All tiles lie on one lattice of cells, which begins at the slide's first window. Each cell of the feature map is
computed once, in its tile, with a halo of pixels around it. A window that lies across tiles is pooled from the cells of
all of them. So its answer does not depend on where it lies among the tiles, beyond what the halo leaves open.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from sentinode.model.engines import Engine
from sentinode.model.lattice import Features, Lattice, stitch
from sentinode.slides.reading.pyramid import Pixels
from sentinode.slides.reading.slide import Box, Slide
from sentinode.slides.scanning.quality import cell_side
from sentinode.slides.scanning.tissue import Mask

HALOS = 8
"""How many times the halo a tile's side should have, so that most of what is computed is no halo."""

AROUND = 3
"""Cells around the windows that are read for their quality, which looks at what lies near."""

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """How windows and tiles lie.

    Attributes:
        lattice: of the network; its ``size`` is the side of a window in pixels.
        step: pixels from one window to the next.
        halo: pixels that are read around a tile, a multiple of the lattice's unit.
        patches: side of a tile in patches.
    """

    lattice: Lattice
    step: int
    halo: int
    patches: int

    @property
    def side(self) -> int:
        """Cells a side of a tile."""
        return self.patches * self.lattice.cells

    def pixels(self, cells: int) -> int:
        """Where a cell on the border of a patch begins, in pixels from the first window's edge."""
        return cells // self.lattice.cells * self.lattice.size


def layout_for(engine: Engine, step: int, halo: int) -> Layout:
    """The layout that suits an engine: tiles as small as it likes, unless the halo would then be most of the work."""
    size = engine.lattice.size
    side = min(max(engine.tile, HALOS * halo), engine.block - 2 * halo)
    return Layout(engine.lattice, step, halo, max(1, side // size))


@dataclass(frozen=True)
class Tile:
    """A square of the feature map.

    Attributes:
        place: its row and column among the tiles.
        low, high: the first row and column of cells that is computed, and those after the last: whole patches.
        windows: the row and the column of each window whose last cell lies in the tile, int64 (n, 2).
    """

    place: tuple[int, int]
    low: tuple[int, int]
    high: tuple[int, int]
    windows: Places


def lay_tiles(mask: Mask, layout: Layout) -> list[Tile]:
    """The tiles that windows need, row by row.

    Args:
        mask: bool (rows, columns), which windows are wanted.
        layout: how they lie.
    """
    windows = np.argwhere(mask)
    if not len(windows):
        return []
    first, last = _cells(windows, layout)
    # A window is one patch long, and a tile at least as much: so it touches at most two rows and two columns of tiles.
    low_tile, high_tile = first // layout.side, last // layout.side
    width = int(high_tile[:, 1].max()) + 1
    keys, starts, ends = [], [], []
    for row, column in product((low_tile, high_tile), repeat=2):
        place = np.stack([row[:, 0], column[:, 1]], 1)
        keys.append(place @ (width, 1))
        starts.append(np.maximum(first, place * layout.side))
        ends.append(np.minimum(last + 1, (place + 1) * layout.side))
    used, number = np.unique(np.concatenate(keys), return_inverse=True)
    low, high = np.full((len(used), 2), np.iinfo(np.int64).max), np.zeros((len(used), 2), np.int64)
    np.minimum.at(low, number, np.concatenate(starts))
    np.maximum.at(high, number, np.concatenate(ends))
    cells = layout.lattice.cells
    low, high = low // cells * cells, -(-high // cells) * cells
    order = np.argsort(number[-len(windows) :], kind="stable")  # the last keys are those of the tiles where windows end
    bounds = np.searchsorted(number[-len(windows) :][order], np.arange(len(used) + 1))
    return [
        Tile(divmod(int(key), width), _pair(low[i]), _pair(high[i]), windows[order[bounds[i] : bounds[i + 1]]])
        for i, key in enumerate(used)
    ]


def _cells(windows: Places, layout: Layout) -> tuple[Places, Places]:
    """The first and the last row and column of cells that windows touch, (n, 2) each."""
    begin = windows * layout.step * layout.lattice.cells
    size = layout.lattice.size
    return begin // size, -(-begin // size) + layout.lattice.cells - 1


def _pair(values: NDArray[np.int64]) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def needed_from(tiles: Sequence[Tile], number: int) -> int:
    """The first tile whose cells are needed for the windows of tile ``number`` and of those after it."""
    row, column = tiles[number].place
    return next(i for i, tile in enumerate(tiles) if tile.place >= (row - 1, column - 1))


@dataclass(frozen=True)
class Source:
    """What was read for a tile.

    Attributes:
        tile: the tile.
        region: its pixels and the halo around it, uint8 (H, W, 3).
        surroundings: all its windows and a little around them, in whole cells in which quality is measured, uint8
            (h, w, 3).
        corners: row and column of the first pixel of each window in the surroundings, int64 (n, 2).
    """

    tile: Tile
    region: Pixels
    surroundings: Pixels
    corners: Places


def read_tiles(
    slide: Slide, layout: Layout, tiles: Sequence[Tile], *, mpp: float, scale: float, threads: int
) -> Iterator[Source]:
    """The pixels of tiles, in order, read ahead.

    Args:
        slide: the slide.
        layout: how windows and tiles lie.
        tiles: what to read.
        mpp: microns per pixel of the windows.
        scale: level-0 pixels per pixel at ``mpp``.
        threads: that read.
    """
    before = (layout.step - layout.lattice.size) // 2  # from the slide's edge to the first window's
    frames = [_frames(tile, layout, cell_side(mpp)) for tile in tiles]
    boxes: list[Box] = []
    for region, windows in frames:
        (top, left), (bottom, right) = np.minimum(region[0], windows[0]), np.maximum(region[1], windows[1])
        boxes.append((float(left + before) * scale, float(top + before) * scale, int(right - left), int(bottom - top)))
    pictures = slide.regions(boxes, mpp, threads=threads)
    for tile, (region, windows), pixels in zip(tiles, frames, pictures, strict=True):
        corner = np.minimum(region[0], windows[0])

        def part(frame: Places, pixels: Pixels = pixels, corner: Places = corner) -> Pixels:
            (top, left), (bottom, right) = frame - corner
            return pixels[top:bottom, left:right]

        yield Source(tile, np.ascontiguousarray(part(region)), part(windows), tile.windows * layout.step - windows[0])


def _frames(tile: Tile, layout: Layout, cell: int) -> tuple[Places, Places]:
    """The first pixel and the one after the last, int64 (2, 2), of a tile with its halo, and of its surroundings."""
    region = np.array([[layout.pixels(cell) for cell in corner] for corner in (tile.low, tile.high)])
    region += np.array([[-layout.halo], [layout.halo]])
    if not len(tile.windows):
        return region, region
    corners = tile.windows * layout.step
    low, high = corners.min(0) // cell - AROUND, -(-(corners.max(0) + layout.lattice.size) // cell) + AROUND
    return region, np.stack([low, high]) * cell


class FeatureMap:
    """The feature map of a slide, of which only what later windows need is kept.

    Tiles come in order. Of each tile but the last the lower and the right edge are kept, as far as a window reaches,
    until no window needs them.
    """

    def __init__(self, layout: Layout, engine: Engine) -> None:
        self._layout, self._engine = layout, engine
        self._parts: dict[tuple[int, int], list[_Part]] = {}

    def add(self, tile: Tile, features: Features) -> None:
        """Take the features of the next tile, (V, C, h, w), halo and all."""
        row, column = tile.place
        for place, parts in list(self._parts.items()):
            if place < (row - 1, column - 1):
                del self._parts[place]
            elif len(parts) == 1:
                self._parts[place] = self._edges(place, parts[0])
        halo = self._layout.halo * self._layout.lattice.cells // self._layout.lattice.size
        own = features[:, :, halo : features.shape[2] - halo, halo : features.shape[3] - halo]
        self._parts[tile.place] = [(tile.low, own)]

    def margins(self, tile: Tile) -> NDArray[np.float32]:
        """The margins of the windows that end in the tile that was added last, float32 (n,)."""
        if not len(tile.windows):
            return np.zeros(0, np.float32)
        layout, (row, column) = self._layout, tile.place
        first, last = _cells(tile.windows, layout)
        low, high = first.min(0), last.max(0) + 1
        near = [part for place in product((row - 1, row), (column - 1, column)) for part in self._parts.get(place, [])]
        together = stitch([((y - low[0], x - low[1]), features) for (y, x), features in near], _pair(high - low))
        (rows, in_rows), (columns, in_columns) = (
            np.unique(tile.windows[:, axis], return_inverse=True) for axis in (0, 1)
        )
        before = low * layout.lattice.size / layout.lattice.cells
        margins = self._engine.pooled(together, rows * layout.step - before[0], columns * layout.step - before[1])
        return np.asarray(margins[in_rows, in_columns])

    def _edges(self, place: tuple[int, int], whole: _Part) -> list[_Part]:
        """The last rows and the last columns of a tile, as far as a window reaches back from the next one."""
        (top, left), features = whole
        down, across = (
            max(0, (number + 1) * self._layout.side - self._layout.lattice.cells - start)
            for number, start in zip(place, (top, left), strict=True)
        )
        lower, right = features[:, :, down:], features[:, :, :, across:]
        # Copies, so that the whole can be freed.
        return [((top + down, left), _copy(lower)), ((top, left + across), _copy(right))]


def _copy(features: Features) -> Features:
    return stitch([((0, 0), features)], (features.shape[2], features.shape[3]))


_Part = tuple[tuple[int, int], Features]
"""Features, and the row and column of their first cell."""
