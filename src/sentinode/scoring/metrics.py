"""Metrics of probabilities, with intervals, from arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentinode.errors import DataError
from sentinode.scoring.calibration import ece_floor
from sentinode.scoring.counts import CLASS_NAMES, METRICS, REASONS, Counted, Floats, area, counts
from sentinode.scoring.delong import areas
from sentinode.scoring.estimate import Estimate
from sentinode.scoring.uncertainty import Slides, intervals


@dataclass(frozen=True)
class Scores:
    """Ten metrics at one threshold, each with a 95 % interval.

    Attributes:
        auc: area under the ROC curve, ties counted half.
        accuracy: share of patches that are classified correctly.
        precision: share of tumour among the patches called tumour.
        recall: share of tumour patches that were called tumour (sensitivity).
        specificity: share of normal patches that were called normal.
        f1: harmonic mean of precision and recall.
        average_precision: mean precision over the steps of recall, not interpolated.
        nll: mean negative log-likelihood in nats, probabilities clipped to [1e-7, 1 - 1e-7].
        brier: mean squared difference of probability and label.
        ece: expected calibration error over 15 equal-mass bins of P(tumour).
        ece_floor: the ECE that a perfectly calibrated model has by chance with these probabilities.
        auc_delong: the AUC with DeLong's interval, or Obuchowski's where slides or copies are known.
        n: number of patches.
        threshold: P(tumour) from which a patch is called tumour.
        confusion: ``tp``, ``fp``, ``tn``, ``fn`` at the threshold.
        undefined: the reason, for each metric without a value.
        no_interval: the reason, for each metric with a value but without an interval.
        resampled: ``slide`` or ``patch``: the unit of observation of the intervals.
        resamples: how often the metrics were computed again for the intervals.
        interval: a description of the method of the intervals.
        slides: number of known slides, or None.
        without_slide: number of patches without a known slide, if some have one.
        notes: warnings for the reader of the intervals, as sentences.
    """

    auc: Estimate
    accuracy: Estimate
    precision: Estimate
    recall: Estimate
    specificity: Estimate
    f1: Estimate
    average_precision: Estimate
    nll: Estimate
    brier: Estimate
    ece: Estimate
    ece_floor: Estimate
    auc_delong: Estimate
    n: int
    threshold: float
    confusion: dict[str, int]
    undefined: dict[str, str] = field(default_factory=dict)
    no_interval: dict[str, str] = field(default_factory=dict)
    resampled: str = "patch"
    resamples: int = 0
    interval: str = "none"
    slides: int | None = None
    without_slide: int = 0
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """What goes into ``metrics.json``: plain numbers, None for what is undefined, never NaN."""
        return {
            **{name: getattr(self, name).as_dict() for name in (*METRICS, "ece_floor", "auc_delong")},
            "n": self.n,
            "threshold": self.threshold,
            "confusion": dict(self.confusion),
            "undefined": dict(self.undefined),
            "no_interval": dict(self.no_interval),
            "resampled": self.resampled,
            "resamples": self.resamples,
            "interval": self.interval,
            "slides": self.slides,
            "without_slide": self.without_slide,
            "notes": list(self.notes),
        }


def measure(
    labels: ArrayLike,
    probabilities: ArrayLike,
    threshold: float,
    *,
    groups: ArrayLike | None = None,
    copies: ArrayLike | None = None,
    interval: str = "auto",
    resamples: int = 1000,
    seed: int = 0,
    class_names: Sequence[str] = CLASS_NAMES,
) -> Scores:
    """Compute ten metrics and their 95 % intervals.

    Patches of one slide are alike. If slides are known, a slide is one observation, and the intervals are those of
    :func:`~sentinode.scoring.intervals.cluster_interval`. A patch whose slide is not known counts as its own slide. If
    no slides are known, or all patches are of one slide, the intervals are the percentiles of a bootstrap of patches,
    and are too narrow. Resamples in which a metric is undefined, such as the AUC of one class, are then left out of its
    interval.

    By chance an ECE is too high. The fewer patches or slides there are, the larger this bias. By patch its resamples
    are shifted back, so that their median is the value. By slide its lower limit is moved down by the bias that the
    jackknife finds. BCa cannot correct so large a bias, so the ECE has percentiles there, too.

    The AUC also has DeLong's interval (:mod:`sentinode.scoring.delong`), by slide where slides are known.

    Args:
        labels: (N,), 0 or 1.
        probabilities: (N,), P(tumour) from 0 to 1.
        threshold: P(tumour) from which a patch is called tumour.
        groups: (N,), the slide of each patch, or None. For a patch whose slide is not known: an empty string, None
            or NaN.
        resamples: number of bootstrap resamples by patch; 0 for no intervals and no ECE by chance, which is quick.
        seed: random seed for the bootstrap and the ECE by chance; the same seed gives the same interval.
        class_names: the names of labels 0 and 1 in the notes.

    Raises:
        DataError: no patches, unequal lengths, labels other than 0 and 1, or probabilities outside 0 to 1; or an
            unknown kind of interval.
    """
    label, probability = _checked(labels, probabilities)
    slides = Slides.of(groups, label, class_names, copies)
    patches = Counted.of(label, probability, threshold)
    value = dict(zip(METRICS, patches.metrics(patches.counts), strict=True))
    found = intervals(patches, slides, value, resamples, seed, interval)
    return Scores(
        **{name: Estimate(value[name], *found.limits[name]) for name in METRICS},
        ece_floor=ece_floor(probability, draws=min(resamples, 200), seed=seed),
        auc_delong=_delong(label, probability, slides) if resamples else Estimate(value["auc"], math.nan, math.nan),
        n=len(label),
        threshold=float(threshold),
        confusion=dict(zip(("tn", "fp", "fn", "tp"), patches.confusion(patches.counts), strict=True)),
        undefined={name: REASONS[name].format(*class_names) for name in METRICS if math.isnan(value[name])},
        no_interval=found.reasons,
        resampled="slide" if slides.by_slide else "patch",
        resamples=found.resamples,
        interval=found.how,
        slides=slides.known,
        without_slide=slides.without,
        notes=found.notes,
    )


def _delong(label: NDArray[np.int64], probability: Floats, slides: Slides) -> Estimate:
    found = areas(label, [probability], slides.cluster if slides.by_slide else slides.copies)
    return Estimate(float(found.values[0]), *found.interval())


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve (Mann and Whitney's U, ties counted half); NaN where there is one class only.

    Args:
        labels: (N,), 0 or 1.
        scores: (N,), higher for tumour, on any scale.
    """
    distinct, rank = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
    cell = 2 * rank + (np.asarray(labels).ravel() == 1)
    return area(*counts(cell, len(distinct)))


@dataclass(frozen=True)
class Curve:
    """Points of a curve, one for each distinct threshold: float (K,) each."""

    x: Floats
    y: Floats
    threshold: Floats


def roc_curve(labels: ArrayLike, probabilities: ArrayLike) -> Curve:
    """False-positive rate (x) against sensitivity (y), from (0, 0) to (1, 1); NaN for an absent class."""
    threshold, tp, fp = _cumulated(labels, probabilities)
    with np.errstate(invalid="ignore"):
        return Curve(
            np.concatenate(([0.0], fp / fp[-1])),
            np.concatenate(([0.0], tp / tp[-1])),
            np.concatenate(([np.inf], threshold)),
        )


def pr_curve(labels: ArrayLike, probabilities: ArrayLike) -> Curve:
    """Recall (x) against precision (y), from the highest threshold to the lowest; NaN without tumour."""
    threshold, tp, fp = _cumulated(labels, probabilities)
    with np.errstate(invalid="ignore"):
        return Curve(tp / tp[-1], tp / (tp + fp), threshold)


def _cumulated(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Floats, Floats, Floats]:
    label, probability = _checked(labels, probabilities)
    patches = Counted.of(label, probability, 0.5)
    normal, tumour = patches.counts
    return patches.scores[::-1], np.cumsum(tumour[::-1]), np.cumsum(normal[::-1])


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], Floats]:
    label = np.asarray(labels).ravel()
    probability = np.asarray(probabilities, dtype=np.float64).ravel()
    if not len(label):
        raise DataError("there are no patches to score.")
    if len(label) != len(probability):
        raise DataError(f"there are {len(label):,} labels but {len(probability):,} probabilities.")
    if not np.isin(label, (0, 1)).all():
        raise DataError("labels other than 0 (normal) and 1 (tumour) cannot be scored.")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise DataError(
            "some probabilities are not numbers from 0 to 1.",
            hint="If they come from a model, its training diverged: train again with a lower rate.",
        )
    return label.astype(np.int64), probability
