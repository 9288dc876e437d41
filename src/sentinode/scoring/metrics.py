"""How good probabilities are, with intervals: arrays in, figures out, no model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentinode.errors import DataError
from sentinode.scoring.calibration import bin_counts, ece_floor
from sentinode.scoring.figure import Figure

Floats = NDArray[np.float64]

FIGURES: Final = (
    "auc",
    "accuracy",
    "precision",
    "recall",
    "specificity",
    "f1",
    "average_precision",
    "nll",
    "brier",
    "ece",
)
"""The figures of :class:`Scores`, in the order in which they are shown."""

CLIP: Final = 1e-7
"""Probabilities are held this far from 0 and 1 in the negative log-likelihood, which a single sure error
would otherwise make infinite."""

REASONS: Final = {
    "auc": "one class only",
    "precision": "no patch was called tumour",
    "recall": "no tumour patch",
    "specificity": "no normal patch",
    "f1": "no tumour patch, and none was called tumour",
    "average_precision": "no tumour patch",
}


@dataclass(frozen=True)
class Scores:
    """Ten figures at one threshold, each with a 95 % bootstrap interval.

    Attributes:
        auc: area under the ROC curve, ties counted half.
        accuracy: share of patches on their right side of the threshold.
        precision: share of tumour among the patches called tumour.
        recall: share of tumour patches that were called tumour (sensitivity).
        specificity: share of normal patches that were called normal.
        f1: harmonic mean of precision and recall.
        average_precision: mean precision over the steps of recall, not interpolated.
        nll: mean negative log-likelihood in nats, probabilities clipped to [1e-7, 1 - 1e-7].
        brier: mean squared difference of probability and label.
        ece: expected calibration error over 15 equal-mass bins of P(tumour).
        ece_floor: the ECE that perfect calibration would score by chance on these probabilities.
        n: patches.
        threshold: P(tumour) from which a patch is called tumour.
        confusion: ``tp``, ``fp``, ``tn``, ``fn`` at the threshold.
        undefined: why, for each figure that has no value here.
        resampled: ``slide`` or ``patch``, what the bootstrap drew.
        resamples: how many times it drew.
    """

    auc: Figure
    accuracy: Figure
    precision: Figure
    recall: Figure
    specificity: Figure
    f1: Figure
    average_precision: Figure
    nll: Figure
    brier: Figure
    ece: Figure
    ece_floor: Figure
    n: int
    threshold: float
    confusion: dict[str, int]
    undefined: dict[str, str] = field(default_factory=dict)
    resampled: str = "patch"
    resamples: int = 0

    def as_dict(self) -> dict[str, Any]:
        """What goes into ``metrics.json``: plain numbers, None for what is undefined, never NaN."""
        return {
            **{name: getattr(self, name).as_dict() for name in (*FIGURES, "ece_floor")},
            "n": self.n,
            "threshold": self.threshold,
            "confusion": dict(self.confusion),
            "undefined": dict(self.undefined),
            "resampled": self.resampled,
            "resamples": self.resamples,
        }


def measure(
    labels: ArrayLike,
    probabilities: ArrayLike,
    threshold: float,
    *,
    groups: ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Scores:
    """Ten figures and their 95 % percentile intervals over bootstrap resamples.

    Patches of one slide are alike, so where slides are known whole slides are drawn (the cluster
    bootstrap); else patches are, and the interval is too narrow. Resamples in which a figure is undefined,
    such as the AUC of one class, are left out of its interval. A resample's noise can only add to an ECE,
    never cancel, so that resampled ECEs lie above the value; their interval is shifted back by the
    difference of their median and the value.

    Args:
        labels: (N,), 0 or 1.
        probabilities: (N,), P(tumour) from 0 to 1.
        threshold: P(tumour) from which a patch is called tumour.
        groups: (N,), the slide of each patch, or None. A single slide cannot be resampled and counts as None.
        resamples: 0 for no intervals and no chance floor, which is quick.
        seed: of the resampling; the same seed gives the same interval.

    Raises:
        DataError: no patches, unequal lengths, labels other than 0 and 1, or probabilities outside 0 to 1.
    """
    label, said = _checked(labels, probabilities)
    slides = None if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if slides is not None and (len(slides) != len(label) or slides.max() == 0):
        slides = None
    scores, rank = np.unique(said, return_inverse=True)
    cell = 2 * rank + label
    counts = _counts(cell, len(scores))
    value = _figures(scores, counts, threshold)
    drawn = np.array(
        [_figures(scores, counted, threshold) for counted in _resampled(cell, len(scores), slides, resamples, seed)]
    ).reshape(resamples, len(FIGURES))
    ece = FIGURES.index("ece")
    if resamples:
        drawn[:, ece] = np.maximum(drawn[:, ece] - np.median(drawn[:, ece]) + value[ece], 0)
    figures = {name: Figure.of(value[at], drawn[:, at]) for at, name in enumerate(FIGURES)}
    return Scores(
        **figures,
        ece_floor=ece_floor(said, draws=min(resamples, 200), seed=seed),
        n=len(label),
        threshold=float(threshold),
        confusion=dict(zip(("tn", "fp", "fn", "tp"), _confusion(scores, counts, threshold), strict=True)),
        undefined={name: REASONS[name] for name in FIGURES if math.isnan(figures[name].value)},
        resampled="patch" if slides is None else "slide",
        resamples=resamples,
    )


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve (Mann and Whitney's U, ties counted half); NaN where there is one class only.

    Args:
        labels: (N,), 0 or 1.
        scores: (N,), higher for tumour, on any scale.
    """
    distinct, rank = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
    cell = 2 * rank + (np.asarray(labels).ravel() == 1)
    return _auc(*_counts(cell, len(distinct)))


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
    label, said = _checked(labels, probabilities)
    scores, rank = np.unique(said, return_inverse=True)
    normal, tumour = _counts(2 * rank + label, len(scores))
    return scores[::-1], np.cumsum(tumour[::-1]), np.cumsum(normal[::-1])


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], Floats]:
    label = np.asarray(labels).ravel()
    said = np.asarray(probabilities, dtype=np.float64).ravel()
    if not len(label):
        raise DataError("there are no patches to score.")
    if len(label) != len(said):
        raise DataError(f"there are {len(label):,} labels but {len(said):,} probabilities.")
    if not np.isin(label, (0, 1)).all():
        raise DataError("labels other than 0 (normal) and 1 (tumour) cannot be scored.")
    if not ((said >= 0) & (said <= 1)).all():
        raise DataError(
            "some probabilities are not numbers from 0 to 1.",
            hint="Where they come from a model, its training diverged: train again with a lower rate.",
        )
    return label.astype(np.int64), said


def _counts(cell: NDArray[np.int64], scores: int, weights: ArrayLike | None = None) -> tuple[Floats, Floats]:
    """How many normal and tumour patches have each distinct score: every figure follows from these two."""
    table = np.bincount(cell, weights, minlength=2 * scores).astype(np.float64).reshape(scores, 2)
    return table[:, 0].copy(), table[:, 1].copy()


def _resampled(
    cell: NDArray[np.int64], scores: int, slides: NDArray[np.int64] | None, resamples: int, seed: int
) -> Iterator[tuple[Floats, Floats]]:
    rng = np.random.default_rng(seed)
    n = len(cell) if slides is None else int(slides.max()) + 1
    for _ in range(resamples):
        draw = rng.integers(n, size=n)
        if slides is None:
            yield _counts(cell[draw], scores)
        else:
            yield _counts(cell, scores, np.bincount(draw, minlength=n)[slides])


def _figures(scores: Floats, counts: tuple[Floats, Floats], threshold: float) -> list[float]:
    normal, tumour = counts
    n = normal.sum() + tumour.sum()
    tn, fp, fn, tp = _confusion(scores, counts, threshold)
    clipped = np.clip(scores, CLIP, 1 - CLIP)
    return [
        _auc(normal, tumour),
        (tp + tn) / n,
        _ratio(tp, tp + fp),
        _ratio(tp, tp + fn),
        _ratio(tn, tn + fp),
        _ratio(2 * tp, 2 * tp + fp + fn),
        _average_precision(normal, tumour),
        float(-(tumour @ np.log(clipped) + normal @ np.log1p(-clipped)) / n),
        float((tumour @ (1 - scores) ** 2 + normal @ scores**2) / n),
        bin_counts(scores, tumour, normal).error,
    ]


def _confusion(scores: Floats, counts: tuple[Floats, Floats], threshold: float) -> tuple[int, int, int, int]:
    """tn, fp, fn, tp; a score equal to the threshold is called tumour."""
    normal, tumour = counts
    cut = int(np.searchsorted(scores, threshold))
    return int(normal[:cut].sum()), int(normal[cut:].sum()), int(tumour[:cut].sum()), int(tumour[cut:].sum())


def _auc(normal: Floats, tumour: Floats) -> float:
    below = np.cumsum(normal) - normal / 2
    return _ratio(float(tumour @ below), float(tumour.sum() * normal.sum()))


def _average_precision(normal: Floats, tumour: Floats) -> float:
    tp, called = np.cumsum(tumour[::-1]), np.cumsum((tumour + normal)[::-1])
    precision = np.divide(tp, called, out=np.zeros_like(tp), where=called > 0)
    return _ratio(float(tumour[::-1] @ precision), float(tumour.sum()))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
