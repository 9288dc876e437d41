"""How sure the metrics of patches are: by slide where slides are known, else by patch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentinode.errors import DataError
from sentinode.scoring.bootstrap import bca_interval, centred, percentile_interval, resampled_metrics
from sentinode.scoring.counts import CLASS_NAMES, CLIP, METRICS, REASONS, Counted, Floats
from sentinode.scoring.intervals import FEW, cluster_interval, effective_clusters, joined
from sentinode.scoring.predictions import clusters

BOUNDS: Final = {"nll": (0.0, -math.log(CLIP))}
"""The range of each metric that is not a share from 0 to 1."""

METHODS: Final = ("auto", "jackknife", "percentile", "bca")
"""How intervals are made. ``auto``: the jackknife where slides are known, percentiles of a bootstrap elsewhere."""

FEWEST: Final = 5
"""With fewer slides than this, how often an interval contains the true value was not measured."""

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
        copies: int (N,), the group of copies of each patch from 0, a patch without copies being one of its own; None
            where copies are not known, or a slide is one observation.
    """

    labels: NDArray[np.int64]
    cluster: NDArray[np.int64] | None = None
    known: int | None = None
    without: int = 0
    class_names: Sequence[str] = CLASS_NAMES
    copies: NDArray[np.int64] | None = None

    @classmethod
    def of(
        cls,
        groups: ArrayLike | None,
        labels: NDArray[np.int64],
        class_names: Sequence[str] = CLASS_NAMES,
        copies: ArrayLike | None = None,
    ) -> Slides:
        """Slides by their names; an empty string, None or NaN is an unknown one.

        Slides that share copies of a patch are one observation.

        Raises:
            DataError: there is not one name for each patch.
        """
        slides = cls._of(groups, labels, class_names)
        if copies is None:
            return slides
        copied = np.asarray(copies).ravel().astype(str)
        if len(copied) != len(labels):
            raise DataError(f"there are {len(labels):,} labels but the copies of {len(copied):,} patches.")
        if slides.cluster is None:
            return replace(slides, copies=clusters(copied))
        joined_slides = clusters(slides.cluster.astype(str), copied)
        assert joined_slides is not None
        return replace(slides, cluster=joined_slides if joined_slides.max() else None)

    @classmethod
    def _of(cls, groups: ArrayLike | None, labels: NDArray[np.int64], class_names: Sequence[str]) -> Slides:
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
        if self.known < FEWEST:
            return [
                f"Only {self.known} slides: no interval from so few can be relied on. It was not measured how often "
                f"intervals from fewer than {FEWEST} slides contain the true value."
            ]
        if few := self.few():
            return [
                f"{few}: the intervals by slide are rough, because there are few. In simulations with 5 to {FEW} "
                "slides, 95 % intervals contained the true value in 91 to 98 of 100 data sets (fewer for the ECE)."
            ]
        return []

    def few(self) -> str | None:
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


def intervals(
    patches: Counted, slides: Slides, value: Mapping[str, float], resamples: int, seed: int, method: str = "auto"
) -> Intervals:
    """The 95 % interval of each metric, by one of ``METHODS``; none where ``resamples`` is 0."""
    if method not in METHODS:
        raise DataError(f"there are no intervals by {method!r}.", hint=f"The methods are {', '.join(METHODS)}.")
    if not resamples:
        return Intervals(dict.fromkeys(METRICS, (math.nan, math.nan)))
    if method == "jackknife" or (method == "auto" and slides.by_slide):
        return _by_jackknife(patches, slides, value)
    return _by_bootstrap(patches, slides, value, resamples, seed, bca=method == "bca")


def _by_jackknife(patches: Counted, slides: Slides, value: Mapping[str, float]) -> Intervals:
    """The jackknife over slides, or over patches where slides are not known, with Student's t."""
    cluster = next((one for one in (slides.cluster, slides.copies) if one is not None), np.arange(len(slides.labels)))
    block = joined(cluster)
    without = without_each(patches, block)
    weights = weights_of(patches, slides.labels, block)
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
            one = "slide" if slides.by_slide else "patch"
            reasons[name] = f"it depends on one {one}: without that {one} there is {slides.reason(name)}"
        limits[name] = (low, high)
    notes = tuple(slides.notes()) if slides.by_slide else (_by_patch_note(slides),)
    how = _how_by_jackknife(slides, int(cluster.max()) + 1, len(without))
    return Intervals(limits, how, len(without), reasons, notes)


def without_each(patches: Counted, block: NDArray[np.int64]) -> Floats:
    """The metrics without each block of patches: float (blocks, metrics)."""
    normal, tumour = patches.counts
    order = np.argsort(block, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(block))[:-1])
    without = []
    for normal_of, tumour_of in map(patches.of_rows, rows):
        without.append(patches.metrics((normal - normal_of, tumour - tumour_of)))
    return np.array(without)


def weights_of(patches: Counted, labels: NDArray[np.int64], block: NDArray[np.int64]) -> dict[str, Floats]:
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


def _how_by_jackknife(slides: Slides, units: int, blocks: int) -> str:
    n, many = len(slides.labels), f" in {blocks:,} blocks" if blocks < units else ""
    if not slides.by_slide:
        what = "patches" if slides.copies is None else "patches, copies together,"
        return f"95 % by patch: jackknife over {units:,} {what}{many}, Student's t"
    if not slides.without:
        return f"95 % by slide: jackknife over {units:,} slides{many}, Student's t"
    return (
        f"95 % by slide for {n - slides.without:,} of {n:,} patches, the others by patch (too narrow): jackknife over "
        f"{units:,} slides and patches{many}, Student's t"
    )


def _by_patch_note(slides: Slides) -> str:
    why = "since no slides are known" if slides.known is None else "since all patches are of one slide"
    return f"The intervals are by patch, {why}: {TOO_NARROW}."


def _by_bootstrap(
    patches: Counted, slides: Slides, value: Mapping[str, float], resamples: int, seed: int, *, bca: bool
) -> Intervals:
    """The percentiles, or the bias-corrected and accelerated interval, of a bootstrap of slides or of patches."""
    cluster = slides.cluster if slides.by_slide else slides.copies
    resampled = resampled_metrics([patches], cluster, resamples, seed)[0]
    without = None
    if bca:
        without = without_each(patches, joined(np.arange(len(slides.labels)) if cluster is None else cluster))
    limits, reasons = {}, {}
    for at, name in enumerate(METRICS):
        if without is not None and name != "ece":  # whose bias is larger than BCa can correct
            limits[name] = bca_interval(value[name], resampled[:, at], without[:, at])
        elif math.isfinite(value[name]):
            values = centred(resampled[:, at], value[name]) if name == "ece" else resampled[:, at]
            limits[name] = percentile_interval(values)
        else:
            limits[name] = (math.nan, math.nan)
        if math.isfinite(value[name]) and math.isnan(limits[name][0]):
            reasons[name] = _no_bca(slides, name) if bca else f"no resample has one ({slides.reason(name)})"
    notes = [*(slides.notes() if slides.by_slide else [_by_patch_note(slides)])]
    if slides.by_slide and slides.few():
        notes.append("A bootstrap of few slides gives intervals that are too narrow; those of the jackknife are not.")
    undefined = {name: int(np.isnan(resampled[:, at]).sum()) for at, name in enumerate(METRICS) if name in REASONS}
    partly = {name: count for name, count in undefined.items() if 0 < count < resamples}
    if partly:
        notes.append(
            f"In up to {max(partly.values()):,} of {resamples:,} resamples there is no {', '.join(partly)}; the "
            "intervals leave those resamples out."
        )
    return Intervals(limits, _how_by_bootstrap(slides, cluster, resamples, bca), resamples, reasons, tuple(notes))


def _how_by_bootstrap(slides: Slides, cluster: NDArray[np.int64] | None, resamples: int, bca: bool) -> str:
    kind, ece = ("BCa", ", for the ECE their percentiles") if bca else ("percentiles", "")
    if slides.by_slide:
        assert cluster is not None
        units = "slides, and patches without one" if slides.without else "slides"
        return f"95 % by slide: {kind} of {resamples:,} bootstrap resamples of {int(cluster.max()) + 1:,} {units}{ece}"
    together = "" if cluster is None else ", copies of a patch together"
    return f"95 % by patch{together}: {kind} of {resamples:,} bootstrap resamples{ece}"


def _no_bca(slides: Slides, name: str) -> str:
    lies = "all resamples lie on one side of the value, or it depends on one of the observations"
    return f"{lies} ({slides.reason(name)})" if name in REASONS else lies
