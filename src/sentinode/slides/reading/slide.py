"""A whole slide, read at any resolution.

:func:`open_slide` gives a :class:`Slide`. Its ``region`` cuts a picture out of it at any microns per pixel,
and its ``regions`` cuts many in order, in threads, decoding each tile of the file once.
"""

from __future__ import annotations

import io
import math
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from sentinode.errors import PictureError, SlideError
from sentinode.geometry import SAME_MPP
from sentinode.progress import console
from sentinode.slides.reading.containers import open_pyramid
from sentinode.slides.reading.dicom_series import slide_file
from sentinode.slides.reading.fingerprint import fingerprint
from sentinode.slides.reading.pyramid import UNREADABLE, WHITE, Level, Pixels, Pyramid

SLIDE_SUFFIXES = frozenset(
    ".svs .tif .tiff .btf .tf8 .ndpi .mrxs .scn .bif .vms .vmu .svslide .dcm".split()  # noqa: SIM905
)
"""Endings by which a slide in a folder is known; a flat picture has to be named by itself."""

Box = tuple[float, float, int, int]
"""x and y of the upper left corner in level-0 pixels; width and height in pixels of the output."""

SANE_MPP = (0.05, 50.0)
AXES_TOLERANCE = 0.02
LEVEL_TOLERANCE = 1.01
STORE_BYTES = 64 << 20
SCAN_STORE_BYTES = 512 << 20
THUMBNAIL_SOURCE = 1024
"""Pixels of the level along a piece of a thumbnail: several pieces, each held twice, are in memory at a time."""


def open_slide(path: str | Path, *, mpp: float | None = None, icc: bool = False) -> Slide:
    """Open a slide.

    Args:
        path: SVS, NDPI, MRXS, SCN, BIF, DICOM, TIFF, OME-TIFF, PNG or JPEG. Any file of a DICOM series stands for the
            series; the slide's ``path`` is then its finest instance.
        mpp: microns per level-0 pixel; overrides the value of the file.
        icc: convert colours to sRGB with the slide's ICC profile, if it has one.

    Raises:
        SlideError: the file is missing, is damaged or is not a slide, its levels disagree, or ``mpp`` is out of range.
    """
    path = slide_file(Path(path))
    pyramid = open_pyramid(path)
    try:
        slide = Slide(path, pyramid, mpp=mpp, icc=icc)
    except BaseException:
        pyramid.close()
        raise
    for note in slide.notes:
        console.print(f"{path.name}: {note}", markup=False)
    return slide


class Slide:
    """A whole slide: a pyramid of pictures of one piece of glass. Use it from any thread; close it after use.

    Attributes:
        path: the file.
        width, height: size in level-0 pixels.
        levels: from the finest to the coarsest.
        bounds: left, top, width and height, in level-0 pixels, of the part that the scanner filled, or None.
        notes: messages on the file for the user, one sentence each; :func:`open_slide` prints them.
    """

    def __init__(self, path: Path, pyramid: Pyramid, *, mpp: float | None = None, icc: bool = False) -> None:
        self.path, self.levels = path, pyramid.levels
        self.width, self.height = self.levels[0].width, self.levels[0].height
        self.bounds, self.notes = pyramid.bounds, pyramid.notes
        self._pyramid = pyramid
        self._named_mpp = mpp
        if mpp is not None and not SANE_MPP[0] <= mpp <= SANE_MPP[1]:
            raise SlideError(
                f"--mpp {mpp:g} is not a resolution of a microscope slide.",
                where=path,
                hint="Give microns per pixel: 0.25 for a 40x scan, 0.5 for 20x, 1 for 10x.",
            )
        self._store = _TileStore(pyramid, path, STORE_BYTES)
        self._colours = _to_srgb(path, pyramid.icc) if icc and pyramid.icc else None

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._pyramid.close()

    @cached_property
    def mpp(self) -> float:
        """Microns per level-0 pixel.

        Raises:
            SlideError: the file states none, an absurd one, or one for x and another for y, and none was
                given.
        """
        if self._named_mpp is not None:
            return self._named_mpp
        hint = "Give it with --mpp: about 0.25 for a 40x scan, 0.5 for 20x, 1 for 10x."
        if self._pyramid.mpp is None:
            raise SlideError("the slide does not state its microns per pixel.", where=self.path, hint=hint)
        x, y = self._pyramid.mpp
        if not all(math.isfinite(value) and SANE_MPP[0] <= value <= SANE_MPP[1] for value in (x, y)):
            raise SlideError(
                f"the slide states {x:g} x {y:g} microns per pixel, which no scanner makes; "
                "a picture's printing resolution is often mistaken for it.",
                where=self.path,
                hint=hint,
            )
        if abs(x / y - 1) > AXES_TOLERANCE:
            raise SlideError(
                f"the slide states {x:g} microns per pixel in x and {y:g} in y, and they should agree.",
                where=self.path,
                hint=hint,
            )
        return (x + y) / 2

    @cached_property
    def fingerprint(self) -> str:
        """What the slide is, wherever it lies: see :mod:`sentinode.slides.reading.fingerprint`."""
        return fingerprint(self.path)

    def region(self, x: float, y: float, width: int, height: int, mpp: float) -> Pixels:
        """A picture of part of the slide.

        It is reduced, with an antialiasing (bicubic) filter, from the coarsest level that is at least as
        fine; a slide coarser than ``mpp`` is enlarged. Where a level has that resolution to half a percent, and
        the difference stays within half a pixel over the picture, pixels are copied and not interpolated.

        Args:
            x, y: upper left corner in level-0 pixels; fractions count, to the nearest pixel where they are copied.
            width, height: size of the picture in its own pixels.
            mpp: microns per pixel of the picture.

        Returns:
            uint8 (height, width, 3) RGB, white beyond the slide's edges.

        Raises:
            SlideError: the slide's resolution is unknown, or a tile cannot be decoded.
        """
        return self._render((x, y, width, height), mpp, self._store)

    def regions(self, boxes: Sequence[Box], mpp: float, *, threads: int = 2) -> Iterator[Pixels]:
        """Pictures of ``boxes``, in order, made ahead in ``threads`` threads, as ``region`` makes them.

        A tile that several boxes share is decoded once, and kept until the last of them is made.

        Raises:
            SlideError: as for ``region``.
        """
        number = self._level_for(mpp)
        store = _TileStore(self._pyramid, self.path, SCAN_STORE_BYTES)
        store.expect(self.levels[number], (self._source(box, mpp, number) for box in boxes))
        waiting: deque[Future[Pixels]] = deque()
        with ThreadPoolExecutor(threads, thread_name_prefix="slide") as pool:
            try:
                for box in boxes:
                    waiting.append(pool.submit(self._render, box, mpp, store))
                    if len(waiting) > threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def thumbnail(self, mpp: float) -> Pixels:
        """The whole slide at ``mpp`` microns per pixel: uint8 (rows, columns, 3), made piece by piece."""
        scale = mpp / self.mpp
        width, height = (max(1, math.ceil(side / scale - 1e-6)) for side in (self.width, self.height))
        level = self.levels[self._level_for(mpp)]
        side = max(16, int(THUMBNAIL_SOURCE * level.downsample / scale))
        boxes = [
            (left * scale, top * scale, min(side, width - left), min(side, height - top))
            for top in range(0, height, side)
            for left in range(0, width, side)
        ]
        whole = np.empty((height, width, 3), np.uint8)
        for (x, y, w, h), part in zip(boxes, self.regions(boxes, mpp), strict=True):
            left, top = round(x / scale), round(y / scale)
            whole[top : top + h, left : left + w] = part
        return whole

    def windows_mpp(self, mpp: float) -> float:
        """The resolution at which to read windows that are wanted at ``mpp`` microns per pixel.

        It is that of the level which has it to half a percent, so that all of the level's pixels can be copied and
        none drifts from its place, however far from the slide's corner; and else ``mpp`` itself.
        """
        own = [self.mpp * level.downsample for level in self.levels]
        return next((one for one in own if abs(one / mpp - 1) <= SAME_MPP), mpp)

    def _level_for(self, mpp: float) -> int:
        """The coarsest level that is at least as fine as ``mpp``, give or take a hundredth."""
        limit = mpp * LEVEL_TOLERANCE / self.mpp
        fine = [i for i, level in enumerate(self.levels) if level.downsample <= limit]
        return fine[-1] if fine else 0

    def _source(self, box: Box, mpp: float, number: int) -> _Source:
        x, y, width, height = box
        level, scale = self.levels[number], mpp / self.mpp
        return _Source(
            (x / level.downsample_x, y / level.downsample_y),
            (width, height),
            (scale / level.downsample_x, scale / level.downsample_y),
        )

    def _render(self, box: Box, mpp: float, store: _TileStore) -> Pixels:
        number = self._level_for(mpp)
        source = self._source(box, mpp, number)
        left, top, right, bottom = source.bounds
        pixels = store.pixels(number, left, top, right, bottom)
        if not source.is_copy:
            image = Image.fromarray(pixels)
            pixels = np.asarray(image.resize(source.size, Image.Resampling.BICUBIC, box=source.within(left, top)))
        if self._colours is not None:
            pixels = np.asarray(ImageCms.applyTransform(Image.fromarray(pixels), self._colours))
        return pixels


class _Source:
    """Where a picture comes from: a box of a level, and how many of its pixels make one of the picture's.

    Where these are one and the same to ``SAME_MPP``, and the difference adds up to no more than half a pixel from the
    picture's middle to its edge, pixels are copied from the nearest whole place: interpolation would blur them, which
    changes what a network says of them, and put nothing more than half a pixel nearer to where it belongs.
    """

    def __init__(self, corner: tuple[float, float], size: tuple[int, int], scale: tuple[float, float]) -> None:
        self.size, self.scale = size, scale
        self.is_copy = all(abs(factor - 1) <= min(SAME_MPP, 1 / side) for side, factor in zip(size, scale, strict=True))
        x, y = (start + side * (factor - 1) / 2 for start, side, factor in zip(corner, size, scale, strict=True))
        self.corner = (math.floor(x + 0.5 - 1e-6), math.floor(y + 0.5 - 1e-6)) if self.is_copy else corner

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom in pixels of the level."""
        (x, y), (width, height), (across, down) = self.corner, self.size, self.scale
        return x, y, x + width * across, y + height * down

    def within(self, left: int, top: int) -> tuple[float, float, float, float]:
        """The box in a cut-out of the level that begins at ``left`` and ``top``."""
        x, y, right, bottom = self.box
        return x - left, y - top, right - left, bottom - top

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the level's pixels that the picture depends on."""
        if self.is_copy:
            x, y = (round(start) for start in self.corner)
            return x, y, x + self.size[0], y + self.size[1]
        left, top, right, bottom = self.box
        across, down = (2 * max(factor, 1.0) for factor in self.scale)  # half the width of the bicubic filter
        return (
            math.floor(left - across),
            math.floor(top - down),
            math.ceil(right + across),
            math.ceil(bottom + down),
        )


class _TileStore:
    """Decoded tiles, shared between threads so that each is decoded by one of them only.

    Once told what to ``expect``, it keeps a tile until its last use; otherwise it keeps the newest. Either
    way it holds no more than ``limit`` bytes: on a slide too wide for that a tile may be decoded again.
    """

    def __init__(self, pyramid: Pyramid, path: Path, limit: int) -> None:
        self._pyramid, self._path, self._limit = pyramid, path, limit
        self._lock = threading.Lock()
        self._tiles: dict[tuple[int, int, int], Future[Pixels]] = {}
        self._held = 0
        self._uses: NDArray[np.int32] | None = None

    def expect(self, level: Level, sources: Iterable[_Source]) -> None:
        """Learn how often each tile of ``level`` will be used."""
        self._uses = np.zeros((level.rows, level.columns), np.int32)
        for source in sources:
            columns, rows = _tiles_of(level, *source.bounds)
            self._uses[rows.start : rows.stop, columns.start : columns.stop] += 1

    def pixels(self, number: int, left: int, top: int, right: int, bottom: int) -> Pixels:
        """uint8 (bottom - top, right - left, 3) of a level, white beyond its edges."""
        level = self._pyramid.levels[number]
        out = np.full((bottom - top, right - left, 3), WHITE, np.uint8)
        columns, rows = _tiles_of(level, left, top, right, bottom)
        for row in rows:
            for column in columns:
                tile = self._tile(number, column, row)
                x, y, width, height = level.tile_box(column, row)
                x0, y0 = max(x, left), max(y, top)
                x1, y1 = min(x + width, right), min(y + height, bottom)
                out[y0 - top : y1 - top, x0 - left : x1 - left] = tile[y0 - y : y1 - y, x0 - x : x1 - x]
                self._release(number, column, row)
        return out

    def _tile(self, number: int, column: int, row: int) -> Pixels:
        key = (number, column, row)
        with self._lock:
            future = self._tiles.get(key)
            if future is not None:
                # To the end of the queue: what was not asked for the longest time goes first.
                self._tiles[key] = self._tiles.pop(key)
            mine = future is None
            if future is None:
                future = self._tiles[key] = Future()
        if mine:
            try:
                future.set_result(self._decode(number, column, row))
            except BaseException as error:
                with self._lock:
                    self._tiles.pop(key, None)
                future.set_exception(error)
            else:
                self._admit(future.result().nbytes)
        return future.result()

    def _decode(self, number: int, column: int, row: int) -> Pixels:
        try:
            return self._pyramid.tile(number, column, row)
        except PictureError as error:
            raise SlideError(error.what, where=self._path, hint=error.hint) from error
        # The decoders' errors have no common base; whichever it is, this part of the slide cannot be read.
        except Exception as error:
            lines = str(error).splitlines() or [error.__class__.__name__]
            raise SlideError(
                f"the tile in column {column}, row {row} of level {number} cannot be decoded ({lines[0]}).",
                where=self._path,
                hint=f"The slide is damaged or only partly copied. {UNREADABLE}",
            ) from error

    def _admit(self, size: int) -> None:
        with self._lock:
            self._held += size
            while self._held > self._limit:
                oldest = next((key for key, future in self._tiles.items() if future.done()), None)
                if oldest is None:
                    return
                self._held -= self._tiles.pop(oldest).result().nbytes

    def _release(self, number: int, column: int, row: int) -> None:
        with self._lock:
            if self._uses is None:
                return
            self._uses[row, column] -= 1
            if self._uses[row, column] == 0:
                future = self._tiles.pop((number, column, row), None)
                if future is not None:
                    self._held -= future.result().nbytes


def _tiles_of(level: Level, left: int, top: int, right: int, bottom: int) -> tuple[range, range]:
    """Columns and rows of the tiles that a box of the level touches."""
    left, right = max(left, 0), min(right, level.width)
    top, bottom = max(top, 0), min(bottom, level.height)
    if left >= right or top >= bottom:
        return range(0), range(0)
    columns = range(left // level.tile_width, -(-right // level.tile_width))
    rows = range(top // level.tile_height, -(-bottom // level.tile_height))
    return columns, rows


def _to_srgb(path: Path, profile: bytes) -> ImageCms.ImageCmsTransform:
    """A transform from an ICC profile's colours to sRGB that threads can share."""
    try:
        return ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            "RGB",
            "RGB",
            flags=ImageCms.Flags.NOCACHE,
        )
    except (ImageCms.PyCMSError, OSError) as error:
        raise SlideError(
            f"the slide's ICC profile cannot be applied ({error}).", where=path, hint="Scan it without --icc."
        ) from error
