"""Slides: TIFF that claims too much or points astray, DICOM that contradicts itself, bombs, and what is no slide."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import raw_tiff as tiff
from harness import Case, Hostile, by_name

sys.path.append(str(Path(__file__).parents[1] / "slides"))

pytest.importorskip("tifffile")
pytest.importorskip("openslide")
pytest.importorskip("imagecodecs")
pytest.importorskip("pydicom")

from dicom_files import jpeg as dicom_jpeg  # noqa: E402
from dicom_files import write_dicom  # noqa: E402
from pydicom.dataset import Dataset  # noqa: E402

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
TABLE = bytes(4 * LOTS)


def in_sparse_file(path: Path) -> None:
    """2^24 tiles, all empty, whose lists lie in the holes of a sparse file."""
    lists = {number: (tiff.LONG, MANY, (1 << 20).to_bytes(4, "little")) for number in (tiff.OFFSETS, tiff.SIZES)}
    tiff.raw_tiff(path, {tiff.WIDTH: 1 << 20, tiff.HEIGHT: 1 << 20, **lists}, size=(1 << 20) + 4 * MANY)


TIFFS = [
    Case("2^31 pixels a side", opened(raw(SIDE)), "X"),
    Case("2^32 pixels a side", opened(raw(FULL)), "X"),
    Case("2^31 pixels a side for OpenSlide", opened(aperio(SIDE)), "X"),
    Case("2^31 pixels in one row", opened(raw({tiff.WIDTH: 1 << 31})), "X"),
    Case("huge tiles", opened(raw({**SIDE, tiff.TILE_WIDTH: 1 << 20, tiff.TILE_HEIGHT: 1 << 20})), "X"),
    Case("tiles as large as memory", opened(raw({**FULL, tiff.TILE_WIDTH: 1 << 31, tiff.TILE_HEIGHT: 1 << 31})), "X"),
    Case("gigapixels without a tile", opened(raw(GIGAPIXELS)), "X"),
    Case("gigapixels without a tile scanned", scanned(raw(GIGAPIXELS)), "X"),
    Case("a trillion pixels in a sparse file", opened(in_sparse_file), "X"),
    Case("gigapixels for OpenSlide", opened(aperio(GIGAPIXELS)), "X"),
    Case("tiles of no size", opened(raw({tiff.TILE_WIDTH: 0, tiff.TILE_HEIGHT: 0})), "X"),
    Case("tiles of no width", opened(raw({tiff.TILE_WIDTH: 0})), "X"),
    Case("tiles of no size for OpenSlide", opened(aperio({tiff.TILE_WIDTH: 0, tiff.TILE_HEIGHT: 0})), "X"),
    Case("tiles of one pixel", opened(raw({tiff.TILE_WIDTH: 1, tiff.TILE_HEIGHT: 1})), "X"),
    Case("no width", opened(raw({tiff.WIDTH: 0})), "X"),
    Case("no width stated", opened(raw({tiff.WIDTH: None})), "X"),
    Case("65,535 samples", opened(raw({tiff.SAMPLES: 65_535})), "X"),
    Case("65,535 samples of RGB", opened(raw({tiff.SAMPLES: 65_535, tiff.PHOTOMETRIC: tiff.RGB, tiff.COMPRESSION: 1})), "X"),
    Case("65,535 samples for OpenSlide", opened(aperio({tiff.SAMPLES: 65_535})), "X"),
    Case("no samples", opened(raw({tiff.SAMPLES: 0})), "X"),
    Case("samples of 2^31 bits", opened(raw({tiff.BITS: [1 << 31] * 3})), "X"),
    Case("a page that is its own next", opened(raw(following=16 + len(TILE))), "X"),
    Case("a next page beyond the end", opened(raw(following=1 << 31)), "X"),
    Case("a next page in the tiles", opened(raw(following=20)), "X"),
    Case("BigTIFF with a next page beyond the end", opened(raw(big=True, following=(1 << 63) - 1)), "X"),
    Case("BigTIFF with tiles beyond the end", opened(raw({tiff.OFFSETS: [1 << 62] * 4}, big=True)), "X"),
    Case("BigTIFF with offsets of 64 bits", opened(raw({tiff.OFFSETS: [(1 << 64) - 1] * 4}, big=True)), "X"),
    Case("BigTIFF with sizes of 64 bits", opened(raw({tiff.SIZES: [(1 << 64) - 1] * 4}, big=True)), "X"),
    Case("tiles beyond the end", opened(raw({tiff.OFFSETS: [1 << 31] * 4})), "X"),
    Case("a list of 2^32 offsets", opened(raw({tiff.OFFSETS: (tiff.LONG, (1 << 32) - 1, b"\0\1\0\0")})), "X"),
    Case("a description of megabytes", opened(raw({tiff.DESCRIPTION: b"<OME " + b"a" * 8_000_000})), "X"),
    Case("a description of megabytes for OpenSlide", opened(aperio({tiff.DESCRIPTION: APERIO[:-1] + b"|a = b" * 1_000_000 + b"\0"})), "X"),
    Case("OME-XML nested deeply", opened(raw({tiff.DESCRIPTION: b"<OME>" + b"<a>" * 200_000 + b"</OME>\0"})), "X"),
    Case("OME-XML with entities", opened(raw({tiff.DESCRIPTION: b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "' + b"a" * 9999 + b'"><!ENTITY b "' + b"&a;" * 9999 + b'"><!ENTITY c "' + b"&b;" * 9999 + b'">]><OME xmlns="x">&c;</OME>\0'})), "X"),
    Case("an ICC profile of noise", scanned(raw({tiff.ICC: (tiff.UNDEFINED, 999, b"icc" * 333)})), "X"),
    Case("a JPEG bomb as tile", scanned(raw(tile=BOMB)), "X"),
    Case("a JPEG bomb as tile for OpenSlide", scanned(aperio(tile=BOMB)), "X"),
    Case("a deflate bomb as tile", scanned(raw({tiff.COMPRESSION: tiff.DEFLATE, tiff.PHOTOMETRIC: tiff.RGB}, tile=zlib.compress(bytes(1 << 31), 1))), "X"),
    Case("tiles of noise", scanned(raw(tile=b"noise" * 99)), "X"),
    Case("tiles with zeros in them", scanned(raw(tile=TILE[:1500] + bytes(2000) + TILE[3500:])), "X"),
    Case("tiles with zeros in them for OpenSlide", scanned(aperio(tile=TILE[:1500] + bytes(2000) + TILE[3500:])), "X"),
]

def mpp(numerator: int, denominator: int) -> Write:
    value = numerator.to_bytes(4, "little") + denominator.to_bytes(4, "little")
    return raw({tiff.X_RESOLUTION: (tiff.RATIONAL, 1, value), tiff.Y_RESOLUTION: (tiff.RATIONAL, 1, value)})


MPPS = [
    Case("pixels without end per centimetre", scanned(mpp(1, 0)), "X"),
    Case("no pixels per centimetre", scanned(mpp(0, 1)), "X"),
    Case("neither", scanned(mpp(0, 0)), "X"),
    Case("tiny pixels", scanned(mpp((1 << 32) - 1, 1)), "X"),
    Case("huge pixels", scanned(mpp(1, (1 << 32) - 1)), "X"),
    *(
        Case(f"{stated} microns per pixel", scanned(aperio({tiff.DESCRIPTION: APERIO.replace(b"0.5", stated.encode())})), "X")
        for stated in ("0", "-1", "nan", "inf", "1e400", "1" + "0" * 400, "9" * 5000)
    ),
]

DICOMS = [
    Case("frames of no rows", opened(dicom(Rows=0), "s.dcm"), "X"),
    Case("frames of 65,535 rows", opened(dicom(Rows=65_535), "s.dcm"), "X"),
    Case("frames of 65,535 rows and columns", opened(dicom(Rows=65_535, Columns=65_535), "s.dcm"), "X"),
    Case("frames of other rows", scanned(dicom(Rows=32), "s.dcm"), "X"),
    Case("frames of other columns", scanned(dicom(Columns=128, NumberOfFrames=4, TotalPixelMatrixColumns=256), "s.dcm"), "X"),
    Case("a matrix of 2^32 pixels a side", opened(dicom(TotalPixelMatrixColumns=(1 << 32) - 1, TotalPixelMatrixRows=(1 << 32) - 1), "s.dcm"), "X"),
    Case("a sparse matrix of 2^32 pixels a side", opened(lambda path: write_dicom(path, tiff.tissue(128), order="TILED_SPARSE", change=lambda header: header.update({"TotalPixelMatrixColumns": (1 << 32) - 1, "TotalPixelMatrixRows": (1 << 32) - 1})), "s.dcm"), "X"),
    Case("a matrix of no columns", opened(dicom(TotalPixelMatrixColumns=0), "s.dcm"), "X"),
    Case("2^31 frames", opened(dicom(NumberOfFrames=(1 << 31) - 1), "s.dcm"), "X"),
    Case("fewer than no frames", opened(dicom(NumberOfFrames=-4), "s.dcm"), "X"),
    Case("a part of 2^16", opened(dicom(InConcatenationNumber=65_535, InConcatenationTotalNumber=65_535), "s.dcm"), "X"),
    *(
        Case(f"DICOM without {keyword}", opened(dicom(**{keyword: None}), "s.dcm"), "X")
        for keyword in ("Rows", "Columns", "NumberOfFrames", "BitsStored", "PhotometricInterpretation", "TotalPixelMatrixRows", "PixelData", "SOPClassUID", "SeriesInstanceUID")
    ),
    Case("pixels of no spacing", scanned(dicom(SharedFunctionalGroupsSequence=None), "s.dcm"), "X"),
    Case("DICOM bomb frames", scanned(dicom_of(claims(dicom_jpeg(tiff.tissue(64)), 65_500)), "s.dcm"), "X"),
    Case("DICOM frames with zeros in them", scanned(dicom_of((frame := dicom_jpeg(tiff.tissue(64)))[:900] + bytes(500) + frame[1400:]), "s.dcm"), "X"),
    Case("DICOM frames of noise", scanned(dicom_of(b"noise" * 99 + b"\xff\xd9"), "s.dcm"), "X"),
    Case("a DICOM head alone", opened(content(bytes(128) + b"DICM"), "s.dcm"), "X"),
    Case("a DICOM head and noise", opened(content(bytes(128) + b"DICM" + bytes(range(256)) * 99), "s.dcm"), "X"),
]

OTHERS = [
    Case("PostScript called svs", opened(content(EPS), "s.svs"), "X"),
    Case("PostScript called tif", scanned(content(EPS), "s.tif"), "X"),
    Case("text called svs", opened(content(b"id,label\na,1\n" * 99), "s.svs"), "X"),
    Case("text called mrxs", opened(content(b"id,label\na,1\n" * 99), "s.mrxs"), "X"),
    Case("text called dcm", opened(content(b"id,label\na,1\n" * 99), "s.dcm"), "X"),
    Case("text called ndpi", opened(content(b"id,label\na,1\n" * 99), "s.ndpi"), "X"),
    Case("nothing called svs", opened(content(b""), "s.svs"), "X"),
    Case("a sparse terabyte of zeros", opened(content(b"", 1 << 40), "s.svs"), "X"),
    Case("a TIFF head and a sparse terabyte", opened(content(b"II*\0\x08\0\0\0", 1 << 40), "s.svs"), "X"),
    Case("a folder called svs", opened(lambda path: path.mkdir(), "s.svs"), "X"),
    Case("a folder called svs scanned", scanned(lambda path: path.mkdir(), "s.svs"), "X"),
    Case("a PNG bomb as slide", opened(png_bomb, "s.png"), "X"),
]

CASES = [*TIFFS, *MPPS, *DICOMS, *OTHERS]


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_slides(case: Case, hostile: Hostile) -> None:
    hostile(case)
