"""Probabilities at another share of the positive class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentinode.errors import DataError
from sentinode.scoring.calibration_errors import checked, width_error
from sentinode.scoring.counts import CLIP

Floats = NDArray[np.float64]

PRIORS = (0.5, 0.2, 0.1, 0.05, 0.01)
"""The shares of the positive class for which reports show what a call is worth."""


@dataclass(frozen=True)
class AtPrior:
    """What a call is worth where the positive class has another share, if each class looks as it does here.

    Attributes:
        prior: the share of the positive class.
        precision: the share of positives among the patches called positive; NaN if none is called so.
        negative_value: the share of negatives among the patches called negative; NaN if none is called so.
        ece: the equal-width ECE of the probabilities as they are.
        ece_corrected: the same after they were corrected for the prior.
    """

    prior: float
    precision: float
    negative_value: float
    ece: float
    ece_corrected: float


def with_prior(probabilities: ArrayLike, old: float, new: float) -> Floats:
    """Correct probabilities for another share of the positive class (Saerens et al. 2002, equation 2.4).

    Args:
        probabilities: (N,), P(positive), right where its share is ``old``.
        old: above 0 and below 1.
        new: above 0 and below 1.

    Raises:
        DataError: a share is not above 0 and below 1.
    """
    for value in (old, new):
        if not 0 < value < 1:
            raise DataError(f"{value:g} is not a share of the positive class above 0 and below 1.")
    probability = np.asarray(probabilities, dtype=np.float64)
    if old == new:
        return probability
    up, down = new / old * probability, (1 - new) / (1 - old) * (1 - probability)
    return np.asarray(up / (up + down), dtype=np.float64)


def estimate_prior(probabilities: ArrayLike, old: float, *, rounds: int = 1000, tolerance: float = 1e-8) -> float:
    """The share of the positive class among patches without labels, by the EM of Saerens et al. (2002).

    It holds if only the share differs from the patches on which the probabilities are calibrated: each class must look
    the same. Where the looks differ, as on another scanner, the estimate is wrong.

    Args:
        probabilities: (N,), P(positive), right where its share is ``old``.
        old: above 0 and below 1.
        rounds: at most.
        tolerance: of the change at which it ends.
    """
    probability = np.clip(np.asarray(probabilities, dtype=np.float64), CLIP, 1 - CLIP)
    new = old
    for _ in range(rounds):
        before, new = new, float(np.clip(with_prior(probability, old, new).mean(), CLIP, 1 - CLIP))
        if abs(new - before) < tolerance:
            break
    return new


def at_prior(labels: ArrayLike, probabilities: ArrayLike, threshold: float, prior: float) -> AtPrior | None:
    """Weigh the patches so that the positive class has this share; None where there is one class only."""
    label, probability = checked(labels, probabilities)
    share = float(label.mean())
    if share in (0.0, 1.0):
        return None
    weight = np.where(label, prior / share, (1 - prior) / (1 - share))
    called = probability >= threshold
    return AtPrior(
        prior,
        _ratio(weight[called & label].sum(), weight[called].sum()),
        _ratio(weight[~called & ~label].sum(), weight[~called].sum()),
        width_error(label, probability, weights=weight),
        width_error(label, with_prior(probability, share, prior), weights=weight),
    )


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
