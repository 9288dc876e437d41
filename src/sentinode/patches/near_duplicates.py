"""Finding patches that show the same tissue: recompressed, turned or mirrored.

A patch is described by the mean colour of 12 x 12 cells: of PatchCamelyon's size they are 8 pixels wide, the blocks of
JPEG, whose mean survives compression. Comparing all pairs of 327,680 patches would take 50 billion comparisons.
Instead, descriptors are projected onto the subspace that the eight symmetries of the square leave alone, and its main
directions: there, copies lie as close as they do in full, whichever way they are turned, so a k-d tree finds every
candidate.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

CELLS = 12
TOLERANCE = 2.5
"""Root mean square difference of cells, in grey levels, up to which patches may be copies. JPEG of quality 75 moves
99 in 100 real patches by less than 1.8."""
SHARE = 0.25
"""And up to which share of the patch's contrast, so that two nearly empty patches are not called copies."""
DIRECTIONS = 10
BLOCK = 8192


def describe(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean colour of each cell: uint8 (N, 12, 12, 3) of patches uint8 (N, S, S, 3)."""
    size = images.shape[1]
    if size % CELLS:
        share = _shares(size)
        rows = np.einsum("ch,nhwk->ncwk", share, images, optimize=True)
        cells = np.einsum("dw,ncwk->ncdk", share, rows, optimize=True)
        return np.asarray(cells.round(), dtype=np.uint8)
    side = size // CELLS
    # The sums of PatchCamelyon's cells fit 16 bits, which is quicker.
    kind = np.uint16 if side * side * 255 < 1 << 16 else np.uint32
    rows = images.reshape(len(images), CELLS, side, size, 3).sum(axis=2, dtype=kind)
    sums = rows.reshape(len(images), CELLS, CELLS, side, 3).sum(axis=3, dtype=kind)
    return np.asarray((sums + side * side // 2) // (side * side), dtype=np.uint8)


@cache
def _shares(size: int) -> NDArray[np.float32]:
    """float32 (12, size): how much each pixel of a side adds to the mean of each cell; those on a border are shared."""
    edges = np.linspace(0, size, CELLS + 1)
    pixels = np.arange(size)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (covered.clip(min=0) * CELLS / size).astype(np.float32)


def contrast(cells: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Standard deviation over the cells, (N,), the mean of red, green and blue, in grey levels."""
    return np.asarray(cells.std(axis=(1, 2), dtype=np.float32).mean(axis=1))


def near_pairs(cells: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pairs of rows (P, 2) of descriptors (N, 12, 12, 3) that are near-duplicates."""
    textured = np.flatnonzero(contrast(cells) > TOLERANCE)
    if len(textured) < 2:
        return np.empty((0, 2), dtype=np.int64)
    points = _invariant(cells[textured])
    tree = cKDTree(points)
    found = []
    for start in range(0, len(points), BLOCK):
        block = cKDTree(points[start : start + BLOCK])
        reach = TOLERANCE * np.sqrt(cells[0].size)
        close = block.sparse_distance_matrix(tree, reach, output_type="ndarray")
        first, second = close["i"] + start, close["j"]
        candidates = textured[np.stack([first, second], axis=1)[first < second]]
        found.append(candidates[_same(cells, candidates)])
    return np.concatenate(found)


def _invariant(cells: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Points (N, <= 10) no farther from each other than the descriptors in any of the eight orientations."""
    i, j = np.indices((CELLS, CELLS))
    i, j = np.minimum(i, CELLS - 1 - i), np.minimum(j, CELLS - 1 - j)
    _, orbit, size = np.unique(np.minimum(i, j) * CELLS + np.maximum(i, j), return_inverse=True, return_counts=True)
    # Orthonormal: the mean over each orbit of cells, times the root of its size.
    project = np.eye(len(size), dtype=np.float32)[orbit.ravel()] / np.sqrt(size).astype(np.float32)
    points = np.empty((len(cells), 3 * len(size)), dtype=np.float32)
    for start in range(0, len(cells), BLOCK):
        block = cells[start : start + BLOCK].reshape(-1, CELLS * CELLS, 3).astype(np.float32)
        points[start : start + BLOCK] = np.einsum("ngc,gk->nkc", block, project).reshape(len(block), -1)
    points -= points.mean(axis=0)
    _, directions = np.linalg.eigh(points.T @ points)
    return np.asarray(points @ directions[:, : -1 - DIRECTIONS : -1])


def _same(cells: NDArray[np.uint8], pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each pair (P, 2) are copies in the best of the eight orientations."""
    same = np.zeros(len(pairs), dtype=np.bool_)
    for start in range(0, len(pairs), BLOCK):
        first, second = (cells[side].astype(np.float32) for side in pairs[start : start + BLOCK].T)
        nearest = np.full(len(first), np.inf, dtype=np.float32)
        for mirrored in (first, first[:, :, ::-1]):
            for turns in range(4):
                gap = np.rot90(mirrored, turns, axes=(1, 2)) - second
                nearest = np.minimum(nearest, np.sqrt((gap**2).mean(axis=(1, 2, 3))))
        textures = [contrast(cells[side]) for side in pairs[start : start + BLOCK].T]
        limit = np.minimum(TOLERANCE, SHARE * np.minimum(*textures))
        same[start : start + BLOCK] = nearest <= limit
    return same
