"""How far two sets of patches lie apart, and whether chance explains it: arrays in, figures out, no model.

Two samples are compared by the maximum mean discrepancy (Gretton et al. 2012, *A Kernel Two-Sample Test*) of what is
known of each patch, or by the distance of Kolmogorov and Smirnov of their scores. A permutation test says how often
chance alone gives as much. It exchanges whole slides where the slides of both are known, because patches of one slide
are alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentinode.scoring.intervals import cluster_interval, joined

Floats = NDArray[np.float64]
Members = NDArray[np.bool_]

PERMUTATIONS = 999
"""Exchanges of the permutation test; the least p value is 1 in 1,000."""


@dataclass(frozen=True)
class Difference:
    """How far two samples lie apart.

    Attributes:
        distance: 0 for samples of one distribution, up to chance; it may be below 0.
        low, high: the 95 % interval over the patches, or the slides, of the second sample; NaN if that is one slide.
        p: how often an exchange of the two samples' patches, or slides, gives at least this distance.
    """

    distance: float
    low: float
    high: float
    p: float


def kernel_difference(
    ours: ArrayLike,
    theirs: ArrayLike,
    *,
    our_slides: NDArray[np.int64] | None = None,
    their_slides: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> Difference:
    """The squared maximum mean discrepancy, unbiased, under a Gaussian kernel as wide as the median distance in ours.

    Args:
        ours: float (N, K), N at least 2.
        theirs: float (M, K), M at least 2.
        our_slides: int (N,), the slide of each, or None where unknown.
        their_slides: int (M,), likewise.
        seed: of the permutations.
    """
    first, second = (np.asarray(sample, np.float64) for sample in (ours, theirs))
    both = np.concatenate([first, second])
    squares = _squared_distances(both)
    width = np.median(squares[: len(first), : len(first)][np.triu_indices(len(first), 1)])
    kernel = np.exp(-squares / max(float(width), 1e-12))
    np.fill_diagonal(kernel, 0)
    total = kernel.sum(1)

    def distances(members: Members, used: Members | None = None) -> Floats:
        mine = members.astype(np.float64)
        other = 1 - mine if used is None else (used & ~members).astype(np.float64)
        towards = mine @ kernel
        n, m = mine.sum(1), other.sum(1)
        within, across = (towards * mine).sum(1), (towards * other).sum(1)
        beyond = other @ total - across if used is None else ((other @ kernel) * other).sum(1)
        return np.asarray(within / (n * (n - 1)) + beyond / (m * (m - 1)) - 2 * across / (n * m))

    return _tested(distances, len(first), len(second), our_slides, their_slides, seed)


def score_difference(
    ours: ArrayLike,
    theirs: ArrayLike,
    *,
    our_slides: NDArray[np.int64] | None = None,
    their_slides: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> Difference:
    """The largest gap between the cumulative distributions of two sets of scores, from 0 to 1 (Kolmogorov, Smirnov).

    Args:
        ours: float (N,).
        theirs: float (M,); the other arguments are those of :func:`kernel_difference`.
    """
    first, second = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    both = np.concatenate([first, second])
    order = np.argsort(both, kind="stable")
    # Equal scores are one step of the distribution.
    ends = np.append(np.flatnonzero(np.diff(both[order])), len(both) - 1)

    def distances(members: Members, used: Members | None = None) -> Floats:
        other = ~members if used is None else used & ~members
        shares = [one[:, order].cumsum(1)[:, ends] / one.sum(1, keepdims=True) for one in (members, other)]
        return np.asarray(np.abs(shares[0] - shares[1]).max(1))

    return _tested(distances, len(first), len(second), our_slides, their_slides, seed)


def _tested(
    distances: Callable[..., Floats],
    n: int,
    m: int,
    our_slides: NDArray[np.int64] | None,
    their_slides: NDArray[np.int64] | None,
    seed: int,
) -> Difference:
    """A distance with its permutation test and its interval over the second sample."""
    members = np.arange(n + m)[None] < n
    value = float(distances(members)[0])
    if our_slides is None or their_slides is None:
        unit, units_of_ours = np.arange(n + m), n
    else:
        _, first = np.unique(our_slides, return_inverse=True)
        _, second = np.unique(their_slides, return_inverse=True)
        units_of_ours = int(first.max()) + 1
        unit = np.concatenate([first, units_of_ours + second])
    units = int(unit.max()) + 1
    rng = np.random.default_rng(seed)
    exchanged = np.array([rng.permutation(units) < units_of_ours for _ in range(PERMUTATIONS)])[:, unit]
    # An exchange that leaves a side with a single patch has no distance.
    exchanged = exchanged[(exchanged.sum(1) > 1) & ((~exchanged).sum(1) > 1)]
    reached = np.concatenate([distances(part) for part in np.array_split(exchanged, 10) if len(part)])
    p = (1 + int((reached >= value - 1e-12).sum())) / (1 + len(reached))
    cluster = joined(np.arange(m) if their_slides is None else np.unique(their_slides, return_inverse=True)[1], 200)
    sizes = np.bincount(cluster)
    if len(sizes) < 2:
        return Difference(value, np.nan, np.nan, p)
    used = np.ones((len(sizes), n + m), bool)
    used[:, n:] = cluster != np.arange(len(sizes))[:, None]
    without = distances(np.repeat(members, len(sizes), 0), used)
    low, high = cluster_interval(value, without, sizes, bounds=(-1.0, 2.0), scale="linear")
    return Difference(value, low, high, p)


def _squared_distances(points: Floats) -> Floats:
    sizes = (points**2).sum(1)
    return np.asarray((sizes[:, None] + sizes - 2 * points @ points.T).clip(0))


def estimated_share(called: float, known_called: ArrayLike, known_labels: ArrayLike) -> float:
    """The share of positives in a sample, from how many are called positive (Lipton et al. 2018, black-box shift).

    It holds where positives and negatives are called as often as in the known patches, and only their shares differ.
    It does not ask for calibrated probabilities.

    Args:
        called: the share of the sample that is called positive.
        known_called: bool (N,), of patches with known labels.
        known_labels: (N,), 0 or 1, of both classes.

    Returns:
        From 0 to 1; the share of the known patches where their calls do not tell the classes apart.
    """
    calls, labels = np.asarray(known_called, np.float64), np.asarray(known_labels)
    sensitivity, false_alarms = (float(calls[labels == label].mean()) for label in (1, 0))
    if sensitivity <= false_alarms:
        return float(labels.mean())
    return float(np.clip((called - false_alarms) / (sensitivity - false_alarms), 0, 1))


def thinned(labels: ArrayLike, share: float, fewest: int = 50) -> NDArray[np.int64]:
    """Rows of a sample, spread evenly, of which a given share is positive; as many as there are, in order.

    Args:
        labels: int (N,), 0 or 1, of both classes.
        share: of positives wanted. It is moved to the nearest that leaves at least ``fewest`` rows.
        fewest: rows to keep.
    """
    label = np.asarray(labels)
    rows = [np.flatnonzero(label == wanted) for wanted in (0, 1)]
    negatives, positives = len(rows[0]), len(rows[1])
    fewest = min(fewest, negatives + positives)
    share = min(max(share, 1 - negatives / fewest, 0.0), positives / fewest, 1.0)
    total = min(negatives / (1 - share) if share < 1 else np.inf, positives / share if share > 0 else np.inf)
    counts = round(total * (1 - share)), round(total * share)
    kept = [
        row[np.linspace(0, len(row) - 1, min(count, len(row))).round().astype(np.int64)]
        for row, count in zip(rows, counts, strict=True)
        if count
    ]
    return np.sort(np.concatenate(kept))
