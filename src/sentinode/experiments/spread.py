"""A figure over several draws or seeds: the mean, and Student's interval of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student


@dataclass(frozen=True)
class Spread:
    """The mean over draws or seeds, and how sure it is.

    Attributes:
        mean: over the draws.
        deviation: the standard deviation over the draws; None for a single one.
        low: the lower limit of the mean's 95 % interval over the draws (Student's t), at least 0; None likewise.
        high: the upper limit, at most 1 for metrics that cannot be above it.
        draws: their number.
    """

    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    draws: int

    @classmethod
    def of(cls, values: Sequence[float], most: float = 1.0) -> Spread:
        """Of one figure of each draw, which is at most ``most``."""
        mean, count = float(np.mean(values)), len(values)
        if count < 2:
            return cls(mean, None, None, None, count)
        deviation = float(np.std(values, ddof=1))
        reach = _reach(deviation, count)
        return cls(mean, deviation, max(mean - reach, 0.0), min(mean + reach, most), count)

    @property
    def reach(self) -> float | None:
        """Half the width of the interval, before its limits are cut off at 0 and 1; None for a single draw."""
        return None if self.deviation is None else _reach(self.deviation, self.draws)

    def as_dict(self) -> dict[str, float | int | None]:
        """Ready for JSON."""
        return {"mean": self.mean, "sd": self.deviation, "low": self.low, "high": self.high, "draws": self.draws}

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.4f}"
        return f"{self.mean:.4f} ({self.low:.4f} to {self.high:.4f})"


def _reach(deviation: float, draws: int) -> float:
    return float(student.ppf(0.975, draws - 1)) * deviation / math.sqrt(draws)
