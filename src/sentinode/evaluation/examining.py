"""What lies behind the metrics: calibration, operating points with a guarantee, decisions, and what is left open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinode.errors import DataError
from sentinode.scoring import Estimate, Predictions, ece_floor
from sentinode.scoring.calibration_errors import CalibrationErrors, calibration_errors, finite
from sentinode.scoring.calibrators import METHODS, cross_fit, fit_calibrator, names_of
from sentinode.scoring.conformal import LEVELS, ConformalRule, Coverage, coverage, fit_conformal
from sentinode.scoring.counts import CLASS_NAMES
from sentinode.scoring.decision_curve import DecisionCurve, decision_curve
from sentinode.scoring.guarantee import CONFIDENCE, RECALL, Guarantee, guaranteed_threshold, recall_by_unit
from sentinode.scoring.operating_point import refuse_same_patches
from sentinode.scoring.operating_table import OperatingPoint, at_threshold, operating_points
from sentinode.scoring.priors import PRIORS, AtPrior, at_prior
from sentinode.scoring.selective import RiskCoverage, Selected, risk_coverage, selected
from sentinode.scoring.shares import mean

FOLDS = 5


@dataclass(frozen=True)
class Calibrated:
    """A way to calibrate, fitted on valid, and the errors before and after it.

    Attributes:
        method: one of :data:`~sentinode.scoring.calibrators.METHODS`.
        title: its name in tables.
        own: on valid, by the map that was fitted to all of valid; looks better than it is.
        held_out: on valid, each patch by a map that was fitted without its part of the slides.
        test: on test, by the map that was fitted to all of valid.
        cross_fitted: on test, by the mean of the maps that were fitted without a part of valid.
        numbers: those of the map.
    """

    method: str
    title: str
    own: CalibrationErrors
    held_out: CalibrationErrors
    test: CalibrationErrors
    cross_fitted: CalibrationErrors
    numbers: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For ``metrics.json``."""

        def short(one: CalibrationErrors) -> dict[str, float]:
            return {"ece": one.equal_mass, "ece_equal_width": one.equal_width, "brier": one.brier.score, "nll": one.nll}

        measured = {name: short(getattr(self, name)) for name in ("own", "held_out", "test", "cross_fitted")}
        return {"method": self.method, **measured, "numbers": self.numbers}


@dataclass(frozen=True)
class Kept:
    """A guarantee, and whether test kept it.

    Attributes:
        guarantee: the threshold and what it was chosen on.
        unit: what was drawn: patch, slide, or group of copies.
        recall: on test: of patches, or the mean over slides.
        specificity: on test.
        valid_specificity: on valid.
    """

    guarantee: Guarantee
    unit: str
    recall: Estimate
    specificity: Estimate
    valid_specificity: Estimate

    @property
    def sentence(self) -> str:
        """Whether test kept the guarantee."""
        asked, found = self.guarantee.recall, self.recall
        if not math.isfinite(found.value):
            return "Test has no positive patch, so it cannot show whether the recall was kept."
        if found.value >= asked:
            return f"Test kept it: its recall is {found}."
        if found.high < asked:
            return (
                f"Test did not keep it: its recall is {found}, further below {asked:g} than chance explains. "
                "Its patches are of another population than those of valid."
            )
        return f"Test did not keep it: its recall is {found}. Chance may explain that: {asked:g} lies in the interval."

    def as_dict(self) -> dict[str, Any]:
        """For ``metrics.json``."""
        shares = {name: getattr(self, name).as_dict() for name in ("recall", "specificity", "valid_specificity")}
        kept = self.recall.value >= self.guarantee.recall if math.isfinite(self.recall.value) else None
        return {**self.guarantee.as_dict(), "unit": self.unit, "test": {**shares, "kept": kept}}


@dataclass(frozen=True)
class Examination:
    """Everything beyond the metrics; what needs valid is None or empty without it.

    Attributes:
        calibration: of the probabilities as they are.
        shift: the mean probability less the share of the positive class, with its interval.
        priors: what a call is worth at other shares of the positive class.
        calibrators: each way to calibrate, fitted on valid.
        points: operating points chosen on valid.
        kept: the guaranteed operating point.
        refused: why there is no guaranteed operating point, or what needs valid.
        decisions: the decision curve.
        risk: the risk-coverage curve.
        selected: the accuracy at some coverages.
        conformal: conformal sets, fitted on valid.
    """

    calibration: CalibrationErrors
    shift: Estimate
    priors: tuple[AtPrior, ...]
    calibrators: tuple[Calibrated, ...]
    points: tuple[OperatingPoint, ...]
    kept: Kept | None
    refused: str
    decisions: DecisionCurve
    risk: RiskCoverage
    selected: tuple[Selected, ...]
    conformal: tuple[tuple[ConformalRule, Coverage], ...]
    diagnosis: tuple[str, ...]

    @property
    def best(self) -> Calibrated | None:
        """The way to calibrate with the lowest loss on the held-out parts of valid; test had no part in the choice."""
        return min(self.calibrators, key=lambda one: one.held_out.nll, default=None)

    def as_dict(self) -> dict[str, Any]:
        """What goes into ``metrics.json``."""
        return {
            "calibration": {
                **self.calibration.as_dict(),
                "shift": self.shift.as_dict(),
                "diagnosis": list(self.diagnosis),
            },
            "calibrators": [one.as_dict() for one in self.calibrators],
            "best_calibrator": None if self.best is None else self.best.method,
            "priors": [finite(vars(one)) for one in self.priors],
            "operating_points": [one.as_dict() for one in self.points],
            "guarantee": {"refused": self.refused} if self.kept is None else self.kept.as_dict(),
            "decision_curve": self.decisions.as_dict(),
            "selective": {
                "aurc": self.risk.aurc,
                "excess_aurc": self.risk.excess,
                "at": [one.as_dict() for one in self.selected],
            },
            "conformal": [
                {"level": rule.level, "by_class": rule.by_class, "limits": list(rule.limits), **found.as_dict()}
                for rule, found in self.conformal
            ],
        }


def examine(
    test: Predictions, threshold: float, valid: Predictions | None = None, guarantee: str | None = None
) -> Examination:
    """Examine predictions beyond their metrics.

    Args:
        test: what is scored.
        threshold: P(positive) from which a patch is called positive.
        valid: the same model's predictions for other patches. All that is fitted or chosen is fitted and chosen there.
        guarantee: ``RECALL@CONFIDENCE``, such as ``0.95@0.9``, to refuse predictions that do not allow it. None for
            these two shares where valid allows them.

    Raises:
        DataError: ``valid`` holds patches of ``test`` or one class only, or the guarantee cannot be given.
    """
    asked = parse_guarantee(guarantee)
    require_valid(valid, guarantee)
    if valid is not None:
        refuse_same_patches(test, valid)
        names = {one.class_names for one in (test, valid)} - {CLASS_NAMES}
        if len(names) > 1:
            raise DataError(f"the classes are {test.class_names}, and on valid {valid.class_names}.")
    labels, probabilities, cluster = test.labels, test.probabilities, test.cluster
    errors = calibration_errors(labels, probabilities, cluster)
    shift = mean(probabilities - labels, cluster)
    calibrators = () if valid is None else tuple(_calibrators(valid, test))
    kept, refused = _kept(valid, test, asked)
    return Examination(
        calibration=errors,
        shift=shift,
        priors=tuple(found for prior in PRIORS if (found := at_prior(labels, probabilities, threshold, prior))),
        calibrators=calibrators,
        points=() if valid is None else tuple(_points(valid, test)),
        kept=kept,
        refused=refused,
        decisions=decision_curve(labels, probabilities, cluster),
        risk=risk_coverage(labels, probabilities, threshold),
        selected=tuple(
            selected(
                labels, probabilities, threshold, others=None if valid is None else valid.probabilities, cluster=cluster
            )
        ),
        conformal=() if valid is None else tuple(_conformal(valid, test)),
        diagnosis=tuple(_diagnosis(errors, shift, probabilities, calibrators, test.class_names)),
    )


def require_valid(valid: Predictions | None, guarantee: str | None) -> None:
    """Refuse predictions for valid on which nothing can be chosen, before a network computes anything.

    Raises:
        DataError: they are of one class only, or the guarantee cannot be given.
    """
    recall, confidence = parse_guarantee(guarantee)
    if valid is None:
        if guarantee is not None:
            raise DataError(
                "a recall is guaranteed by a threshold that other patches choose.",
                hint="Give the model's predictions for them with --valid FILE.",
            )
        return
    if valid.labels.all() or not valid.labels.any():
        raise DataError("all patches are of one class, so nothing can be chosen on them.", where=valid.source)
    if guarantee is not None:
        guaranteed_threshold(
            valid.labels, valid.probabilities, recall=recall, confidence=confidence, groups=valid.cluster
        )


def parse_guarantee(text: str | None) -> tuple[float, float]:
    """The recall and the confidence of ``0.95@0.9``.

    Raises:
        DataError: it is not two shares above 0 and below 1.
    """
    if text is None:
        return RECALL, CONFIDENCE
    recall, _, confidence = text.partition("@")
    try:
        found = float(recall), float(confidence) if confidence else CONFIDENCE
    except ValueError:
        found = (math.nan, math.nan)
    if all(0 < share < 1 for share in found):
        return found
    raise DataError(
        f"{text!r} is not a recall and a confidence above 0 and below 1.",
        hint="Write --guarantee 0.95@0.9, for example.",
    )


def unit_of(predictions: Predictions) -> str:
    """What is one observation."""
    if predictions.slides is not None and (predictions.slides != "").any():
        return "slide"
    return "patch" if predictions.cluster is None else "group of copies"


def _calibrators(valid: Predictions, test: Predictions) -> list[Calibrated]:
    cluster = valid.cluster
    if cluster is not None and cluster.max() == 0:  # one slide: its patches are parted one by one
        cluster = None
    found = []
    for method, title in zip(METHODS, names_of(), strict=True):
        fitted = fit_calibrator(method, valid.labels, valid.probabilities)
        try:
            crossed = cross_fit(method, valid.labels, valid.probabilities, cluster, folds=FOLDS)
        except DataError:  # one slide holds all of one class
            crossed = cross_fit(method, valid.labels, valid.probabilities, folds=FOLDS)
        found.append(
            Calibrated(
                method,
                title,
                _errors(valid.labels, fitted(valid.probabilities)),
                _errors(valid.labels, crossed.held_out),
                _errors(test.labels, fitted(test.probabilities)),
                _errors(test.labels, crossed.calibrator(test.probabilities)),
                fitted.as_dict(),
            )
        )
    return found


def _errors(labels: NDArray[np.uint8], probabilities: NDArray[np.float64]) -> CalibrationErrors:
    return calibration_errors(labels, np.clip(probabilities, 0, 1))


def _points(valid: Predictions, test: Predictions) -> list[OperatingPoint]:
    return operating_points(
        (valid.labels, valid.probabilities),
        (test.labels, test.probabilities),
        valid_cluster=valid.cluster,
        test_cluster=test.cluster,
    )


def _kept(valid: Predictions | None, test: Predictions, asked: tuple[float, float]) -> tuple[Kept | None, str]:
    """The guaranteed point; or why there is none, where nobody asked for it."""
    if valid is None:
        return None, "It needs the model's predictions for other patches (--valid)."
    recall, confidence = asked
    try:
        found = guaranteed_threshold(
            valid.labels, valid.probabilities, recall=recall, confidence=confidence, groups=valid.cluster
        )
    except DataError as error:
        return None, f"There is none: {error.what}"
    groups = test.cluster if found.by_group else None
    here = at_threshold(test.labels, test.probabilities, found.threshold, test.cluster)
    there = at_threshold(valid.labels, valid.probabilities, found.threshold, valid.cluster)
    reached = recall_by_unit(test.labels, test.probabilities, found.threshold, groups)
    return Kept(found, unit_of(valid), reached, here.specificity, there.specificity), ""


def _conformal(valid: Predictions, test: Predictions) -> list[tuple[ConformalRule, Coverage]]:
    found = []
    for by_class in (False, True):
        for level in LEVELS:
            rule = fit_conformal(valid.labels, valid.probabilities, level, by_class=by_class)
            found.append((rule, coverage(rule, test.labels, test.probabilities, test.cluster)))
    return found


def _diagnosis(
    errors: CalibrationErrors,
    shift: Estimate,
    probabilities: NDArray[np.float64],
    calibrators: Sequence[Calibrated],
    class_names: Sequence[str],
) -> list[str]:
    """Where the calibration error comes from, as sentences."""
    chance, positive = ece_floor(probabilities), class_names[1]
    told = []
    if errors.equal_mass <= chance.high:
        told.append(
            f"The ECE, {errors.equal_mass:.3f}, is within what chance alone gives a perfectly calibrated model with so "
            f"few patches: {chance}."
        )
    else:
        told.append(f"The ECE, {errors.equal_mass:.3f}, is more than chance alone explains: {chance}.")
    if shift.low > 0 or shift.high < 0:
        high = "high" if shift.value > 0 else "low"
        told.append(f"The probabilities of {positive} are too {high} by {abs(shift.value):.3f} on average ({shift}).")
    if errors.line is not None:
        slope = errors.line.slope
        if slope.high < 1:
            told.append(f"They are too sure: the slope of their log-odds is {slope}, where 1 is right.")
        elif slope.low > 1:
            told.append(f"They are not sure enough: the slope of their log-odds is {slope}, where 1 is right.")
    if calibrators and errors.equal_mass > chance.high:
        as_it_is = next(one for one in calibrators if one.method == "none")
        on_valid = as_it_is.held_out.equal_mass
        if on_valid > 0.8 * errors.equal_mass:
            told.append(f"On valid the ECE is {on_valid:.3f}, too, so a calibration that is fitted there can mend it.")
        else:
            told.append(
                f"On valid the ECE is {on_valid:.3f}. What differs on test is its slides; or valid looks better than "
                "it is, because the probabilities were calibrated on it."
            )
    return told
