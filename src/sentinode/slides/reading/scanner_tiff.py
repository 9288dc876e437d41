"""The TIFFs of scanners, which OpenSlide reads: what it would read wrongly, seen before it does."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import tifffile

from sentinode.errors import SlideError
from sentinode.samples import COLOURS, RGB, YCBCR
from sentinode.slides.reading.openslide_pyramid import OpenSlidePyramid
from sentinode.slides.reading.tiff_page import TiffPage, require_whole


def has_plain_samples(path: Path) -> bool:
    """Whether a scanner's largest picture is what all scanners write: upright, 8-bit RGB or YCbCr.

    OpenSlide mirrors each tile by itself where a picture is turned, and takes the upper byte of 16 bits.

    Raises:
        SlideError: the file ends before its last tile, which a scan would otherwise meet hours later.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            pages = [TiffPage(page.aspage()) for page in tiff.pages]
            largest = max(pages, key=lambda page: page.pixels)
    # What tifffile cannot parse, OpenSlide may still read.
    except Exception:
        return True
    for page in pages:
        require_whole(path, page)
    colours, bits = COLOURS.get(int(largest.tag(262) or 0)), largest.page.bitspersample
    return largest.orientation == 1 and colours in (RGB, YCBCR) and bits == 8


def open_leica(path: Path) -> OpenSlidePyramid:
    """Open an SCN, of which OpenSlide lays several main images out where they are of one kind.

    Raises:
        SlideError: they are of several kinds, so that no one picture is the slide.
        OpenSlideError: OpenSlide refuses it for another reason.
    """
    try:
        return OpenSlidePyramid(path)
    # Whatever OpenSlide says, it is raised again unless the main images are the reason.
    except Exception:
        main = _main_images(path)
        if len(main) < 2:
            raise
        raise SlideError(
            f"the file contains {len(main)} main images of different kinds, and it is not clear which is the slide: "
            f"{'; '.join(main)}.",
            where=path,
            hint="Export each as a TIFF of its own, for example with QuPath or with the scanner's program.",
        ) from None


def _main_images(path: Path) -> list[str]:
    """Size and objective of each image of an SCN but for the photo of the whole glass."""
    with tifffile.TiffFile(path) as tiff:
        collection = ElementTree.fromstring(tiff.scn_metadata or "<scn/>").find("{*}collection")
    if collection is None:
        return []
    glass = ("0", "0", collection.get("sizeX"), collection.get("sizeY"))
    main = []
    for image in collection.iterfind("{*}image"):
        view, pixels = image.find("{*}view"), image.find("{*}pixels")
        if view is None or pixels is None:
            continue
        if tuple(view.get(name) for name in ("offsetX", "offsetY", "sizeX", "sizeY")) != glass:
            objective = image.findtext(".//{*}objective")
            main.append(f"{pixels.get('sizeX')} x {pixels.get('sizeY')} pixels with an objective of {objective}x")
    return main
