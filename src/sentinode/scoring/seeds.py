"""Settings that were each trained with several seeds: differences between them, pair by pair, on the same patches.

Two things make a difference uncertain: the training, which ends elsewhere with another seed, and the patches that are
scored. The interval counts both. With k seeds in common, the differences d_1 ... d_k between two settings have the mean
d and the standard deviation s. The error E of d over patches is that of the mean of the k differences, from a paired
bootstrap of the patches, or a jackknife over slides where slides are few. The interval is

    d +- sqrt((t(k - 1) s / sqrt(k))^2 + (t(f) E)^2)

with Student's t for the seeds, and for the patches the normal quantile, or Student's with f degrees of freedom from the
number of slides. It is exact where one of the two errors is all, and wider than it need be between (as Cochran and Cox
1957 combine two variances); s holds a part of the patches' error, which then counts twice. p is the level at which the
interval ends at 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtrit

from sentinode.scoring.comparison import Compared, Difference, few_slides, holm, require_same_patches
from sentinode.scoring.counts import METRICS, Floats
from sentinode.scoring.predictions import Predictions

COMPARED: Final = ("auc", "accuracy", "nll", "ece")
"""The metrics by which settings are compared."""

SMALLEST_P = 1e-12


@dataclass(frozen=True)
class SeedsCompared:
    """All differences between settings.

    Attributes:
        differences: for each metric, of each pair; ``one`` and ``other`` are places of settings. p is corrected by
            Holm's method for all pairs by a metric.
        seeds: the smallest number of seeds that two settings have in common.
        notes: what to bear in mind, as sentences.
    """

    differences: tuple[Difference, ...]
    seeds: int
    notes: tuple[str, ...] = ()

    def of(self, metric: str) -> list[Difference]:
        """The differences by one metric, pair by pair."""
        return [one for one in self.differences if one.metric == metric]


def compare_seeds(
    settings: Sequence[Mapping[int, Predictions]],
    *,
    metrics: Sequence[str] = COMPARED,
    resamples: int = 2000,
    seed: int = 0,
) -> SeedsCompared:
    """Compare settings pair by pair, each by the seeds that both have.

    Args:
        settings: of each, the predictions of each of its seeds; all of the same patches in the same order, each with
            its threshold.
        metrics: some of ``METRICS``.
        resamples: of the bootstrap of patches.
        seed: of the bootstrap.

    Raises:
        DataError: other patches or no threshold.
    """
    pairs = [pair for pair in combinations(range(len(settings)), 2) if _shared(settings, *pair)]
    if not pairs:
        return SeedsCompared((), 0)
    measured = _Seeds(settings, resamples, seed)
    found: list[Difference] = []
    for metric in metrics:
        of_metric = [measured.difference(metric, *pair) for pair in pairs]
        corrected = holm([one.p for one in of_metric])
        found += [replace(one, corrected=float(p)) for one, p in zip(of_metric, corrected, strict=True)]
    fewest = min(len(_shared(settings, *pair)) for pair in pairs)
    return SeedsCompared(tuple(found), fewest, tuple(measured.notes(fewest)))


def _shared(settings: Sequence[Mapping[int, Predictions]], one: int, other: int) -> list[int]:
    return sorted(set(settings[one]) & set(settings[other]))


class _Seeds:
    """All models of all settings, compared as if each were a model of its own."""

    def __init__(self, settings: Sequence[Mapping[int, Predictions]], resamples: int, seed: int) -> None:
        self.settings = settings
        keys = [(at, number) for at, setting in enumerate(settings) for number in setting]
        sets = [settings[at][number] for at, number in keys]
        require_same_patches(sets)
        self.place = {key: at for at, key in enumerate(keys)}
        self.compared = Compared(sets, resamples, seed)
        self.few = few_slides(sets)

    def difference(self, metric: str, one: int, other: int) -> Difference:
        """Of two settings, p not yet corrected; with too few slides it has a value and no interval."""
        shared = _shared(self.settings, one, other)
        first, second = ([self.place[at, number] for number in shared] for at in (one, other))
        column = METRICS.index(metric)
        each = self.compared.values[first, column] - self.compared.values[second, column]
        again = (self.compared.again[first, :, column] - self.compared.again[second, :, column]).mean(0)
        value, method = float(each.mean()), self._method(len(shared))
        patches, freedom = self._error_over_patches(metric, again, first + second)
        if self.few is not None or not (math.isfinite(value) and math.isfinite(patches)):
            return Difference(metric, one, other, value, math.nan, math.nan, math.nan, method)
        over_seeds = float(each.std(ddof=1)) / math.sqrt(len(each)) if len(each) > 1 else 0.0
        low, high, p = combined(value, over_seeds, len(each) - 1, patches, freedom)
        return Difference(metric, one, other, value, low, high, p, method)

    def _error_over_patches(self, metric: str, again: Floats, models: Sequence[int]) -> tuple[float, float]:
        """The standard error of a mean difference, and its degrees of freedom."""
        if self.compared.by_jackknife:
            return self.compared.jackknife_error(metric, again, models)
        defined = again[np.isfinite(again)]
        return (float(defined.std(ddof=1)) if len(defined) > 1 else math.nan), math.inf

    def _method(self, seeds: int) -> str:
        patches = "jackknife by slide" if self.compared.by_jackknife else f"paired bootstrap by {self.compared.unit}"
        return f"Student's t over {seeds} seeds with {patches}" if seeds > 1 else f"{patches}, one seed"

    def notes(self, seeds: int) -> list[str]:
        """What to bear in mind."""
        notes = self.compared.notes()
        if self.few is not None:
            notes.append(f"From {self.few} slides no difference can be called real, so none has an interval.")
        if seeds == 1:
            notes.append(
                "With one seed the variance of training is not seen. A difference is one between these trained models, "
                "and with another seed it may be gone or reversed."
            )
        return notes


def combined(
    value: float, over_seeds: float, freedom: int, over_patches: float, patch_freedom: float = math.inf
) -> tuple[float, float, float]:
    """The 95 % interval of a mean difference with two errors, and the two-sided p of none.

    Args:
        value: the mean difference.
        over_seeds: its standard error over seeds, with ``freedom`` degrees of freedom; 0 of 0 where there is one seed.
        over_patches: its standard error over patches, with ``patch_freedom``.
    """

    def reach(level: float) -> float:
        """Half the width of the interval that leaves ``level`` outside."""
        seeds = float(stdtrit(freedom, 1 - level / 2)) * over_seeds if freedom else 0.0
        patches = float(stdtrit(min(patch_freedom, 1e9), 1 - level / 2)) * over_patches
        return math.hypot(seeds, patches)

    if over_seeds == over_patches == 0:
        return value, value, 1.0 if value == 0 else math.nan
    if reach(1.0) >= abs(value):  # 0, or what rounding leaves of it
        p = 1.0
    elif reach(SMALLEST_P) < abs(value):
        p = SMALLEST_P
    else:
        p = float(brentq(lambda level: reach(level) - abs(value), SMALLEST_P, 1.0))
    half = reach(0.05)
    return value - half, value + half, p
