"""Which library opens a file: pydicom DICOM, OpenSlide other scanners' formats, tifffile or Pillow what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sentinode.errors import SlideError
from sentinode.slides.reading.dicom_pyramid import DicomPyramid
from sentinode.slides.reading.dicom_series import is_dicom
from sentinode.slides.reading.flat_pyramid import FlatPyramid
from sentinode.slides.reading.openslide_pyramid import OpenSlidePyramid
from sentinode.slides.reading.pyramid import UNREADABLE, Level, Pyramid
from sentinode.slides.reading.tiff_pyramid import TiffPyramid


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
        head = file.read(2)
    readers: list[type[Pyramid]] = [OpenSlidePyramid, FlatPyramid]
    if is_dicom(path):
        # OpenSlide takes colours from the header where streams say otherwise, and downsamples from sizes alone.
        readers = [DicomPyramid]
    elif head in (b"II", b"MM"):
        # Of an OME-TIFF, OpenSlide would see neither the levels nor the resolution.
        readers = [TiffPyramid, OpenSlidePyramid] if _inspect(path) else [OpenSlidePyramid, TiffPyramid]
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
        # Scanners round a level's size to whole pixels, and some cut it to whole tiles.
        slack = 0.02 + 2 / min(level.width, level.height)
        disagrees = abs(level.downsample_x / level.downsample_y - 1) > slack or any(
            abs(size - full / factor) > max(tile, slack * size)
            for full, size, tile, factor in (
                (base.width, level.width, level.tile_width, level.downsample_x),
                (base.height, level.height, level.tile_height, level.downsample_y),
            )
        )
        if disagrees or level.downsample <= levels[number - 1].downsample:
            raise SlideError(
                f"the slide's levels disagree: level {number} has {level.width} x {level.height} pixels, "
                f"which is not a smaller picture of level 0 with {base.width} x {base.height}.",
                where=path,
                hint=UNREADABLE,
            )
