"""Picture files, opened and decoded to 8-bit RGB as viewers show them, in one place for patches and slides."""

from __future__ import annotations

import functools
import io
import logging
import math
import re
import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from sentinode.errors import PictureError
from sentinode.regular import require_regular
from sentinode.samples import (
    CMYK,
    EXPORT,
    LAB,
    MASK,
    PALETTE,
    REDUCED,
    RGB,
    WHITE,
    YCBCR,
    Pixels,
    TiffSamples,
    grey,
    on_white,
    orientation_of,
    require_bright,
    require_coloured,
    rgb_of,
    tags_of,
    turned,
)

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "JPEG2000", "GIF", "AVIF", "PPM")
"""What Pillow may read. PostScript is not among them: Pillow would start Ghostscript for it, whatever its name."""

MAX_PIXELS = 400_000_000
"""Pixels that a picture without tiles may have, since it can only be decoded as a whole."""

MAX_VALUES = 3 << 22
"""Values that a tag of a TIFF may have: bytes of a description or a profile, and offsets of tiles in three planes."""


class TooManyPixelsError(PictureError):
    """A picture with more pixels than may be decoded; ``size`` is its width and height."""

    def __init__(
        self, what: str, *, where: str | Path | None = None, hint: str | None = None, size: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__(what, where=where, hint=hint)
        self.size = size


TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
COPY_AGAIN = "It was only partly copied, or it is damaged. Copy it again."

_OPENING = threading.Lock()

# What tifffile finds odd in a file is either refused by name or does not matter; on the screen it only startles.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def read(source: Path | bytes, most: int = MAX_PIXELS) -> Pixels:
    """uint8 (h, w, 3) RGB of a picture in any format that is read, upright, on white, as viewers show it.

    Args:
        source: a file, or its bytes.
        most: how many pixels it may have; a larger one is not decoded.

    Raises:
        TooManyPixelsError: it has more.
        PictureError: it is grey, holds several pictures, or its samples leave open what they mean.
        UnidentifiedImageError: it is no picture.
        OSError, SyntaxError, ValueError: it is damaged.
    """
    if _head(source) in TIFF_HEADS:
        return _read_tiff(source, most)
    with open_picture(source, most=most) as picture:
        return read_picture(picture)


def open_picture(source: Path | bytes, formats: Sequence[str] = FORMATS, most: int = MAX_PIXELS) -> Image.Image:
    """Open a picture with Pillow, without decoding it.

    Args:
        source: a file, or its bytes.
        formats: what it may be, by Pillow's names.
        most: how many pixels it may have.

    Raises:
        TooManyPixelsError: it has more.
        UnidentifiedImageError: it is none of these formats.
        OSError: the file cannot be read.
    """
    if not isinstance(source, bytes):
        require_regular(source)
    # Pillow's own limit is lower than ours, and one for the whole process.
    with _OPENING:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            file = io.BytesIO(source) if isinstance(source, bytes) else source
            picture = Image.open(file, formats=_known(tuple(formats)))
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    if picture.width * picture.height > most:
        picture.close()
        raise TooManyPixelsError(
            f"the image has {picture.width * picture.height:,} pixels in one piece, too many to decode at once.",
            hint="Save it as a tiled TIFF: vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg",
            size=picture.size,
        )
    return picture


@functools.cache
def _known(formats: tuple[str, ...]) -> tuple[str, ...]:
    """The formats that this Pillow has; older ones lack AVIF."""
    Image.init()
    return tuple(name for name in formats if name in Image.OPEN)


def _head(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:4]
    require_regular(source)
    with source.open("rb") as file:
        return file.read(4)


def read_picture(picture: Image.Image) -> Pixels:
    """uint8 (h, w, 3) RGB of a picture that Pillow has opened and that is no TIFF out of the ordinary.

    Raises:
        PictureError, OSError, SyntaxError, ValueError: as for :func:`read`.
    """
    # The first picture of a JPEG that holds several (MPO) is the one that it shows, by that format's standard.
    if picture.format != "MPO":
        _require_one(getattr(picture, "n_frames", 1))
    if picture.mode not in (RGB, "RGBA", "RGBa", PALETTE, "PA", CMYK, YCBCR, LAB):
        raise grey(f"its mode is {picture.mode}")
    is_deep = isinstance(picture, ImageFile) and _is_deep(picture)
    profile = picture.info.get("icc_profile")
    picture = ImageOps.exif_transpose(picture)
    if is_deep:
        # Pillow has kept the upper byte of each sample.
        require_bright(int(np.asarray(picture)[..., :3].max(initial=0)), limit=WHITE)
    if picture.mode.startswith("P"):
        require_coloured(np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3))
    if picture.mode in ("RGBA", "RGBa", "PA") or "transparency" in picture.info:
        return on_white(picture.convert("RGBA"))
    return rgb_of(picture, profile)


def _is_deep(picture: ImageFile) -> bool:
    """Whether Pillow will keep the upper byte of 16 bits.

    Raises:
        PictureError: it will not keep what counts: of JPEG 2000 of more than 8 bits, or the fourth sample of a BMP.
    """
    layout = str([tile[3] for tile in picture.tile])
    if picture.format == "BMP" and "BGRX" in layout:
        raise PictureError("a BMP of 32 bits does not state whether its fourth sample is transparency.", hint=EXPORT)
    if picture.format == "JPEG2000" and _jpeg_2000_bits(picture) > 8:
        raise PictureError("it is JPEG 2000 of more than 8 bits a sample.", hint=EXPORT)
    return ";16" in layout or (picture.format == "PPM" and "65535" in layout)


def _jpeg_2000_bits(picture: ImageFile) -> int:
    """Bits of the first component, by the codestream's SIZ marker (ITU-T T.800, A.5.1)."""
    file = picture.fp
    if file is None:
        return 8
    place = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(place)
    start = data.find(b"\xff\x4f\xff\x51")
    return (data[start + 42] & 0x7F) + 1 if 0 <= start < len(data) - 42 else 8


def _require_one(pictures: int) -> None:
    if pictures > 1:
        raise PictureError(
            f"it contains {pictures} pictures, and only one is allowed.", hint="Save each as a file of its own."
        )


def _read_tiff(source: Path | bytes, most: int) -> Pixels:
    """A TIFF through Pillow where it is of the ordinary kind, and through tifffile, as slides are read, where not."""
    try:
        with open_picture(source, ("TIFF",), most) as picture:
            if isinstance(picture, TiffImageFile) and _is_ordinary(picture):
                return read_picture(picture)
    # By one of these Pillow says that it does not know the samples of a page, or that the file is damaged.
    except (UnidentifiedImageError, SyntaxError):
        pass
    require_chain(source)
    try:
        import tifffile
    except ImportError as error:
        raise PictureError(
            "this TIFF is not plain 8-bit RGB, and reading it needs tifffile, which is not installed.",
            hint="Install it with: pip install 'sentinode[slides]'",
        ) from error
    try:
        with tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else source) as tiff:
            return _first_page(tiff, most)
    except PictureError:
        raise
    # Its decoders fail in their own ways on a damaged file.
    except Exception as error:
        raise ValueError(str(error)) from error


def _is_ordinary(picture: TiffImageFile) -> bool:
    """Whether a TIFF is one page of 8-bit RGB, a pixel's samples side by side, and nothing more."""
    tag = picture.tag_v2.get
    described = str(tag(270, "")).startswith(("ImageJ=", "{"))
    standard = (picture.mode, tag(258), tag(284, 1), tag(338)) == (RGB, (8, 8, 8), 1, None)
    return standard and not described and picture.n_frames == 1 and tag(262) in (2, 6)


def _first_page(tiff: TiffFile, most: int) -> Pixels:
    """The first page of a TIFF whose other pages are smaller copies or masks of it."""
    first, *others = [page.aspage() for page in tiff.pages]
    further = sum(not page.subfiletype & (REDUCED | MASK) for page in others)
    _require_one(further + planes_of(first, alone=not others))
    meaning = TiffSamples.of(tags_of(first))
    if first.imagewidth * first.imagelength > most:
        size = (first.imagewidth, first.imagelength)
        raise TooManyPixelsError("the image has too many pixels to decode at once.", hint=EXPORT, size=size)
    samples = first.asarray()
    if first.planarconfig == 2 and samples.ndim == 3:
        samples = samples.transpose(1, 2, 0)
    samples = samples.reshape(first.imagelength, first.imagewidth, -1)
    meaning.require_known([samples])
    return np.ascontiguousarray(turned(meaning.rgb(samples), orientation_of(tags_of(first))))


def planes_of(page: TiffPage, *, alone: bool) -> int:
    """How many planes a page stands for: where it is alone, ImageJ and tifffile may describe more than they list."""
    counts = [max(1, int(page.imagedepth))]
    if alone and page.description.startswith("ImageJ="):
        counts += [int(count) for count in re.findall(r"^images=(\d+)", page.description, re.MULTILINE)]
    shape = re.match(r'\{"shape": \[([\d, ]+)\]', page.description)
    if alone and shape:
        stated = math.prod(int(side) for side in shape[1].split(","))
        counts.append(stated // (page.imagewidth * page.imagelength * page.samplesperpixel))
    return max(counts)


def require_chain(source: Path | bytes) -> None:
    """Follow a TIFF's chain of pages to its end, and look at the size of each tag, before any library does.

    Raises:
        PictureError: the chain leads beyond the file's end, or back to a page that it has passed; a tag is so large
            that reading it would fill the memory.
    """
    # As tifffile does, by its ending: that of the format is 64 bits wide.
    wide = isinstance(source, Path) and source.suffix.lower() == ".ndpi"
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
        size, seen = file.seek(0, io.SEEK_END), set[int]()
        for offset, largest in _pages(file, wide):
            if offset >= size:
                what = f"the file is damaged: it ends after {size:,} bytes, and a page of it lies at {offset:,}."
                raise PictureError(what, hint=COPY_AGAIN)
            if offset in seen:
                raise PictureError("the file is damaged: its pages point in a circle.", hint=COPY_AGAIN)
            if largest > MAX_VALUES:
                what = f"the file is damaged: a tag of it has {largest:,} values, and {MAX_VALUES:,} are allowed."
                raise PictureError(what, hint=COPY_AGAIN)
            seen.add(offset)


def _pages(file: BinaryIO, wide: bool) -> Iterator[tuple[int, int]]:
    """Where the pages of a TIFF or BigTIFF begin, and how many values the largest tag of each has; none for neither."""
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    if len(head) == 16 and head[:4] in TIFF_HEADS[:2]:
        pointer, counter, entry = order + ("Q" if wide and order == "<" else "I"), order + "H", order + "HHI4x"
        offset = struct.unpack_from(pointer, head, 4)[0]
    elif len(head) == 16 and head[:4] in TIFF_HEADS[2:]:
        pointer, counter, entry = order + "Q", order + "Q", order + "HHQ8x"
        offset = struct.unpack_from(pointer, head, 8)[0]
    else:
        return
    size = file.seek(0, io.SEEK_END)
    while offset:
        file.seek(min(offset, size))
        count = file.read(struct.calcsize(counter))
        number = struct.unpack(counter, count)[0] if len(count) == struct.calcsize(counter) else 0
        # No page has more tags than there are numbers for them.
        entries = file.read(min(number, 1 << 16) * struct.calcsize(entry))
        whole = entries[: len(entries) // struct.calcsize(entry) * struct.calcsize(entry)]
        yield offset, max((values for _, _, values in struct.iter_unpack(entry, whole)), default=0)
        following = file.read(struct.calcsize(pointer))
        if len(count) < struct.calcsize(counter) or number > 1 << 16 or len(following) < struct.calcsize(pointer):
            yield size, 0  # the page is cut off
            return
        offset = struct.unpack(pointer, following)[0]
