"""Which library opens a file: pydicom DICOM, OpenSlide scanners' files, tifffile other TIFFs, Pillow the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sentinode.errors import PictureError, SlideError
from sentinode.pictures import TIFF_HEADS, require_chain
from sentinode.slides.reading.dicom_pyramid import DicomPyramid
from sentinode.slides.reading.dicom_series import is_dicom
from sentinode.slides.reading.flat_pyramid import FlatPyramid
from sentinode.slides.reading.openslide_pyramid import OpenSlidePyramid
from sentinode.slides.reading.pyramid import UNREADABLE, Level, Pyramid, require_filled, require_possible
from sentinode.slides.reading.tiff_pyramid import TiffPyramid

Reader = Callable[[Path], Pyramid]
OPENSLIDE: tuple[str, Reader] = ("OpenSlide", OpenSlidePyramid)
TIFFFILE: tuple[str, Reader] = ("Tiff", TiffPyramid)


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
    try:
        return _open(path)
    except PictureError as error:
        raise SlideError(error.what, where=path, hint=error.hint) from error


def _open(path: Path) -> Pyramid:
    reasons = []
    for library, reader in _readers(path):
        try:
            pyramid = reader(path)
        except (SlideError, PictureError):
            raise
        # Each library fails in its own ways on a damaged file, down to struct.error; all mean the same here.
        except Exception as error:
            reasons.append(f"{library}: {_first_line(error)}")
            continue
        try:
            require_possible(pyramid.levels)
            if _is_tiff(path):
                require_filled(pyramid.levels[0], path.stat().st_size)
            _require_agreement(path, pyramid.levels)
        except BaseException:
            pyramid.close()
            raise
        return pyramid
    raise SlideError(
        f"this is not a slide that can be read, or it is damaged ({'; '.join(reasons)}).",
        where=path,
        hint=UNREADABLE,
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else error.__class__.__name__


def _readers(path: Path) -> list[tuple[str, Reader]]:
    """The libraries to try, in order.

    Raises:
        SlideError: the file is a damaged TIFF, or one that its library would read wrongly.
    """
    if is_dicom(path):
        # OpenSlide takes colours from the header where streams say otherwise, and downsamples from sizes alone.
        return [("Dicom", DicomPyramid)]
    return _tiff_readers(path) if _is_tiff(path) else [OPENSLIDE, ("Flat", FlatPyramid)]


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in TIFF_HEADS


def _tiff_readers(path: Path) -> list[tuple[str, Reader]]:
    """OpenSlide for the TIFFs of scanners, which say which picture is the slide; tifffile for all others.

    Of those, OpenSlide would take the first page and whatever calls itself a smaller copy.
    """
    import openslide

    from sentinode.slides.reading.scanner_tiff import has_plain_samples, open_leica

    require_chain(path)
    scanner = openslide.OpenSlide.detect_format(path)
    if scanner in (None, "generic-tiff"):
        return [TIFFFILE]
    if has_plain_samples(path):
        if scanner == "leica":
            return [("OpenSlide", open_leica)]
        return [OPENSLIDE, TIFFFILE] if scanner == "aperio" else [OPENSLIDE]
    if scanner == "aperio":
        return [TIFFFILE]
    raise SlideError(
        f"its picture is turned, or its samples are not 8-bit RGB. Sentinode does not read this in files of {scanner}.",
        where=path,
        hint=UNREADABLE,
    )


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
