"""Scanners' formats through OpenSlide."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from sentinode.samples import on_white
from sentinode.slides.reading.pyramid import Pixels, Pyramid, levels_of


class OpenSlidePyramid(Pyramid):
    """What OpenSlide reads: SVS, NDPI, MRXS, SCN, BIF, VMS, Philips and Ventana TIFF, generic TIFF, DICOM."""

    def __init__(self, path: Path) -> None:
        import openslide

        self._slide = openslide.OpenSlide(path)
        properties = self._slide.properties

        def tile_side(level: int, name: str) -> int:
            return int(properties.get(f"openslide.level[{level}].tile-{name}", 512))

        tiles = [(tile_side(i, "width"), tile_side(i, "height")) for i in range(self._slide.level_count)]
        self.levels = levels_of(self._slide.level_dimensions, tiles)
        with suppress(KeyError, ValueError):
            self.mpp = float(properties["openslide.mpp-x"]), float(properties["openslide.mpp-y"])
        profile = self._slide.color_profile
        self.icc = profile.tobytes() if profile else None

    def tile(self, level: int, column: int, row: int) -> Pixels:
        shape = self.levels[level]
        left, top, width, height = shape.tile_box(column, row)
        corner = round(left * shape.downsample), round(top * shape.downsample)
        return on_white(self._slide.read_region(corner, level, (width, height)))

    def close(self) -> None:
        self._slide.close()
