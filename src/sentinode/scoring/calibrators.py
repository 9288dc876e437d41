"""Maps that calibrate probabilities, fitted on valid alone: temperature, Platt, beta, isotonic, and their mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit, logit

from sentinode.errors import DataError, nearest
from sentinode.scoring.calibration import fit_platt, fit_temperature
from sentinode.scoring.calibration_errors import checked
from sentinode.scoring.counts import CLIP

Floats = NDArray[np.float64]

METHODS: Final = ("none", "temperature", "platt", "beta", "isotonic", "ensemble")
"""The ways to calibrate. ``ensemble`` is the mean probability of Platt, beta and isotonic."""

FOLDS: Final = 10


class Calibrator(Protocol):
    """A map from probabilities to calibrated ones."""

    def __call__(self, probabilities: ArrayLike) -> Floats:
        """Calibrated P(positive), float64 (N,), of P(positive) (N,)."""

    def as_dict(self) -> dict[str, Any]:
        """Its numbers, for ``metrics.json``."""


@dataclass(frozen=True)
class BetaMap:
    """sigmoid(a ln p - b ln(1 - p) + c), of Kull et al. (2017), equation 4.

    With a = b = 1/T and c = 0 it is temperature scaling, with a = b it is Platt's, and with a = b = 1, c = 0 it leaves
    the probabilities as they are. Probabilities are held ``CLIP`` from 0 and 1.
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    def __call__(self, probabilities: ArrayLike) -> Floats:
        probability = np.asarray(probabilities, dtype=np.float64)
        if (self.a, self.b, self.c) == (1.0, 1.0, 0.0):
            return probability
        clipped = np.clip(probability, CLIP, 1 - CLIP)
        return np.asarray(expit(self.a * np.log(clipped) - self.b * np.log1p(-clipped) + self.c), dtype=np.float64)

    def as_dict(self) -> dict[str, Any]:
        return {"a": self.a, "b": self.b, "c": self.c}


@dataclass(frozen=True)
class Steps:
    """A rising line through knots, level beyond the first and the last: the result of isotonic regression."""

    x: Floats
    y: Floats

    def __call__(self, probabilities: ArrayLike) -> Floats:
        return np.interp(np.asarray(probabilities, dtype=np.float64), self.x, self.y)

    def as_dict(self) -> dict[str, Any]:
        return {"knots": len(self.x)}


@dataclass(frozen=True)
class Mean:
    """The mean probability of several maps."""

    parts: tuple[Calibrator, ...]

    def __call__(self, probabilities: ArrayLike) -> Floats:
        return np.asarray(np.mean([part(probabilities) for part in self.parts], axis=0), dtype=np.float64)

    def as_dict(self) -> dict[str, Any]:
        return {"mean_of": [part.as_dict() for part in self.parts]}


def fit_calibrator(method: str, labels: ArrayLike, probabilities: ArrayLike) -> Calibrator:
    """Fit a map on labelled patches that the model was not trained on.

    Args:
        method: one of ``METHODS``.
        labels: (N,), 0 or 1.
        probabilities: (N,), P(positive).

    Raises:
        DataError: an unknown method, one class only, or arrays that do not belong together.
    """
    if method not in METHODS:
        guess = nearest(method, list(METHODS))
        raise DataError(
            f"{method!r} is not a method of calibration.",
            hint=(f"Did you mean {guess!r}? " if guess else "") + f"The methods are {', '.join(METHODS)}.",
        )
    label, probability = checked(labels, probabilities)
    if method == "none":
        return BetaMap()
    if label.all() or not label.any():
        raise DataError("all patches are of one class, so no calibration can be fitted to them.")
    return _FITS[method](label, probability)


def _temperature(label: NDArray[np.bool_], probability: Floats) -> Calibrator:
    slope = 1 / fit_temperature(_margins(probability), label)
    return BetaMap(slope, slope)


def _platt(label: NDArray[np.bool_], probability: Floats) -> Calibrator:
    temperature, offset = fit_platt(_margins(probability), label)
    return BetaMap(1 / temperature, 1 / temperature, offset / temperature)


def _beta(label: NDArray[np.bool_], probability: Floats) -> Calibrator:
    """The three numbers with the lowest negative log-likelihood; a and b are not negative, so that the map rises."""
    clipped = np.clip(probability, CLIP, 1 - CLIP)
    design = np.stack([np.log(clipped), -np.log1p(-clipped), np.ones(len(clipped))], axis=1)
    if not _overlap(label, clipped):
        return _platt(label, probability)

    def loss(numbers: Floats) -> tuple[float, Floats]:
        height = design @ numbers
        value = np.logaddexp(0, height) - np.where(label, height, 0)
        return float(value.mean()), design.T @ (expit(height) - label) / len(label)

    bounds = [(0, None), (0, None), (None, None)]
    found = minimize(
        loss,
        np.array([1.0, 1.0, 0.0]),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"ftol": 1e-15, "gtol": 1e-9},
    )
    return BetaMap(*(float(number) for number in found.x))


def _isotonic(label: NDArray[np.bool_], probability: Floats) -> Calibrator:
    """The rising map with the lowest squared error, which also has the lowest log-likelihood loss."""
    scores, rank, count = np.unique(probability, return_inverse=True, return_counts=True)
    observed = np.bincount(rank, label) / count
    risen = np.asarray(isotonic_regression(observed, weights=count.astype(np.float64)).x, dtype=np.float64)
    # Only the ends of each level stretch are needed.
    inner = np.r_[False, (risen[1:-1] == risen[:-2]) & (risen[1:-1] == risen[2:]), False][: len(risen)]
    return Steps(scores[~inner], risen[~inner])


def _ensemble(label: NDArray[np.bool_], probability: Floats) -> Calibrator:
    return Mean(tuple(fit(label, probability) for fit in (_platt, _beta, _isotonic)))


_FITS: Final[dict[str, Callable[[NDArray[np.bool_], Floats], Calibrator]]] = {
    "temperature": _temperature,
    "platt": _platt,
    "beta": _beta,
    "isotonic": _isotonic,
    "ensemble": _ensemble,
}


def _margins(probability: Floats) -> Floats:
    return np.asarray(logit(np.clip(probability, CLIP, 1 - CLIP)), dtype=np.float64)


def _overlap(label: NDArray[np.bool_], probability: Floats) -> bool:
    """Whether no threshold separates the classes."""
    return bool(probability[label].min() <= probability[~label].max())


@dataclass(frozen=True)
class CrossFitted:
    """A calibration that was fitted several times, each time without a part of the patches.

    Attributes:
        calibrator: the mean of the maps, for other patches.
        held_out: float (N,), the probability of each patch by the map that was fitted without its part: what other
            patches of the same kind would get.
    """

    calibrator: Calibrator
    held_out: Floats


def cross_fit(
    method: str,
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    folds: int = FOLDS,
    seed: int = 0,
) -> CrossFitted:
    """Fit a calibration on all parts but one, in turn, and keep slides, or copies of a patch, in one part.

    Args:
        method: one of ``METHODS``.
        labels: (N,), 0 or 1.
        probabilities: (N,), P(positive).
        groups: (N,), the slide or the cluster of each patch; None to part patches one by one.
        folds: number of parts; at most the number of groups.
        seed: random seed for the parts.

    Raises:
        DataError: fewer than two groups, or a part without which one class is left.
    """
    label, probability = checked(labels, probabilities)
    part = _parts(label, groups, folds, seed)
    maps: list[Calibrator] = []
    held_out = np.empty(len(label))
    for fold in range(int(part.max()) + 1):
        here = part == fold
        maps.append(fit_calibrator(method, label[~here], probability[~here]))
        held_out[here] = maps[-1](probability[here])
    return CrossFitted(maps[0] if method == "none" else Mean(tuple(maps)), held_out)


def _parts(label: NDArray[np.bool_], groups: ArrayLike | None, folds: int, seed: int) -> NDArray[np.int64]:
    """The part of each patch: whole groups are dealt at random, the largest first, to the part with the fewest."""
    member = np.arange(len(label)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    size = np.bincount(member)
    if len(size) < 2:
        raise DataError("all patches are of one slide, so a calibration cannot be fitted without a part of the slides.")
    parts = min(folds, len(size))
    order = np.random.default_rng(seed).permutation(len(size))
    order = order[np.argsort(-size[order], kind="stable")]
    if size.max() == 1:
        rank = np.empty(len(size), np.int64)
        rank[order] = np.arange(len(size)) % parts
        return np.asarray(rank[member], dtype=np.int64)
    filled, of_group = np.zeros(parts), np.empty(len(size), np.int64)
    for group in order:
        of_group[group] = filled.argmin()
        filled[of_group[group]] += size[group]
    return np.asarray(of_group[member], dtype=np.int64)


def names_of(methods: Sequence[str] = METHODS) -> list[str]:
    """How tables name the methods."""
    named = {"none": "as it is", "platt": "Platt", "ensemble": "mean of Platt, beta, isotonic"}
    return [named.get(method, method) for method in methods]
