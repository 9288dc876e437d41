"""Selective prediction: how much better is a model that may leave the patches open of which it is least sure?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logit

from sentinode.scoring.calibration_errors import checked
from sentinode.scoring.counts import CLIP
from sentinode.scoring.estimate import Estimate
from sentinode.scoring.shares import share

Floats = NDArray[np.float64]

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)


@dataclass(frozen=True)
class RiskCoverage:
    """The share of errors among the patches of which the model is surest (El-Yaniv and Wiener 2010).

    Attributes:
        coverage: float (N,), k / N for k = 1 to N patches.
        risk: float (N,), the share of errors among the k surest patches; of equally sure ones, the expected share.
        aurc: the mean risk over all coverages (Geifman and El-Yaniv 2017).
        excess: ``aurc`` less that of an order in which every error comes last.
    """

    coverage: Floats
    risk: Floats
    aurc: float
    excess: float


@dataclass(frozen=True)
class Selected:
    """What is left at one coverage.

    Attributes:
        wanted: the coverage that was asked for.
        reached: the share of patches that are judged on these patches; it differs where the limit comes from others.
        limit: the distance from the threshold, in log-odds, from which a patch is judged.
        accuracy: of the patches that are judged.
    """

    wanted: float
    reached: Estimate
    limit: float
    accuracy: Estimate

    def as_dict(self) -> dict[str, Any]:
        """For ``metrics.json``."""
        return {
            "wanted": self.wanted,
            "reached": self.reached.as_dict(),
            "limit": self.limit,
            "accuracy": self.accuracy.as_dict(),
        }


def sureness(probabilities: ArrayLike, threshold: float) -> Floats:
    """The distance of each patch from the threshold, in log-odds."""
    clipped = np.clip(np.asarray(probabilities, dtype=np.float64), CLIP, 1 - CLIP)
    return np.asarray(np.abs(logit(clipped) - logit(np.clip(threshold, CLIP, 1 - CLIP))), dtype=np.float64)


def risk_coverage(labels: ArrayLike, probabilities: ArrayLike, threshold: float) -> RiskCoverage:
    """The risk-coverage curve of the calls at a threshold."""
    label, probability = checked(labels, probabilities)
    wrong = (probability >= threshold) != label
    sure, rank = np.unique(-sureness(probability, threshold), return_inverse=True)
    count = np.cumsum(np.bincount(rank, minlength=len(sure)))
    errors = np.cumsum(np.bincount(rank, wrong, minlength=len(sure)))
    k = np.arange(1, len(label) + 1)
    risk = np.interp(k, np.r_[0, count], np.r_[0.0, errors]) / k
    best = np.maximum(k - (len(label) - int(wrong.sum())), 0) / k
    return RiskCoverage(k / len(label), risk, float(risk.mean()), float((risk - best).mean()))


def selected(
    labels: ArrayLike,
    probabilities: ArrayLike,
    threshold: float,
    *,
    others: ArrayLike | None = None,
    coverages: ArrayLike = COVERAGES,
    cluster: NDArray[np.int64] | None = None,
) -> list[Selected]:
    """The accuracy at some coverages.

    Args:
        labels: (N,), 0 or 1.
        probabilities: (N,), P(positive).
        threshold: P(positive) from which a patch is called positive.
        others: (M,), probabilities of other patches, from which the limits are taken; None to take them from these.
        coverages: the shares of patches to judge, above 0 and at most 1.
        cluster: int (N,), the slide of each patch, for intervals by slide; or None.
    """
    label, probability = checked(labels, probabilities)
    sure = sureness(probability, threshold)
    from_these = sure if others is None else sureness(others, threshold)
    right = (probability >= threshold) == label
    found = []
    for coverage in np.asarray(coverages, dtype=np.float64).ravel().tolist():
        limit = 0.0 if coverage >= 1 else float(np.quantile(from_these, 1 - coverage, method="higher"))
        kept = sure >= limit
        of_kept = None if cluster is None else cluster[kept]
        found.append(Selected(coverage, share(kept, cluster), limit, share(right[kept], of_kept)))
    return found
