"""Whether a network's evidence lies where the label does: the share of it inside the centre square.

Two ways to find it: what each cell of the last feature map adds (:class:`~sentinode.explanation.Explainer`), and by
how much the margin falls when a square of the patch is covered (Zeiler and Fergus 2014). If the evidence were spread
evenly, the share would be that of the square's area: 1/9 for PatchCamelyon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentinode.geometry import PatchGeometry
from sentinode.scoring import Estimate, cluster_interval
from sentinode.scoring.intervals import joined
from sentinode.scoring.uncertainty import Slides

Floats = NDArray[np.float64]
Images = NDArray[np.uint8]

SQUARES = 6
"""Squares along a side of a patch that are covered one at a time; of PatchCamelyon's size they are 16 pixels wide."""


@dataclass(frozen=True)
class Group:
    """The patches of one class that were called rightly, or wrongly.

    Attributes:
        name: of the class.
        right: whether they were called rightly.
        n: how many have evidence for the class that they were called.
        share: the mean share of that evidence inside the centre square.
    """

    name: str
    right: bool
    n: int
    share: Estimate


def share_in_label(maps: Floats, geometry: PatchGeometry) -> Floats:
    """The share of the evidence that lies inside the square that the label covers: float (N,); NaN without evidence.

    Args:
        maps: float (N, h, w), evidence for the class that was called. What is below 0 speaks against it, and is left
            out. Cells on the border of the square count by the part that lies inside.
        geometry: of the patches.
    """
    supporting = np.asarray(maps, np.float64).clip(min=0)
    rows, columns = (_inside(cells, geometry) for cells in supporting.shape[1:])
    inside = np.einsum("nhw,h,w->n", supporting, rows, columns)
    total = supporting.sum((1, 2))
    return np.asarray(np.divide(inside, total, out=np.full(len(total), np.nan), where=total > 0))


def _inside(cells: int, geometry: PatchGeometry) -> Floats:
    """Which part of each of ``cells`` equal parts of a side lies inside the square."""
    edges = np.linspace(0, geometry.size, cells + 1)
    low, high = geometry.margin, geometry.size - geometry.margin
    covered = (edges[1:].clip(max=high) - edges[:-1].clip(min=low)).clip(min=0)
    return np.asarray(covered * cells / geometry.size)


def occlusion(margins: Callable[[Images], NDArray[np.float32]], images: Images, squares: int = SQUARES) -> Floats:
    """By how much the margin falls when a square is covered with the patch's mean colour: (N, squares, squares).

    Args:
        margins: of uint8 (B, S, S, 3), such as an engine's.
        images: uint8 (N, S, S, 3).
        squares: along a side.
    """
    count, size = images.shape[:2]
    edges = np.linspace(0, size, squares + 1).round().astype(np.int64)
    whole = margins(images).astype(np.float64)
    colours = images.mean((1, 2)).round().astype(np.uint8)[:, None, None]
    falls = np.empty((count, squares, squares))
    for row in range(squares):
        for column in range(squares):
            covered = images.copy()
            covered[:, edges[row] : edges[row + 1], edges[column] : edges[column + 1]] = colours
            falls[:, row, column] = whole - margins(covered)
    return falls


def by_class(
    shares: Floats,
    labels: NDArray[np.uint8],
    called: NDArray[np.bool_],
    class_names: tuple[str, str],
    slides: NDArray[np.str_] | None = None,
) -> list[Group]:
    """The mean share for each class, of patches called rightly and wrongly; the interval by slide where known.

    Args:
        shares: float (N,), NaN where a patch has no evidence; it is left out.
        labels: (N,), 0 or 1.
        called: bool (N,), whether each was called positive.
        class_names: of labels 0 and 1.
        slides: the slide of each, or None.
    """
    groups = []
    for label in (1, 0):
        for right in (True, False):
            chosen = (labels == label) & ((called == (label == 1)) == right) & np.isfinite(shares)
            groups.append(
                Group(class_names[label], right, int(chosen.sum()), _mean(shares[chosen], _of(slides, chosen)))
            )
    return groups


def _of(slides: NDArray[np.str_] | None, chosen: NDArray[np.bool_]) -> NDArray[np.str_] | None:
    return None if slides is None else slides[chosen]


def _mean(values: Floats, slides: NDArray[np.str_] | None) -> Estimate:
    """A mean of shares with its 95 % interval."""
    if not len(values):
        return Estimate(np.nan, np.nan, np.nan)
    cluster = Slides.of(slides, np.zeros(len(values), np.int64)).cluster
    cluster = joined(np.arange(len(values)) if cluster is None else cluster)
    counts, sums = np.bincount(cluster), np.bincount(cluster, weights=values)
    value = float(values.mean())
    if len(counts) < 2:
        return Estimate(value, np.nan, np.nan)
    without = (sums.sum() - sums) / (counts.sum() - counts)
    return Estimate(value, *cluster_interval(value, without, counts))
