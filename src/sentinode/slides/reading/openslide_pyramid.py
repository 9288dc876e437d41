"""Scanners' formats through OpenSlide."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinode.errors import SlideError
from sentinode.samples import on_white
from sentinode.slides.reading.pyramid import UNREADABLE, WHITE, Pixels, Pyramid, levels_of
from sentinode.slides.reading.stored_tiles import StoredTiles

Reading = tuple[int, float]
"""A level-0 coordinate to ask OpenSlide for, and how many pixels of the level it then begins beyond the wanted one."""

WHOLE = 1 / 512
"""How near to a whole pixel OpenSlide copies pixels: cairo, which paints them, counts in 256ths."""

ALIKE = 3.0
"""Mean difference in grey levels up to which a stored tile counts as what OpenSlide shows: solved for from two of its
readings, which are rounded, a tile differs by up to 0.6."""


class OpenSlidePyramid(Pyramid):
    """What OpenSlide reads: SVS, NDPI, MRXS, SCN, BIF, VMS, Philips and Ventana TIFF, generic TIFF, DICOM.

    OpenSlide takes whole level-0 coordinates and divides them by its own factor, for most formats the mean ratio of
    the sizes. Where sizes are odd, the result lies between pixels of a coarser level, and OpenSlide interpolates. The
    tiles of such a level are read as the TIFF stores them, once they are seen to be what OpenSlide shows, and else
    solved for from pairs of readings.
    """

    def __init__(self, path: Path) -> None:
        import openslide

        self._slide = openslide.OpenSlide(path)
        properties = self._slide.properties

        def tile_side(level: int, name: str) -> int:
            return int(properties.get(f"openslide.level[{level}].tile-{name}", 512))

        self._steps: tuple[float, ...] = self._slide.level_downsamples
        sizes = self._slide.level_dimensions
        tiles = [(tile_side(i, "width"), tile_side(i, "height")) for i in range(self._slide.level_count)]
        stated = [_stated(sizes[0], size, step) for size, step in zip(sizes, self._steps, strict=True)]
        self.levels = levels_of(sizes, tiles, stated)
        with suppress(KeyError, ValueError):
            self.mpp = float(properties["openslide.mpp-x"]), float(properties["openslide.mpp-y"])
        self.bounds = bounds_of(path, properties, sizes[0])
        profile = self._slide.color_profile
        self.icc = profile.tobytes() if profile else None
        # Of a Leica slide OpenSlide copies pixels at any coordinate, and rounds towards the corner of the region.
        self._region = self.bounds if properties.get("openslide.vendor") == "leica" else None
        blurred = {i for i in range(len(self.levels)) if not self._is_exact(i)}
        self._stored = StoredTiles(path) if blurred else None
        self._untried, self._from_file, self._lock = blurred, set[int](), threading.Lock()

    def tile(self, level: int, column: int, row: int) -> Pixels:
        stored = self._stored_tile(level, column, row)
        return self._read(level, column, row) if stored is None else stored

    def close(self) -> None:
        self._slide.close()
        if self._stored is not None:
            self._stored.close()

    def _stored_tile(self, level: int, column: int, row: int) -> Pixels | None:
        """A tile as the file stores it, where OpenSlide would blur it and the file's is the same."""
        if self._stored is None:
            return None
        with self._lock:
            if level in self._untried:
                self._untried.remove(level)
                if self._is_stored(level):
                    self._from_file.add(level)
        return self._stored.tile(self.levels[level], column, row) if level in self._from_file else None

    def _is_exact(self, level: int) -> bool:
        """Whether OpenSlide copies each tile of a level without interpolating."""
        shape = self.levels[level]
        columns = (self._readings(level, i * shape.tile_width, 0) for i in range(shape.columns))
        rows = (self._readings(level, i * shape.tile_height, 1) for i in range(shape.rows))
        return all(abs(readings[0][1]) < WHOLE for along in (columns, rows) for readings in along)

    def _is_stored(self, level: int) -> bool:
        """Whether the tiles that the file stores for a level are those that OpenSlide shows: looks at five."""
        shape = self.levels[level]
        alike = []
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            column, row = round(share * (shape.columns - 1)), round(share * (shape.rows - 1))
            tile = self._stored.tile(shape, column, row) if self._stored is not None else None
            if tile is not None:
                shown = self._read(level, column, row)
                alike.append(float(np.abs(tile.astype(np.float32) - shown).mean()) <= ALIKE)
        return bool(alike) and all(alike)

    def _read(self, level: int, column: int, row: int) -> Pixels:
        """A tile through OpenSlide."""
        left, top, width, height = self.levels[level].tile_box(column, row)
        across, down = self._readings(level, left, 0), self._readings(level, top, 1)

        def read(x: int, y: int) -> Pixels:
            return on_white(self._slide.read_region((x, y), level, (width, height)))

        if len(across) == len(down) == 1:
            return read(across[0][0], down[0][0])
        lines = [_solved([read(x, y) for x, _ in across], across) for y, _ in down]
        return np.asarray(np.clip(np.rint(_solved(lines, down)), 0, WHITE), np.uint8)

    def _readings(self, level: int, start: int, axis: int) -> list[Reading]:
        """Where to read so as to get the pixels of a level from ``start`` on, as near as can be.

        One reading that copies them, or two that begin up to a pixel beyond ``start`` to the same side. On a level
        that is hardly reduced there may be no second one; the first then lies within half a level-0 pixel.
        """
        step = self._steps[level]
        if self._region is not None:
            return [(math.floor(start * step) if start * step < self._region[axis] else math.ceil(start * step), 0.0)]
        near = round(start * step)
        beyond = near / step - start
        other = near + (1 if beyond > 0 else -1)
        readings = [(near, beyond), (other, other / step - start)]
        return readings[:1] if abs(beyond) < WHOLE or abs(readings[1][1]) > 1 else readings


def bounds_of(path: Path, properties: Mapping[str, str], size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The part of a slide that the scanner filled, in level-0 pixels, from what OpenSlide says of it.

    Returns:
        Left, top, width and height, or None where not all four are stated as whole numbers: QuPath ignores them then,
        too.

    Raises:
        SlideError: they lie outside the slide, so that QuPath would show another part of it.
    """
    try:
        left, top, width, height = (
            int(properties[f"openslide.bounds-{name}"]) for name in ("x", "y", "width", "height")
        )
    except (KeyError, ValueError):
        return None
    # The far sides are rounded, and may lie a pixel outside.
    if left < 0 or top < 0 or width < 1 or height < 1 or left + width > size[0] + 1 or top + height > size[1] + 1:
        raise SlideError(
            f"the slide has {size[0]} x {size[1]} pixels, and the part of it that it says is filled lies outside: "
            f"{width} x {height} pixels from ({left}, {top}).",
            where=path,
            hint=UNREADABLE,
        )
    return left, top, min(width, size[0] - left), min(height, size[1] - top)


def _stated(base: tuple[int, int], size: tuple[int, int], step: float) -> tuple[float, float] | None:
    """The factors that a format states, or None where OpenSlide took the mean ratio of the sizes."""
    mean = (base[1] / size[1] + base[0] / size[0]) / 2
    return None if math.isclose(step, mean, rel_tol=1e-9) else (step, step)


def _solved(pixels: list[NDArray[Any]], readings: list[Reading]) -> NDArray[Any]:
    """The pixels between which OpenSlide interpolated.

    Read a share s beyond a pixel, it gives (1 - s) of that pixel and s of the next: two readings solve for both.
    """
    if len(pixels) == 1:
        return pixels[0]
    (one, other), ((_, near), (_, far)) = pixels, readings
    return (far * one.astype(np.float64) - near * other) / (far - near)
