"""Conformal sets: for each patch the classes that cannot be ruled out, the true one among them as often as promised."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentinode.errors import DataError
from sentinode.scoring.calibration_errors import checked
from sentinode.scoring.estimate import Estimate
from sentinode.scoring.shares import share

Floats = NDArray[np.float64]

LEVELS = (0.9, 0.95, 0.99)


@dataclass(frozen=True)
class ConformalRule:
    """Which classes a set holds: those whose probability is at least the limit.

    Attributes:
        level: how often the true class is in the set, at least.
        by_class: whether this is promised for each class, or only for all patches together.
        limits: the least probability of the negative and of the positive class; 0 if every set holds it, because there
            are too few patches to rule it out.
    """

    level: float
    by_class: bool
    limits: tuple[float, float]

    def sets(self, probabilities: ArrayLike) -> NDArray[np.bool_]:
        """bool (N, 2), whether the set of each patch holds the negative and the positive class."""
        probability = np.asarray(probabilities, dtype=np.float64)
        return np.stack([1 - probability, probability], axis=1) >= np.asarray(self.limits) - 1e-12


@dataclass(frozen=True)
class Coverage:
    """What conformal sets are worth on labelled patches.

    Attributes:
        covered: the share of patches whose set holds the true class.
        negative: the same of negative patches; ``positive`` of positive ones.
        both: the share of patches whose set holds both classes: the model leaves them open.
        empty: the share of patches whose set is empty: they look like neither class.
        right: the share of right calls among sets with one class.
    """

    covered: Estimate
    negative: Estimate
    positive: Estimate
    both: float
    empty: float
    right: Estimate

    def as_dict(self) -> dict[str, Any]:
        """For ``metrics.json``."""
        named = {name: value.as_dict() for name, value in vars(self).items() if isinstance(value, Estimate)}
        return {**named, "both": self.both, "empty": self.empty}


def fit_conformal(
    labels: ArrayLike, probabilities: ArrayLike, level: float = 0.95, *, by_class: bool = False
) -> ConformalRule:
    """Split conformal prediction by the probability of the true class (Vovk et al. 2005; Sadinle et al. 2019).

    The promise holds for patches that are exchangeable with these: drawn alike and independently. Patches of other
    slides are not quite so.

    Args:
        labels: (N,), 0 or 1.
        probabilities: (N,), P(positive), by a model and a calibration that were not fitted to these patches.
        level: above 0 and below 1.
        by_class: promise the level for each class (class-conditional).

    Raises:
        DataError: the level is out of range, or a class has no patches where each is promised.
    """
    if not 0 < level < 1:
        raise DataError(f"{level:g} is not a level above 0 and below 1.")
    label, probability = checked(labels, probabilities)
    true = np.where(label, probability, 1 - probability)
    if not by_class:
        limit = _limit(true, level)
        return ConformalRule(level, False, (limit, limit))
    if label.all() or not label.any():
        raise DataError("all patches are of one class, so the sets cannot keep a level for each class.")
    return ConformalRule(level, True, (_limit(true[~label], level), _limit(true[label], level)))


def _limit(true: Floats, level: float) -> float:
    """The probability of the true class that all but the allowed share of patches reach."""
    rank = math.ceil((len(true) + 1) * level - 1e-9)
    return 0.0 if rank > len(true) else float(np.sort(true)[len(true) - rank])


def coverage(
    rule: ConformalRule, labels: ArrayLike, probabilities: ArrayLike, cluster: NDArray[np.int64] | None = None
) -> Coverage:
    """Measure conformal sets on labelled patches."""
    label, probability = checked(labels, probabilities)
    sets = rule.sets(probability)
    hit = sets[np.arange(len(label)), label.astype(int)]
    size = sets.sum(axis=1)

    def of(rows: NDArray[np.bool_]) -> Estimate:
        return share(hit[rows], None if cluster is None else cluster[rows])

    everything = np.ones(len(label), dtype=bool)
    both, empty = float((size == 2).mean()), float((size == 0).mean())
    return Coverage(of(everything), of(~label), of(label), both, empty, of(size == 1))
