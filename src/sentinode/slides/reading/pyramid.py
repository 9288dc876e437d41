"""What every file of a slide becomes: levels of RGB tiles, the microns per pixel that it states, its ICC profile."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sentinode.errors import PictureError, SlideError
from sentinode.pictures import MAX_PIXELS
from sentinode.slides.reading.downsampling import factors_of

Pixels = NDArray[np.uint8]

WHITE = 255

MAX_SLIDE_PIXELS = 200_000_000_000
"""Pixels of the finest level: 75 x 50 mm at 0.14 um per pixel. No scanner makes more, but a header may say so."""

MAX_TILES = 1 << 22
"""Tiles of a level. Those of a slide as large as can be, 256 pixels a side, are three quarters of it."""

PIXELS_A_BYTE, FREE_PIXELS = 4000, 1_000_000_000
"""Pixels of the finest level for each byte of its file at most, beyond the first billion. JPEG of bright glass has
about 200 a byte; files that leave out empty tiles have more."""

UNREADABLE = "Copy or export the slide again; if it opens elsewhere, save it as a tiled TIFF."


@dataclass(frozen=True)
class Level:
    """One resolution of a slide.

    Attributes:
        width, height: its size in its own pixels.
        tile_width, tile_height: that of its tiles.
        downsample_x, downsample_y: level-0 pixels per pixel of this level: the true factors, not the ratios of sizes
            that were rounded to whole pixels.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    downsample_x: float
    downsample_y: float

    @property
    def downsample(self) -> float:
        """The mean of both factors, by which levels are compared."""
        return (self.downsample_x + self.downsample_y) / 2

    @property
    def columns(self) -> int:
        return -(-self.width // self.tile_width)

    @property
    def rows(self) -> int:
        return -(-self.height // self.tile_height)

    def tile_box(self, column: int, row: int) -> tuple[int, int, int, int]:
        """Left, top, width and height of a tile, cut at the level's right and lower edge."""
        left, top = column * self.tile_width, row * self.tile_height
        return left, top, min(self.tile_width, self.width - left), min(self.tile_height, self.height - top)


class Pyramid(ABC):
    """A slide as levels of tiles.

    Attributes:
        levels: from the finest to the coarsest.
        mpp: microns per level-0 pixel in x and y as the file states them, or None where it does not.
        icc: the ICC profile of the pixels, or None.
        bounds: left, top, width and height, in level-0 pixels, of the part that the scanner filled, where the
            file states it (``openslide.bounds-*``), or None. QuPath crops a slide to it.
        notes: what the user should know of the file, one sentence each: which of its pictures were left out.
    """

    levels: tuple[Level, ...]
    mpp: tuple[float, float] | None = None
    icc: bytes | None = None
    bounds: tuple[int, int, int, int] | None = None
    notes: tuple[str, ...] = ()

    @abstractmethod
    def tile(self, level: int, column: int, row: int) -> Pixels:
        """uint8 (height, width, 3) RGB of one tile, white where the file has nothing; from any thread."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""


def levels_of(
    sizes: Sequence[tuple[int, int]],
    tiles: Sequence[tuple[int, int]],
    downsamples: Sequence[tuple[float, float] | None] | None = None,
) -> tuple[Level, ...]:
    """Levels from the finest to the coarsest.

    Args:
        sizes: width and height of each.
        tiles: width and height of each one's tiles.
        downsamples: the factors in x and in y that the file states for each, or None where it states none; they are
            then found from the sizes, as :func:`~sentinode.slides.reading.downsampling.factors_of` says.
    """
    levels = [Level(*sizes[0], *tiles[0], 1.0, 1.0)]
    for i in range(1, len(sizes)):
        last = levels[-1]
        finer = (last.width, last.height), (last.downsample_x, last.downsample_y)
        stated = downsamples[i] if downsamples is not None else None
        factors = factors_of(sizes[0], sizes[i], tiles[i], finer=finer, stated=stated)
        levels.append(Level(*sizes[i], *tiles[i], *factors))
    return tuple(levels)


def require_bounded(path: Path, pixels: int) -> None:
    if pixels > MAX_PIXELS:
        raise SlideError(
            f"the image has {pixels:,} pixels in one piece, too many to decode at once.",
            where=path,
            hint="Save it as a tiled TIFF: vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg",
        )


def require_filled(level: Level, file_bytes: int) -> None:
    """Refuse a small file that claims to be a huge slide, all of which a scan would have to look at.

    Raises:
        PictureError: so few bytes cannot show so many pixels.
    """
    pixels = level.width * level.height
    if pixels > FREE_PIXELS + PIXELS_A_BYTE * file_bytes:
        raise PictureError(
            f"the slide states {level.width:,} x {level.height:,} pixels, and a file of {file_bytes:,} bytes cannot "
            "hold so many.",
            hint=UNREADABLE,
        )


def require_possible(levels: Sequence[Level]) -> None:
    """Refuse a slide that no scanner makes: what is done with it would take days, and gigabytes.

    Raises:
        PictureError: a level has no pixels, or too many, or too many tiles.
    """
    for level in levels:
        size = f"the slide states {level.width:,} x {level.height:,} pixels"
        if min(level.width, level.height, level.tile_width, level.tile_height) < 1:
            raise PictureError(f"{size} in tiles of {level.tile_width:,} x {level.tile_height:,}.", hint=UNREADABLE)
        if level.width * level.height > MAX_SLIDE_PIXELS:
            raise PictureError(f"{size}, and at most {MAX_SLIDE_PIXELS:,} in all are read.", hint=UNREADABLE)
        if level.columns * level.rows > MAX_TILES:
            tiles = level.columns * level.rows
            raise PictureError(f"{size} in {tiles:,} tiles, and at most {MAX_TILES:,} are read.", hint=UNREADABLE)
