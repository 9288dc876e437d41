"""How well probabilities are calibrated: errors by bins, the Brier score taken apart, and Cox's line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from sentinode.errors import DataError
from sentinode.scoring.calibration import ECE_BINS, reliability
from sentinode.scoring.counts import CLIP
from sentinode.scoring.estimate import Estimate
from sentinode.scoring.shares import share

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Brier:
    """The Brier score taken apart (Murphy 1973): ``reliability - resolution + uncertainty + within``.

    Attributes:
        score: the mean squared difference of probability and label.
        reliability: how far the bins lie from the diagonal, squared; 0 is best.
        resolution: how far the observed shares of the bins lie from the share of all, squared; more is better.
        uncertainty: share x (1 - share) of the positive class: that of the data, not of the model.
        within: what the binning leaves out, because probabilities within a bin differ (Stephenson et al. 2008).
    """

    score: float
    reliability: float
    resolution: float
    uncertainty: float
    within: float


@dataclass(frozen=True)
class CoxLine:
    """The line that recalibrates log-odds: observed log-odds = intercept + slope x predicted (Cox 1958).

    Attributes:
        intercept: 0 if neither class is favoured at even odds; above 0 if the positive class is more frequent.
        slope: 1 if the probabilities are as sure as they should be; below 1 if they are too sure.
        shift: by how much the mean probability exceeds the observed share: calibration in the large.
    """

    intercept: Estimate
    slope: Estimate
    shift: float


@dataclass(frozen=True)
class Bin:
    """One dot of a reliability diagram: the mean P(positive) of ``count`` patches, and their observed share."""

    predicted: float
    observed: Estimate
    count: int


@dataclass(frozen=True)
class CalibrationErrors:
    """Everything that is measured of the calibration of some probabilities.

    Attributes:
        equal_mass: the ECE over 15 bins of equally many patches.
        equal_width: the ECE over 15 bins of equal width.
        classwise: the equal-width ECE of the probability of each class, negative first (Kull et al. 2019). The two
            differ only by patches on a bin's edge, since P(negative) = 1 - P(positive).
        top_label: the ECE of the probability of the class that is called at 0.5 (Guo et al. 2017).
        largest: the largest gap of an equal-width bin.
        brier: the Brier score taken apart.
        nll: mean negative log-likelihood in nats.
        line: Cox's line; None where the labels do not determine it.
        bins: the reliability diagram.
    """

    equal_mass: float
    equal_width: float
    classwise: tuple[float, float]
    top_label: float
    largest: float
    brier: Brier
    nll: float
    line: CoxLine | None
    bins: tuple[Bin, ...]

    def as_dict(self) -> dict[str, Any]:
        """For ``metrics.json``."""
        line = self.line
        return {
            "ece_equal_mass": self.equal_mass,
            "ece_equal_width": self.equal_width,
            "ece_classwise": list(self.classwise),
            "ece_top_label": self.top_label,
            "largest_gap": self.largest,
            "brier": dict(vars(self.brier)),
            "nll": self.nll,
            "cox": None
            if line is None
            else {"intercept": line.intercept.as_dict(), "slope": line.slope.as_dict(), "shift": line.shift},
            "bins": [
                {"predicted": one.predicted, "observed": one.observed.as_dict(), "n": one.count} for one in self.bins
            ],
        }


def calibration_errors(
    labels: ArrayLike, probabilities: ArrayLike, cluster: NDArray[np.int64] | None = None, bins: int = ECE_BINS
) -> CalibrationErrors:
    """Measure the calibration of probabilities.

    Args:
        labels: (N,), 0 or 1.
        probabilities: (N,), P(positive).
        cluster: int (N,), the slide of each patch, for intervals by slide; or None.
        bins: number of bins.

    Raises:
        DataError: no patches, unequal lengths, or labels or probabilities out of range.
    """
    label, probability = checked(labels, probabilities)
    called = probability >= 0.5
    clipped = np.clip(probability, CLIP, 1 - CLIP)
    return CalibrationErrors(
        equal_mass=reliability(label, probability, bins).error,
        equal_width=width_error(label, probability, bins),
        classwise=(width_error(~label, 1 - probability, bins), width_error(label, probability, bins)),
        top_label=width_error(label == called, np.where(called, probability, 1 - probability), bins),
        largest=_largest_gap(label, probability, bins),
        brier=brier_parts(label, probability, bins),
        nll=float(-np.log(np.where(label, clipped, 1 - clipped)).mean()),
        line=cox_line(label, probability, cluster),
        bins=reliability_bins(label, probability, cluster, bins),
    )


def checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    """Which patches are positive, and the probability of each, flat.

    Raises:
        DataError: no patches, unequal lengths, or labels or probabilities out of range.
    """
    label = np.asarray(labels).ravel()
    probability = np.asarray(probabilities, dtype=np.float64).ravel()
    if not len(label) or len(label) != len(probability):
        raise DataError(f"{len(label):,} labels and {len(probability):,} probabilities do not belong together.")
    if not np.isin(label, (0, 1)).all():
        raise DataError("labels other than 0 and 1 cannot be used.")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise DataError("some probabilities are not numbers from 0 to 1.")
    return label == 1, probability


def width_error(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = ECE_BINS, weights: ArrayLike | None = None
) -> float:
    """The ECE over bins of equal width (Naeini et al. 2015); each patch may have a weight."""
    gaps, weight = _gaps(
        np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64), bins, weights
    )
    return float(np.abs(gaps).sum() / weight.sum())


def _gaps(label: Floats, probability: Floats, bins: int, weights: ArrayLike | None = None) -> tuple[Floats, Floats]:
    """The sum of probability - label in each bin of equal width, and the weight of each bin."""
    weight = np.ones(len(label)) if weights is None else np.asarray(weights, dtype=np.float64)
    cell = np.minimum((probability * bins).astype(np.int64), bins - 1)
    gaps, whole = (np.bincount(cell, parts, minlength=bins) for parts in (weight * (probability - label), weight))
    return np.asarray(gaps, dtype=np.float64), np.asarray(whole, dtype=np.float64)


def _largest_gap(label: NDArray[np.bool_], probability: Floats, bins: int) -> float:
    gaps, weight = _gaps(label.astype(np.float64), probability, bins)
    return float(np.abs(gaps[weight > 0] / weight[weight > 0]).max())


def brier_parts(labels: ArrayLike, probabilities: ArrayLike, bins: int = ECE_BINS) -> Brier:
    """The Brier score and its parts over bins of equally many patches; patches of equal probability share a bin.

    With fewer distinct probabilities than bins, each is a bin of its own, and ``within`` is 0.
    """
    label, probability = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    cell = mass_cells(probability, bins)
    count = np.bincount(cell).astype(np.float64)
    predicted, observed = np.bincount(cell, probability) / count, np.bincount(cell, label) / count
    whole, n = float(label.mean()), len(label)
    score = float(((probability - label) ** 2).mean())
    parts = (
        float(count @ (predicted - observed) ** 2) / n,
        float(count @ (observed - whole) ** 2) / n,
        whole * (1 - whole),
    )
    return Brier(score, *parts, within=score - (parts[0] - parts[1] + parts[2]))


def mass_cells(probabilities: Floats, bins: int) -> NDArray[np.int64]:
    """int (N,), the bin of each patch from 0: about equally many patches each, equal probabilities in one bin."""
    scores, rank, count = np.unique(probabilities, return_inverse=True, return_counts=True)
    if len(scores) <= bins:
        return np.asarray(rank, dtype=np.int64)
    middle = np.cumsum(count) - count / 2
    cell = np.minimum((middle * bins / len(probabilities)).astype(np.int64), bins - 1)
    return np.asarray(np.unique(cell, return_inverse=True)[1][rank], dtype=np.int64)


def reliability_bins(
    labels: ArrayLike, probabilities: ArrayLike, cluster: NDArray[np.int64] | None = None, bins: int = ECE_BINS
) -> tuple[Bin, ...]:
    """The dots of a reliability diagram, each with the interval of its observed share."""
    label, probability = checked(labels, probabilities)
    cell = mass_cells(probability, bins)
    found = []
    for at in range(int(cell.max()) + 1):
        rows = np.flatnonzero(cell == at)
        of_rows = None if cluster is None else cluster[rows]
        found.append(Bin(float(probability[rows].mean()), share(label[rows], of_rows), len(rows)))
    return tuple(found)


def cox_line(labels: ArrayLike, probabilities: ArrayLike, cluster: NDArray[np.int64] | None = None) -> CoxLine | None:
    """Logistic regression of the labels on the log-odds, with the sandwich's standard errors, by slide if known.

    Returns:
        None where the labels do not determine the line: one class only, equal probabilities, or classes that a
        threshold separates.
    """
    label, probability = checked(labels, probabilities)
    odds = logit(np.clip(probability, CLIP, 1 - CLIP))
    if label.all() or not label.any() or np.ptp(odds) < 1e-9:
        return None
    if odds[label].min() > odds[~label].max() or odds[label].max() < odds[~label].min():
        return None
    design = np.stack([np.ones(len(odds)), odds], axis=1)

    def loss(line: Floats) -> tuple[float, Floats]:
        height = design @ line
        value = np.logaddexp(0, height) - np.where(label, height, 0)
        return float(value.mean()), design.T @ (expit(height) - label) / len(label)

    line = minimize(loss, np.array([0.0, 1.0]), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    fitted = expit(design @ line)
    scores = design * (label - fitted)[:, None]
    if cluster is not None:
        _, member = np.unique(cluster, return_inverse=True)
        scores = np.stack([np.bincount(member, scores[:, column]) for column in (0, 1)], axis=1)
    bread = np.linalg.pinv((design * (fitted * (1 - fitted))[:, None]).T @ design)
    units = len(scores)
    spread = np.sqrt(np.diag(bread @ (scores.T @ scores) @ bread) * units / max(units - 1, 1))
    limits = [Estimate(float(x), float(x - 1.96 * s), float(x + 1.96 * s)) for x, s in zip(line, spread, strict=True)]
    return CoxLine(limits[0], limits[1], float(probability.mean() - label.mean()))


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values for JSON: None for numbers that are not finite."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
