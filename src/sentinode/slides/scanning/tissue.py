"""Where on a slide there is stained tissue.

Haematoxylin is blue-purple and eosin pink: both absorb green and let red and blue pass. So ``min(red, blue)
- green`` is high in whatever either has stained, and nowhere else: zero in glass, white fill, dust, glass
edges and black crosses, which are grey; below zero in green and in blue ink; and low in fat, which is
nearly empty. This stain is measured from the slide's own glass, so that a tint of the light does not count.

A pixel is tissue in two cases. It is stained more than a threshold that follows the slide's own stain, which leaves out
fat on slides of strong stain. Or it lies in solid tissue: all around it is stained, and on average more than
:data:`SOLID_STAIN`. This second rule does not depend on what else is on the slide, so pale tissue beside dark tissue is
kept, and so is tissue in a picture without glass. No colour model, no training. All arithmetic is on integers, so the
mask is the same on every platform.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage

from sentinode.slides.reading.pyramid import WHITE, Pixels
from sentinode.slides.reading.slide import Slide

Mask = NDArray[np.bool_]
Levels = NDArray[np.int16]
T = TypeVar("T", bound=np.generic)

MASK_MPP = 8 * 0.972
"""Microns per pixel of the mask: an eighth of the resolution at which windows are read."""

LEAST_STAIN = 6
"""Grey levels of 255 by which the stain has to stand above the glass: a JPEG's noise ends below."""

SOLID_STAIN = 12
"""Mean stain around a pixel of solid tissue. Lymph nodes of five hospitals have 19 and more, also in their palest
parts; fat has less on most slides."""

SOLID_SHARE = 254
"""Of 255 pixels around one in solid tissue, how many are stained. The cells of fat leave holes."""

AROUND = 7
"""Pixels to each side that count as around: together 117 um, somewhat more than a cell of fat."""

DARKEST_GLASS = 180
"""Green of the darkest glass. Scanners set it to 210 to 250."""

MOST_STAIN_OF_GLASS = 10
"""Tinted glass has less stain than this: 0 to 7 on slides of five centres."""

MOST_TINT_OF_GLASS = 48
"""Difference between the glass's brightest and darkest channel: yellowed glass has 30."""

MOST_TEXTURE_OF_GLASS = 4
"""Grey levels by which smoothed glass differs within 5 x 5 pixels. Tissue that is as pale is uneven."""

LEAST_GLASS = 20
"""Glass that fills less than one part in so many of the picture is not measured, and counts as white."""

LEAST_SHARE = 12
"""Stain makes at least a twelfth of what absorbs green; in black ink and in crosses it makes a thirtieth."""

RED_INK = 90
"""Red minus blue from which a pixel may be red ink, which absorbs blue as it does green."""

SPECK_MM2 = 0.02
"""Tissue smaller than this, a square of 0.14 mm, is dust or a floating cell; smaller holes are filled."""

SMALLEST_SHARE = 1 / 16
"""In a picture of a few specks' size, what is smaller than this share of it is a speck."""

MARGIN = 2
"""Pixels by which the tissue is grown, so that a window at its edge is kept."""

PICTURE_SIDE = 1600

BAND = 1 << 20
"""Pixels that are worked on at a time: they stay in the processor's cache, and memory does not grow with the slide by
more than a few bytes for each pixel of the mask."""


@dataclass(frozen=True)
class Tissue:
    """The tissue of one slide.

    Attributes:
        mask: bool (rows, columns), True where there is tissue.
        scale: level-0 pixels per pixel of the mask.
        mpp: microns per pixel of the mask.
        thumbnail: uint8 (rows, columns, 3), the slide; its longer side has at most 1600 pixels.
    """

    mask: Mask
    scale: float
    mpp: float
    thumbnail: Pixels

    @property
    def area_mm2(self) -> float:
        """Area of the tissue in square millimetres."""
        return float(self.mask.sum()) * (self.mpp / 1000) ** 2

    def cells(self, rows: int, columns: int, stride: float) -> Mask:
        """bool (rows, columns): which squares of a grid, ``stride`` level-0 pixels wide, hold tissue."""
        step = stride / self.scale
        top, bottom = _bounds(rows, step, self.mask.shape[0])
        left, right = _bounds(columns, step, self.mask.shape[1])
        # Sums over squares from one table of sums (Crow 1984), in integers.
        table = np.zeros((self.mask.shape[0] + 1, self.mask.shape[1] + 1), np.int32)
        np.cumsum(np.cumsum(self.mask, 0, dtype=np.int32), 1, out=table[1:, 1:])
        count = table[bottom][:, right] - table[top][:, right] - table[bottom][:, left] + table[top][:, left]
        return np.asarray(count > 0)

    def picture(self) -> Image.Image:
        """The slide with what is left out made pale and the tissue outlined."""
        height, width = self.thumbnail.shape[:2]
        mask = Image.fromarray(self.mask).resize((width, height), Image.Resampling.NEAREST)
        inside = np.asarray(mask, dtype=bool)
        outline = inside & ~ndimage.binary_erosion(inside, iterations=1)
        shown = np.where(inside[..., None], self.thumbnail, 128 + self.thumbnail // 2)
        shown[outline] = (0, 128, 0)
        return Image.fromarray(shown.astype(np.uint8))


def find_tissue(slide: Slide) -> Tissue:
    """Find the tissue of a slide on a thumbnail of 7.8 microns per pixel.

    Raises:
        SlideError: the slide's resolution is unknown, or a tile cannot be decoded.
    """
    thumbnail = slide.thumbnail(MASK_MPP)
    mask = tissue_mask(thumbnail, MASK_MPP)
    scale = MASK_MPP / slide.mpp
    shrink = math.ceil(max(thumbnail.shape) / PICTURE_SIDE)
    small = np.asarray(Image.fromarray(thumbnail).reduce(shrink))
    return Tissue(mask, scale, MASK_MPP, small)


def tissue_mask(thumbnail: Pixels, mpp: float) -> Mask:
    """bool (rows, columns): stained tissue in uint8 (rows, columns, 3) RGB at ``mpp`` microns per pixel."""
    stain = _stain(thumbnail)
    tissue = _opened((stain > _threshold(stain)) | _solid(stain))
    speck = min(SPECK_MM2 * 1e6 / mpp**2, SMALLEST_SHARE * tissue.size)
    tissue = _without_small(tissue, speck)
    tissue = ~_without_small(~tissue, speck)
    return _extreme(tissue, MARGIN, np.logical_or)


def glass_colour(smooth: Pixels) -> tuple[int, int, int]:
    """Red, green and blue of a slide's glass: its most frequent bright, even and nearly grey colour.

    White fill beside what was scanned does not count. Where there is hardly any glass the answer is white.

    Args:
        smooth: uint8 (rows, columns, 3) RGB, without noise of single pixels.
    """
    green = np.ascontiguousarray(smooth[..., 1])
    even = _extreme(green, 2, np.maximum) - _extreme(green, 2, np.minimum) <= MOST_TEXTURE_OF_GLASS
    totals = np.zeros((4, 64**3))
    for rows in _bands(smooth):
        totals += _glass_totals(smooth[rows], even[rows])
    if LEAST_GLASS * totals[0].sum() < green.size:
        return WHITE, WHITE, WHITE
    count, red_sum, green_sum, blue_sum = (int(total) for total in totals[:, totals[0].argmax()])
    return red_sum // count, green_sum // count, blue_sum // count


def _glass_totals(smooth: Pixels, even: Mask) -> NDArray[np.float64]:
    """How many pixels may be glass, and the sums of their red, green and blue, by colour in steps of four levels.

    The answer is (4, 64**3); all in it are whole numbers.
    """
    channels = [np.ascontiguousarray(smooth[..., i]) for i in range(3)]
    bright = (channels[1] >= DARKEST_GLASS) & (np.minimum.reduce(channels) < WHITE - 2)
    red, green, blue = channels = [channel[bright & even] for channel in channels]
    glass = np.minimum(red, blue).astype(np.int16) - green <= MOST_STAIN_OF_GLASS
    glass &= np.maximum.reduce(channels) - np.minimum.reduce(channels) <= MOST_TINT_OF_GLASS
    red, green, blue = channels = [channel[glass] for channel in channels]
    steps = (red >> 2).astype(np.int64) << 12 | (green >> 2).astype(np.int64) << 6 | blue >> 2
    return np.stack([np.bincount(steps, weights, 64**3) for weights in (None, *channels)])


def _bands(picture: NDArray[np.generic]) -> Iterator[slice]:
    """Rows of a picture, some at a time."""
    rows = max(1, BAND // picture.shape[1])
    for top in range(0, len(picture), rows):
        yield slice(top, min(top + rows, len(picture)))


def _extreme(values: NDArray[T], reach: int, of: np.ufunc) -> NDArray[T]:
    """The extreme, by ``of``, of the square of pixels up to ``reach`` away; beyond the border there are none.

    Each step doubles the width that is covered (van Herk 1992 has the same aim), which scipy's filters do not.
    """
    for axis in (0, 1):
        around = [(reach, reach) if i == axis else (0, 0) for i in (0, 1)]
        values, width = np.moveaxis(np.pad(values, around, mode="edge"), axis, 0), 1
        while width < 2 * reach + 1:
            step = min(width, 2 * reach + 1 - width)
            values = of(values[:-step], values[step:])
            width += step
        values = np.moveaxis(values, 0, axis)
    return np.ascontiguousarray(values)


def _opened(mask: Mask) -> Mask:
    """The mask without what is narrower than three pixels: eroded and then dilated by a cross."""
    for of in (np.logical_and, np.logical_or):
        padded = np.pad(mask, 1)
        mask = of(of(padded[:-2, 1:-1], padded[2:, 1:-1]), of(padded[1:-1, :-2], padded[1:-1, 2:]))
        mask = of(mask, padded[1:-1, 1:-1])
    return mask


def _counts(values: NDArray[np.integer[Any]], length: int) -> NDArray[np.int64]:
    """How often each number below ``length`` occurs; numpy's own makes 64-bit integers of all of them first."""
    flat, counts = values.ravel(), np.zeros(length, np.int64)
    for first in range(0, len(flat), BAND):
        counts += np.bincount(flat[first : first + BAND], minlength=length)
    return counts


def _smoothed(picture: Pixels) -> Pixels:
    """Means of 3 x 3 pixels."""
    smooth = np.empty_like(picture)
    for rows in _bands(picture):
        top = max(0, rows.start - 1)
        blurred = Image.fromarray(picture[top : rows.stop + 1]).filter(ImageFilter.BoxBlur(1))
        smooth[rows] = np.asarray(blurred)[rows.start - top : rows.stop - top]
    return smooth


def _stain(picture: Pixels) -> Pixels:
    """uint8 (rows, columns): how much more of red and blue there is than of green, above the glass; 0 in ink.

    It is the larger of two measures, which are equal on grey glass: the stain in a picture whose glass is made white,
    and the stain in the picture as it is, less that of the glass.
    """
    smooth = _smoothed(picture)
    glass = glass_colour(smooth)
    stain = np.empty(smooth.shape[:2], np.uint8)
    for rows in _bands(smooth):
        stain[rows] = _stain_above(smooth[rows], glass)
    return stain


def _stain_above(smooth: Pixels, glass: tuple[int, int, int]) -> Pixels:
    tint = max(0, min(glass[0], glass[2]) - glass[1])
    as_it_is = _excess(*(smooth[..., i].astype(np.int16) for i in range(3))) - tint
    red, green, blue = (_whitened(smooth[..., i], level) for i, level in enumerate(glass))
    stain = np.maximum(_excess(red, green, blue), as_it_is)
    black = LEAST_SHARE * stain < WHITE - green
    crimson = (red - blue > RED_INK) & (4 * (blue - green) < red - blue)
    stain[black | crimson] = 0
    return np.clip(stain, 0, WHITE).astype(np.uint8)


def _excess(red: Levels, green: Levels, blue: Levels) -> Levels:
    return np.minimum(red, blue) - green


def _whitened(channel: Pixels, glass: int) -> Levels:
    """A channel multiplied so that its glass becomes white: int16 from 0 to 255."""
    table = np.minimum((np.arange(WHITE + 1) * WHITE + glass // 2) // glass, WHITE)
    return table.astype(np.int16)[channel]


def _solid(stain: Pixels) -> Mask:
    """What is stained in solid tissue, whose middle is stained all around, and on average by :data:`SOLID_STAIN`."""
    around = ImageFilter.BoxBlur(AROUND)
    stained = stain > LEAST_STAIN
    mean = np.asarray(Image.fromarray(stain).filter(around))
    share = np.asarray(Image.fromarray(stained.view(np.uint8) * np.uint8(WHITE)).filter(around))
    middle = (mean > SOLID_STAIN) & (share >= SOLID_SHARE)
    return stained & _extreme(middle, AROUND - MARGIN, np.logical_or)


def _threshold(stain: Pixels) -> int:
    """A quarter of the way from the glass to the stained tissue, the two that Otsu's threshold tells apart.

    Otsu's own threshold (1979) lies half way, and leaves out pale tumour. Where there is no glass, or two tissues of
    unlike stain, it cuts through tissue; what it then leaves out is solid, and kept by that rule.
    """
    counts = _counts(stain, WHITE + 1)
    split = _otsu(counts)
    glass, tissue = _mean(counts[: split + 1], 0), _mean(counts[split + 1 :], split + 1)
    return max(LEAST_STAIN, (3 * glass + tissue) // 4)


def _otsu(counts: NDArray[np.int64]) -> int:
    """The grey level that separates a histogram into two classes of the greatest variance between them."""
    values = np.arange(len(counts))
    below, mass = np.cumsum(counts), np.cumsum(counts * values)
    above = below[-1] - below
    some = (below > 0) & (above > 0)
    if not some.any():
        return len(counts) - 1
    gap = np.zeros(len(counts))
    gap[some] = mass[some] / below[some] - (mass[-1] - mass[some]) / above[some]
    return int(np.argmax(gap**2 * below * above))


def _mean(counts: NDArray[np.int64], first: int) -> int:
    total = int(counts.sum())
    return int((counts * np.arange(first, first + len(counts))).sum()) // total if total else first


def _without_small(mask: Mask, pixels: float) -> Mask:
    """The mask without the connected pieces that have fewer than so many pixels."""
    labels, count = ndimage.label(mask)
    large = _counts(labels, count + 1) >= pixels
    large[0] = False
    return np.asarray(large[labels])


def _bounds(count: int, step: float, limit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last + 1 mask pixel of each of ``count`` squares, at least one pixel each."""
    first = np.floor(np.arange(count) * step + 1e-6).astype(np.int64)
    last = np.ceil(np.arange(1, count + 1) * step - 1e-6).astype(np.int64)
    first = np.clip(first, 0, limit - 1)
    return first, np.clip(np.maximum(last, first + 1), 1, limit)
