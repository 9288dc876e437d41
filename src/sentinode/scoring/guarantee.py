"""A threshold whose recall is guaranteed: at least r on new patches, except with probability d."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from sentinode.errors import DataError
from sentinode.scoring.calibration_errors import checked
from sentinode.scoring.estimate import Estimate
from sentinode.scoring.operating_point import between
from sentinode.scoring.shares import mean, share

Floats = NDArray[np.float64]

RECALL, CONFIDENCE = 0.95, 0.9
"""What is guaranteed unless something else is asked for."""


@dataclass(frozen=True)
class Guarantee:
    """A threshold that keeps a recall, and what it was chosen on.

    Attributes:
        threshold: P(positive) from which a patch is called positive.
        recall: what is guaranteed.
        confidence: how often such a choice keeps it.
        by_group: whether the recall is the mean over slides, or other groups of patches; else it is that of patches.
        n: number of positive patches, or of groups with some.
        reached: the recall on the patches that it was chosen on.
    """

    threshold: float
    recall: float
    confidence: float
    by_group: bool
    n: int
    reached: float

    def as_dict(self) -> dict[str, Any]:
        """For ``metrics.json``."""
        return {**vars(self), "unit": "slide" if self.by_group else "patch"}


def guaranteed_threshold(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    recall: float = RECALL,
    confidence: float = CONFIDENCE,
    groups: NDArray[np.int64] | None = None,
) -> Guarantee:
    """The highest threshold that keeps the recall, with a guarantee for a finite number of patches.

    By patch the bound is exact: of n positive patches, so many may be missed that a recall below ``recall`` would have
    led to so few misses only with probability 1 - ``confidence`` (Clopper and Pearson 1934). This is Learn-then-Test
    (Angelopoulos et al. 2021) with fixed-sequence testing from the lowest threshold up. By slide, the recall is the
    mean over slides with a positive patch, and its p-value is that of Hoeffding and Bentkus (Bates et al. 2021), which
    holds however alike the patches of one slide are.

    It holds for patches, or slides, that are drawn from the same population as these. Other scanners are another.

    Args:
        labels: (N,), 0 or 1.
        probabilities: (N,), P(positive), by a model and a calibration that were not fitted to these patches.
        recall: above 0 and below 1.
        confidence: above 0 and below 1.
        groups: int (N,), the slide of each patch, for a guarantee by slide; None by patch.

    Raises:
        DataError: there are too few positive patches, or slides with some; the message says how many are needed.
    """
    for name, value in (("recall", recall), ("confidence", confidence)):
        if not 0 < value < 1:
            raise DataError(f"a {name} of {value:g} cannot be guaranteed.", hint="Give a share above 0 and below 1.")
    label, probability = checked(labels, probabilities)
    scores = np.sort(probability[label])
    units = _units(label, groups)
    n, needed = len(np.unique(units)), needed_units(recall, confidence)
    what = "positive patches" if groups is None else "slides with a positive patch"
    if n < needed:
        raise DataError(
            f"a recall of {recall:g} cannot be guaranteed with confidence {confidence:g} from {n:,} {what}; "
            f"{needed:,} are needed.",
            hint="Give more of them, or ask for a lower recall or confidence.",
        )
    # missed[k]: the mean miss of a unit if the k lowest positive patches are missed.
    if groups is None:
        missed = np.arange(len(scores)) / n
        p_values = binom.cdf(np.arange(len(scores)), n, 1 - recall)
    else:
        size = np.bincount(units)
        order = np.argsort(probability[label], kind="stable")
        missed = np.r_[0.0, np.cumsum(1 / size[units][order])[:-1]] / n
        p_values = hoeffding_bentkus(missed, n, 1 - recall)
    # Positive patches with equal scores are missed together, so a cut is only below the first of them.
    cuts = np.flatnonzero(np.r_[True, np.diff(scores) > 0])
    kept = cuts[p_values[cuts] <= 1 - confidence + 1e-12]
    at = int(kept.max())
    below = probability[probability < scores[at]]
    threshold = float(between(below.max(), scores[at])) if len(below) else 0.0
    return Guarantee(threshold, recall, confidence, groups is not None, n, 1 - float(missed[at]))


def needed_units(recall: float, confidence: float) -> int:
    """How many positive patches, or slides, a guarantee needs at least: none of them may be missed then."""
    return math.ceil(math.log(1 - confidence) / math.log(recall) - 1e-9)


def hoeffding_bentkus(risk: ArrayLike, n: int, allowed: float) -> Floats:
    """The p-value of a mean loss above ``allowed``, where n losses from 0 to 1 have the mean ``risk``.

    Bates et al. (2021), the lesser of Hoeffding's and Bentkus's.
    """
    observed = np.clip(np.asarray(risk, dtype=np.float64), 0, 1)
    lower = np.minimum(observed, allowed)
    with np.errstate(divide="ignore", invalid="ignore"):
        first = np.where(lower > 0, lower * np.log(lower / allowed), 0.0)
        entropy = first + (1 - lower) * np.log((1 - lower) / (1 - allowed))
    bentkus = math.e * binom.cdf(np.ceil(n * observed - 1e-9), n, allowed)
    return np.asarray(np.minimum(np.minimum(np.exp(-n * entropy), bentkus), 1.0), dtype=np.float64)


def recall_by_unit(
    labels: ArrayLike, probabilities: ArrayLike, threshold: float, groups: NDArray[np.int64] | None = None
) -> Estimate:
    """The recall of patches, or its mean over slides, with its 95 % interval; NaN without a positive patch."""
    label, probability = checked(labels, probabilities)
    hit = (probability >= threshold)[label]
    if groups is None:
        return share(hit)
    units = _units(label, groups)
    size = np.bincount(units)
    return mean(np.bincount(units, hit) / size if len(size) else [])


def _units(label: NDArray[np.bool_], groups: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """int (P,), the patch or the slide of each positive patch, from 0."""
    if groups is None:
        return np.arange(int(label.sum()))
    return np.asarray(np.unique(groups[label], return_inverse=True)[1], dtype=np.int64)
