"""An estimate with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Estimate:
    """An estimate of a metric and its 95 % interval; NaN where it is undefined.

    Attributes:
        value: the estimate on the data as they are.
        low: the lower limit of the interval.
        high: the upper limit.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, resampled: ArrayLike) -> Estimate:
        """The estimate whose interval spans the middle 95 % of ``resampled``, those that are NaN left out."""
        defined = np.asarray(resampled, dtype=np.float64)
        defined = defined[np.isfinite(defined)]
        if not math.isfinite(value) or not len(defined):
            return cls(float(value), math.nan, math.nan)
        low, high = np.percentile(defined, [2.5, 97.5])
        return cls(float(value), float(low), float(high))

    def as_dict(self) -> dict[str, float | None]:
        """``{"value", "low", "high"}`` with None, JSON's null, for what is undefined."""
        named = {"value": self.value, "low": self.low, "high": self.high}
        return {name: number if math.isfinite(number) else None for name, number in named.items()}

    def __str__(self) -> str:
        if not math.isfinite(self.value):
            return "undefined"
        if not math.isfinite(self.low):
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"
