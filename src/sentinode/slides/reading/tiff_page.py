"""One page of a TIFF: its tiles, and what it states of itself."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sentinode.errors import SlideError
from sentinode.pictures import COPY_AGAIN
from sentinode.samples import MASK, REDUCED, Samples, Tag, TiffSamples, orientation_of, tags_of
from sentinode.slides.reading.pyramid import WHITE, Pixels, levels_of, require_bounded, require_possible
from sentinode.slides.reading.streams import require_size

if TYPE_CHECKING:
    import tifffile

MICRONS = {
    "pm": 1e-6, "Å": 1e-4, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "dm": 1e5, "m": 1e6, "in": 25_400.0, "inch": 25_400.0,
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0,
}  # fmt: skip
"""Microns of a unit, by the names that OME and ImageJ use; the micron with either of Unicode's two letters."""

EXTRA = 64
"""Pixels by which a coded tile may be larger than its page says, since it is cut."""


def stated_mpp(page: tifffile.TiffPage) -> tuple[float, float] | None:
    """Microns per pixel by what the page itself states: Aperio's or ImageJ's description, else its resolution."""
    return _aperio_mpp(page.description) or _imagej_mpp(page) or _resolution_mpp(tags_of(page))


def _aperio_mpp(description: str) -> tuple[float, float] | None:
    found = re.search(r"\|\s*MPP\s*=\s*([0-9.]+)", description) if description.startswith("Aperio") else None
    with suppress(ValueError):
        return (float(found[1]), float(found[1])) if found else None
    return None


def _imagej_mpp(page: tifffile.TiffPage) -> tuple[float, float] | None:
    """ImageJ counts pixels per unit, and names the unit in its description."""
    if not page.description.startswith("ImageJ="):
        return None
    unit = re.search(r"^unit=(.+)$", page.description, re.MULTILINE)
    name = unit[1].strip() if unit else ""
    with suppress(ValueError):
        name = str(json.loads(f'"{name}"'))  # \u00B5m
    return _per_unit(tags_of(page), MICRONS.get(name))


def _resolution_mpp(tag: Tag) -> tuple[float, float] | None:
    """The resolution of TIFF counts pixels per inch or per centimetre."""
    unit = tag(296)
    return _per_unit(tag, {2: 25_400.0, 3: 10_000.0}.get(2 if unit is None else int(unit)))


def _per_unit(tag: Tag, microns: float | None) -> tuple[float, float] | None:
    x, y = tag(282), tag(283)
    if microns is None or not x or not y or not all(np.isfinite(v[0]) and v[0] > 0 for v in (x, y)):
        return None
    return microns / x[0], microns / y[0]


class TiffPage:
    """A page of a TIFF: a picture in tiles or in strips, by its tags.

    Attributes:
        index: its number in the file, from 0; that of the page whose SubIFD it is.
        width, height: its size as stored.
        is_tiled: whether it lies in tiles.
        is_reduced: whether it says that it is a smaller copy of another page.
        is_mask: whether it says that it is the mask of another page.
        orientation: 1 for upright, to 8, as in Exif.
        mpp: microns per pixel in x and y as stored, or None.
        description: what its writer says of it.
        significant_bits: how many bits of a sample count, where OME-XML states it.
    """

    def __init__(self, page: tifffile.TiffPage, significant_bits: int | None = None) -> None:
        self.significant_bits = significant_bits
        self.page, self.tag, self.index = page, tags_of(page), page._index[0]
        self.width, self.height = page.imagewidth, page.imagelength
        self.is_tiled = page.is_tiled
        self.is_reduced, self.is_mask = bool(page.subfiletype & REDUCED), bool(page.subfiletype & MASK)
        self.orientation = orientation_of(self.tag)
        self.description = page.description
        self.mpp = stated_mpp(page)

    @property
    def pixels(self) -> int:
        """How many it has."""
        return self.width * self.height


class TiffTiles:
    """The tiles of a page as RGB, from any thread.

    Attributes:
        level: the page's size and that of its tiles, as stored.
        meaning: what its samples mean.

    Raises:
        PictureError: its samples are no colours, or leave open which.
        SlideError: it has too many pixels in one piece, or the file ends before its last tile.
    """

    def __init__(self, path: Path, page: TiffPage) -> None:
        self.meaning = TiffSamples.of(page.tag, page.significant_bits)
        raw = page.page
        tile = (raw.tilewidth, raw.tilelength) if page.is_tiled else (page.width, min(raw.rowsperstrip, page.height))
        (self.level,) = levels_of([(page.width, page.height)], [tile])
        require_bounded(path, tile[0] * tile[1])
        require_possible((self.level,))
        # Some writers code strips whole, beyond the lower edge of the page, and JPEG in blocks of its own.
        self._decoded = tile[0] + EXTRA, (tile[1] if page.is_tiled else raw.rowsperstrip) + EXTRA
        self._planes = raw.samplesperpixel if raw.planarconfig == 2 else 1
        self._offsets = np.asarray(raw.dataoffsets, np.int64)
        self._sizes = np.asarray(raw.databytecounts, np.int64)
        require_whole(path, page)
        listed, needed = min(len(self._offsets), len(self._sizes)), self._planes * self.level.columns * self.level.rows
        if listed < needed:
            raise SlideError(
                f"the slide is damaged: it lists {listed:,} of its {needed:,} tiles.", where=path, hint=COPY_AGAIN
            )
        self._decode, self._jpeg_tables = raw.decode, raw.jpegtables
        self._file, self._lock = path.open("rb"), threading.Lock()
        self._last: tuple[tuple[int, int], Pixels] | None = None

    def tile(self, column: int, row: int) -> Pixels:
        """uint8 (height, width, 3) RGB of one tile, cut at the page's edges; white where the file has none."""
        samples = self.samples(column, row)
        if samples is None:
            _, _, width, height = self.level.tile_box(column, row)
            return np.full((height, width, 3), WHITE, np.uint8)
        return self.meaning.rgb(samples)

    def samples(self, column: int, row: int) -> Samples | None:
        """The samples (height, width, channels) of one tile as the file has them; None where it has none."""
        _, _, width, height = self.level.tile_box(column, row)
        first, step = row * self.level.columns + column, self.level.columns * self.level.rows
        planes = [plane for i in range(self._planes) if (plane := self._plane(first + i * step)) is not None]
        if len(planes) < self._planes:
            return None
        whole = planes[0] if self._planes == 1 else np.concatenate(planes, axis=-1)
        return np.ascontiguousarray(whole[:height, :width])

    def _plane(self, index: int) -> Samples | None:
        size = int(self._sizes[index])
        if size == 0:
            return None
        with self._lock:
            self._file.seek(int(self._offsets[index]))
            data = self._file.read(size)
        if len(data) < size:
            raise ValueError("the file ends before this tile")
        require_size(data, *self._decoded)
        decoded = self._decode(data, index, jpegtables=self._jpeg_tables)[0]
        return None if decoded is None else np.asarray(decoded[0])

    def box(self, left: int, top: int, width: int, height: int) -> Pixels:
        """uint8 (height, width, 3) RGB of a box within the page."""
        level, out = self.level, np.empty((height, width, 3), np.uint8)
        for row in range(top // level.tile_height, -(-(top + height) // level.tile_height)):
            for column in range(left // level.tile_width, -(-(left + width) // level.tile_width)):
                x, y, w, h = level.tile_box(column, row)
                x0, x1, y0, y1 = max(x, left), min(x + w, left + width), max(y, top), min(y + h, top + height)
                # Boxes that follow each other often share a tile, and where pages lie in strips, large ones.
                last = self._last
                if last is None or last[0] != (column, row):
                    last = self._last = (column, row), self.tile(column, row)
                tile = last[1]
                out[y0 - top : y1 - top, x0 - left : x1 - left] = tile[y0 - y : y1 - y, x0 - x : x1 - x]
        return out

    def spread(self, count: int) -> Iterator[Samples]:
        """The samples of at most ``count`` tiles that are spread over the page."""
        tiles = self.level.columns * self.level.rows
        for index in np.unique(np.linspace(0, tiles - 1, count).astype(int)).tolist():
            samples = self.samples(index % self.level.columns, index // self.level.columns)
            if samples is not None:
                yield samples

    def close(self) -> None:
        self._file.close()


def require_whole(path: Path, page: TiffPage) -> None:
    """Refuse a file that ends before the last tile of a page.

    Raises:
        SlideError: it does.
    """
    ends = [offset + size for offset, size in zip(page.page.dataoffsets, page.page.databytecounts, strict=False)]
    size, needed = path.stat().st_size, max(ends, default=0)
    if needed > size:
        raise SlideError(
            f"the slide is damaged: it ends after {size:,} bytes, and its tiles need {needed:,}.",
            where=path,
            hint=COPY_AGAIN,
        )
