"""How sure the metrics of patches are: by slide where slides are known, else by patch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentinode.errors import DataError
from sentinode.scoring.counts import CLASS_NAMES, CLIP, METRICS, REASONS, Counted, Floats
from sentinode.scoring.estimate import Estimate
from sentinode.scoring.intervals import FEW, cluster_interval, effective_clusters, joined

BOUNDS: Final = {"nll": (0.0, -math.log(CLIP))}
"""The range of each metric that is not a share from 0 to 1."""

TOO_NARROW: Final = "patches of one slide are alike, so the intervals are too narrow"


@dataclass(frozen=True)
class Slides:
    """Which patches are of one slide.

    Attributes:
        labels: int (N,), 0 or 1.
        cluster: int (N,), the slide of each patch from 0, a patch of unknown slide being one of its own; None where
            there are no two slides.
        known: how many slides are known, or None.
        without: how many patches have no known slide, where some have.
        class_names: what labels 0 and 1 are called.
    """

    labels: NDArray[np.int64]
    cluster: NDArray[np.int64] | None = None
    known: int | None = None
    without: int = 0
    class_names: Sequence[str] = CLASS_NAMES

    @classmethod
    def of(
        cls, groups: ArrayLike | None, labels: NDArray[np.int64], class_names: Sequence[str] = CLASS_NAMES
    ) -> Slides:
        """Slides by their names; an empty string, None or NaN is an unknown one.

        Raises:
            DataError: there is not one name for each patch.
        """
        if groups is None:
            return cls(labels, class_names=class_names)
        names = np.asarray(groups).ravel()
        if len(names) != len(labels):
            raise DataError(f"there are {len(labels):,} labels but the slides of {len(names):,} patches.")
        unknown = np.array([name is None or name != name or str(name).strip() == "" for name in names.tolist()])
        if unknown.all():
            return cls(labels, class_names=class_names)
        found, of_known = np.unique(names[~unknown].astype(str), return_inverse=True)
        cluster = np.empty(len(names), np.int64)
        cluster[~unknown] = of_known
        cluster[unknown] = len(found) + np.arange(unknown.sum())
        several = len(found) + int(unknown.sum()) > 1
        return cls(labels, cluster if several else None, len(found), int(unknown.sum()), class_names)

    @property
    def by_slide(self) -> bool:
        """Whether a slide is one observation; else a patch is."""
        return self.cluster is not None

    def reason(self, metric: str) -> str:
        """Why a metric is undefined without some of the patches."""
        return REASONS[metric].format(*self.class_names)

    def notes(self) -> list[str]:
        """What to bear in mind where the intervals are by slide: patches without a slide, or slides that are few."""
        assert self.known is not None
        if self.without:
            several = "1 slide" if self.known == 1 else f"{self.known:,} slides"
            return [
                f"{self.without:,} of {len(self.labels):,} patches have no known slide; the others are of {several}. "
                "Each patch without a slide counts as a slide of its own, so the intervals are too narrow."
            ]
        if few := self._few():
            return [
                f"{few}: the intervals by slide are rough, because there are few. In simulations with 5 to {FEW} "
                "slides, 95 % intervals contained the true value in 90 to 99 of 100 data sets (fewer for the ECE)."
            ]
        return []

    def _few(self) -> str | None:
        """What there is little of: slides, slides with one of the classes, or slides of some size."""
        assert self.cluster is not None and self.known is not None
        if self.known < FEW:
            return f"Only {self.known} slides"
        for label, word in reversed(list(enumerate(self.class_names))):
            with_class = len(np.unique(self.cluster[self.labels == label]))
            if 0 < with_class < FEW:
                return f"Only {with_class} of {self.known:,} slides have {word} patches"
        effective = effective_clusters(np.bincount(self.cluster))
        if effective < FEW:
            return f"A few of the {self.known:,} slides have most patches and count like {effective:.0f} of equal size"
        return None


@dataclass(frozen=True)
class Intervals:
    """The intervals of all metrics, and how they were made.

    Attributes:
        limits: the lower and upper limit by the metric's name; NaN where there is none.
        how: the method, in words.
        resamples: how often the metrics were computed anew.
        reasons: why, for each metric that has a value and no interval.
        notes: what to bear in mind, as sentences.
    """

    limits: dict[str, tuple[float, float]]
    how: str = "none"
    resamples: int = 0
    reasons: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def intervals(patches: Counted, slides: Slides, value: Mapping[str, float], resamples: int, seed: int) -> Intervals:
    """The 95 % interval of each metric, by slide or by patch; none where ``resamples`` is 0."""
    if not resamples:
        return Intervals(dict.fromkeys(METRICS, (math.nan, math.nan)))
    if slides.cluster is None:
        return _by_patch(patches, slides, value, resamples, seed)
    return _by_slide(patches, slides, slides.cluster, value)


def _by_slide(patches: Counted, slides: Slides, cluster: NDArray[np.int64], value: Mapping[str, float]) -> Intervals:
    """The jackknife over slides with Student's t."""
    block = joined(cluster)
    without = _without_each(patches, block)
    weights = _weights(patches, slides.labels, block)
    limits, reasons = {}, {}
    for at, name in enumerate(METRICS):
        left_out = without[:, at]
        scale = "linear" if name == "ece" else "logit"
        low, high = cluster_interval(
            value[name], left_out, weights[name], bounds=BOUNDS.get(name, (0.0, 1.0)), scale=scale
        )
        if name == "ece":
            bias = (len(left_out) - 1) * float(left_out.mean() - value[name])
            low = max(low - max(bias, 0), 0)
        if math.isfinite(value[name]) and math.isnan(low):
            reasons[name] = f"it depends on one slide: without that slide there is {slides.reason(name)}"
        limits[name] = (low, high)
    return Intervals(limits, _how_by_slide(slides, len(without)), len(without), reasons, tuple(slides.notes()))


def _without_each(patches: Counted, block: NDArray[np.int64]) -> Floats:
    """The metrics without each block of patches: float (blocks, metrics)."""
    normal, tumour = patches.counts
    order = np.argsort(block, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(block))[:-1])
    without = []
    for normal_of, tumour_of in map(patches.of_rows, rows):
        without.append(patches.metrics((normal - normal_of, tumour - tumour_of)))
    return np.array(without)


def _weights(patches: Counted, labels: NDArray[np.int64], block: NDArray[np.int64]) -> dict[str, Floats]:
    """What each block brings to each metric: how many of the patches that it is a share of, float (blocks,) each.

    Where a metric compares the classes, both have the same weight.
    """
    called = patches.scores[patches.cell // 2] >= patches.threshold
    tumour, called_tumour = (np.bincount(block, weights=which).astype(np.float64) for which in (labels, called))
    every = np.bincount(block).astype(np.float64)
    normal = every - tumour
    both = tumour / max(tumour.sum(), 1) + normal / max(normal.sum(), 1)
    special = {
        "auc": both,
        "average_precision": both,
        "precision": called_tumour,
        "recall": tumour,
        "specificity": normal,
        "f1": tumour + called_tumour,
    }
    return {name: special.get(name, every) for name in METRICS}


def _how_by_slide(slides: Slides, blocks: int) -> str:
    clusters = (slides.known or 0) + slides.without
    n, many = len(slides.labels), f" in {blocks:,} blocks" if blocks < clusters else ""
    if not slides.without:
        return f"95 % by slide: jackknife over {clusters:,} slides{many}, Student's t"
    return (
        f"95 % by slide for {n - slides.without:,} of {n:,} patches, the others by patch (too narrow): jackknife over "
        f"{clusters:,} slides and patches{many}, Student's t"
    )


def _by_patch(patches: Counted, slides: Slides, value: Mapping[str, float], resamples: int, seed: int) -> Intervals:
    """The percentiles of a bootstrap of patches."""
    rng = np.random.default_rng(seed)
    n = len(patches.cell)
    resampled = np.array([patches.metrics(patches.of_rows(rng.integers(n, size=n))) for _ in range(resamples)])
    ece = METRICS.index("ece")
    resampled[:, ece] = np.maximum(resampled[:, ece] - np.median(resampled[:, ece]) + value["ece"], 0)
    limits, reasons = {}, {}
    for at, name in enumerate(METRICS):
        estimate = Estimate.of(value[name], resampled[:, at])
        limits[name] = (estimate.low, estimate.high)
        if math.isfinite(value[name]) and math.isnan(estimate.low):
            reasons[name] = f"no resample has one ({slides.reason(name)})"
    why = "since no slides are known" if slides.known is None else "since all patches are of one slide"
    notes = [f"The intervals are by patch, {why}: {TOO_NARROW}."]
    undefined = {name: int(np.isnan(resampled[:, at]).sum()) for at, name in enumerate(METRICS) if name in REASONS}
    partly = {name: count for name, count in undefined.items() if 0 < count < resamples}
    if partly:
        notes.append(
            f"In up to {max(partly.values()):,} of {resamples:,} resamples there is no {', '.join(partly)}; the "
            "intervals leave those resamples out."
        )
    how = f"95 % by patch: percentiles of {resamples:,} bootstrap resamples"
    return Intervals(limits, how, resamples, reasons, tuple(notes))
