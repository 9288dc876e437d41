"""Operating points that are chosen on valid, and what they lose on test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentinode.errors import DataError
from sentinode.scoring.calibration_errors import checked
from sentinode.scoring.estimate import Estimate
from sentinode.scoring.operating_point import choose_threshold, parse_rule
from sentinode.scoring.shares import share

POINTS: Final = ("balanced_accuracy", "accuracy", "f1", "sensitivity@0.95", "specificity@0.95", "cost@5", "half")
"""The rules whose points are shown."""


@dataclass(frozen=True)
class AtPoint:
    """The figures at one threshold on some patches."""

    sensitivity: Estimate
    specificity: Estimate
    precision: Estimate
    accuracy: Estimate
    f1: float
    cost: float

    def aim(self, rule: str) -> float:
        """What the rule aims at."""
        name, _ = parse_rule(rule)
        youden = (self.sensitivity.value + self.specificity.value) / 2
        return {
            "balanced_accuracy": youden,
            "accuracy": self.accuracy.value,
            "half": self.accuracy.value,
            "f1": self.f1,
            "sensitivity": self.sensitivity.value,
            "specificity": self.specificity.value,
            "cost": self.cost,
        }[name]

    def as_dict(self) -> dict[str, Any]:
        """For ``metrics.json``."""
        named = {name: value.as_dict() for name, value in vars(self).items() if isinstance(value, Estimate)}
        numbers = {"f1": self.f1, "cost": self.cost}
        return {**named, **{name: value if math.isfinite(value) else None for name, value in numbers.items()}}


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold that was chosen on valid, with the figures there and on test.

    Attributes:
        rule: how it was chosen.
        threshold: P(positive) from which a patch is called positive; NaN if there is none, see ``reason``.
        valid: the figures on the patches on which it was chosen; they look better than they are.
        test: the figures on the others.
        drop: what the rule aims at on valid, less the same on test; for a cost the other way round, so that above 0 is
            always a loss.
        reason: why there is no such point.
    """

    rule: str
    threshold: float
    valid: AtPoint | None
    test: AtPoint | None
    drop: float
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For ``metrics.json``."""
        if self.valid is None or self.test is None:
            return {"rule": self.rule, "threshold": None, "reason": self.reason}
        return {
            "rule": self.rule,
            "threshold": self.threshold,
            "valid": self.valid.as_dict(),
            "test": self.test.as_dict(),
            "drop": self.drop if math.isfinite(self.drop) else None,
        }


def at_threshold(
    labels: ArrayLike,
    probabilities: ArrayLike,
    threshold: float,
    cluster: NDArray[np.int64] | None = None,
    miss: float = 1.0,
) -> AtPoint:
    """The figures at a threshold; ``miss`` is what a miss costs, in false alarms, and ``cost`` is that of a patch."""
    label, probability = checked(labels, probabilities)
    called = probability >= threshold

    def of(rows: NDArray[np.bool_], hits: NDArray[np.bool_]) -> Estimate:
        return share(hits[rows], None if cluster is None else cluster[rows])

    fn, fp = int((label & ~called).sum()), int((~label & called).sum())
    tp = int((label & called).sum())
    everything = np.ones(len(label), dtype=bool)
    return AtPoint(
        of(label, called),
        of(~label, ~called),
        of(called, label),
        of(everything, called == label),
        2 * tp / (2 * tp + fp + fn) if tp + fp + fn else math.nan,
        (miss * fn + fp) / len(label),
    )


def operating_points(
    valid: tuple[ArrayLike, ArrayLike],
    test: tuple[ArrayLike, ArrayLike],
    rules: Sequence[str] = POINTS,
    *,
    valid_cluster: NDArray[np.int64] | None = None,
    test_cluster: NDArray[np.int64] | None = None,
) -> list[OperatingPoint]:
    """Choose a threshold by each rule on valid, and measure it there and on test.

    Args:
        valid: labels and probabilities of the patches to choose on.
        test: labels and probabilities of other patches.
        rules: see :func:`~sentinode.scoring.choose_threshold`.
        valid_cluster: int (N,), the slide of each patch of valid, for intervals by slide; or None.
        test_cluster: the same of test.

    Raises:
        RecipeError: an unknown rule.
        DataError: valid has one class only.
    """
    label, _ = checked(*valid)
    if label.all() or not label.any():
        raise DataError("all patches of valid are of one class, so no operating point can be chosen on them.")
    found = []
    for rule in rules:
        name, number = parse_rule(rule)
        miss = number if name == "cost" else 1.0
        try:
            threshold = choose_threshold(*valid, rule)
        except DataError as error:
            found.append(OperatingPoint(rule, math.nan, None, None, math.nan, error.what))
            continue
        here = at_threshold(*valid, threshold, valid_cluster, miss)
        there = at_threshold(*test, threshold, test_cluster, miss)
        drop = here.aim(rule) - there.aim(rule)
        found.append(OperatingPoint(rule, threshold, here, there, -drop if name == "cost" else drop))
    return found
