"""Small slides with known pixels, written when a test asks for them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def tissue_picture(width: int, height: int, *, seed: int = 0, blobs: int = 3, background: int = 243) -> Pixels:
    """uint8 (height, width, 3): purple tissue with dark nuclei on bright glass."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    inside = np.zeros((height, width), bool)
    for _ in range(blobs):
        centre = rng.uniform(0.25, 0.75, 2) * (width, height)
        radius = rng.uniform(0.15, 0.25) * min(width, height)
        inside |= np.hypot(x - centre[0], y - centre[1]) < radius
    picture = np.full((height, width, 3), background, np.int16)
    picture[inside] = (200, 120, 180)
    nuclei = inside & (rng.random((height, width)) < 0.2)
    picture[nuclei] = (110, 60, 140)
    return np.clip(picture + rng.integers(-4, 5, picture.shape), 0, 255).astype(np.uint8)


def write_tiff(
    path: Path,
    picture: Pixels,
    *,
    mpp: float | tuple[float, float] | None = 0.972,
    levels: int = 1,
    tile: int | None = 64,
    compression: str | None = None,
    sizes: list[tuple[int, int]] | None = None,
) -> Path:
    """A pyramidal TIFF; ``sizes`` (width, height) overrides the sizes of the levels below the first."""
    x, y = (mpp, mpp) if isinstance(mpp, float) else mpp or (None, None)
    with tifffile.TiffWriter(path, bigtiff=False) as tiff:
        for level in range(levels):
            if sizes and level:
                width, height = sizes[level - 1]
                pixels = np.full((height, width, 3), 200, np.uint8)
            else:
                pixels = halved(picture, level)
            tiff.write(
                pixels,
                photometric="rgb",
                tile=(tile, tile) if tile else None,
                compression=compression,
                subfiletype=int(level > 0),
                resolution=(_in_a_centimetre(x * 2**level), _in_a_centimetre(y * 2**level)) if x and y else None,
                resolutionunit="CENTIMETER" if x else None,
                metadata=None,
            )
    return path


def _in_a_centimetre(um: float) -> tuple[int, int]:
    """How many pixels of so many microns, as a ratio; of a float, old versions of tifffile lose the sixth digit."""
    pixels = Fraction(1e4 / um)
    return pixels.limit_denominator(min(2**32 - 1, int((2**32 - 1) / pixels))).as_integer_ratio()


def write_scn(
    path: Path, picture: Pixels, *, corner: tuple[int, int], glass: tuple[int, int], mpp: float = 0.972, levels: int = 1
) -> Path:
    """A Leica slide: a picture that begins at ``corner`` of a glass of this many pixels, and an overview."""
    nm = round(1000 * mpp)
    size = glass[0] * nm, glass[1] * nm
    overview = np.full((112, 160, 3), 255, np.uint8)
    pages = [overview, *(halved(picture, level) for level in range(levels))]
    height, width = picture.shape[:2]

    def image(number: int, first: int, last: int, view: tuple[int, int, int, int], objective: str) -> str:
        rows, columns = pages[first].shape[:2]
        dimensions = "".join(
            f'<dimension sizeX="{pages[i].shape[1]}" sizeY="{pages[i].shape[0]}" r="{i - first}" ifd="{i}"/>'
            for i in range(first, last)
        )
        return (
            f'<image name="{number}" uuid="{number}"><creationDate>2020-01-01T00:00:00Z</creationDate>'
            f'<device model="M" version="1"/><pixels sizeX="{columns}" sizeY="{rows}">{dimensions}</pixels>'
            f'<view offsetX="{view[0]}" offsetY="{view[1]}" sizeX="{view[2]}" sizeY="{view[3]}" spacingZ="0"/>'
            f"<scanSettings><objectiveSettings><objective>{objective}</objective></objectiveSettings>"
            "<illuminationSettings><numericalAperture>0.4</numericalAperture>"
            "<illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings></image>"
        )

    view = corner[0] * nm, corner[1] * nm, width * nm, height * nm
    images = image(0, 0, 1, (0, 0, *size), "1.25") + image(1, 1, len(pages), view, "20")
    described = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection name="c" uuid="c" sizeX="{size[0]}" sizeY="{size[1]}"><barcode>QUJD</barcode>{images}'
        "</collection></scn>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for i, page in enumerate(pages):
            tiff.write(
                page,
                photometric="rgb",
                tile=(128, 128),
                compression="zlib",
                resolution=(1e7 / nm, 1e7 / nm),
                resolutionunit="CENTIMETER",
                metadata=None,
                description=described if i == 0 else None,
                software=None,
            )
    return path


def halved(picture: Pixels, times: int) -> Pixels:
    """The picture at half the size, so many times over, each pixel the mean of four."""
    for _ in range(times):
        height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
        quarters = picture[:height, :width].reshape(height // 2, 2, width // 2, 2, 3)
        picture = quarters.mean((1, 3)).round().astype(np.uint8)
    return picture
