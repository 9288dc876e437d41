"""Slides of any size that take little space: glass with squares of real tissue, as a pyramidal BigTIFF.

Each different tile is written once, and all tiles that look alike point to it. The tissue is one node of Camelyon17
(``slides/camelyon17`` in the data folder), laid side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Place = tuple[int, int]

TILE, GLASS, QUALITY = 512, 243, 80
MPP = 0.25
SOURCE = "slides/camelyon17/centre_0_patient_006_node_1.jpeg"
OFFSETS, BYTES = 324, 325


def build(path: Path, data: Path, width: int, height: int, squares: Sequence[Place], side: int) -> Path:
    """Write a slide of ``width`` x ``height`` pixels at 0.25 microns, unless it is there.

    Args:
        path: the file.
        data: the folder that holds ``slides/camelyon17``.
        width, height: pixels of level 0.
        squares: column and row, in tiles of 512 pixels, of the upper left corner of each square of tissue.
        side: tiles along a square.
    """
    if path.exists():
        return path
    tissue = np.asarray(Image.open(data / SOURCE).convert("RGB"))
    times = tissue.shape[0] // TILE
    pieces = [
        [tissue[y * TILE : (y + 1) * TILE, x * TILE : (x + 1) * TILE] for x in range(times)] for y in range(times)
    ]
    tiles = {
        (column + x, row + y): pieces[y % times][x % times]
        for column, row in squares
        for y in range(side)
        for x in range(side)
    }
    staged, level = path.with_suffix(".part"), 0
    found: list[list[tuple[int, int]]] = []
    with tifffile.TiffWriter(staged, bigtiff=True) as tiff:
        while True:
            found.append(_write_level(tiff, tiles, width, height, level))
            if max(width, height) <= 2 * TILE:
                break
            tiles, level = _halved(tiles), level + 1
            width, height = -(-width // 2), -(-height // 2)
    _share(staged, found)
    staged.rename(path)
    return path


def _write_level(
    tiff: tifffile.TiffWriter, tiles: dict[Place, Pixels], width: int, height: int, level: int
) -> list[tuple[int, int]]:
    """Write the different tiles of a level; for each of its tiles, which of the written ones it is like."""
    columns, rows = -(-width // TILE), -(-height // TILE)
    glass = np.full((TILE, TILE, 3), GLASS, np.uint8)
    first: dict[int, int] = {}
    like = []
    for index in range(columns * rows):
        tile = tiles.get((index % columns, index // columns), glass)
        like.append(first.setdefault(id(tile), index))

    def encoded() -> Iterator[bytes]:
        for index in range(columns * rows):
            if like[index] == index:
                yield imagecodecs.jpeg_encode(tiles.get((index % columns, index // columns), glass), level=QUALITY)
            else:
                yield b""

    tiff.write(
        encoded(),
        shape=(height, width, 3),
        dtype=np.uint8,
        photometric="ycbcr",
        subsampling=(2, 2),
        tile=(TILE, TILE),
        compression="jpeg",
        subfiletype=int(level > 0),
        resolution=(1e4 / (MPP * 2**level),) * 2,
        resolutionunit="CENTIMETER",
        metadata=None,
    )
    return list(enumerate(like))


def _share(path: Path, levels: Iterable[list[tuple[int, int]]]) -> None:
    """Let each tile point to the one that it is like."""
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for page, level in zip(tiff.pages, levels, strict=True):
            for tag in (OFFSETS, BYTES):
                values = np.asarray(page.tags[tag].value)
                page.tags[tag].overwrite(tuple(values[[other for _, other in level]].tolist()))


def _halved(tiles: dict[Place, Pixels]) -> dict[Place, Pixels]:
    """The tiles of the next level; those that look alike stay one and the same array."""
    glass = np.full((TILE, TILE, 3), GLASS, np.uint8)
    made: dict[tuple[int, ...], Pixels] = {}
    halved = {}
    for column, row in {(column // 2, row // 2) for column, row in tiles}:
        four = [tiles.get((2 * column + x, 2 * row + y), glass) for y in (0, 1) for x in (0, 1)]
        key = tuple(map(id, four))
        if key not in made:
            whole = np.vstack([np.hstack(four[:2]), np.hstack(four[2:])])
            made[key] = np.asarray(Image.fromarray(whole).reduce(2))
        halved[column, row] = made[key]
    return halved
