"""A power law of learning: with n training patches the error is a + b n^-c, and a forecast that has to earn its trust.

Errors of many learners fall with the amount of data as a power law, above a floor that more data does not lower
(Hestness et al. 2017, *Deep Learning Scaling is Predictable, Empirically*). A law of three numbers fits almost any few
points, so a good fit shows nothing. The forecast here is made only if the law, fitted without the largest size,
predicts that size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar, nnls

Floats = NDArray[np.float64]

FEWEST_SIZES: Final = 4
"""Sizes that a forecast needs: one is predicted by a law of three numbers, which needs three."""

AHEAD: Final = (2, 4)
"""How many times the largest size is forecast; never more than the last."""

EXPONENTS: Final = (0.02, 2.0)
"""The range of c. A smaller one cannot be told from a straight line over the logarithm."""

GRID: Final = 60


@dataclass(frozen=True)
class PowerLaw:
    """The error with ``n`` training patches or slides is ``floor + scale (n / unit)^-exponent``.

    Attributes:
        floor: the error that more data does not lower, 0 or above.
        scale: what data still lowers at ``unit``, 0 or above.
        exponent: how fast.
        unit: the largest size that it was fitted to.
    """

    floor: float
    scale: float
    exponent: float
    unit: float

    def error(self, size: float) -> float:
        """The error with ``size`` patches or slides."""
        return float(self.floor + self.scale * (size / self.unit) ** -self.exponent)


@dataclass(frozen=True)
class ForecastPoint:
    """The forecast at one size that was not tried.

    Attributes:
        size: patches or slides.
        error: by the law that is fitted to all sizes.
        low: the lowest error by that law and by those that are fitted without one size each.
        high: the highest.
    """

    size: int
    error: float
    low: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """What more data would bring, or why that is not told.

    Attributes:
        why: why no forecast is made; empty if one is made.
        predicted: the error at the largest size by the law that was fitted without it; None with too few sizes.
        observed: the error there.
        law: fitted to all sizes; None without a forecast.
        ahead: at each larger size; empty without a forecast.
    """

    why: str
    predicted: float | None = None
    observed: float | None = None
    law: PowerLaw | None = None
    ahead: tuple[ForecastPoint, ...] = ()


def fit_power_law(sizes: Sequence[float], errors: Sequence[float]) -> PowerLaw:
    """The law with the smallest sum of squared relative errors.

    Args:
        sizes: three or more, above 0, ascending.
        errors: above 0, one of each size.
    """
    n, error = np.asarray(sizes, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    scaled = n / n[-1]

    def fitted(log_exponent: float) -> tuple[Floats, float]:
        powers = scaled ** -np.exp(log_exponent)
        return nnls(np.stack([1 / error, powers / error], 1), np.ones_like(error))

    lowest, highest = np.log(EXPONENTS).tolist()
    grid = np.linspace(lowest, highest, GRID)
    best = int(np.argmin([fitted(one)[1] for one in grid]))
    around = grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)]
    found = minimize_scalar(lambda one: fitted(one)[1], bounds=around, method="bounded", options={"xatol": 1e-8})
    (floor, scale), _ = fitted(found.x)
    return PowerLaw(float(floor), float(scale), float(np.exp(found.x)), float(n[-1]))


def forecast(sizes: Sequence[int], errors: Sequence[float]) -> Forecast:
    """Predict the largest size from the others, and if that is right, forecast larger ones.

    It is right if it misses by less than half of what the last step gained. The forecast that nothing more is gained
    misses by all of it.

    Args:
        sizes: of the training data, ascending.
        errors: one of each size, such as 1 - AUC.
    """
    if len(sizes) < FEWEST_SIZES:
        return Forecast(f"it needs {FEWEST_SIZES} sizes or more.")
    if min(errors) <= 0:
        return Forecast("there is no error left that could fall.")
    observed, gained = errors[-1], errors[-2] - errors[-1]
    predicted = fit_power_law(sizes[:-1], errors[:-1]).error(sizes[-1])
    if gained <= 0:
        return Forecast("the largest size is not better than the one before it.", predicted, observed)
    if abs(predicted - observed) >= gained / 2:
        return Forecast(
            "a power law that was fitted to the smaller sizes missed the largest by "
            f"{abs(predicted - observed):.4f}, where the last step gained {gained:.4f}.",
            predicted,
            observed,
        )
    law = fit_power_law(sizes, errors)
    others = [
        fit_power_law([*sizes[:at], *sizes[at + 1 :]], [*errors[:at], *errors[at + 1 :]]) for at in range(len(sizes))
    ]
    ahead = []
    for times in AHEAD:
        size = times * sizes[-1]
        found = [one.error(size) for one in (law, *others)]
        ahead.append(ForecastPoint(size, found[0], min(found), max(found)))
    return Forecast("", predicted, observed, law, tuple(ahead))
