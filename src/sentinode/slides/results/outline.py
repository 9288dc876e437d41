"""The border of a set of squares, as valid polygons."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from shapely.geometry import MultiPolygon

Corner = tuple[int, int]


def outline(region: NDArray[np.bool_]) -> MultiPolygon:
    """Trace the squares of a region.

    Args:
        region: bool (rows, columns), at least one True.

    Returns:
        Valid polygons whose corners are whole numbers: the square in row r and column c spans x from c to
        c + 1 and y from r to r + 1. Squares that share an edge are one polygon, those that share a corner
        only are two. The time grows with the length of the border.
    """
    parts, _ = ndimage.label(region)
    outer: dict[int, list[Corner]] = {}
    holes: dict[int, list[list[Corner]]] = defaultdict(list)
    for part, ring in _rings(np.pad(parts, 1)):
        if _turns_right(ring):
            outer[part] = ring
        else:
            holes[part].append(ring)
    return MultiPolygon([(outer[part], holes[part]) for part in sorted(outer)])


def _rings(parts: NDArray[np.int32]) -> Iterator[tuple[int, list[Corner]]]:
    """Every simple ring of the border, with the number of the part on its right."""
    inside = parts > 0
    # Border edges that leave a corner to the east, south, west and north, with the region on their right.
    leaving = np.zeros((4, parts.shape[0] + 1, parts.shape[1] + 1), np.bool_)
    leaving[0, 1:-1, :-1] = inside[1:] & ~inside[:-1]
    leaving[1, :-1, 1:-1] = inside[:, :-1] & ~inside[:, 1:]
    leaving[2, 1:-1, 1:] = inside[:-1] & ~inside[1:]
    leaving[3, 1:, 1:-1] = inside[:, 1:] & ~inside[:, :-1]
    steps = ((0, 1), (1, 0), (0, -1), (-1, 0))
    beside = ((0, 0), (0, -1), (-1, -1), (-1, 0))  # from a corner to the square on the right of the edge
    walked: set[tuple[int, int, int]] = set()
    for start in zip(*(index.tolist() for index in np.nonzero(leaving)), strict=True):
        if start in walked:
            continue
        heading, row, column = start
        part = int(parts[row + beside[heading][0], column + beside[heading][1]])
        corners: list[Corner] = []
        while True:
            walked.add((heading, row, column))
            row, column = row + steps[heading][0], column + steps[heading][1]
            # Right before straight before left: at a corner where two parts touch, stay with this one.
            turns = (heading + 1) % 4, heading, (heading - 1) % 4
            turned = next(turn for turn in turns if leaving[turn, row, column])
            if turned != heading:
                corners.append((column - 1, row - 1))
            heading = turned
            if (heading, row, column) == start:
                break
        yield from ((part, ring) for ring in _simple(corners))


def _simple(corners: list[Corner]) -> Iterator[list[Corner]]:
    """A ring cut where it touches itself."""
    path: list[Corner] = []
    place: dict[Corner, int] = {}
    for corner in corners:
        if corner in place:
            yield path[place[corner] :]
            for dropped in path[place[corner] :]:
                del place[dropped]
            del path[len(place) :]
        place[corner] = len(path)
        path.append(corner)
    yield path


def _turns_right(ring: list[Corner]) -> bool:
    """Whether the ring goes clockwise on a screen, whose y points down."""
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True)) > 0
