"""Flat pictures, such as PNG and JPEG, through Pillow."""

from __future__ import annotations

from pathlib import Path

from PIL import ExifTags

from sentinode.pictures import open_picture, read_picture
from sentinode.samples import CMYK, LAB
from sentinode.slides.reading.pyramid import Pixels, Pyramid, levels_of

TILE = 1024


class FlatPyramid(Pyramid):
    """A PNG, JPEG or other flat picture, decoded as a whole when it is opened, and turned as viewers show it."""

    def __init__(self, path: Path) -> None:
        with open_picture(path) as picture:
            # Inks and L*a*b* are sRGB once they are read.
            self.icc = None if picture.mode in (CMYK, LAB) else picture.info.get("icc_profile")
            dpi = picture.info.get("dpi")
            if dpi and picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5:
                dpi = dpi[::-1]
            self._pixels = read_picture(picture)
        height, width = self._pixels.shape[:2]
        self.levels = levels_of([(width, height)], [(min(width, TILE), min(height, TILE))])
        if dpi and min(dpi) > 0:
            self.mpp = 25_400 / float(dpi[0]), 25_400 / float(dpi[1])

    def tile(self, level: int, column: int, row: int) -> Pixels:
        left, top, width, height = self.levels[0].tile_box(column, row)
        return self._pixels[top : top + height, left : left + width]

    def close(self) -> None:
        pass
