"""By which factor a level of a pyramid is reduced, when all that the file gives are whole sizes.

A level of 16,001 pixels, halved, has 8,000: the ratio of the sizes is 2.000125, and the true factor is 2. A reader
that takes the ratio places the last pixels of the slide half a pixel off, and interpolates between all of them. So
a ratio that rounding explains is replaced by the simple factor that it stands for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

Size = tuple[int, int]
Factors = tuple[float, float]

STATED_TOLERANCE = 0.005
"""How far a factor that the file states may lie from the simple factor that its sizes fit."""


def factors_of(
    base: Size,
    size: Size,
    tile: Size,
    *,
    finer: tuple[Size, Factors] | None = None,
    stated: Factors | None = None,
) -> Factors:
    """Level-0 pixels per pixel of a level, in x and in y.

    The first of these that explains the sizes:

    1. a simple step (a power of two, an integer, a half or a small multiple of a quarter) from the finer level, or
       from level 0, with sizes rounded up or down to whole pixels;
    2. a power of two, with sizes cut or filled up to whole tiles, of which there are several;
    3. the ratio of the longer sides, where rounding explains the shorter ones;
    4. the ratio of each side.

    What the file states comes before 2 to 4, and 1 must lie within half a percent of it.

    Args:
        base: width and height of level 0.
        size: width and height of the level.
        tile: width and height of its tiles.
        finer: size and factors of the next finer level, or None if that is level 0.
        stated: the factors that the file states, in x and in y, or None.
    """
    finer_size, (finer_x, finer_y) = finer or (base, (1.0, 1.0))
    ratios = stated or _ratios(base, size)
    for step in _simple(_ratios(finer_size, size)):
        factors = finer_x * step, finer_y * step
        if (_fits(finer_size, size, step) or _fits(base, size, factors[0])) and _agrees(factors, stated):
            return factors
    for factor in _simple(ratios):
        if _fits(base, size, factor) and _agrees((factor, factor), stated):
            return factor, factor
    if stated is not None:
        return stated
    for factor in _powers_of_two(ratios):
        if _fits_tiles(base, size, factor, tile):
            return factor, factor
    longer = max(zip(size, ratios, strict=True))[1]
    if _fits(base, size, longer):
        return longer, longer
    for factor in _powers_of_two(ratios):  # QuPath allows two pixels, which some scanners lose on the way down
        if _fits(base, size, factor, within=2):
            return factor, factor
    return ratios


def _ratios(long: Size, short: Size) -> Factors:
    return long[0] / short[0], long[1] / short[1]


def _simple(ratios: Factors) -> Iterator[float]:
    """Simple factors next to the ratios, the simplest first."""
    yield from _powers_of_two(ratios)
    for unit, limit in ((1.0, math.inf), (0.5, 8), (0.25, 4)):
        if max(ratios) < limit:
            yield from _multiples(ratios, unit)


def _powers_of_two(ratios: Factors) -> list[float]:
    return sorted({2.0 ** side(math.log2(ratio)) for ratio in ratios for side in (math.floor, math.ceil)})


def _multiples(ratios: Factors, unit: float) -> list[float]:
    found = {unit * side(ratio / unit) for ratio in ratios for side in (math.floor, math.ceil)}
    return sorted(factor for factor in found if factor > 0)


def _agrees(factors: Factors, stated: Factors | None) -> bool:
    return stated is None or all(
        abs(factor / one - 1) <= STATED_TOLERANCE for factor, one in zip(factors, stated, strict=True)
    )


def _fits(long: Size, short: Size, factor: float, *, within: float = 1) -> bool:
    """Whether the factor makes one size of the other, rounded up or down."""
    return all(abs(side - full / factor) < within for full, side in zip(long, short, strict=True))


def _fits_tiles(long: Size, short: Size, factor: float, tile: Size) -> bool:
    """Whether the factor makes one size of the other, rounded to whole pixels or to several whole tiles."""
    return all(
        abs(side - full / factor) < (unit if side % unit == 0 and side > unit else 1)
        for full, side, unit in zip(long, short, tile, strict=True)
    )
