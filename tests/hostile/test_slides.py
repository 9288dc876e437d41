"""Slides: TIFF that claims too much or points astray, DICOM that contradicts itself, bombs, and what is no slide."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import raw_tiff as tiff
from harness import Case, Hostile, by_name

sys.path.append(str(Path(__file__).parents[1] / "slides"))

pytest.importorskip("tifffile")
pytest.importorskip("openslide")
pytest.importorskip("imagecodecs")
pytest.importorskip("pydicom")

import imagecodecs
from dicom_files import jpeg as dicom_jpeg
from dicom_files import write_dicom
from pydicom.dataset import Dataset

Make = Callable[[Path], list[str]]
Write = Callable[[Path], object]

APERIO = b"Aperio Image Library v12\r\n512x512 [0,0 512x512] (256x256) JPEG/RGB Q=70|AppMag = 20|MPP = 0.5\0"
TORCH = "no_openvino"
LOTS = 1 << 17
"""Tiles whose offsets a file lists: enough for a slide that claims gigapixels."""


def opened(write: Write, name: str = "s.tif") -> Make:
    """Write a slide and open it, by the cheapest command that does."""

    def make(folder: Path) -> list[str]:
        (folder / "none.geojson").write_text('{"type": "FeatureCollection", "features": []}')
        write(folder / name)
        return ["annotations", "none.geojson", "--slide", name]

    return make


def scanned(write: Write, name: str = "s.tif") -> Make:
    """Write a slide and scan it."""

    def make(folder: Path) -> list[str]:
        write(folder / name)
        return ["scan", name, "--out", "maps", "--device", "cpu"]

    return make


def raw(values: dict[int, tiff.Value] | None = None, **options: object) -> Write:
    """A TIFF whose tags say these values."""
    return lambda path: tiff.raw_tiff(path, values, **options)  # type: ignore[arg-type]


def aperio(values: dict[int, tiff.Value] | None = None, **options: object) -> Write:
    """As :func:`raw`, for OpenSlide."""
    return raw({tiff.DESCRIPTION: APERIO, **(values or {})}, **options)


def content(data: bytes, size: int | None = None) -> Write:
    def write(path: Path) -> None:
        path.write_bytes(data)
        if size is not None:
            with path.open("r+b") as file:
                file.truncate(size)

    return write


def dicom(**tags: object) -> Write:
    """A DICOM slide of 128 x 128 pixels in four frames whose header says these values; None leaves one out."""

    def change(header: Dataset) -> None:
        for keyword, value in tags.items():
            if value is None:
                del header[keyword]
            else:
                setattr(header, keyword, value)

    return lambda path: write_dicom(path, tiff.tissue(128), mpp=0.5, change=change)


def dicom_of(frame: bytes) -> Write:
    return lambda path: write_dicom(path, tiff.tissue(128), mpp=0.5, code=lambda pixels: frame)


def claims(frame: bytes, side: int) -> bytes:
    """A JPEG whose header says that it has this many rows and columns."""
    at = frame.index(b"\xff\xc0") + 5
    return frame[:at] + side.to_bytes(2, "big") * 2 + frame[at + 4 :]


def webp_bomb() -> bytes:
    """A WebP that states 16,383 x 16,383 pixels, the most that one can: 805 MB."""
    data = bytes(imagecodecs.webp_encode(tiff.tissue(8), lossless=True))
    return (
        data[:21]
        + (16_382 | 16_382 << 14 | int.from_bytes(data[21:25], "little") & 0xF << 28).to_bytes(4, "little")
        + data[25:]
    )


def jpeg_xl_bomb() -> bytes:
    """A JPEG XL that states 60,000 x 60,000 pixels: a height in 30 bits, and a ratio of 1."""
    size = 3 << 1 | (60_000 - 1) << 3 | 1 << 33
    return b"\xff\x0a" + size.to_bytes(5, "little") + bytes(imagecodecs.jpegxl_encode(tiff.tissue(8)))[4:]


def jpeg_xr_bomb() -> bytes:
    """A JPEG XR whose picture states 65,536 x 65,536 pixels."""
    data = bytes(imagecodecs.jpegxr_encode(tiff.tissue(8)))
    at = data.index(b"WMPHOTO\0") + 12
    assert data[at - 2] & 0x80, "sizes of two bytes"
    return data[:at] + b"\xff" * 4 + data[at + 4 :]


def compressed(code: int) -> dict[int, tiff.Value]:
    return {tiff.COMPRESSION: code, tiff.PHOTOMETRIC: tiff.RGB}


def png_bomb(path: Path) -> None:
    """A PNG of 60,000 x 60,000 pixels in a few bytes."""
    head = (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1 << 20), 9)), (b"IEND", b""))
    data = b"".join(len(c).to_bytes(4, "big") + k + c + zlib.crc32(k + c).to_bytes(4, "big") for k, c in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 96\n{} loop\n"
TILE = tiff.jpeg(tiff.tissue())
BOMB = claims(TILE, 65_500)
SIDE = {tiff.WIDTH: 1 << 31, tiff.HEIGHT: 1 << 31}
FULL = {tiff.WIDTH: (1 << 32) - 1, tiff.HEIGHT: (1 << 32) - 1}
SPARSE = {tiff.OFFSETS: [0] * LOTS, tiff.SIZES: [0] * LOTS}
GIGAPIXELS = {tiff.WIDTH: 512 * 256, tiff.HEIGHT: 256 * 256, **SPARSE}
MANY = 1 << 24


def in_sparse_file(path: Path) -> None:
    """2^24 tiles, all empty, whose lists lie in the holes of a sparse file."""
    lists = {number: (tiff.LONG, MANY, (1 << 20).to_bytes(4, "little")) for number in (tiff.OFFSETS, tiff.SIZES)}
    tiff.raw_tiff(path, {tiff.WIDTH: 1 << 20, tiff.HEIGHT: 1 << 20, **lists}, size=(1 << 20) + 4 * MANY)


UNREADABLE = r"Refused: s\.\w+: this is not a slide that can be read"
DAMAGED = r"Refused: s\.\w+: the (slide|file) is damaged: "
TOO_MANY = r"Refused: s\.tif: the slide states .* pixels, and at most 200,000,000,000 in all are read"
TOO_FEW = r"Refused: s\.tif: the slide states 131,072 x 65,536 pixels, and a file of 1,\d\d\d,\d\d\d bytes cannot hold"
NO_TILE = r"Failed: s\.\w+: the tile in column 0, row 0 of level 0 cannot be decoded .*0 of 1 slides done"
LEAVES = ("maps", "maps/*")


def failed(name: str, make: Make, says: str) -> Case:
    """A slide that a scan counts as failed."""
    return Case(name, make, says, leaves=LEAVES, fault=TORCH)


TIFFS = [
    Case("2^31 pixels a side", opened(raw(SIDE)), TOO_MANY),
    Case("2^32 pixels a side for OpenSlide", opened(aperio(FULL)), TOO_MANY),
    Case(
        "tiles as large as memory",
        opened(raw({**FULL, tiff.TILE_WIDTH: 1 << 31, tiff.TILE_HEIGHT: 1 << 31})),
        "too many",
    ),
    Case("gigapixels without a tile", opened(raw(GIGAPIXELS)), TOO_FEW),
    Case("gigapixels for OpenSlide", opened(aperio(GIGAPIXELS)), TOO_FEW),
    Case("a trillion pixels in a sparse file", opened(in_sparse_file), "a tag of it has 16,777,216 values"),
    Case("tiles of no size", opened(raw({tiff.TILE_WIDTH: 0, tiff.TILE_HEIGHT: 0})), "512 x 512 pixels in tiles of"),
    Case("tiles of one pixel", opened(raw({tiff.TILE_WIDTH: 1, tiff.TILE_HEIGHT: 1})), DAMAGED),
    Case("65,535 samples", opened(raw({tiff.SAMPLES: 65_535})), "samples a pixel more than its colours"),
    Case("a page that is its own next", opened(raw(following=16 + len(TILE))), "point in a circle"),
    Case("BigTIFF with a page beyond the end", opened(raw(big=True, following=(1 << 63) - 1)), DAMAGED),
    Case("BigTIFF with tiles beyond the end", opened(raw({tiff.OFFSETS: [1 << 62] * 4}, big=True)), DAMAGED),
    Case("a list of 2^32 offsets", opened(raw({tiff.OFFSETS: (tiff.LONG, (1 << 32) - 1, b"\0\1\0\0")})), DAMAGED),
    Case("a description of megabytes", opened(raw({tiff.DESCRIPTION: b"<OME " + b"a" * 8_000_000})), "", code=0),
    failed("a JPEG bomb as tile", scanned(raw(tile=BOMB)), "it states 65500 x 65500 pixels, and the file says"),
    failed("a WebP bomb as tile", scanned(raw(compressed(50001), tile=webp_bomb())), "it states 16383 x 16383 pixels"),
    failed("a JPEG XL bomb as tile", scanned(raw(compressed(50002), tile=jpeg_xl_bomb())), "states 60000 x 60000"),
    failed("a JPEG XR bomb as tile", scanned(raw(compressed(22610), tile=jpeg_xr_bomb())), "states 65536 x 65536"),
    failed("a JPEG bomb for OpenSlide", scanned(aperio(tile=BOMB)), NO_TILE),
    failed("tiles of noise", scanned(raw(tile=b"noise" * 99)), NO_TILE),
    failed(
        "no microns per pixel",
        scanned(aperio({tiff.DESCRIPTION: APERIO.replace(b"0.5", b"0")})),
        "states 0 x 0 microns",
    ),
]

MATRIX = {"TotalPixelMatrixColumns": (1 << 32) - 1, "TotalPixelMatrixRows": (1 << 32) - 1}

DICOMS = [
    Case("frames of no rows", opened(dicom(Rows=0), "s.dcm"), "128 x 128 pixels in tiles of"),
    Case(
        "frames of 65,535 rows and columns", opened(dicom(Rows=65_535, Columns=65_535), "s.dcm"), "too many to decode"
    ),
    Case("a matrix of 2^32 pixels a side", opened(dicom(**MATRIX), "s.dcm"), "at most 200,000,000,000 in all"),
    Case("2^31 frames", opened(dicom(NumberOfFrames=(1 << 31) - 1), "s.dcm"), DAMAGED),
    Case(
        "one part of 2^16",
        opened(dicom(InConcatenationNumber=65_535), "s.dcm"),
        r"1, 2, 3, 4, 5, 6, 7, 8, \.\.\. is missing",
    ),
    Case("DICOM without pixels", opened(dicom(PixelData=None), "s.dcm"), "it holds no pixels"),
    failed(
        "DICOM bomb frames", scanned(dicom_of(claims(dicom_jpeg(tiff.tissue(64)), 65_500)), "s.dcm"), "65500 x 65500"
    ),
    Case("a DICOM head alone", opened(content(bytes(128) + b"DICM"), "s.dcm"), "header cannot be read"),
]

OTHERS = [
    Case("PostScript called svs", opened(content(EPS), "s.svs"), UNREADABLE),
    Case("text called ndpi", opened(content(b"id,label\na,1\n" * 99), "s.ndpi"), UNREADABLE),
    Case("nothing called svs", opened(content(b""), "s.svs"), UNREADABLE),
    Case("a sparse terabyte of zeros", opened(content(b"", 1 << 40), "s.svs"), UNREADABLE),
    Case("a folder called svs", opened(lambda path: path.mkdir(), "s.svs"), "this is a folder"),
    Case("a PNG bomb as slide", opened(png_bomb, "s.png"), "3,600,000,000 pixels in one piece"),
]

CASES = [*TIFFS, *DICOMS, *OTHERS]


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_slides(case: Case, hostile: Hostile) -> None:
    hostile(case)
