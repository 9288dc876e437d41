"""TIFF and OME-TIFF through tifffile."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import numpy as np

from sentinode.samples import CMYK, LAB, stored_box, turned
from sentinode.slides.reading.pyramid import Pixels, Pyramid, levels_of
from sentinode.slides.reading.tiff_images import find_slide
from sentinode.slides.reading.tiff_page import TiffTiles

T = TypeVar("T", int, float)
LOOKED_AT = 64
"""Tiles of each level that are looked at when the slide is opened, where its tags leave something open."""


class TiffPyramid(Pyramid):
    """TIFF and OME-TIFF, tiled or in strips, through tifffile: the one picture of the file that is the slide.

    Raises:
        SlideError: it cannot be told which picture is the slide, or the file is damaged.
        PictureError: its samples are no colours, or leave open which.
    """

    def __init__(self, path: Path) -> None:
        import tifffile

        self._tiff = tifffile.TiffFile(path)
        self._pages: list[TiffTiles] = []
        try:
            slide = find_slide(path, self._tiff)
            for page in slide.pages:
                tiles = TiffTiles(path, page)
                self._pages.append(tiles)
                tiles.meaning.require_known(tiles.spread(LOOKED_AT))
        except BaseException:
            self.close()
            raise
        self._orientation = slide.finest.orientation
        stored = [page.level for page in self._pages]
        self.levels = levels_of(
            [self._shown(level.width, level.height) for level in stored],
            [self._shown(level.tile_width, level.tile_height) for level in stored],
        )
        self.mpp = self._shown(*slide.mpp) if slide.mpp else None
        self.notes = slide.notes
        # Inks and L*a*b* are sRGB once they are read.
        profile = None if self._pages[0].meaning.colours in (CMYK, LAB) else slide.finest.tag(34675)
        self.icc = bytes(profile) if profile else None

    def _shown(self, x: T, y: T) -> tuple[T, T]:
        """What is x and y as shown: a picture that lies on its side is stored with x for y."""
        return (y, x) if self._orientation >= 5 else (x, y)

    def tile(self, level: int, column: int, row: int) -> Pixels:
        if self._orientation == 1:
            return self._pages[level].tile(column, row)
        shape = self.levels[level]
        box = stored_box(shape.tile_box(column, row), (shape.width, shape.height), self._orientation)
        return np.ascontiguousarray(turned(self._pages[level].box(*box), self._orientation))

    def close(self) -> None:
        for page in self._pages:
            page.close()
        self._tiff.close()
