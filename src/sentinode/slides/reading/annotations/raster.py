"""Areas as images: which pixels have their centre inside."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

Edges = NDArray[np.float64]
"""The straight pieces of a border: float64 (edges, 2, 2), start and end, each x and y."""

AT_A_TIME = 1 << 21
"""Crossings of edges and rows that are held in memory at once, at most: 100 MB."""


def rasterise(
    region: Polygon | MultiPolygon,
    size: tuple[int, int],
    downsample: float = 1.0,
    *,
    origin: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.uint8]:
    """Which pixels have their centre inside a region.

    Args:
        region: valid geometry in level-0 pixels.
        size: rows and columns of the raster.
        downsample: level-0 pixels per pixel of the raster.
        origin: x and y of the raster's corner in level-0 pixels.

    Returns:
        uint8 (rows, columns) of 0 and 1.
    """
    return fill(edges_of(region), size, downsample, origin=origin)


def edges_of(region: Polygon | MultiPolygon) -> Edges:
    """The border of a region, holes included, as straight pieces."""
    rings = shapely.get_rings(shapely.get_parts(region))
    points, ring = shapely.get_coordinates(rings, return_index=True)
    same = ring[:-1] == ring[1:]
    return np.stack([points[:-1][same], points[1:][same]], axis=1)


def fill(
    edges: Edges, size: tuple[int, int], downsample: float = 1.0, *, origin: tuple[float, float] = (0.0, 0.0)
) -> NDArray[np.uint8]:
    """What :func:`rasterise` gives for a region with these edges, for those who draw it piece by piece.

    Along each row the region begins and ends where its border crosses the line through the pixels' centres
    (the even-odd rule, exact for valid geometry): the work grows with the border's length, not with the area.
    """
    flips = np.zeros(size, np.uint8)
    # In these coordinates the pixels' centres are the integers.
    edges = (edges - origin) / downsample - 0.5
    edges = edges[(edges[..., 1].max(axis=1) > 0) & (edges[..., 1].min(axis=1) < size[0])]
    some = max(1, AT_A_TIME // size[0])
    for start in range(0, len(edges), some):
        row, x = _crossings(edges[start : start + some], size[0])
        column = np.ceil(x)
        inside = column < size[1]
        at = np.clip(column[inside], 0, None).astype(np.int64)
        np.bitwise_xor.at(flips, (row[inside], at), np.uint8(1))
    return np.bitwise_xor.accumulate(flips, axis=1)


def _crossings(edges: Edges, rows: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where edges cross the rows: the row's number and the place along it, for each crossing."""
    (x0, y0), (x1, y1) = edges[:, 0].T, edges[:, 1].T
    first = np.clip(np.ceil(np.minimum(y0, y1)), 0, rows).astype(np.int64)
    crossed = np.clip(np.ceil(np.maximum(y0, y1)), 0, rows).astype(np.int64) - first
    edge = np.repeat(np.arange(len(edges)), crossed)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed)
    row = first[edge] + step
    along = (row - y0[edge]) / (y1[edge] - y0[edge])
    return row, x0[edge] + along * (x1[edge] - x0[edge])
