"""The metrics of patches, from how many of each class have each score: every metric follows from these counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sentinode.scoring.calibration import errors_of_many

Floats = NDArray[np.float64]
Counts = tuple[Floats, Floats]
"""Float (K,) and float (K,): how many normal and how many tumour patches have each distinct score."""

METRICS: Final = (
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
"""The metrics, in the order in which they are shown."""

CLIP: Final = 1e-7
"""Probabilities are held this far from 0 and 1 in the negative log-likelihood, which a single sure error
would otherwise make infinite."""

REASONS: Final = {
    "auc": "one class only",
    "precision": "no patch was called {1}",
    "recall": "no {1} patch",
    "specificity": "no {0} patch",
    "f1": "no {1} patch, and none was called {1}",
    "average_precision": "no {1} patch",
}
"""Why a metric is undefined; {0} and {1} stand for the names of the classes."""

CLASS_NAMES: Final = ("normal", "tumour")
"""What labels 0 and 1 are called where no other names are given."""


@dataclass(frozen=True)
class Counted:
    """Patches, counted by score.

    Attributes:
        scores: float (K,), the distinct probabilities, ascending.
        cell: int (N,), 2 k + label of each patch, k being the place of its probability among the scores.
        threshold: P(tumour) from which a patch is called tumour.
    """

    scores: Floats
    cell: NDArray[np.int64]
    threshold: float

    @classmethod
    def of(cls, labels: NDArray[np.int64], probabilities: Floats, threshold: float) -> Counted:
        """Count patches: int (N,) of 0 and 1, and float (N,)."""
        scores, rank = np.unique(probabilities, return_inverse=True)
        return cls(scores, 2 * rank + labels, threshold)

    @cached_property
    def counts(self) -> Counts:
        """Of all patches."""
        return counts(self.cell, len(self.scores))

    def of_rows(self, rows: NDArray[np.int64]) -> Counts:
        """Of some patches; a row that stands several times counts so often."""
        return counts(self.cell[rows], len(self.scores))

    def metrics(self, counted: Counts) -> list[float]:
        """The value of each of ``METRICS``; NaN where it is undefined."""
        normal, tumour = counted
        return [float(value) for value in self.metrics_of_many((normal[None], tumour[None]))[0]]

    def metrics_of_many(self, counted: Counts) -> Floats:
        """The metrics of R sets of patches at once: float (R, metrics), from counts float (R, K) each."""
        normal, tumour = counted
        normals, tumours = normal.sum(axis=1), tumour.sum(axis=1)
        n = normals + tumours
        below, below_tumour = np.cumsum(normal, axis=1), np.cumsum(tumour, axis=1)
        cut = int(np.searchsorted(self.scores, self.threshold))
        tn, fn = (sums[:, cut - 1] if cut else np.zeros(len(n)) for sums in (below, below_tumour))
        fp, tp = normals - tn, tumours - fn
        called = _precisions(normal, tumour, below, below_tumour)
        log, log_other, squared, squared_other = self._losses
        columns = [
            _shares(np.einsum("rk,rk->r", tumour, below - normal / 2), tumours * normals),
            (tp + tn) / n,
            _shares(tp, tp + fp),
            _shares(tp, tp + fn),
            _shares(tn, tn + fp),
            _shares(2 * tp, 2 * tp + fp + fn),
            _shares(np.einsum("rk,rk->r", tumour, called), tumours),
            (tumour @ log + normal @ log_other) / n,
            (tumour @ squared + normal @ squared_other) / n,
            errors_of_many(self.scores, tumour, normal, below + below_tumour, below_tumour),
        ]
        return np.stack(columns, axis=1)

    @cached_property
    def _losses(self) -> tuple[Floats, Floats, Floats, Floats]:
        """What a tumour patch and a normal patch add to the NLL and to the Brier score at each score: float (K,)."""
        clipped = np.clip(self.scores, CLIP, 1 - CLIP)
        return -np.log(clipped), -np.log1p(-clipped), (1 - self.scores) ** 2, self.scores**2

    def confusion(self, counted: Counts) -> tuple[int, int, int, int]:
        """tn, fp, fn, tp; a score equal to the threshold is called tumour."""
        normal, tumour = counted
        cut = int(np.searchsorted(self.scores, self.threshold))
        return int(normal[:cut].sum()), int(normal[cut:].sum()), int(tumour[:cut].sum()), int(tumour[cut:].sum())


def counts(cell: NDArray[np.int64], scores: int) -> Counts:
    """How many normal and tumour patches have each of so many distinct scores; ``cell`` is that of :class:`Counted`."""
    table = np.bincount(cell, minlength=2 * scores).astype(np.float64).reshape(scores, 2)
    return table[:, 0].copy(), table[:, 1].copy()


def area(normal: Floats, tumour: Floats) -> float:
    """Area under the ROC curve (Mann and Whitney's U, ties counted half); NaN where there is one class only."""
    below = np.cumsum(normal) - normal / 2
    return _ratio(float(tumour @ below), float(tumour.sum() * normal.sum()))


def _precisions(normal: Floats, tumour: Floats, below: Floats, below_tumour: Floats) -> Floats:
    """The share of tumour among the patches from each score on: float (R, K); 0 where there are none."""
    tp = below_tumour[:, -1:] - below_tumour + tumour
    called = tp + (below[:, -1:] - below + normal)
    return np.asarray(np.divide(tp, called, out=np.zeros_like(tp), where=called > 0), dtype=np.float64)


def _shares(part: Floats, whole: Floats) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(len(part), math.nan), where=whole > 0), dtype=np.float64)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
