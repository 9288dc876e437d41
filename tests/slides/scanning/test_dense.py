"""Tiles for dense reading: each cell is computed once, and each window ends in one tile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from slide_files import tissue_picture, write_tiff
from stand_in import StandInEngine

from sentinode.model.lattice import Lattice
from sentinode.slides.reading.slide import open_slide
from sentinode.slides.scanning.dense import FeatureMap, Layout, lay_tiles, layout_for, needed_from, read_tiles
from sentinode.slides.scanning.scan import lay_grid

MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 24)))
LAYOUTS = st.builds(
    Layout,
    lattice=st.sampled_from([Lattice(96, 8), Lattice(96, 3), Lattice(96, 96), Lattice(100, 8)]),
    step=st.integers(8, 130),
    halo=st.just(0),
    patches=st.integers(1, 6),
)


def covered(layout: Layout, windows: np.ndarray) -> set[tuple[int, int]]:
    """The cells of which windows cover a part."""

    def span(number: int) -> range:
        begin, size, cells = number * layout.step, layout.lattice.size, layout.lattice.cells
        return range(begin * cells // size, -(-(begin + size) * cells // size))

    return {(y, x) for row, column in windows for y in span(row) for x in span(column)}


@settings(deadline=None)
@given(mask=MASKS, layout=LAYOUTS)
def test_each_window_ends_in_one_tile_and_no_cell_is_computed_twice(mask: np.ndarray, layout: Layout) -> None:
    tiles = lay_tiles(mask, layout)
    windows = [tuple(window) for tile in tiles for window in tile.windows]
    assert sorted(windows) == [tuple(place) for place in np.argwhere(mask)]
    assert [tile.place for tile in tiles] == sorted({tile.place for tile in tiles})
    for tile in tiles:
        for axis in (0, 1):
            assert tile.place[axis] * layout.side <= tile.low[axis] < tile.high[axis]
            assert tile.high[axis] <= (tile.place[axis] + 1) * layout.side
            assert tile.low[axis] % layout.lattice.cells == tile.high[axis] % layout.lattice.cells == 0


@settings(deadline=None)
@given(mask=arrays.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))), layout=LAYOUTS)
def test_the_tiles_hold_all_cells_that_their_windows_cover(mask: np.ndarray, layout: Layout) -> None:
    tiles = lay_tiles(mask, layout)
    computed = {
        (y, x) for tile in tiles for y in range(tile.low[0], tile.high[0]) for x in range(tile.low[1], tile.high[1])
    }
    assert covered(layout, np.argwhere(mask)[:4]) <= computed


@settings(deadline=None)
@given(mask=MASKS, layout=LAYOUTS, data=st.data())
def test_a_scan_that_goes_on_needs_no_tile_before_those_that_its_windows_touch(
    mask: np.ndarray, layout: Layout, data: st.DataObject
) -> None:
    tiles = lay_tiles(mask, layout)
    if not tiles:
        return
    number = data.draw(st.integers(0, len(tiles) - 1))
    first = needed_from(tiles, number)
    assert first <= number
    for tile in tiles[number:]:
        for row in (tile.place[0] - 1, tile.place[0]):
            for column in (tile.place[1] - 1, tile.place[1]):
                assert all(other.place != (row, column) for other in tiles[:first])


def test_nothing_is_computed_where_no_window_is_wanted() -> None:
    layout = Layout(Lattice(96, 8), 32, 24, 4)
    assert lay_tiles(np.zeros((40, 40), bool), layout) == []
    mask = np.zeros((100, 100), bool)
    mask[50, 60] = True
    cells = sum((tile.high[0] - tile.low[0]) * (tile.high[1] - tile.low[1]) for tile in lay_tiles(mask, layout))
    assert cells <= 4 * 8**2  # the patches that a window touches at most


@pytest.mark.parametrize(("halo", "patches"), [(0, 2), (24, 2), (60, 5), (96, 8), (240, 6), (500, 1)])
def test_tiles_grow_with_the_halo_as_far_as_a_region_may(halo: int, patches: int) -> None:
    assert layout_for(StandInEngine(tile=200, block=1120), 32, halo).patches == patches  # type: ignore[arg-type]


def test_a_source_holds_the_tile_with_its_halo_and_the_windows_at_their_corners(tmp_path: Path) -> None:
    picture = tissue_picture(1000, 760, seed=5)
    canvas = np.pad(picture, ((600, 600), (600, 600), (0, 0)), constant_values=255)
    with open_slide(write_tiff(tmp_path / "slide.tif", picture, levels=2)) as slide:
        grid, layout = lay_grid(slide, 0.972, 32), layout_for(StandInEngine(), 32, 24)  # type: ignore[arg-type]
        mask = np.random.default_rng(0).random((grid.rows, grid.columns)) < 0.1
        tiles = lay_tiles(mask, layout)
        sources = list(read_tiles(slide, layout, tiles, mpp=grid.mpp, scale=grid.scale, threads=2))
    assert [source.tile for source in sources] == tiles and any(not len(tile.windows) for tile in tiles)
    for source in sources:
        (top, left), (bottom, right) = (
            [layout.pixels(cell) + 600 - 32 for cell in corner] for corner in (source.tile.low, source.tile.high)
        )
        np.testing.assert_array_equal(source.region, canvas[top - 24 : bottom + 24, left - 24 : right + 24])
        for (row, column), (y, x) in zip(source.tile.windows, source.corners, strict=True):
            window = canvas[32 * row + 568 : 32 * row + 664, 32 * column + 568 : 32 * column + 664]
            np.testing.assert_array_equal(source.surroundings[y : y + 96, x : x + 96], window)


def test_of_tiles_that_are_done_only_the_edges_of_one_row_are_kept() -> None:
    engine, layout = StandInEngine(), Layout(Lattice(96, 96), 32, 0, 4)
    feature_map = FeatureMap(layout, engine)  # type: ignore[arg-type]
    kept = []
    for tile in lay_tiles(np.ones((80, 60), bool), layout):
        height, width = (high - low for low, high in zip(tile.low, tile.high, strict=True))
        feature_map.add(tile, engine.features(np.zeros((height, width, 3), np.uint8)))
        kept.append(sum(part.size for parts in feature_map._parts.values() for _, part in parts))
    across = 60 * 32 // (4 * 96) + 1
    edges, whole = 3 * 2 * 96 * 4 * 96, 3 * (4 * 96) ** 2
    assert max(kept) <= (across + 2) * edges + whole
