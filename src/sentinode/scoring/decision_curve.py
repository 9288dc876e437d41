"""Decision curves: is it better to act on the model than on everyone, or on no one?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentinode.errors import DataError
from sentinode.scoring.calibration_errors import checked
from sentinode.scoring.shares import mean

Floats = NDArray[np.float64]

THRESHOLDS = np.arange(0.01, 1.0, 0.01)


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit by threshold (Vickers and Elkin 2006), in true positives a patch.

    Attributes:
        threshold: float (T,), the probability at which a false alarm and a miss weigh equally: a threshold of 0.2 says
            that a miss costs four false alarms.
        model: float (T,), the net benefit of acting on the model; ``low`` and ``high`` are its pointwise 95 % limits.
        everyone: float (T,), that of acting on every patch. That of acting on none is 0.
    """

    threshold: Floats
    model: Floats
    low: Floats
    high: Floats
    everyone: Floats

    @property
    def useful(self) -> tuple[float, float] | None:
        """The longest range of thresholds at which the model is better than acting on all and on none."""
        better = self.model > np.maximum(self.everyone, 0) + 1e-12
        edges = np.flatnonzero(np.diff(np.r_[False, better, False].astype(int)))
        if not len(edges):
            return None
        starts, ends = edges[::2], edges[1::2]
        at = int((ends - starts).argmax())
        return float(self.threshold[starts[at]]), float(self.threshold[ends[at] - 1])

    def as_dict(self) -> dict[str, Any]:
        """For ``metrics.json``."""
        names = ("threshold", "model", "low", "high", "everyone")
        curve = {name: getattr(self, name).round(6).tolist() for name in names}
        curve = {name: [x if np.isfinite(x) else None for x in numbers] for name, numbers in curve.items()}
        return {**curve, "useful": None if self.useful is None else list(self.useful)}


def decision_curve(
    labels: ArrayLike,
    probabilities: ArrayLike,
    cluster: NDArray[np.int64] | None = None,
    thresholds: ArrayLike = THRESHOLDS,
) -> DecisionCurve:
    """The net benefit at each threshold: TP/N - FP/N x t/(1 - t).

    Args:
        labels: (N,), 0 or 1.
        probabilities: (N,), P(positive), at the share of the positive class that these patches have.
        cluster: int (N,), the slide of each patch, for limits by slide; or None.
        thresholds: above 0 and below 1.

    Raises:
        DataError: a threshold is out of range, or arrays do not belong together.
    """
    label, probability = checked(labels, probabilities)
    threshold = np.asarray(thresholds, dtype=np.float64).ravel()
    if not ((threshold > 0) & (threshold < 1)).all():
        raise DataError("a decision curve needs thresholds above 0 and below 1.")
    odds = threshold / (1 - threshold)
    found = [mean((probability >= t) * (label - ~label * w), cluster) for t, w in zip(threshold, odds, strict=True)]
    share = float(label.mean())
    return DecisionCurve(
        threshold,
        np.array([one.value for one in found]),
        np.array([one.low for one in found]),
        np.array([one.high for one in found]),
        share - (1 - share) * odds,
    )
