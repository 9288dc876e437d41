"""The variance of areas under the ROC curve, and of their differences: DeLong's, and Obuchowski's for clusters.

DeLong, DeLong and Clarke-Pearson (1988) for independent patches; Obuchowski (1997) where patches of one slide, or
copies of one another, are alike. With clusters of one patch each the second is the first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from scipy.stats import t as student

from sentinode.scoring.intervals import effective_clusters

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Areas:
    """The areas under the ROC curves of S models on the same patches.

    Attributes:
        values: float (S,); NaN if there is one class only.
        covariance: float (S, S), NaN if a class has fewer than two patches or clusters.
        freedom: degrees of freedom of Student's t, infinite for independent patches.
    """

    values: Floats
    covariance: Floats
    freedom: float

    def interval(self, at: int = 0, level: float = 0.95) -> tuple[float, float]:
        """The interval of one area, cut off at 0 and 1.

        NaN if the variance is unknown or 0, as where every tumour patch is ranked above every normal one: the method
        then knows no uncertainty.
        """
        low, high = self._reach(float(self.values[at]), float(self.covariance[at, at]), level)
        return max(low, 0.0), min(high, 1.0)

    def difference(self, one: int, other: int, level: float = 0.95) -> tuple[float, float, float, float]:
        """The area of ``one`` less that of ``other``: value, lower limit, upper limit, two-sided p."""
        value = float(self.values[one] - self.values[other])
        variance = self.variance_of_difference(one, other)
        low, high = self._reach(value, variance, level)
        return value, low, high, 2 * self.tail(abs(value), variance) if math.isfinite(low) else math.nan

    def variance_of_difference(self, one: int, other: int) -> float:
        """Of the area of ``one`` less that of ``other``."""
        covariance = self.covariance
        return float(covariance[one, one] + covariance[other, other] - 2 * covariance[one, other])

    def tail(self, distance: float, variance: float) -> float:
        """The probability of so large a distance from 0, in one direction, by chance."""
        ratio = distance / math.sqrt(variance)
        return float(norm.sf(ratio) if math.isinf(self.freedom) else student.sf(ratio, self.freedom))

    def _reach(self, value: float, variance: float, level: float) -> tuple[float, float]:
        if not math.isfinite(value) or not variance > 1e-18:
            return math.nan, math.nan
        half = (1 + level) / 2
        quantile = float(norm.ppf(half) if math.isinf(self.freedom) else student.ppf(half, self.freedom))
        reach = quantile * math.sqrt(variance)
        return value - reach, value + reach


def areas(labels: ArrayLike, sets: Sequence[ArrayLike], cluster: NDArray[np.int64] | None = None) -> Areas:
    """The areas of several models on the same N patches, with their covariance.

    Args:
        labels: (N,), 0 or 1.
        sets: the scores of each model, (N,), higher for tumour, on any scale.
        cluster: int (N,), the cluster of each patch from 0; None for independent patches.
    """
    tumour = np.asarray(labels).ravel() == 1
    scores = [np.asarray(one, dtype=np.float64).ravel() for one in sets]
    several = len(scores)
    if tumour.all() or not tumour.any():
        return Areas(np.full(several, math.nan), np.full((several, several), math.nan), math.inf)
    placed = [_placements(one[tumour], one[~tumour]) for one in scores]
    values = np.array([above.mean() for above, _ in placed])
    of_tumour = np.stack([above - value for (above, _), value in zip(placed, values, strict=True)]) / tumour.sum()
    of_normal = np.stack([below - value for (_, below), value in zip(placed, values, strict=True)]) / (~tumour).sum()
    if cluster is None:
        return Areas(values, _scatter(of_tumour) + _scatter(of_normal), math.inf)
    clusters = int(cluster.max()) + 1
    tumours, normals = cluster[tumour], cluster[~tumour]
    first, second = _sums(of_tumour, tumours, clusters), _sums(of_normal, normals, clusters)
    both = first @ second.T * _correction(clusters)
    covariance = (
        first @ first.T * _correction(len(np.unique(tumours)))
        + second @ second.T * _correction(len(np.unique(normals)))
        + both
        + both.T
    )
    weights = np.bincount(tumours, minlength=clusters) / len(tumours)
    weights = weights + np.bincount(normals, minlength=clusters) / len(normals)
    freedom = max(effective_clusters(weights) - 1, 1.0) if clusters > 1 else math.nan
    return Areas(values, covariance, freedom)


def _placements(tumour: Floats, normal: Floats) -> tuple[Floats, Floats]:
    """For each tumour patch the share of normal patches below it, for each normal one that of tumour above it."""
    return _share_below(tumour, np.sort(normal)), 1 - _share_below(normal, np.sort(tumour))


def _share_below(values: Floats, ascending: Floats) -> Floats:
    """The share of ``ascending`` below each value, ties counted half."""
    sides = np.searchsorted(ascending, values, "left") + np.searchsorted(ascending, values, "right")
    return np.asarray(sides / (2 * len(ascending)), dtype=np.float64)


def _scatter(parts: Floats) -> Floats:
    """The sum of products of deviations, float (S, S), of parts (S, n)."""
    return np.asarray(parts @ parts.T * _correction(parts.shape[1]), dtype=np.float64)


def _sums(parts: Floats, cluster: NDArray[np.int64], clusters: int) -> Floats:
    return np.stack([np.bincount(cluster, row, minlength=clusters) for row in parts])


def _correction(n: int) -> float:
    """For the loss of one degree of freedom; NaN if none is left."""
    return n / (n - 1) if n > 1 else math.nan
