"""Models compared in pairs on the same patches: differences with intervals, tests, and their correction for many pairs.

The AUC is tested by DeLong's method, the accuracy by McNemar's test, all else by a paired bootstrap. Patches of one
slide, and copies of one another, stay together. With few slides a bootstrap is too narrow, and the jackknife with
Student's t takes its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, norm
from scipy.stats import t as student

from sentinode.errors import DataError
from sentinode.scoring.bootstrap import percentile_interval, resampled_metrics
from sentinode.scoring.counts import METRICS, Counted, Floats
from sentinode.scoring.delong import Areas, areas
from sentinode.scoring.intervals import effective_clusters, joined
from sentinode.scoring.predictions import Predictions
from sentinode.scoring.uncertainty import FEWEST, Slides, weights_of, without_each

LOWER_IS_BETTER: Final = frozenset({"nll", "brier", "ece"})

LEVEL: Final = 0.05
"""A difference is called shown if its corrected p is below this."""


@dataclass(frozen=True)
class Difference:
    """A metric of one model less that of another.

    Attributes:
        metric: one of ``METRICS``.
        one: the place of the first model; ``other`` is that of the second.
        value: the metric of ``one`` less that of ``other``; NaN if it is undefined.
        low: the lower limit of the 95 % interval; ``high`` is the upper one.
        p: two-sided, of no difference.
        corrected: p after Holm's correction for all pairs by this metric.
        method: of the interval and of p, in words.
    """

    metric: str
    one: int
    other: int
    value: float
    low: float
    high: float
    p: float
    method: str
    corrected: float = math.nan

    @property
    def better(self) -> int | None:
        """The place of the better model, or None if no difference is shown."""
        if not self.corrected < LEVEL:
            return None
        return self.one if (self.value > 0) != (self.metric in LOWER_IS_BETTER) else self.other


@dataclass(frozen=True)
class NonInferiority:
    """Whether a model is not worse than the reference by more than a margin.

    Attributes:
        metric: one of ``METRICS``.
        margin: above 0, in units of the metric.
        model: the place of the model; ``reference`` is that of the reference.
        advantage: by how much the model is better, below 0 if it is worse; ``worst`` is the lower limit of its
            95 % interval.
        p: one-sided, of being worse by the margin or more; ``corrected`` is p after Holm's correction.
    """

    metric: str
    margin: float
    model: int
    reference: int
    advantage: float
    worst: float
    p: float
    corrected: float = math.nan

    @property
    def shown(self) -> bool:
        """Whether non-inferiority is shown: at 2.5 %, one-sided, after the correction."""
        return self.corrected < LEVEL / 2


@dataclass(frozen=True)
class McNemar:
    """Of the patches that one of two models calls rightly: how many each does, and whether that may be chance.

    Attributes:
        one_right: patches that only the first model calls rightly; ``other_right`` those of the second.
        p: two-sided.
        method: in words.
    """

    one_right: int
    other_right: int
    p: float
    method: str


@dataclass(frozen=True)
class Paired:
    """All differences between the models.

    Attributes:
        differences: for each metric, of each pair.
        non_inferiority: of each model against the reference, if a margin was named.
        notes: what to bear in mind, as sentences.
    """

    differences: tuple[Difference, ...]
    non_inferiority: tuple[NonInferiority, ...] = ()
    notes: tuple[str, ...] = ()

    def of(self, metric: str) -> list[Difference]:
        """The differences by one metric, pair by pair."""
        return [one for one in self.differences if one.metric == metric]


@dataclass(frozen=True)
class _Estimated:
    """A difference, and ``tail(sign, margin)``: the one-sided p of sign x difference being -margin or less."""

    value: float
    low: float
    high: float
    p: float
    method: str
    tail: Callable[[int, float], float]


def compare_metrics(
    sets: Sequence[Predictions],
    *,
    margin: tuple[str, float] | None = None,
    reference: int = 0,
    resamples: int = 2000,
    seed: int = 0,
) -> Paired:
    """Compare models pair by pair, by all metrics.

    Args:
        sets: two or more, of the same patches in the same order (:func:`~sentinode.scoring.predictions.align`), each
            with its threshold.
        margin: a metric and how much worse a model may be by it, to test non-inferiority against the reference.
        reference: its place among the sets.
        resamples: of the paired bootstrap.
        seed: of the paired bootstrap.

    Raises:
        DataError: fewer than two sets, other patches, no threshold, or a margin that is not above 0.
    """
    _check(sets, margin)
    compared = Compared(sets, resamples, seed)
    pairs = list(combinations(range(len(sets)), 2))
    found: list[Difference] = []
    tails: dict[tuple[str, int, int], _Estimated] = {}
    for metric in METRICS:
        of_metric = []
        for one, other in pairs:
            estimated = tails[metric, one, other] = compared.difference(metric, one, other)
            values = (estimated.value, estimated.low, estimated.high, estimated.p, estimated.method)
            of_metric.append(Difference(metric, one, other, *values))
        corrected = holm([one.p for one in of_metric])
        found += [replace(one, corrected=float(p)) for one, p in zip(of_metric, corrected, strict=True)]
    return Paired(tuple(found), tuple(_non_inferiority(tails, len(sets), margin, reference)), tuple(compared.notes()))


def require_same_patches(sets: Sequence[Predictions]) -> None:
    """
    Raises:
        DataError: other patches, another order, or no threshold.
    """
    for one in sets:
        if one.threshold is None:
            raise DataError(f"{one.name} has no threshold.")
        if len(one) != len(sets[0]) or (one.ids != sets[0].ids).any() or (one.labels != sets[0].labels).any():
            raise DataError(f"{sets[0].name} and {one.name} are not of the same patches in the same order.")


def _check(sets: Sequence[Predictions], margin: tuple[str, float] | None) -> None:
    if len(sets) < 2:
        raise DataError("a comparison needs two models or more.")
    require_same_patches(sets)
    if margin is not None and (margin[0] not in METRICS or not 0 < margin[1] < math.inf):
        raise DataError(
            f"a margin of {margin[1]:g} by {margin[0]!r} cannot be tested.",
            hint=f"Name one of {', '.join(METRICS)} and a margin above 0, as in auc=0.01.",
        )


class Compared:
    """The models' metrics on all patches, on resamples or without each slide, computed once for all pairs.

    Attributes:
        values: float64 (models, metrics), on all patches.
        by_jackknife: whether slides are few, so that they are left out one by one.
        again: float64 (models, n, metrics), on n resamples, or without each of n slides.
        weights: of each model and metric, what each slide counts; empty without a jackknife.
    """

    def __init__(self, sets: Sequence[Predictions], resamples: int, seed: int) -> None:
        self.sets, self.resamples = sets, resamples
        labels = sets[0].labels.astype(np.int64)
        self.counted = [Counted.of(labels, one.probabilities, one.threshold or 0.0) for one in sets]
        self.slides = Slides.of(sets[0].slides, labels, sets[0].class_names, sets[0].copies)
        self.cluster = self.slides.cluster if self.slides.by_slide else self.slides.copies
        self.values = np.array([one.metrics(one.counts) for one in self.counted])
        self.right = [(one.probabilities >= (one.threshold or 0.0)) == (labels == 1) for one in sets]
        self.by_jackknife = self.slides.by_slide and self.slides.few() is not None
        self.weights: list[dict[str, Floats]] = []
        if self.by_jackknife:
            assert self.cluster is not None
            block = joined(self.cluster)
            self.again: Floats = np.array([without_each(one, block) for one in self.counted])
            self.weights = [weights_of(one, labels, block) for one in self.counted]
        else:
            self.again = resampled_metrics(self.counted, self.cluster, resamples, seed)

    @cached_property
    def areas(self) -> Areas:
        """The AUCs by DeLong's method."""
        return areas(self.sets[0].labels.astype(np.int64), [one.probabilities for one in self.sets], self.cluster)

    def difference(self, metric: str, one: int, other: int) -> _Estimated:
        if metric == "auc" and not self.by_jackknife:  # of few slides, the variance by DeLong's method is too small
            return self._by_delong(one, other)
        estimate = self._by_jackknife if self.by_jackknife else self._by_bootstrap
        estimated = estimate(metric, one, other)
        if metric != "accuracy" or not math.isfinite(estimated.value):
            return estimated
        test = mcnemar(self.right[one], self.right[other], self.cluster)
        return replace(estimated, p=test.p, method=f"{test.method}; interval: {estimated.method}")

    def jackknife_error(self, metric: str, without: Floats, models: Sequence[int]) -> tuple[float, float]:
        """The standard error of a figure of some models, from its values without each slide, and its freedom."""
        n = len(without)
        error = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
        weights = np.sum([self.weights[at][metric] for at in models], axis=0)
        return error, max(effective_clusters(weights) - 1, 1.0)

    @property
    def unit(self) -> str:
        """What is resampled: a patch, a group of copies or a slide."""
        return "patch" if self.cluster is None else self._unit

    def notes(self) -> list[str]:
        """What to bear in mind of the intervals and tests."""
        if self.slides.by_slide:
            return self.slides.notes()
        together = "" if self.cluster is None else ", copies of a patch together"
        return [
            f"The tests are by patch{together}, since no two slides are known. Patches of one slide are alike, so the "
            "intervals are too narrow and p is too small."
        ]

    def _by_delong(self, one: int, other: int) -> _Estimated:
        value, low, high, p = self.areas.difference(one, other)
        variance = self.areas.variance_of_difference(one, other)
        method = "DeLong" if self.cluster is None else f"DeLong by {self._unit} (Obuchowski)"
        if value == 0 and variance <= 1e-18:
            low = high = 0.0
            p = 1.0

        def tail(sign: int, margin: float) -> float:
            if not variance > 1e-18:
                return 0.0 if sign * value > -margin else 1.0
            return self.areas.tail(sign * value + margin, variance)

        return _Estimated(value, low, high, p, method, tail)

    @property
    def _unit(self) -> str:
        return "slide" if self.slides.by_slide else "group of copies"

    def _by_bootstrap(self, metric: str, one: int, other: int) -> _Estimated:
        at = METRICS.index(metric)
        value = float(self.values[one, at] - self.values[other, at])
        method = f"paired bootstrap by {self.unit}, {self.resamples:,} resamples"
        resampled = self.again[one, :, at] - self.again[other, :, at]
        resampled = resampled[np.isfinite(resampled)]
        if not math.isfinite(value) or not len(resampled):
            return _undefined(method)
        if metric == "ece":
            resampled = resampled - np.median(resampled) + value
        low, high = percentile_interval(resampled)

        def tail(sign: int, margin: float) -> float:
            return float((np.sum(sign * resampled <= -margin) + 1) / (len(resampled) + 1))

        p = min(1.0, 2 * min(tail(1, 0.0), tail(-1, 0.0)))
        return _Estimated(value, low, high, p, method, tail)

    def _by_jackknife(self, metric: str, one: int, other: int) -> _Estimated:
        at = METRICS.index(metric)
        method = "jackknife by slide, Student's t"
        value = float(self.values[one, at] - self.values[other, at])
        without = self.again[one, :, at] - self.again[other, :, at]
        if not math.isfinite(value) or not np.isfinite(without).all():
            return _undefined(method)
        error, freedom = self.jackknife_error(metric, without, (one, other))
        if error < 1e-12:
            return _Estimated(value, value, value, 1.0 if value == 0 else math.nan, method, lambda *_: math.nan)
        reach = float(student.ppf(0.975, freedom)) * error

        def tail(sign: int, margin: float) -> float:
            return float(student.sf((sign * value + margin) / error, freedom))

        p = 2 * float(student.sf(abs(value) / error, freedom))
        return _Estimated(value, value - reach, value + reach, p, method, tail)


def _undefined(method: str) -> _Estimated:
    return _Estimated(math.nan, math.nan, math.nan, math.nan, method, lambda *_: math.nan)


def _non_inferiority(
    tails: dict[tuple[str, int, int], _Estimated], models: int, margin: tuple[str, float] | None, reference: int
) -> list[NonInferiority]:
    if margin is None:
        return []
    metric, allowed = margin
    found = []
    for model in range(models):
        if model == reference:
            continue
        first, second = sorted((model, reference))
        estimated = tails[metric, first, second]
        sign = (1 if model == first else -1) * (-1 if metric in LOWER_IS_BETTER else 1)
        worst = estimated.low if sign > 0 else -estimated.high
        advantage = sign * estimated.value
        p = estimated.tail(sign, allowed)
        found.append(NonInferiority(metric, allowed, model, reference, advantage, worst, p))
    return [replace(one, corrected=float(p)) for one, p in zip(found, holm([one.p for one in found]), strict=True)]


def mcnemar(one: ArrayLike, other: ArrayLike, cluster: NDArray[np.int64] | None = None) -> McNemar:
    """Whether two models are right equally often (McNemar 1947): the exact test, or that for clusters.

    With clusters the statistic is the sum over clusters of the difference of the two counts, over the root of the sum
    of its squares (Yang, Sun and Hardin 2010), with Student's t.

    Args:
        one: bool (N,), whether the first model calls each patch rightly; ``other`` likewise.
        cluster: int (N,), the cluster of each patch from 0; None for independent patches.
    """
    first, second = np.asarray(one, dtype=bool), np.asarray(other, dtype=bool)
    only_one, only_other = int((first & ~second).sum()), int((~first & second).sum())
    if cluster is None:
        several = only_one + only_other
        p = float(binomtest(only_one, several, 0.5).pvalue) if several else 1.0
        return McNemar(only_one, only_other, p, "McNemar, exact")
    apart = np.bincount(cluster, first.astype(np.float64) - second)
    spread = math.sqrt(float((apart**2).sum()))
    clusters = effective_clusters(np.bincount(cluster))
    ratio = abs(float(apart.sum())) / spread if spread else 0.0
    p = 2 * float(student.sf(ratio, max(clusters - 1, 1.0))) if clusters < 1000 else 2 * float(norm.sf(ratio))
    return McNemar(only_one, only_other, min(p, 1.0), "McNemar by clusters (Yang)")


def holm(p: Sequence[float]) -> Floats:
    """Holm's step-down correction (1979): float (n,), never above 1. A p of NaN stays so and does not count."""
    values = np.asarray(p, dtype=np.float64)
    corrected = np.full(len(values), math.nan)
    defined = np.flatnonzero(np.isfinite(values))
    order = defined[np.argsort(values[defined], kind="stable")]
    factors = len(order) - np.arange(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0) if len(order) else []
    return corrected


def few_slides(sets: Sequence[Predictions]) -> int | None:
    """The number of slides if they are too few to call a difference shown, else None."""
    slides = sets[0].slides
    if slides is None:
        return None
    known = len(set(slides.tolist()) - {""})
    return known if 1 < known < FEWEST and (slides != "").all() else None
