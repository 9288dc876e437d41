"""Tiles of a TIFF exactly as they are stored, for levels between whose pixels OpenSlide interpolates."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from sentinode.slides.reading.pyramid import Level, Pixels
from sentinode.slides.reading.streams import require_size

RGB, YCBCR = 2, 6


class StoredTiles:
    """The tiles of some levels of a TIFF, read with tifffile; from any thread.

    A level's tiles are those of the only page of its size that holds plain RGB of 8 bits. A file without such a page,
    or one that is no TIFF, has no stored tiles for that level.
    """

    def __init__(self, path: Path) -> None:
        self._pages: dict[tuple[int, int, int, int], list[Any]] = {}
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()
        with path.open("rb") as file:
            if file.read(2) not in (b"II", b"MM"):
                return
        # What tifffile cannot parse, in whatever way, OpenSlide still reads.
        with suppress(Exception):
            self._find_pages(path)
        self._file = path.open("rb")

    def _find_pages(self, path: Path) -> None:
        import tifffile

        with tifffile.TiffFile(path) as tiff:
            page: Any
            for page in tiff.pages:
                if _is_tiled_rgb(page):
                    shape = page.imagewidth, page.imagelength, page.tilewidth, page.tilelength
                    self._pages.setdefault(shape, []).append(page)
                    _ = page.jpegtables, page.decode  # read and made while the file is open

    def tile(self, level: Level, column: int, row: int) -> Pixels | None:
        """uint8 (height, width, 3) RGB, or None where the file stores no such tile."""
        pages = self._pages.get((level.width, level.height, level.tile_width, level.tile_height), [])
        if len(pages) != 1 or self._file is None:
            return None
        (page,) = pages
        index = row * level.columns + column
        size = page.databytecounts[index]
        if size == 0:
            return None
        with self._lock:
            self._file.seek(page.dataoffsets[index])
            data = self._file.read(size)
        if len(data) < size:
            raise ValueError("the file ends before this tile")
        require_size(data, page.tilewidth, page.tilelength)
        decoded = cast(Pixels, page.decode(data, index, jpegtables=page.jpegtables)[0])
        _, _, width, height = level.tile_box(column, row)
        return np.ascontiguousarray(decoded[0, :height, :width])

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()


def _is_tiled_rgb(page: Any) -> bool:
    """Whether a page holds tiles of RGB, 8 bits a sample, the samples of a pixel side by side."""
    return bool(
        page.is_tiled
        and page.dtype == np.uint8
        and page.samplesperpixel == 3
        and page.planarconfig == 1
        and page.photometric in (RGB, YCBCR)
    )
