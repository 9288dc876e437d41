"""Outlines that would take hours or all memory to check and to unite, told by their sides before either is tried.

What checking, repairing and uniting cost grows with the pairs of sides that lie near each other, and with those that
cross. A drawn outline has a few of each for a corner; one that is made to harm has a square of its corners.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray

from sentinode.slides.reading.annotations.drawing import Drawing, TooMuch

MOST_CORNERS = 1_000_000
"""Corners of all regions of a file that count, together."""

MOST_OF_ONE = 10_000
"""Times that the sides of one region may cross each other: repairing it takes time and memory for each of them."""

MOST_CROSSINGS = 100_000
"""Times that the sides of all regions of a file may cross each other."""

MOST_NEAR = 5_000_000
"""Pairs of sides whose boxes overlap, and which therefore have to be looked at."""

AT_A_TIME = 1 << 19
"""Pairs of sides that are held in memory at once, about."""

Sides = NDArray[np.float64]
"""float64 (N, 2, 2): start and end of each side, each x and y."""

Indices = NDArray[np.int64]


def require_few(drawings: Sequence[Drawing], rings: NDArray[np.object_], of_ring: Indices) -> None:
    """Make sure that regions can be checked, repaired and united in seconds.

    Args:
        drawings: all regions of a file that count.
        rings: their closed rings.
        of_ring: the number of the drawing that each ring is of.

    Raises:
        TooMuch: they have too many corners, or too many of their sides cross or lie near each other.
    """
    points, ring = shapely.get_coordinates(rings, return_index=True)
    if len(points) > MOST_CORNERS:
        raise TooMuch(f"has more than {MOST_CORNERS:,} corners.")
    within = (ring[:-1] == ring[1:]) & (points[:-1] != points[1:]).any(axis=1)
    sides = np.stack([points[:-1], points[1:]], axis=1)[within]
    owner = of_ring[ring[:-1][within]]
    near, crossings, of_one = 0, 0, np.zeros(len(drawings), np.int64)
    for first, second in _near(sides):
        near += len(first)
        if near > MOST_NEAR:
            raise TooMuch(f"has regions whose sides come near each other more than {MOST_NEAR:,} times.")
        met = cross(sides[first], sides[second])
        first, second = owner[first[met]], owner[second[met]]
        crossings += len(first)
        of_one += np.bincount(first[first == second], minlength=len(drawings))
        if (of_one > MOST_OF_ONE).any():
            name = drawings[int(of_one.argmax())].name
            raise TooMuch(f"region '{name}' crosses itself more than {MOST_OF_ONE:,} times.")
        if crossings > MOST_CROSSINGS:
            raise TooMuch(f"has regions that cross each other more than {MOST_CROSSINGS:,} times.")


def _near(sides: Sides) -> Iterator[tuple[Indices, Indices]]:
    """The pairs of sides whose boxes overlap, each once, some at a time."""
    if not len(sides):
        return
    lines = np.asarray(shapely.linestrings(sides), np.object_)
    tree = shapely.STRtree(lines)
    low, high = sides.min(axis=1), sides.max(axis=1)
    # How many boxes can overlap each box at most: those that do so along one axis.
    most = np.minimum(*(_overlapping(low[:, axis], high[:, axis]) for axis in (0, 1)))
    parts = np.cumsum(most) // AT_A_TIME
    begins = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(sides)]
    for begin, end in pairwise(begins):
        first, second = tree.query(lines[begin:end])
        first += begin
        once = first < second
        yield first[once], second[once]


def _overlapping(low: NDArray[np.float64], high: NDArray[np.float64]) -> Indices:
    """How many intervals each interval meets, itself included."""
    begun, over = np.searchsorted(np.sort(low), high, "right"), np.searchsorted(np.sort(high), low, "left")
    return np.asarray(begun - over, np.int64)


def cross(first: Sides, second: Sides) -> NDArray[np.bool_]:
    """Which pairs of sides cross, touch or overlap, otherwise than in a corner of both; the same side twice does not.

    Args:
        first, second: the sides of each pair, whose boxes overlap.
    """
    found = _meet(first, second)
    found[found] = ~_share_a_corner(first[found], second[found])
    return found


def _meet(first: Sides, second: Sides) -> NDArray[np.bool_]:
    """Which pairs of sides have a point in common; their boxes overlap."""
    (a, b), (c, d) = first.swapaxes(0, 1), second.swapaxes(0, 1)
    within = _turn(b - a, c - a) * _turn(b - a, d - a) <= 0
    return np.asarray(within & (_turn(d - c, a - c) * _turn(d - c, b - c) <= 0))


def _share_a_corner(first: Sides, second: Sides) -> NDArray[np.bool_]:
    """Which pairs of sides that meet do so only in a corner of both, or are the same side."""
    (a, b), (c, d) = first.swapaxes(0, 1), second.swapaxes(0, 1)
    found = np.zeros(len(first), bool)
    for corner, end, other, other_end in ((a, b, c, d), (a, b, d, c), (b, a, c, d), (b, a, d, c)):
        along, other_along = end - corner, other_end - other
        two_ways = (_turn(along, other_along) != 0) | ((along * other_along).sum(axis=1) < 0)
        same = (end == other_end).all(axis=1)
        found |= (corner == other).all(axis=1) & (two_ways | same)
    return found


def _turn(along: NDArray[np.float64], to: NDArray[np.float64]) -> NDArray[np.float64]:
    """Above 0 where ``to`` lies to one side of ``along``, below 0 on the other."""
    return np.sign(along[:, 0] * to[:, 1] - along[:, 1] * to[:, 0])
