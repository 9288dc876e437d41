"""Whether probabilities are calibrated, and the one or two parameters that calibrate them."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit

from sentinode.errors import DataError
from sentinode.scoring.estimate import Estimate

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

ECE_BINS = 15
"""Equal-mass bins of P(tumour) in the expected calibration error."""

TEMPERATURES = (0.05, 20.0)
"""The range of a fitted temperature."""


def fit_temperature(margins: ArrayLike, labels: ArrayLike) -> float:
    """The temperature that minimises the negative log-likelihood (Guo et al. 2017, section 4.2).

    Args:
        margins: float (N,), logit of tumour minus logit of normal.
        labels: (N,), 0 or 1.

    Returns:
        T, to divide the margins by. 1.0, with a warning, if the labels do not determine it: there is one class only, or
        the signs of all margins are right, so that every smaller T would fit better.

    Raises:
        DataError: no patches, unequal lengths, or margins that are not finite.
    """
    margin = np.asarray(margins, dtype=np.float64).ravel()
    label = np.asarray(labels).ravel() == 1
    if not len(margin) or len(margin) != len(label):
        raise DataError(f"a temperature cannot be fitted to {len(margin)} margins and {len(label)} labels.")
    if not np.isfinite(margin).all():
        raise DataError("the model's outputs are not finite.", hint="Training diverged: lower optimizer.lr.")
    if label.all() or not label.any():
        log.warning("All patches are of one class: the temperature stays 1.")
        return 1.0
    signed = np.where(label, margin, -margin)
    if (signed > 0).all():
        log.warning("All patches are classified correctly, so no temperature is best: it stays 1.")
        return 1.0

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -signed / math.exp(log_temperature)).mean())

    lowest, highest = TEMPERATURES
    bounds = (math.log(lowest), math.log(highest))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    best = math.exp(found.x)
    if not lowest * 1.001 < best < highest * 0.999:
        log.warning("The temperature, %.3g, is at the limit of its range: the outputs do not fit.", best)
    return best


def fit_platt(margins: ArrayLike, labels: ArrayLike) -> tuple[float, float]:
    """The temperature T and the offset b with the lowest negative log-likelihood of sigmoid((margin + b) / T).

    Platt (1999). If a network prefers one class on other slides than those of its training, a temperature alone cannot
    calibrate its probabilities.

    Args:
        margins: float (N,), logit of tumour minus logit of normal.
        labels: (N,), 0 or 1.

    Returns:
        (T, b). b is 0.0 and T that of :func:`fit_temperature` if the labels do not determine them: there is one class
        only, or a threshold separates the classes completely.

    Raises:
        DataError: no patches, unequal lengths, or margins that are not finite.
    """
    temperature = fit_temperature(margins, labels)
    margin = np.asarray(margins, dtype=np.float64).ravel()
    label = np.asarray(labels).ravel() == 1
    if label.all() or not label.any() or margin[label].min() > margin[~label].max():
        return temperature, 0.0
    signs = np.where(label, -1.0, 1.0)

    def loss(line: Floats) -> tuple[float, Floats]:
        wrong = signs * (line[0] * margin + line[1])
        slope = signs * expit(wrong) / len(margin)
        return float(np.logaddexp(0.0, wrong).mean()), np.array([slope @ margin, slope.sum()])

    lowest, highest = TEMPERATURES
    held = [(1 / highest, 1 / lowest), (None, None)]
    start = np.array([1 / temperature, 0.0])
    # Its usual tolerances end up to 2e-5 of P away from the best, and further where the classes are nearly separable.
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=held, options={"ftol": 1e-15, "gtol": 1e-10})
    steepness, height = (float(value) for value in found.x)
    return 1 / steepness, height / steepness


def calibrated(margins: ArrayLike, temperature: float) -> NDArray[np.float32]:
    """P(tumour), float32 (N,): the sigmoid of the margins divided by ``temperature``."""
    probabilities: Floats = expit(np.asarray(margins, dtype=np.float64) / temperature)
    return probabilities.astype(np.float32)


@dataclass(frozen=True)
class Reliability:
    """The predicted probability and the observed share, bin by bin.

    Attributes:
        predicted: float (bins,), the mean P(tumour) in each bin, from 0 to 1.
        true: float (bins,), the share of tumour in each bin, from 0 to 1.
        count: float (bins,), how many patches each bin holds.
    """

    predicted: Floats
    true: Floats
    count: Floats

    @property
    def error(self) -> float:
        """The expected calibration error: the mean of |predicted - true|, weighted by count."""
        return float(np.abs(self.predicted - self.true) @ self.count / self.count.sum())


def reliability(labels: ArrayLike, probabilities: ArrayLike, bins: int = ECE_BINS) -> Reliability:
    """Equal-mass bins of P(tumour), each with the predicted probability and the observed share.

    Args:
        labels: (N,), 0 or 1.
        probabilities: (N,), P(tumour).
        bins: number of bins; fewer if there are fewer patches.
    """
    scores, cell = np.unique(np.asarray(probabilities, dtype=np.float64), return_inverse=True)
    positive = np.asarray(labels).ravel() == 1
    tumour = np.bincount(cell[positive], minlength=len(scores)).astype(np.float64)
    normal = np.bincount(cell[~positive], minlength=len(scores)).astype(np.float64)
    return bin_counts(scores, tumour, normal, bins)


def bin_counts(scores: Floats, tumour: Floats, normal: Floats, bins: int = ECE_BINS) -> Reliability:
    """Equal-mass bins of patches that are counted by score, as ``np.array_split`` would cut them when sorted.

    Where patches with equal scores fall on both sides of a cut, each side gets its share of their labels,
    so that the order of the patches does not matter.

    Args:
        scores: (K,), the distinct probabilities, ascending.
        tumour: (K,), how many tumour patches have each score.
        normal: (K,), how many normal patches have each score.
    """
    below = np.concatenate(([0.0], np.cumsum(tumour + normal)))
    total = int(below[-1])
    bins = min(bins, total)
    cuts = np.concatenate(([0], np.cumsum(total // bins + (np.arange(bins) < total % bins))))
    predicted = np.interp(cuts, below, np.concatenate(([0.0], np.cumsum((tumour + normal) * scores))))
    true = np.interp(cuts, below, np.concatenate(([0.0], np.cumsum(tumour))))
    count = np.diff(cuts).astype(np.float64)
    return Reliability(np.diff(predicted) / count, np.diff(true) / count, count)


def errors_of_many(
    scores: Floats, tumour: Floats, normal: Floats, below: Floats, below_tumour: Floats, bins: int = ECE_BINS
) -> Floats:
    """The expected calibration errors of R sets of patches that are counted by score: float (R,).

    Each is that of :func:`bin_counts`, without a loop over the sets' scores.

    Args:
        scores: (K,), the distinct probabilities, ascending.
        tumour: (R, K), how many tumour patches of each set have each score; ``normal`` likewise.
        below: (R, K), the cumulated numbers of patches, this score included.
        below_tumour: (R, K), the same of tumour patches alone.
    """
    total = below[:, -1].astype(np.int64)
    if total.min() < bins:
        return np.array([bin_counts(scores, *row, bins).error for row in zip(tumour, normal, strict=True)])
    row = np.arange(len(total))[:, None]
    size = total[:, None] // bins + (np.arange(bins) < total[:, None] % bins)
    cuts = np.cumsum(size, axis=1)
    at = np.stack([np.searchsorted(one, cut) for one, cut in zip(below, cuts, strict=True)])
    # At a cut within equal scores, each side gets its share of their labels.
    excess = (below[row, at] - cuts) / (tumour + normal)[row, at]
    true = below_tumour[row, at] - excess * tumour[row, at]
    predicted = np.cumsum((tumour + normal) * scores, axis=1)[row, at] - (below[row, at] - cuts) * scores[at]
    gaps = np.diff(predicted - true, axis=1, prepend=0)
    return np.asarray(np.abs(gaps).sum(axis=1) / total, dtype=np.float64)


def ece_floor(probabilities: ArrayLike, *, draws: int = 200, seed: int = 0, bins: int = ECE_BINS) -> Estimate:
    """The ECE that a perfectly calibrated model has by chance with these probabilities.

    Labels are drawn from the probabilities themselves, so the remaining error comes only from the number of
    patches. An ECE within the interval cannot be distinguished from a perfect one with these data.

    Returns:
        The mean over the draws, with the middle 95 % of them.
    """
    probability = np.asarray(probabilities, dtype=np.float64).ravel()
    rng = np.random.default_rng(seed)
    scores, rank = np.unique(probability, return_inverse=True)
    patches = np.bincount(rank, minlength=len(scores)).astype(np.float64)
    errors = []
    for _ in range(draws):
        positive = rank[rng.random(len(probability)) < probability]
        tumour = np.bincount(positive, minlength=len(scores)).astype(np.float64)
        errors.append(bin_counts(scores, tumour, patches - tumour, bins).error)
    return Estimate.of(float(np.mean(errors)) if errors else math.nan, errors)
