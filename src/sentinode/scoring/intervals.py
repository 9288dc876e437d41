"""Intervals of metrics that are measured on clusters, such as the patches of slides.

Patches of one slide are alike, so a slide is one observation, and there are few slides. The percentiles of a bootstrap
over few slides are too close together: with ten slides, a 95 % interval contains the true value in 75 to 90 of 100
data sets. ``benchmarks/interval_coverage.py`` measures this, and measures the interval below.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, stdtrit

FEW = 40
"""With fewer slides than this, the intervals come with a warning."""

BLOCKS = 1000
"""The largest number of clusters that are left out in turn; more are joined to blocks."""


def cluster_interval(
    value: float,
    without: ArrayLike,
    weights: ArrayLike,
    *,
    level: float = 0.95,
    bounds: tuple[float, float] = (0.0, 1.0),
    scale: str = "logit",
) -> tuple[float, float]:
    """The interval of a metric that was measured on G clusters: the jackknife with Student's t.

    The standard error is that of the jackknife, from the metric without each cluster in turn (Efron and Tibshirani
    1993, section 11.5). Its quantile is Student's, with the effective number of clusters less one for degrees of
    freedom, because a few large clusters carry no more information than a few clusters of equal size. The interval is
    symmetric on the logit scale, so that it stays within the bounds.

    A metric at its bound, such as a sensitivity of 1, has no standard error. Its interval then is that of Clopper and
    Pearson (1934), as if each effective cluster were a single trial.

    Args:
        value: the metric on all clusters.
        without: float (G,), the metric without each cluster in turn; NaN where it is undefined.
        weights: float (G,), the weight of each cluster in the metric, such as its number of tumour patches for the
            sensitivity.
        level: how often the interval shall contain the true value, above 0 and below 1.
        bounds: the lowest and the highest value that the metric can take.
        scale: where the interval is symmetric: ``logit``, or ``linear``, cut off at the bounds.

    Returns:
        The lower and the upper limit. NaN if there are fewer than two clusters, or if the metric is undefined
        without one of them: it then depends on a single cluster.
    """
    left_out = np.asarray(without, dtype=np.float64)
    lowest, highest = bounds
    clusters = len(left_out)
    if clusters < 2 or not math.isfinite(value) or not np.isfinite(left_out).all():
        return math.nan, math.nan
    effective = effective_clusters(weights)
    share = (value - lowest) / (highest - lowest)
    if scale == "logit" and min(share, 1 - share) < 1e-12:
        reach = (highest - lowest) * (1 - ((1 - level) / 2) ** (1 / effective))
        return (value, lowest + reach) if share < 0.5 else (highest - reach, value)
    error = math.sqrt((clusters - 1) / clusters * float(((left_out - left_out.mean()) ** 2).sum()))
    reach = float(stdtrit(max(effective - 1, 1), (1 + level) / 2)) * error
    if scale == "linear":
        return max(value - reach, lowest), min(value + reach, highest)
    middle, reach = float(logit(share)), reach / ((highest - lowest) * share * (1 - share))
    low, high = (lowest + (highest - lowest) * float(expit(middle + side * reach)) for side in (-1, 1))
    return min(low, value), max(high, value)


def effective_clusters(weights: ArrayLike) -> float:
    """How many clusters of equal weight tell as much: the sum of the weights, squared, over that of their squares.

    Kish (1965) calls it the effective sample size.

    Args:
        weights: float (G,), not negative and not all 0.

    Returns:
        From 1, where one cluster has all the weight, to G, where all have the same.
    """
    weight = np.asarray(weights, dtype=np.float64)
    return float(weight.sum() ** 2 / (weight**2).sum())


def joined(cluster: NDArray[np.int64], most: int = BLOCKS) -> NDArray[np.int64]:
    """At most ``most`` clusters: where there are more, they are dealt to so many blocks of nearly equal size.

    Leaving out a block of clusters in turn costs less than leaving out each, and estimates the same error (Kott 2001,
    the delete-a-group jackknife).

    Args:
        cluster: int (N,), the cluster of each patch, from 0, none empty.
        most: how many blocks.
    """
    sizes = np.bincount(cluster)
    if len(sizes) <= most:
        return cluster
    rank = np.empty(len(sizes), np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return (rank % most)[cluster]
