"""Which windows of tissue cannot be judged: out of focus, covered by ink, folded, empty or burnt.

All of it is measured on the pixels that a scan reads anyway, in cells of about 7.8 um, and summed over each window.

Focus: second differences of the green channel at two distances, 2 and 4 pixels of about 1 um. In focus, cells and
nuclei have edges, and the differences at the smaller distance are nearly as large as those at the larger one. Blur
takes the fine differences first, so their ratio falls; in an enlarged picture it is lowest. The ratio does not depend
on contrast, and compression leaves it alone.

Colours: ink takes red from the light, or is dark without colour; a fold absorbs nearly twice what the slide's tissue
does. All sums are of integers, so the answer is the same on every platform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from sentinode.slides.reading.pyramid import WHITE, Pixels

Codes = NDArray[np.uint8]
Sums = NDArray[np.int64]


class Quality(IntEnum):
    """Why a window cannot be judged; :attr:`ASSESSABLE` where it can."""

    ASSESSABLE = 0
    OUT_OF_FOCUS = 1
    INK = 2
    FOLD = 3
    EMPTY = 4

    @property
    def label(self) -> str:
        """The reason in words."""
        return ("assessable", "out of focus", "ink", "fold", "empty or burnt")[self]


FINE_MPP = 0.972
"""Microns per pixel at which focus is measured; finer pictures are reduced by a whole number first."""

CELL = 8
"""Side of a cell in pixels of that resolution."""

LAGS = 2, 4
"""Distances of the two second differences, in pixels of that resolution."""

LEAST_FOCUS = 0.22
"""Ratio of the two differences below which a window is out of focus. 99.5 % of real patches have 0.47 and more, with
JPEG at quality 30 still 0.42; a blur of sigma 1.5 pixels leaves 0.13 to 0.25, one of 2 pixels 0.10 to 0.18."""

LEAST_TEXTURE = 20.0
"""Mean square of the wider differences below which stained tissue has no structure left at all."""

BLURRED_SHARE = 0.1
"""Stained cells without focus that cover this share of a window make it not assessable, however sharp the rest is: a
network takes the blurred part for tumour. No real patch has so many."""

INK_SHARE, FOLD_SHARE = 0.3, 0.5
"""Ink or a fold that covers this share of a window's cells makes it not assessable."""

EMPTY_SHARE = 0.98
"""So does white or black without detail that covers nearly all of it."""

STAINED = 14
"""Grey levels of stain, min(red, blue) - green, from which a cell is tissue."""

INK_WITHOUT_RED = 12
"""Green minus red from which a cell is under green or blue ink: no tissue lets more green pass than red."""

INK_BLUE = 75
"""Blue minus red from which a cell is under blue ink; haematoxylin reaches 55."""

INK_BLACK = 100, 18
"""The brightest channel, and the difference of the channels, below which a cell is under black ink."""

INK_RED = 85
"""Red minus blue from which a cell is under red ink, where blue is as dark as green."""

FOLD_DENSITY = 1.7
"""Optical density of green that a fold has at least. One real patch in a hundred of dense node has as much."""

FOLD_TIMES = 1.7
"""How many times the density of the slide's tissue a fold has at least."""


@dataclass(frozen=True)
class Cells:
    """What is measured in each cell of a picture; arrays (rows, columns) of whole numbers.

    Attributes:
        side: of a cell in pixels of the picture.
        fine, coarse: sums of squared second differences at the two distances.
        blurred: 1 where stained tissue is out of focus in the cell and the eight around it, else 0.
        stained, ink, fold, blank: 1 where the cell is so, else 0.
    """

    side: int
    fine: Sums
    coarse: Sums
    blurred: Sums
    stained: Sums
    ink: Sums
    fold: Sums
    blank: Sums


def window_quality(
    picture: Pixels, corners: NDArray[np.int64], window: int, mpp: float, density: float = math.inf
) -> Codes:
    """The quality of windows of a picture.

    Args:
        picture: uint8 (rows, columns, 3) RGB.
        corners: int64 (n, 2), the row and column of each window's upper left pixel.
        window: side of a window in pixels.
        mpp: microns per pixel of the picture.
        density: mean optical density of green in the slide's tissue; without it no window is called a fold.

    Returns:
        uint8 (n,), a :class:`Quality` each.
    """
    cells = measure(picture, mpp, density)
    count = max(1, round(window / cells.side))
    limit = np.array(cells.fine.shape)
    first = np.clip((corners + cells.side // 2) // cells.side, 0, np.maximum(limit - count, 0))
    last = np.minimum(first + count, limit)

    def sums(values: Sums) -> Sums:
        # Sums over squares from one table of sums (Crow 1984).
        table = np.zeros((limit[0] + 1, limit[1] + 1), np.int64)
        np.cumsum(np.cumsum(values, 0), 1, out=table[1:, 1:])
        (top, left), (bottom, right) = first.T, last.T
        return np.asarray(table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left])

    area = (last - first).prod(1)
    fine, coarse = sums(cells.fine), sums(cells.coarse)
    featureless = (sums(cells.stained) > INK_SHARE * area) & (coarse < LEAST_TEXTURE * area * CELL**2)
    codes = np.zeros(len(corners), np.uint8)
    partly = sums(cells.blurred) > BLURRED_SHARE * area
    codes[(fine < LEAST_FOCUS * coarse) | featureless | partly] = Quality.OUT_OF_FOCUS
    codes[coarse + fine == 0] = Quality.EMPTY
    codes[sums(cells.fold) > FOLD_SHARE * area] = Quality.FOLD
    codes[sums(cells.ink) > INK_SHARE * area] = Quality.INK
    codes[sums(cells.blank) >= EMPTY_SHARE * area] = Quality.EMPTY
    return codes


def cell_side(mpp: float) -> int:
    """The side in pixels of the cells in which quality is measured."""
    return CELL * max(1, round(FINE_MPP / mpp))


def measure(picture: Pixels, mpp: float, density: float = math.inf) -> Cells:
    """The cells of a picture (see :func:`window_quality`). What fills no cell at the edges is left out."""
    side = cell_side(mpp)
    times = side // CELL
    rows, columns = (max(side, length // side * side) for length in picture.shape[:2])
    if picture.shape[0] < rows or picture.shape[1] < columns:
        missing = [(0, max(0, rows - picture.shape[0])), (0, max(0, columns - picture.shape[1])), (0, 0)]
        picture = np.pad(picture, missing, mode="edge")
    whole = picture[:rows, :columns]
    green = _reduced(whole[..., 1], times)
    fine, coarse = (_second_differences(green, lag) for lag in LAGS)
    colours = whole.reshape(rows // side, side, columns * 3).sum(1, dtype=np.int32)
    colours = colours.reshape(rows // side, columns // side, side, 3).sum(2, dtype=np.int64) // side**2
    red, green, blue = (colours[..., i] for i in range(3))
    stained, ink = np.minimum(red, blue) - green >= STAINED, _ink(red, green, blue)
    near_fine, near_coarse = _around(fine), _around(coarse)
    structureless = near_coarse < LEAST_TEXTURE * 9 * CELL**2
    blurred = stained & ((near_fine < LEAST_FOCUS * near_coarse) | structureless)
    # The density of a mean colour, as a grey level: a darker cell is denser.
    darkest = WHITE * math.exp(-max(FOLD_DENSITY, FOLD_TIMES * density))
    fold = (green < darkest) & stained
    blank = (colours.min(2) >= WHITE - 1) | (colours.max(2) <= 2)
    return Cells(side, fine, coarse, *(kind.astype(np.int64) for kind in (blurred, stained, ink, fold, blank)))


def tissue_density(picture: Pixels, mask: NDArray[np.bool_]) -> float:
    """Mean optical density of green over the tissue of a picture of a slide; infinite where there is none.

    Args:
        picture: uint8 (rows, columns, 3) RGB.
        mask: bool, of the same shape or a finer one.
    """
    rows, columns = (np.arange(n) * size // n for n, size in zip(picture.shape[:2], mask.shape, strict=True))
    green = picture[..., 1][mask[rows][:, columns]]
    if not green.size:
        return math.inf
    counts = np.bincount(green, minlength=WHITE + 1)
    densities = -np.log((np.arange(WHITE + 1) + 1) / (WHITE + 1))
    return float((counts * densities).sum() / counts.sum())


def _around(values: Sums) -> Sums:
    """Sums over each cell and the eight around it; beyond the border the nearest cells count again."""
    rows, columns = values.shape
    padded = np.pad(values, 1, mode="edge")
    return np.asarray(sum(padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3)))


def _reduced(channel: Pixels, times: int) -> NDArray[np.int16]:
    """Means of ``times`` x ``times`` pixels."""
    if times == 1:
        return channel.astype(np.int16)
    rows, columns = (length // times for length in channel.shape)
    sums = channel.reshape(rows, times, columns * times).sum(1, dtype=np.int32)
    return np.asarray(sums.reshape(rows, columns, times).sum(2) // times**2).astype(np.int16)


def _second_differences(green: NDArray[np.int16], lag: int) -> Sums:
    """Sums over each cell of squared second differences, across and down, on every second line to save time."""
    rows, columns = (length // CELL for length in green.shape)
    across = np.zeros((CELL // 2 * rows, CELL * columns), np.int32)
    across[:, lag:-lag] = _squares(green[::2, 2 * lag :], green[::2, : -2 * lag], green[::2, lag:-lag])
    down = np.zeros((CELL * rows, CELL // 2 * columns), np.int32)
    down[lag:-lag] = _squares(green[2 * lag :, ::2], green[: -2 * lag, ::2], green[lag:-lag, ::2])
    sums = across.reshape(rows, CELL // 2, -1).sum(1, dtype=np.int32).reshape(rows, columns, CELL).sum(2)
    return np.asarray(sums + down.reshape(rows, CELL, -1).sum(1, dtype=np.int32).reshape(rows, columns, -1).sum(2))


def _squares(one: NDArray[np.int16], other: NDArray[np.int16], middle: NDArray[np.int16]) -> NDArray[np.int32]:
    return np.asarray(np.square(one + other - 2 * middle, dtype=np.int32))


def _ink(red: Sums, green: Sums, blue: Sums) -> NDArray[np.bool_]:
    """Where the colour is one of ink and of no stain."""
    brightest = np.maximum(np.maximum(red, green), blue)
    darkest = np.minimum(np.minimum(red, green), blue)
    black = (brightest < INK_BLACK[0]) & (brightest - darkest < INK_BLACK[1])
    cold = ((green - red >= INK_WITHOUT_RED) | (blue - red >= INK_BLUE)) & (red < WHITE - INK_BLUE // 2)
    crimson = (red - blue >= INK_RED) & (4 * (blue - green) < red - blue)
    return np.asarray(black | cold | crimson)
