"""The bootstrap of all metrics at once: by patch, or by clusters of patches such as slides or copies.

Resamples are counted by score, several at a time, so that 2,000 resamples of 32,768 patches take seconds and little
memory: ``benchmarks/bootstrap.py`` measures both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from sentinode.scoring.counts import METRICS, Counted, Counts, Floats

CELLS = 1 << 18
"""Numbers in one array of a batch of resamples; a few such arrays fit the cache of a processor."""


def resampled_metrics(
    sets: Sequence[Counted], cluster: NDArray[np.int64] | None, resamples: int, seed: int
) -> NDArray[np.float64]:
    """The metrics of bootstrap resamples: patches, or whole clusters of them, drawn with replacement.

    Args:
        sets: one or more models on the same N patches. Each resample is the same patches for all of them, so that
            differences are paired.
        cluster: int (N,), the cluster of each patch from 0, none empty; None to draw patches.
        resamples: how many.
        seed: the same seed gives the same resamples.

    Returns:
        float (sets, resamples, metrics), in the order of ``METRICS``; NaN where a metric is undefined.
    """
    rng = np.random.default_rng(seed)
    values = np.empty((len(sets), resamples, len(METRICS)))
    largest = max(2 * len(one.scores) for one in sets)
    rows = max(1, CELLS // max(largest, len(sets[0].cell)))
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        for at, counted in enumerate(_draw(sets, cluster, count, rng)):
            values[at, start : start + count] = sets[at].metrics_of_many(counted)
    return values


def _draw(
    sets: Sequence[Counted], cluster: NDArray[np.int64] | None, count: int, rng: np.random.Generator
) -> Iterator[Counts]:
    """So many resamples of each set, counted by score: float (count, K) of each class."""
    row = np.arange(count)[:, None]
    n = len(sets[0].cell)
    units = n if cluster is None else int(cluster.max()) + 1
    chosen = rng.integers(units, size=(count, units))
    weight = None
    if cluster is not None:
        times = np.bincount((chosen + units * row).ravel(), minlength=count * units).reshape(count, units)
        weight = times[:, cluster].ravel().astype(np.float64)
    for one in sets:
        cells = 2 * len(one.scores)
        of_row = one.cell[chosen] if weight is None else one.cell[None]
        table = np.bincount((of_row + cells * row).ravel(), weight, minlength=count * cells)
        normal, tumour = np.moveaxis(table.reshape(count, -1, 2), 2, 0).astype(np.float64, order="C")
        yield normal, tumour


def percentile_interval(resampled: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """The middle ``level`` of the resamples, those that are NaN left out; NaN if none is left."""
    defined = np.asarray(resampled, dtype=np.float64)
    defined = defined[np.isfinite(defined)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bca_interval(value: float, resampled: ArrayLike, without: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """The bias-corrected and accelerated interval (Efron 1987).

    Args:
        value: the metric on the data as they are.
        resampled: float (R,), the metric of each resample; those that are NaN are left out.
        without: float (G,), the metric without each unit, or block of units, in turn: for the acceleration.
        level: how often the interval shall contain the true value.

    Returns:
        The lower and the upper limit. NaN if all resamples lie on one side of the value, or if the metric is
        undefined without one of the units.
    """
    defined = np.asarray(resampled, dtype=np.float64)
    defined = defined[np.isfinite(defined)]
    left_out = np.asarray(without, dtype=np.float64)
    if not len(defined) or not math.isfinite(value) or len(left_out) < 2 or not np.isfinite(left_out).all():
        return math.nan, math.nan
    share = float((np.mean(defined < value) + np.mean(defined <= value)) / 2)
    if not 0 < share < 1:
        return math.nan, math.nan
    influence = left_out.mean() - left_out
    spread = float((influence**2).sum())
    acceleration = float((influence**3).sum()) / (6 * spread**1.5) if spread else 0.0
    bias = float(ndtri(share))
    shifted = bias + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    low, high = np.quantile(defined, ndtr(bias + shifted / (1 - acceleration * shifted)))
    return float(low), float(high)


def centred(resampled: Floats, value: float) -> Floats:
    """Resampled ECEs, moved so that their median is the value: by chance a resample's ECE is too high."""
    return np.maximum(resampled - np.nanmedian(resampled) + value, 0)
