"""Which picture of a TIFF is the slide, decided here for every TIFF that OpenSlide does not know by its scanner.

A file may hold several pictures: a pyramid in any order, labels, photos of the glass, masks, further regions. The
slide's levels and its microns per pixel come from one picture. What is left out is named, and where it cannot be told
which picture is the slide, the file is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

from sentinode.errors import SlideError
from sentinode.pictures import planes_of
from sentinode.samples import COLOURS, TiffSamples
from sentinode.slides.reading.tiff_page import MICRONS, TiffPage, TiffTiles

if TYPE_CHECKING:
    import tifffile

EXPORT_ONE = "Export the one that you want as a TIFF of its own, for example with QuPath."
BESIDE = "(label|macro|thumbnail|overview|barcode|preview)"
"""What scanners call the pictures beside the slide."""

CALLED_BESIDE = re.compile(rf"(^|[\W_]){BESIDE}([\W_]*(image|picture|photo))?[\W_\d]*$", re.IGNORECASE)
"""The same as the end of a name: slides have names too, such as 'overview_scan.svs'."""

COARSEST_SLIDE = 10.0
"""Microns per pixel: a photo of the glass is coarser, and no scanner's level 0 is."""

COARSER = 4.0
"""A picture whose pixels are so many times larger than the slide's is a photo of the glass, not another region."""

PATCHES, PATCH, CELLS = 4, 64, 4
SAME = 0.35, 6.0


@dataclass
class TiffImage:
    """One picture of a file, with its levels.

    Attributes:
        name: what the file calls it, else its page.
        pages: its levels, from the finest.
        mpp: microns per pixel of the finest, in x and y as stored, or None.
        planes: how many planes of focus, time points or channels lie behind it, itself among them.
        beside: whether its name says that it is a label or a photo of the glass.
    """

    name: str
    pages: list[TiffPage]
    mpp: tuple[float, float] | None
    planes: int = 1
    beside: bool = False
    notes: tuple[str, ...] = field(default=())

    @property
    def finest(self) -> TiffPage:
        return self.pages[0]

    @property
    def has_colours(self) -> bool:
        """Whether its samples are colours of any kind, and no mask."""
        return not self.finest.is_mask and int(self.finest.tag(262) or 0) in COLOURS

    @property
    def microns(self) -> float | None:
        """Microns per pixel where they are those of a scanner or a camera over the glass."""
        return float(np.mean(self.mpp)) if self.mpp and np.isfinite(self.mpp).all() else None

    def __str__(self) -> str:
        return f"{self.name} of {self.finest.width} x {self.finest.height} pixels"


def find_slide(path: Path, tiff: tifffile.TiffFile) -> TiffImage:
    """The picture of a file that is the slide; its notes name what was left out.

    Raises:
        SlideError: the file holds none, several that may be it, or one of several planes.
        PictureError: there is none in colours.
    """
    images = list(_ome_images(path, tiff) if tiff.is_ome else _plain_images(tiff))
    if not images:
        raise SlideError("the slide is damaged: it holds no picture.", where=path, hint="Copy it again.")
    images.sort(key=lambda image: -image.finest.pixels)
    coloured = [image for image in images if image.has_colours]
    if not coloured:
        TiffSamples.of(images[0].finest.tag)  # says what its samples are instead of colours
        raise SlideError("it contains only masks.", where=path, hint=EXPORT_ONE)
    merged = _with_levels(path, coloured)
    slide = _choose(path, [image for image in merged if not image.beside] or merged)
    _require_slide(path, slide, images)
    others = [image for image in merged if image is not slide]
    others += [image for image in images if not image.has_colours]
    if others:
        named = "; ".join(f"{image}{'' if image.has_colours else ', which has no colours'}" for image in others)
        slide.notes = (f"{slide} is read as the slide. Left out: {named}.",)
    return slide


# The pictures that a file holds


def _plain_images(tiff: tifffile.TiffFile) -> Iterator[TiffImage]:
    alone = len(tiff.pages) == 1
    for page in tiff.pages:
        one = TiffPage(page.aspage())
        if not one.pixels:
            continue
        below = [TiffPage(sub.aspage()) for sub in one.page.pages or ()]
        planes = planes_of(one.page, alone=alone)
        below.sort(key=lambda page: -page.pixels)
        yield TiffImage(f"page {one.index + 1}", [one, *below], one.mpp, planes, _is_beside(one))


def _is_beside(page: TiffPage) -> bool:
    """Whether a page calls itself a label or the like, as those of Aperio and Akoya do, or by its name."""
    if page.description.startswith("Aperio"):
        second = page.description.partition("\n")[2]
        return bool(re.match(BESIDE, second.strip(), re.IGNORECASE))
    kind = re.search(r"<ImageType>(\w+)</ImageType>", page.description)
    names = kind[1] if kind else page.description, str(page.tag(285) or "")
    return any(CALLED_BESIDE.search(name) for name in names)


def _ome_images(path: Path, tiff: tifffile.TiffFile) -> Iterator[TiffImage]:
    stated = _ome_headers(tiff.ome_metadata)
    for series in tiff.series:
        first = series.levels[0].pages[0]
        if first is None or first.parent is not tiff:
            raise SlideError("its picture lies in another file.", where=path, hint="Export it as one OME-TIFF.")
        keyframe = series.keyframe
        header = _header(stated, (keyframe.imagewidth, keyframe.imagelength))
        levels = [level.pages[0] for level in series.levels]
        pages = [TiffPage(page.aspage(), header.bits) for page in levels if page is not None]
        pages.sort(key=lambda page: -page.pixels)
        name = header.name or series.name
        yield TiffImage(
            f"'{name}'" if name else f"page {pages[0].index + 1}",
            pages,
            header.mpp or pages[0].mpp,
            len(series.levels[0].pages),
            bool(CALLED_BESIDE.search(name or "")),
        )


@dataclass(frozen=True)
class _OmeHeader:
    """What OME-XML says of an image: its name, width and height, microns per pixel, and bits that count."""

    name: str = ""
    size: tuple[int, int] = (0, 0)
    mpp: tuple[float, float] | None = None
    bits: int | None = None


def _header(stated: list[_OmeHeader], size: tuple[int, int]) -> _OmeHeader:
    """The next header of an image of this size; those before it, of images without pixels here, are dropped."""
    while stated:
        header = stated.pop(0)
        if header.size == size:
            return header
    return _OmeHeader()


def _ome_headers(xml: str | None) -> list[_OmeHeader]:
    """What OME-XML says of each image, in its order."""
    headers = []
    with suppress(ElementTree.ParseError):
        for image in ElementTree.fromstring(xml or "<OME/>").iterfind("{*}Image"):
            pixels = image.find("{*}Pixels")
            if pixels is not None:
                size = int(pixels.get("SizeX", 0)), int(pixels.get("SizeY", 0))
                bits = pixels.get("SignificantBits", "")
                known = int(bits) if bits.isdecimal() else None
                headers.append(_OmeHeader(image.get("Name", ""), size, _ome_mpp(pixels), known))
    return headers


def _ome_mpp(pixels: ElementTree.Element) -> tuple[float, float] | None:
    """The physical size of a pixel, whose default unit is the micron; None where it is in no unit of length."""
    with suppress(KeyError, ValueError):
        x, y = (
            float(pixels.attrib[f"PhysicalSize{axis}"]) * MICRONS[pixels.get(f"PhysicalSize{axis}Unit", "µm")]
            for axis in "XY"
        )
        return x, y
    return None


# Which of them are levels of another


def _with_levels(path: Path, images: Sequence[TiffImage]) -> list[TiffImage]:
    """The images, from the largest, with those that are smaller copies of another as its levels."""
    merged: list[TiffImage] = []
    for image in images:
        home = None if image.beside else _home(path, image, merged)
        if home is None or home.finest.is_tiled != image.finest.is_tiled:
            # What copies a tiled picture in one piece is a thumbnail of it, compressed for looking at.
            image.beside = image.beside or home is not None
            merged.append(image)
        elif not _is_within_a_tile(home.finest, image.finest):
            home.pages.append(image.finest)
    return merged


def _home(path: Path, image: TiffImage, larger: Sequence[TiffImage]) -> TiffImage | None:
    """The image of which this one is a smaller copy: it says so, or it shows the same."""
    page = image.finest
    larger = [one for one in larger if not one.beside]
    fit = [one for one in larger if _is_smaller(one.pages[-1], page) and _is_of_one_shape(one.finest, page)]
    if not page.is_reduced:
        return next((one for one in fit if _shows_the_same(path, one.pages[-1], page)), None)
    # A copy follows its original, whatever other pictures there are. One of another shape than the largest is no level
    # of it, and is refused as such, unless it is a photo.
    before = [one for one in fit if one.finest.index < page.index]
    unfit = [one for one in larger[:1] if not _is_apart(image, one)]
    return max(before, key=lambda one: one.finest.index, default=next(iter(fit or unfit), None))


def _is_smaller(page: TiffPage, other: TiffPage) -> bool:
    return other.width <= page.width and other.height <= page.height and other.pixels < page.pixels


def _is_of_one_shape(page: TiffPage, other: TiffPage) -> bool:
    """Whether one factor makes the other page of this one, rounded to whole pixels or filled up to whole tiles."""
    (x, to_x), (y, to_y) = (
        (full / (side + 1), full / max(side - (tile if tile and side % tile == 0 else 1), 0.5))
        for full, side, tile in (
            (page.width, other.width, other.page.tilewidth),
            (page.height, other.height, other.page.tilelength),
        )
    )
    return max(x, y) <= min(to_x, to_y) * 1.02


def _is_within_a_tile(page: TiffPage, other: TiffPage) -> bool:
    """Whether a smaller copy was filled up to a single tile, so that nobody can say by how much it is reduced.

    Camelyon16's coarsest levels are; no scan reads so coarse a level.
    """
    single = other.width == other.page.tilewidth or other.height == other.page.tilelength
    ratios = page.width / other.width, page.height / other.height
    return single and abs(ratios[0] / ratios[1] - 1) > 0.02 + 2 / min(other.width, other.height)


def _shows_the_same(path: Path, finer: TiffPage, coarser: TiffPage) -> bool:
    """Whether two pages show the same, by the mean colours of cells in patches that are spread over them."""
    scale = finer.width / coarser.width, finer.height / coarser.height
    side = min(coarser.width, coarser.height, max(CELLS, min(PATCH, int(2048 / max(scale)))))
    means: list[list[np.ndarray]] = [[], []]
    tiles = [TiffTiles(path, page) for page in (finer, coarser)]
    try:
        for y in np.linspace(0, coarser.height - side, PATCHES).astype(int).tolist():
            for x in np.linspace(0, coarser.width - side, PATCHES).astype(int).tolist():
                means[1].append(_cells(tiles[1].box(x, y, side, side)))
                left, top = int(x * scale[0]), int(y * scale[1])
                width, height = int(side * scale[0]), int(side * scale[1])
                means[0].append(_cells(tiles[0].box(left, top, width, height)))
    finally:
        for one in tiles:
            one.close()
    fine, coarse = np.array(means)
    return bool(np.sqrt(((fine - coarse) ** 2).mean()) <= max(SAME[0] * fine.std(axis=(0, 1, 2)).mean(), SAME[1]))


def _cells(pixels: np.ndarray) -> np.ndarray:
    """Mean colours (CELLS, CELLS, 3) of the parts of a patch."""
    rows = np.array_split(pixels.astype(np.float32), CELLS, axis=0)
    return np.array([[cell.mean((0, 1)) for cell in np.array_split(row, CELLS, axis=1)] for row in rows])


# Which of them is the slide


def _choose(path: Path, images: Sequence[TiffImage]) -> TiffImage:
    """The one image that all others can be told apart from.

    Raises:
        SlideError: there is none.
    """
    for image in images:
        if all(_is_apart(other, image) for other in images if other is not image):
            return image
    named = "; ".join(str(image) for image in images[:4]) + ("; ..." if len(images) > 4 else "")
    raise SlideError(
        f"the file contains {len(images)} pictures, and it is not clear which is the slide: {named}.",
        where=path,
        hint=EXPORT_ONE,
    )


def _is_apart(other: TiffImage, slide: TiffImage) -> bool:
    """Whether the other picture is surely no slide beside this one: by the size of its pixels, else by its tiles."""
    is_smaller = other.finest.pixels < slide.finest.pixels
    is_in_one_piece = slide.finest.is_tiled and not other.finest.is_tiled
    if slide.microns is not None and slide.microns <= COARSEST_SLIDE:
        if other.microns is not None:
            return other.microns >= COARSER * slide.microns
        return is_smaller or is_in_one_piece
    if other.microns is not None and other.microns <= COARSEST_SLIDE:
        return False
    return is_smaller and is_in_one_piece


def _require_slide(path: Path, slide: TiffImage, images: Sequence[TiffImage]) -> None:
    """Refuse a stack of planes, levels that are turned in different ways, and colours beside a larger grey picture."""
    if slide.planes > 1:
        raise SlideError(
            f"the picture has {slide.planes} planes (of focus, time or channels), and one is needed.",
            where=path,
            hint=EXPORT_ONE,
        )
    if len({page.orientation for page in slide.pages}) > 1:
        raise SlideError("the slide's levels are turned in different ways.", where=path, hint=EXPORT_ONE)
    for image in images:
        if not image.has_colours and not image.finest.is_mask and image.finest.pixels > slide.finest.pixels:
            raise SlideError(
                f"the largest picture is grey, {image}, and so the colours of {slide} may not be the slide's.",
                where=path,
                hint=EXPORT_ONE,
            )
