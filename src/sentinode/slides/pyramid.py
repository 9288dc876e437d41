"""The files that slides come in, each as a pyramid of tiles.

:func:`open_pyramid` finds the library that can read a file: OpenSlide for scanners' formats, tifffile for
the TIFFs that OpenSlide refuses, pydicom for the DICOM that it refuses, Pillow for flat pictures. What
comes back always looks the same: levels of RGB tiles, the microns per pixel that the file states, and its
ICC profile.
"""

from __future__ import annotations

import io
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sentinode.errors import SlideError

Pixels = NDArray[np.uint8]

WHITE = 255
MAX_PIXELS_AT_ONCE = 400_000_000
"""Pixels that a file without tiles may have, since such a file can only be decoded as a whole."""

UNREADABLE = "Copy or export the slide again; if it opens elsewhere, save it as a tiled TIFF."


@dataclass(frozen=True)
class Level:
    """One resolution of a slide: its size, that of its tiles, and level-0 pixels per pixel of this level."""

    width: int
    height: int
    tile_width: int
    tile_height: int
    downsample: float

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
    """

    levels: tuple[Level, ...]
    mpp: tuple[float, float] | None = None
    icc: bytes | None = None

    @abstractmethod
    def tile(self, level: int, column: int, row: int) -> Pixels:
        """uint8 (height, width, 3) RGB of one tile, white where the file has nothing; from any thread."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""


def open_pyramid(path: Path) -> Pyramid:
    """Open a slide with the first library that reads it.

    Raises:
        SlideError: no library reads the file; the message has each one's reason.
    """
    if not path.is_file():
        what = "this is a folder, not a slide." if path.is_dir() else "there is no such file."
        raise SlideError(what, where=path, hint="Name a slide's file, such as slide.svs.")
    try:
        import openslide  # noqa: F401
        import pydicom  # noqa: F401
        import tifffile  # noqa: F401
    except ImportError as error:
        raise SlideError(
            f"reading slides needs {error.name}, which is not installed.",
            hint="Install it with: pip install 'sentinode[slides]'",
        ) from error
    with path.open("rb") as file:
        head = file.read(132)
    readers: list[type[Pyramid]] = [OpenSlidePyramid]
    if head[:2] in (b"II", b"MM"):
        # Of an OME-TIFF, OpenSlide would see neither the levels nor the resolution.
        readers = [TiffPyramid, OpenSlidePyramid] if _inspect(path) else [OpenSlidePyramid, TiffPyramid]
    elif head[128:132] == b"DICM":
        readers.append(DicomPyramid)
    else:
        readers.append(FlatPyramid)
    reasons = []
    for reader in readers:
        try:
            pyramid = reader(path)  # type: ignore[call-arg]
        except SlideError:
            raise
        # Each library fails in its own ways on a damaged file, down to struct.error; all mean the same here.
        except Exception as error:
            reasons.append(f"{reader.__name__.removesuffix('Pyramid')}: {_first_line(error)}")
            continue
        _require_agreement(path, pyramid.levels)
        return pyramid
    raise SlideError(
        f"this is not a slide that can be read, or it is damaged ({'; '.join(reasons)}).",
        where=path,
        hint=UNREADABLE,
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else error.__class__.__name__


def _inspect(path: Path) -> bool:
    """Whether a TIFF is an OME-TIFF.

    Raises:
        SlideError: it ends before its last tile, which a scan would otherwise meet hours later.
    """
    import tifffile

    size, needed = path.stat().st_size, 0
    try:
        with tifffile.TiffFile(path) as tiff:
            ome = bool(tiff.is_ome)
            for page in tiff.pages:
                offsets = np.asarray(page.dataoffsets, np.int64)
                ends = offsets + np.asarray(page.databytecounts, np.int64)
                needed = max(needed, int(ends.max(initial=0)))
    # What tifffile cannot parse, OpenSlide may still read; if not, both reasons are told.
    except Exception:
        return False
    if needed > size:
        raise SlideError(
            f"the slide is damaged: it ends after {size:,} bytes, and its tiles need {needed:,}.",
            where=path,
            hint="It was only partly copied. Copy it again.",
        )
    return ome


def _require_agreement(path: Path, levels: Sequence[Level]) -> None:
    """Refuse a pyramid whose levels cannot all show the same slide."""
    base = levels[0]
    for number, level in enumerate(levels[1:], start=1):
        expected = base.width / level.downsample, base.height / level.downsample
        off = max(abs(level.width - expected[0]) / expected[0], abs(level.height - expected[1]) / expected[1])
        # Scanners round a level's size to whole pixels, and some cut it to whole tiles.
        slack = 0.02 + 2 / min(level.width, level.height)
        if off > slack or level.downsample <= levels[number - 1].downsample:
            raise SlideError(
                f"the slide's levels disagree: level {number} has {level.width} x {level.height} pixels, "
                f"which is not a smaller picture of level 0 with {base.width} x {base.height}.",
                where=path,
                hint=UNREADABLE,
            )


def _levels(sizes: Sequence[tuple[int, int]], tiles: Sequence[tuple[int, int]]) -> tuple[Level, ...]:
    """Levels from their (width, height) and their tiles' (width, height)."""
    width, height = sizes[0]
    return tuple(
        Level(w, h, tile_width, tile_height, (width / w + height / h) / 2)
        for (w, h), (tile_width, tile_height) in zip(sizes, tiles, strict=True)
    )


class OpenSlidePyramid(Pyramid):
    """What OpenSlide reads: SVS, NDPI, MRXS, SCN, BIF, VMS, Philips and Ventana TIFF, generic TIFF, DICOM."""

    def __init__(self, path: Path) -> None:
        import openslide

        self._slide = openslide.OpenSlide(path)
        properties = self._slide.properties

        def tile_side(level: int, name: str) -> int:
            return int(properties.get(f"openslide.level[{level}].tile-{name}", 512))

        tiles = [(tile_side(i, "width"), tile_side(i, "height")) for i in range(self._slide.level_count)]
        self.levels = _levels(self._slide.level_dimensions, tiles)
        with suppress(KeyError, ValueError):
            self.mpp = float(properties["openslide.mpp-x"]), float(properties["openslide.mpp-y"])
        profile = self._slide.color_profile
        self.icc = profile.tobytes() if profile else None

    def tile(self, level: int, column: int, row: int) -> Pixels:
        shape = self.levels[level]
        left, top, width, height = shape.tile_box(column, row)
        corner = round(left * shape.downsample), round(top * shape.downsample)
        return _on_white(self._slide.read_region(corner, level, (width, height)))

    def close(self) -> None:
        self._slide.close()


def _on_white(rgba: Image.Image) -> Pixels:
    """uint8 (h, w, 3): transparent pixels, which the scanner left out, become white."""
    if rgba.getchannel("A").getextrema() != (WHITE, WHITE):
        rgba = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(rgba.convert("RGB"))


class TiffPyramid(Pyramid):
    """TIFF and OME-TIFF, tiled or in strips, through tifffile."""

    def __init__(self, path: Path) -> None:
        import tifffile

        self._path = path
        self._tiff = tifffile.TiffFile(path)
        series = max(self._tiff.series, key=lambda one: one.size)
        pages = [level.keyframe for level in series.levels]
        _require_rgb(path, pages[0].axes, pages[0].dtype, pages[0].shape)
        self._pages = [page for page in pages if page.axes == pages[0].axes]
        self.levels = _levels(
            [(page.imagewidth, page.imagelength) for page in self._pages],
            [
                (page.tilewidth, page.tilelength)
                if page.is_tiled
                else (page.imagewidth, min(page.rowsperstrip, page.imagelength))
                for page in self._pages
            ],
        )
        for level in self.levels:
            _require_bounded(path, level.tile_width * level.tile_height)
        self.mpp = _ome_mpp(self._tiff.ome_metadata) or _resolution_mpp(self._pages[0])
        profile = self._pages[0].tags.get("InterColorProfile")
        self.icc = bytes(profile.value) if profile else None
        self._file, self._lock = path.open("rb"), threading.Lock()

    def tile(self, level: int, column: int, row: int) -> Pixels:
        page, shape = self._pages[level], self.levels[level]
        _, _, width, height = shape.tile_box(column, row)
        index = row * shape.columns + column
        size = page.databytecounts[index]
        if size == 0:
            return np.full((height, width, 3), WHITE, np.uint8)
        with self._lock:
            self._file.seek(page.dataoffsets[index])
            data = self._file.read(size)
        if len(data) < size:
            raise ValueError("the file ends before this tile")
        decoded = cast(Pixels, page.decode(data, index, jpegtables=page.jpegtables)[0])
        return np.ascontiguousarray(decoded[0, :height, :width, :3])

    def close(self) -> None:
        self._file.close()
        self._tiff.close()


def _require_rgb(path: Path, axes: str, dtype: object, shape: tuple[int, ...]) -> None:
    if axes != "YXS" or shape[-1] not in (3, 4) or dtype != np.uint8:
        raise SlideError(
            f"the image is {dtype} with axes {axes} {shape}, and Sentinode reads RGB of 8 bits a channel.",
            where=path,
            hint="Export the slide as 8-bit RGB, with the channels of a pixel side by side.",
        )


def _require_bounded(path: Path, pixels: int) -> None:
    if pixels > MAX_PIXELS_AT_ONCE:
        raise SlideError(
            f"the image has {pixels:,} pixels in one piece, too many to decode at once.",
            where=path,
            hint="Save it as a tiled TIFF: vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg",
        )


MICRONS = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "pm": 1e-6}


def _ome_mpp(metadata: str | None) -> tuple[float, float] | None:
    """Microns per pixel from OME-XML, whose default unit is the micron."""
    import tifffile

    if not metadata:
        return None
    with suppress(KeyError, ValueError, TypeError):
        image = tifffile.xml2dict(metadata)["OME"]["Image"]
        pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
        x, y = (
            float(pixels[f"PhysicalSize{axis}"]) * MICRONS[pixels.get(f"PhysicalSize{axis}Unit", "µm")] for axis in "XY"
        )
        return x, y
    return None


def _resolution_mpp(page: Any) -> tuple[float, float] | None:
    """Microns per pixel from a TIFF page's resolution, which counts pixels per inch or per centimetre."""
    unit = page.tags.get("ResolutionUnit")
    microns = {2: 25_400.0, 3: 10_000.0}.get(int(unit.value) if unit else 2)
    values = []
    for name in ("XResolution", "YResolution"):
        tag = page.tags.get(name)
        if tag is None or not tag.value[0] or not tag.value[1] or microns is None:
            return None
        values.append(microns * tag.value[1] / tag.value[0])
    return values[0], values[1]


class FlatPyramid(Pyramid):
    """A PNG, JPEG or other flat picture, decoded as a whole when its first pixel is asked for."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._pixels: Pixels | None = None
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            with Image.open(path) as image:
                self.levels = _levels([image.size], [(min(image.width, 1024), min(image.height, 1024))])
                dpi = image.info.get("dpi")
                self.icc = image.info.get("icc_profile")
        finally:
            Image.MAX_IMAGE_PIXELS = limit
        _require_bounded(path, self.levels[0].width * self.levels[0].height)
        if dpi and min(dpi) > 0:
            self.mpp = 25_400 / float(dpi[0]), 25_400 / float(dpi[1])

    def tile(self, level: int, column: int, row: int) -> Pixels:
        with self._lock:
            if self._pixels is None:
                self._pixels = self._decode()
        left, top, width, height = self.levels[0].tile_box(column, row)
        return self._pixels[top : top + height, left : left + width]

    def _decode(self) -> Pixels:
        with Image.open(self._path) as image:
            if image.mode in ("RGB", "L", "P"):
                return np.asarray(image.convert("RGB"))
            return _on_white(image.convert("RGBA"))

    def close(self) -> None:
        self._pixels = None


class DicomPyramid(Pyramid):
    """One instance of a DICOM whole-slide image, through pydicom: a single level of frames.

    OpenSlide reads a whole series, and is asked first; it refuses instances that lack attributes of the
    standard.
    """

    def __init__(self, path: Path) -> None:
        import pydicom
        from pydicom.encaps import parse_basic_offsets, parse_fragments

        self._lock = threading.Lock()
        self._file: BinaryIO = path.open("rb")
        try:
            header = pydicom.dcmread(self._file, stop_before_pixels=True)
            self._file.seek(12, io.SEEK_CUR)  # the tag, VR and length of the pixel data
            if not header.file_meta.TransferSyntaxUID.is_encapsulated:
                raise ValueError("its pixels are not compressed, which this reader does not expect")
            parse_basic_offsets(self._file)
            _, self._offsets = parse_fragments(self._file)
            self._size = path.stat().st_size
        except Exception:
            self._file.close()
            raise
        self._photometric = str(header.PhotometricInterpretation)
        width, height = int(header.TotalPixelMatrixColumns), int(header.TotalPixelMatrixRows)
        self.levels = _levels([(width, height)], [(int(header.Columns), int(header.Rows))])
        self._frames = self._places(header)
        if len(self._offsets) < len(self._frames):
            counts = f"{len(self._offsets)} frames where its header counts {len(self._frames)}"
            raise ValueError(f"it has {counts}")
        self.mpp = _dicom_mpp(header)

    def _places(self, header: Any) -> dict[tuple[int, int], int]:
        """Which frame shows the tile of a column and row (DICOM PS3.3 C.7.6.17.3)."""
        (level,) = self.levels
        groups = header.get("PerFrameFunctionalGroupsSequence")
        if header.get("DimensionOrganizationType") == "TILED_SPARSE" and groups:
            return {_dicom_place(group, level): frame for frame, group in enumerate(groups)}
        by_rows = {(i % level.columns, i // level.columns): i for i in range(level.columns * level.rows)}
        if header.get("DimensionOrganizationType") == "TILED_FULL":
            return by_rows
        # Instances older than TILED_FULL do not say whether frames go by rows or by columns: see which fit.
        by_columns = {(i // level.rows, i % level.rows): i for i in range(level.columns * level.rows)}
        return min((by_rows, by_columns), key=self._misfit)

    def _misfit(self, places: dict[tuple[int, int], int]) -> float:
        """Mean difference in grey levels across the seam of tiles that would lie side by side."""
        seams = [(place, (place[0] + 1, place[1])) for place in places if (place[0] + 2, place[1]) in places]
        steps = []
        for left, right in seams[:: max(1, len(seams) // 32)]:
            one, other = (self._decode(self._read(places[place])) for place in (left, right))
            steps.append(float(np.abs(one[:, -1].astype(int) - other[:, 0]).mean()))
        return float(np.mean(steps)) if steps else 0.0

    def tile(self, level: int, column: int, row: int) -> Pixels:
        _, _, width, height = self.levels[0].tile_box(column, row)
        frame = self._frames.get((column, row))
        if frame is None:
            return np.full((height, width, 3), WHITE, np.uint8)
        return self._decode(self._read(frame))[:height, :width]

    def _read(self, frame: int) -> bytes:
        with self._lock:
            self._file.seek(self._offsets[frame] + 4)  # past the item's tag
            size = int.from_bytes(self._file.read(4), "little")
            data = self._file.read(size)
        if len(data) < size:
            raise ValueError("the file ends before this frame")
        return data

    def _decode(self, data: bytes) -> Pixels:
        if self._photometric == "RGB" and data[:2] == b"\xff\xd8" and not _names_its_colours(data):
            import imagecodecs

            return np.asarray(imagecodecs.jpeg8_decode(data, colorspace="RGB", outcolorspace="RGB"))
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))

    def close(self) -> None:
        self._file.close()


def _names_its_colours(jpeg: bytes) -> bool:
    """Whether a JPEG says by itself what its components are, with a JFIF or an Adobe marker."""
    return b"JFIF" in jpeg[:32] or b"Adobe" in jpeg[:64]


def _dicom_place(group: Any, level: Level) -> tuple[int, int]:
    """Column and row of the tile that a frame's functional groups name."""
    place = group.PlanePositionSlideSequence[0]
    column = (int(place.ColumnPositionInTotalImagePixelMatrix) - 1) // level.tile_width
    row = (int(place.RowPositionInTotalImagePixelMatrix) - 1) // level.tile_height
    return column, row


def _dicom_mpp(header: Any) -> tuple[float, float] | None:
    """Microns per pixel of a DICOM slide: its pixel spacing, else the volume's size over the matrix's."""
    with suppress(AttributeError, IndexError, TypeError):
        shared = header.SharedFunctionalGroupsSequence[0]
        vertical, horizontal = shared.PixelMeasuresSequence[0].PixelSpacing
        return 1e3 * float(horizontal), 1e3 * float(vertical)
    with suppress(AttributeError, TypeError, ZeroDivisionError):
        return (
            1e3 * float(header.ImagedVolumeWidth) / int(header.TotalPixelMatrixColumns),
            1e3 * float(header.ImagedVolumeHeight) / int(header.TotalPixelMatrixRows),
        )
    return None
