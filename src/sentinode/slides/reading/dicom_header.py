"""What the header of a DICOM slide says of the size, the place and the colours of its pixels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

PLACE_TAGS = (0x0048021E, 0x0048021F)
"""ColumnPositionInTotalImagePixelMatrix and RowPositionInTotalImagePixelMatrix."""


def frame_positions(header: Any, frames: int) -> Numbers:
    """int64 (frames, 2): column and row of each frame's upper left pixel, from 1; (0, 2) if the file states none."""
    groups = (
        header.get_item("PerFrameFunctionalGroupsSequence") if "PerFrameFunctionalGroupsSequence" in header else None
    )
    # Of a hundred thousand frames, pydicom would need minutes and a gigabyte.
    if groups is not None and isinstance(groups.value, bytes):
        found = [_values_of(tag, groups.value) for tag in PLACE_TAGS]
        if all(len(values) == frames for values in found):
            return np.stack(found, axis=1)
    positions = [
        (place[0].ColumnPositionInTotalImagePixelMatrix, place[0].RowPositionInTotalImagePixelMatrix)
        for group in header.get("PerFrameFunctionalGroupsSequence") or ()
        if (place := group.get("PlanePositionSlideSequence"))
    ]
    return np.asarray(positions, np.int64).reshape(-1, 2)


def _values_of(tag: int, coded: bytes) -> Numbers:
    """All values of a 32-bit attribute in a coded sequence, in their order, with or without a value representation."""
    start = re.escape((tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little"))
    values = re.findall(start + rb"(?:SL\x04\x00|\x04\x00\x00\x00)(.{4})", coded, re.DOTALL)
    return np.frombuffer(b"".join(values), "<i4").astype(np.int64)


def pixel_spacing(header: Any) -> tuple[float, float] | None:
    """Microns per pixel in x and y: the pixel spacing, else the size of the imaged volume over that of the matrix."""
    for x, y in _stated_spacings(header):
        if x > 0 and y > 0:
            return 1e3 * float(x), 1e3 * float(y)
    return None


def _stated_spacings(header: Any) -> Iterator[tuple[float, float]]:
    """Millimetres per pixel in x and y, from what a header has, the most exact first."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        with suppress(AttributeError, IndexError, KeyError, TypeError):
            down, along = header[groups][0].PixelMeasuresSequence[0].PixelSpacing
            yield along, down
    with suppress(AttributeError, TypeError, ZeroDivisionError):
        along = header.ImagedVolumeWidth / header.TotalPixelMatrixColumns
        yield along, header.ImagedVolumeHeight / header.TotalPixelMatrixRows


def icc_profile(header: Any) -> bytes | None:
    """The profile of the optical path, or that of the image, which older files have."""
    with suppress(AttributeError, IndexError, TypeError):
        return bytes(header.OpticalPathSequence[0].ICCProfile)
    return bytes(header.ICCProfile) if header.get("ICCProfile") else None


def slide_origin(header: Any) -> tuple[float, float] | None:
    """X and y in millimetres, in the slide's coordinates, of a picture's first pixel, if the header states them."""
    with suppress(AttributeError, IndexError, TypeError):
        origin = header.TotalPixelMatrixOriginSequence[0]
        return float(origin.XOffsetInSlideCoordinateSystem), float(origin.YOffsetInSlideCoordinateSystem)
    return None


def slide_orientation(header: Any) -> tuple[float, ...] | None:
    """Unit vectors, in the slide's coordinates, along a picture's rows and columns, if the header states them."""
    with suppress(AttributeError, TypeError, ValueError):
        cosines = tuple(map(float, header.ImageOrientationSlide))
        return cosines if len(cosines) == 6 else None
    return None
