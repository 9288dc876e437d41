"""Means and shares with 95 % intervals that need no resampling: by patch, or by slide where slides are known."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, norm
from scipy.stats import t as student

from sentinode.scoring.estimate import Estimate
from sentinode.scoring.intervals import cluster_interval, effective_clusters

LEVEL = 0.95


def share(hits: ArrayLike, cluster: NDArray[np.int64] | None = None) -> Estimate:
    """The share of hits with its 95 % interval.

    By patch it is that of Clopper and Pearson (1934). By slide it is the jackknife's
    (:func:`~sentinode.scoring.intervals.cluster_interval`).

    Args:
        hits: bool (N,).
        cluster: int (N,), the slide of each patch, or None.

    Returns:
        NaN without patches; the limits are NaN if all patches are of one slide.
    """
    hit = np.asarray(hits, dtype=bool).ravel()
    n, count = len(hit), int(hit.sum())
    if not n:
        return Estimate(math.nan, math.nan, math.nan)
    value = count / n
    if cluster is None:
        return Estimate(value, *exact_interval(count, n))
    _, member = np.unique(cluster, return_inverse=True)
    size, hits_of = np.bincount(member).astype(np.float64), np.bincount(member, hit)
    if len(size) < 2:
        return Estimate(value, math.nan, math.nan)
    return Estimate(value, *cluster_interval(value, (count - hits_of) / (n - size), size))


def exact_interval(count: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The interval of Clopper and Pearson (1934) for ``count`` hits of ``n`` trials."""
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, count, n - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - tail, count + 1, n - count)) if count < n else 1.0
    return low, high


def mean(values: ArrayLike, cluster: NDArray[np.int64] | None = None) -> Estimate:
    """The mean of (N,) values with its 95 % interval: the normal's by patch, Student's t over slides by slide."""
    value = np.asarray(values, dtype=np.float64).ravel()
    n = len(value)
    if not n:
        return Estimate(math.nan, math.nan, math.nan)
    middle = float(value.mean())
    if cluster is None:
        reach = float(norm.ppf((1 + LEVEL) / 2)) * float(value.std()) / math.sqrt(n)
        return Estimate(middle, middle - reach, middle + reach)
    _, member = np.unique(cluster, return_inverse=True)
    size = np.bincount(member).astype(np.float64)
    if len(size) < 2:
        return Estimate(middle, math.nan, math.nan)
    excess = np.bincount(member, value - middle)
    error = math.sqrt(len(size) / (len(size) - 1) * float((excess**2).sum())) / n
    reach = float(student.ppf((1 + LEVEL) / 2, max(effective_clusters(size) - 1, 1))) * error
    return Estimate(middle, middle - reach, middle + reach)
