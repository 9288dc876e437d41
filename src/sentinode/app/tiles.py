"""Tiles of slides as JPEG: from the files themselves, cached, with bounded memory, from any thread."""

from __future__ import annotations

import contextlib
import io
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from sentinode.slides.reading.slide import Slide, open_slide

TILE = 510
"""Side of a tile in pixels. With its overlap it is as wide as the stored tiles of most slides, so that it lies in four
of these or fewer; with 512 it would touch nine, for a border of one pixel."""

OVERLAP = 1
"""Pixels by which a tile reaches into its neighbours. Without any, OpenSeadragon stretches it by a screen pixel."""

QUALITY = 85
OPEN_SLIDES = 3
"""Slides that are kept open; each holds up to 64 MiB of decoded tiles."""

CACHE_BYTES = 96 << 20
WIDEST_SOURCE = 4096
"""Pixels of the slide, each way, that one tile may be made of at once; a slide without coarse levels needs more."""


@dataclass(frozen=True)
class Shape:
    """The levels of tiles of a slide: level ``levels - 1`` is the slide itself, each lower one half as fine.

    The slide is padded with white to the right and below until every level has whole pixels: else the last tiles of the
    coarse levels would lie up to a pixel beside their places.
    """

    width: int
    height: int

    @property
    def levels(self) -> int:
        """How many there are; level 0 is one tile."""
        return max(0, math.ceil(math.log2(max(self.width, self.height) / TILE))) + 1

    @property
    def padded(self) -> tuple[int, int]:
        """Width and height with the padding, in level-0 pixels of the slide."""
        step = self.step(0)
        return -(-self.width // step) * step, -(-self.height // step) * step

    def size(self, level: int) -> tuple[int, int]:
        """Width and height of a level in its own pixels, with the padding."""
        width, height = self.padded
        return width // self.step(level), height // self.step(level)

    def step(self, level: int) -> int:
        """Level-0 pixels of the slide for a pixel of a level."""
        return int(2 ** (self.levels - 1 - level))

    def box(self, level: int, column: int, row: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of a tile in its level's pixels, with its overlap."""
        width, height = self.size(level)
        left, top = max(0, column * TILE - OVERLAP), max(0, row * TILE - OVERLAP)
        return left, top, min(width, (column + 1) * TILE + OVERLAP), min(height, (row + 1) * TILE + OVERLAP)

    def has(self, level: int, column: int, row: int) -> bool:
        """Whether there is such a tile."""
        if not 0 <= level < self.levels:
            return False
        width, height = self.size(level)
        return 0 <= column * TILE < width and 0 <= row * TILE < height


@dataclass
class _Held:
    slide: Slide
    users: int = 0
    dropped: bool = False


@dataclass(frozen=True)
class Source:
    """A slide to make tiles of.

    Attributes:
        path: the file.
        mpp: microns per level-0 pixel.
        content: its fingerprint; tiles of another content are other tiles.
    """

    path: Path
    mpp: float
    content: str


@dataclass
class _Making:
    """A tile that a thread is at; the others wait for it."""

    done: threading.Event = field(default_factory=threading.Event)


class Tiles:
    """Makes tiles, and keeps the newest of them.

    Args:
        icc: convert colours to sRGB by the slides' ICC profiles.
        threads: tiles that are made at once.
    """

    def __init__(self, *, icc: bool = False, threads: int | None = None) -> None:
        self._icc = icc
        self._gate = threading.Semaphore(threads or max(2, os.cpu_count() or 2))
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[Path, str], _Held] = OrderedDict()
        self._cache: OrderedDict[tuple[str, int, int, int], bytes] = OrderedDict()
        self._cached = 0
        self._making: dict[tuple[str, int, int, int], _Making] = {}

    def jpeg(self, source: Source, level: int, column: int, row: int) -> bytes:
        """A tile as JPEG.

        Raises:
            SlideError: the slide cannot be opened, or a part of it cannot be decoded.
            ValueError: there is no such tile.
        """
        key = (source.content, level, column, row)
        while True:
            with self._lock:
                if key in self._cache:
                    self._cache.move_to_end(key)
                    return self._cache[key]
                making = self._making.get(key)
                if making is None:
                    making = self._making[key] = _Making()
                    break
            making.done.wait()
        try:
            with self._gate, self._slide(source) as slide:
                tile = self._made(source, slide, level, column, row)
            self._keep(key, tile)
            return tile
        finally:
            with self._lock:
                del self._making[key]
            making.done.set()

    def notes(self, source: Source) -> tuple[str, ...]:
        """Open a slide, and give what the user should know of it.

        Raises:
            SlideError: it cannot be opened.
        """
        with self._slide(source) as slide:
            return slide.notes

    def close(self) -> None:
        """Let go of all files."""
        with self._lock:
            held = list(self._open.values())
            self._open.clear()
            self._cache.clear()
            self._cached = 0
        for one in held:
            one.slide.close()

    def _made(self, source: Source, slide: Slide, level: int, column: int, row: int) -> bytes:
        """A tile, from the cache or made now."""
        key = (source.content, level, column, row)
        with self._lock:
            if key in self._cache:
                return self._cache[key]
        shape = Shape(slide.width, slide.height)
        if not shape.has(level, column, row):
            raise ValueError(f"there is no tile {column}, {row} of level {level}")
        left, top, right, bottom = shape.box(level, column, row)
        step = shape.step(level)
        fine = max((one.downsample for one in slide.levels if one.downsample <= step * 1.01), default=1.0)
        if step > 1 and TILE * step / fine > WIDEST_SOURCE:
            picture = self._of_finer(source, slide, level, column, row)
        else:
            pixels = slide.region(left * step, top * step, right - left, bottom - top, slide.mpp * step)
            picture = Image.fromarray(pixels)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=QUALITY)
        return buffer.getvalue()

    def _of_finer(self, source: Source, slide: Slide, level: int, column: int, row: int) -> Image.Image:
        """A tile made of the four tiles of the next finer level, which reach beyond it by their overlap alone."""
        shape = Shape(slide.width, slide.height)
        left, top, right, bottom = (2 * side for side in shape.box(level, column, row))
        whole = np.zeros((bottom - top, right - left, 3), np.uint8)
        known = [right, bottom, left, top]
        for place in ((level + 1, 2 * column + i % 2, 2 * row + i // 2) for i in range(4)):
            if shape.has(*place):
                tile = self._made(source, slide, *place)
                self._keep((source.content, *place), tile)
                x0, y0, x1, y1 = shape.box(*place)
                whole[y0 - top : y1 - top, x0 - left : x1 - left] = np.asarray(
                    Image.open(io.BytesIO(tile), formats=["JPEG"])
                )
                known = [min(known[0], x0), min(known[1], y0), max(known[2], x1), max(known[3], y1)]
        x0, y0, x1, y1 = known
        inner = whole[y0 - top : y1 - top, x0 - left : x1 - left]
        whole = np.pad(inner, ((y0 - top, bottom - y1), (x0 - left, right - x1), (0, 0)), "edge")
        return Image.fromarray(whole).reduce(2)

    def _keep(self, key: tuple[str, int, int, int], tile: bytes) -> None:
        with self._lock:
            if key not in self._cache:
                self._cache[key] = tile
                self._cached += len(tile)
            while self._cached > CACHE_BYTES:
                self._cached -= len(self._cache.popitem(last=False)[1])

    @contextlib.contextmanager
    def _slide(self, source: Source) -> Iterator[Slide]:
        """An open slide, which stays open until the block ends."""
        key = (source.path, source.content)
        with self._lock:
            held = self._open.get(key)
            if held is not None:
                held.users += 1
                self._open.move_to_end(key)
        if held is None:
            held = self._admit(key, _Held(open_slide(source.path, mpp=source.mpp, icc=self._icc)))
        try:
            yield held.slide
        finally:
            with self._lock:
                held.users -= 1
                unused = held.dropped and held.users == 0
            if unused:
                held.slide.close()

    def _admit(self, key: tuple[Path, str], opened: _Held) -> _Held:
        """Keep a slide that was opened, unless another thread was quicker; drop the one unused the longest."""
        closing = []
        with self._lock:
            held = self._open.setdefault(key, opened)
            held.users += 1
            if held is not opened:
                closing.append(opened)
            while len(self._open) > OPEN_SLIDES:
                oldest = self._open.popitem(last=False)[1]
                oldest.dropped = True
                if oldest.users == 0:
                    closing.append(oldest)
        for one in closing:
            one.slide.close()
        return held
