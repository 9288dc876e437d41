"""Tiles: the slide's own pixels at every level, made once, and with bounded memory."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from slide_files import halved, tissue_picture, write_tiff

from sentinode.app import tiles as module
from sentinode.app.tiles import TILE, Shape, Source, Tiles
from sentinode.errors import SlideError


def source(path: Path, content: str = "a") -> Source:
    return Source(path, 0.972, content)


def pixels(tile: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(tile)), int)


@pytest.mark.parametrize(
    ("width", "height", "levels"), [(1, 1, 1), (TILE, TILE, 1), (TILE + 1, 10, 2), (1600, 1216, 3), (57_344, 24_576, 8)]
)
def test_the_levels_halve_down_to_one_tile(width: int, height: int, levels: int) -> None:
    shape = Shape(width, height)
    assert shape.levels == levels
    assert shape.has(0, 0, 0) and not shape.has(0, 1, 0) and not shape.has(0, 0, 1)
    assert all(0 <= whole - side < 2**levels for whole, side in zip(shape.padded, (width, height), strict=True))
    assert all(whole == side * shape.step(0) for whole, side in zip(shape.padded, shape.size(0), strict=True))
    assert not any(shape.has(*place) for place in ((-1, 0, 0), (levels, 0, 0), (0, -1, 0)))


def test_a_tile_needs_four_stored_tiles_at_most(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "slide.tif", tissue_picture(2100, 1700), levels=1, tile=512)
    shape = Shape(2100, 1700)
    for column, row in ((0, 0), (1, 1), (2, 1), (3, 2)):
        tiles = Tiles()
        with tiles._slide(source(path)) as slide:
            tiles.jpeg(source(path), shape.levels - 1, column, row)
            assert len(slide._store._tiles) <= 4


def test_every_level_shows_the_slide_in_its_place(tmp_path: Path) -> None:
    picture = tissue_picture(1600, 1216)
    path = write_tiff(tmp_path / "slide.tif", picture, levels=2, tile=256)
    tiles = Tiles()
    for level, step in ((2, 0), (1, 1), (0, 2)):
        wanted = halved(picture, step)[: TILE + 1, : TILE + 1].astype(int)
        tile = pixels(tiles.jpeg(source(path), level, 0, 0))
        assert tile.shape == wanted.shape and np.abs(tile - wanted).mean() < 8


def test_a_slide_without_coarse_levels_is_put_together_from_finer_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tissue_picture(1500, 1100)
    path = write_tiff(tmp_path / "slide.tif", picture, levels=1, tile=256)
    places = [(0, 0, 0), (1, 0, 0), (1, 1, 1)]
    whole = [pixels(Tiles().jpeg(source(path), *place)) for place in places]
    monkeypatch.setattr(module, "WIDEST_SOURCE", 600)
    tiles = Tiles()
    for place, wanted in zip(places, whole, strict=True):
        parts = pixels(tiles.jpeg(source(path), *place))
        assert parts.shape == wanted.shape and np.abs(parts - wanted).mean() < 5


def test_a_tile_that_many_ask_for_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiff(tmp_path / "slide.tif", tissue_picture(600, 600), tile=256)
    tiles, made = Tiles(), []
    real = tiles._made
    monkeypatch.setattr(tiles, "_made", lambda *place: made.append(place) or real(*place))
    threads = [threading.Thread(target=tiles.jpeg, args=(source(path), 1, 0, 0)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_a_failure_reaches_all_who_wait_and_is_not_kept(tmp_path: Path) -> None:
    tiles = Tiles()
    path = tmp_path / "slide.tif"
    with pytest.raises(SlideError):
        tiles.jpeg(source(path), 0, 0, 0)
    write_tiff(path, tissue_picture(300, 300), tile=256)
    assert tiles.jpeg(source(path), 0, 0, 0)


def test_the_cache_and_the_open_slides_stay_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_BYTES", 60_000)
    tiles = Tiles()
    for number in range(6):
        path = write_tiff(tmp_path / f"{number}.tif", tissue_picture(600, 600, seed=number), tile=256)
        tiles.jpeg(source(path, f"content {number}"), 0, 0, 0)
    assert len(tiles._open) == module.OPEN_SLIDES
    assert sum(map(len, tiles._cache.values())) == tiles._cached <= 60_000


def test_a_slide_in_use_is_not_closed_by_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_SLIDES", 1)
    tiles = Tiles()
    paths = [write_tiff(tmp_path / f"{n}.tif", tissue_picture(300, 300, seed=n), tile=256) for n in range(2)]
    with tiles._slide(source(paths[0], "0")) as slide:
        tiles.jpeg(source(paths[1], "1"), 0, 0, 0)
        assert slide.region(0, 0, 16, 16, slide.mpp).shape == (16, 16, 3)


def test_there_is_no_tile_beyond_the_slide(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "slide.tif", tissue_picture(300, 300), tile=256)
    with pytest.raises(ValueError, match="no tile"):
        Tiles().jpeg(source(path), 0, 1, 0)
