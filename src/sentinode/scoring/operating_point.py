"""The threshold from which a patch is called tumour, and the rule that chose it."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentinode.errors import DataError, RecipeError, nearest
from sentinode.scoring.counts import CLASS_NAMES
from sentinode.scoring.predictions import Predictions, some

log = logging.getLogger(__name__)

RULES = ("accuracy", "balanced_accuracy", "f1", "sensitivity@0.95", "specificity@0.95", "half")
"""The rules; the two with an ``@`` take any share above 0, up to 1. ``cost@C`` is one more, for any C above 0."""

ALIKE = 30
"""Changes of label from patch to patch, from which equal labels of equal ids are not taken for chance."""


def choose_threshold(
    labels: ArrayLike, probabilities: ArrayLike, rule: str, class_names: Sequence[str] = CLASS_NAMES
) -> float:
    """The best threshold on P(tumour) by ``rule`` on these patches.

    Thresholds lie half-way between neighbouring probabilities, so that rounding moves no patch across, or at the upper
    one where float32 has no number between them. Of several equally good thresholds, the one nearest to 0.5 is used. No
    threshold is above 1, so a patch with a probability of exactly 1 is always called tumour.

    Args:
        labels: (N,), 0 or 1.
        probabilities: (N,), P(tumour) from 0 to 1.
        rule: ``accuracy``, ``balanced_accuracy`` (Youden's J), ``f1``, ``half`` (0.5 whatever the data),
            ``sensitivity@S`` (the highest threshold that keeps sensitivity at S or above) or
            ``specificity@S`` (the lowest that keeps specificity at S or above), or ``cost@C`` (the lowest cost, where a
            miss costs as much as C false alarms).
        class_names: the names of labels 0 and 1 in messages.

    Returns:
        The threshold, from 0 to 1; a patch whose probability is equal or above is called tumour. It is 0.5, with a
        warning, if there is one class only.

    Raises:
        RecipeError: the rule is unknown.
        DataError: there are no patches, unequal numbers of labels and probabilities, or probabilities outside 0 to 1;
            or too many normal patches have a probability of exactly 1 for the specificity that is asked for.
    """
    name, share = parse_rule(rule)
    if name == "half":
        return 0.5
    label, probability = _checked(labels, probabilities)
    if label.all() or not label.any():
        log.warning("All patches are of one class, so no threshold can be chosen: 0.5 is used.")
        return 0.5

    # Threshold number i calls tumour all but the i lowest of the distinct probabilities.
    scores, rank = np.unique(probability, return_inverse=True)
    upper = scores[1:] if scores[-1] == 1 else np.append(scores[1:], 1.0)
    thresholds = np.append(0.0, between(scores[: len(upper)], upper))
    fn, tn = (np.append(0, np.cumsum(np.bincount(rank[of], minlength=len(scores)))) for of in (label, ~label))
    fn, tn = fn[: len(thresholds)], tn[: len(thresholds)]
    tp, fp = label.sum() - fn, (~label).sum() - tn
    sensitivity, specificity = tp / label.sum(), tn / (~label).sum()

    if name == "sensitivity":
        return float(thresholds[sensitivity >= share].max())
    if name == "specificity":
        if specificity[-1] < share:
            raise DataError(
                f"no threshold up to 1 reaches a specificity of {share:g}: {fp[-1]:,} of {(~label).sum():,} "
                f"{class_names[0]} patches have a probability of exactly 1.",
                hint="Choose another rule, or a model with less extreme probabilities.",
            )
        return float(thresholds[specificity >= share].min())
    merit = {
        "accuracy": tp + tn,
        "balanced_accuracy": sensitivity + specificity,
        "f1": 2 * tp / (2 * tp + fp + fn),
        "cost": share * tp + tn,
    }[name]
    best = thresholds[np.isclose(merit, merit.max(), rtol=1e-12, atol=0)]
    return float(best[np.abs(best - 0.5).argmin()])


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which patches are tumour, and the probability of each."""
    label = np.asarray(labels).ravel() == 1
    probability = np.asarray(probabilities, dtype=np.float64).ravel()
    if not len(label) or len(label) != len(probability):
        raise DataError(f"a threshold cannot be chosen on {len(label)} labels and {len(probability)} probabilities.")
    if outside := int((~((probability >= 0) & (probability <= 1))).sum()):
        raise DataError(
            f"{outside:,} of {len(probability):,} probabilities are not numbers from 0 to 1.",
            hint="If they come from a model, its training diverged: train again with a lower rate.",
        )
    return label, probability


def between(lower: NDArray[np.float64], upper: NDArray[np.float64]) -> NDArray[np.float64]:
    """A threshold for each two neighbours that is above the lower and not above the upper, also in float32."""
    middle = (lower + upper) / 2
    return np.where((middle > lower) & (middle.astype(np.float32) > lower), middle, upper)


def parse_rule(rule: str) -> tuple[str, float]:
    """The rule's name and its share or its cost (0 where it takes none).

    Raises:
        RecipeError: it is unknown, its share is not above 0 and at most 1, or its cost is not above 0.
    """
    name, at, share = rule.partition("@")
    if name == "cost" and at:
        return name, _cost(rule, share)
    if name in ("sensitivity", "specificity") and at:
        try:
            number = float(share)
        except ValueError:
            number = math.nan
        if 0 < number <= 1:
            return name, number
        raise RecipeError(
            f"{rule!r} asks for a {name} of {share!r}, which is not a share above 0 and at most 1.",
            hint=f"Write {name}@0.95, for example.",
        )
    if rule in RULES:
        return name, 0.0
    guess = nearest(rule, list(RULES))
    raise RecipeError(
        f"{rule!r} is not a rule that chooses a threshold.",
        hint=(f"Did you mean {guess!r}? " if guess else "") + f"The rules are {', '.join(RULES)}, cost@C.",
    )


def _cost(rule: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if 0 < number < math.inf:
        return number
    raise RecipeError(
        f"{rule!r} asks for a cost of {text!r}, which is not a number above 0.",
        hint="Write cost@5, for example, if a miss costs as much as five false alarms.",
    )


def with_threshold(predictions: Predictions, valid: Predictions | None = None, rule: str = "accuracy") -> Predictions:
    """Predictions with the threshold at which they are scored; never chosen on these patches themselves.

    Args:
        predictions: of test patches.
        valid: the same model's on other patches, to choose the threshold on. None to keep the threshold that the
            predictions bring, or else 0.5.
        rule: how to choose it on ``valid``; one of ``RULES``.

    Raises:
        DataError: ``valid`` holds patches of ``predictions``, or names other classes.
        RecipeError: the rule is unknown.
    """
    if valid is None:
        if predictions.threshold is not None:
            return predictions
        return replace(predictions, threshold=0.5, rule="fixed; none was chosen on other patches")
    refuse_same_patches(predictions, valid)
    names = {one.class_names for one in (predictions, valid)} - {CLASS_NAMES}
    if len(names) > 1:
        raise DataError(f"the classes are {predictions.class_names}, and on valid {valid.class_names}.")
    if valid.labels.all() or not valid.labels.any():
        raise DataError("all patches are of one class, so no threshold can be chosen on them.", where=valid.source)
    value = choose_threshold(valid.labels, valid.probabilities, rule, predictions.class_names)
    return replace(predictions, threshold=value, rule=f"{rule}, on {len(valid):,} other patches")


def refuse_same_patches(test: Predictions, valid: Predictions) -> None:
    """Refuse to choose a threshold on the patches that are scored at it.

    Ids that are row numbers occur in both splits. They are taken for the same patches where the labels are the same.

    Raises:
        DataError: patches of ``test`` are among those of ``valid``.
    """
    shared, here, there = np.intersect1d(test.ids, valid.ids, return_indices=True)
    if not len(shared):
        return
    numbers = all(id.isdigit() for id in shared.tolist())
    labels, other = test.labels[here], valid.labels[there]
    sorted_labels = int((np.diff(labels.astype(np.int64)) != 0).sum()) < ALIKE
    same = (labels == other).all() and not sorted_labels
    same |= bool((test.probabilities[here] == valid.probabilities[there]).all())
    if not numbers or same:
        raise DataError(
            f"{len(shared):,} of these patches are also among those that are scored, such as {some(shared)}. "
            "A threshold that is chosen on the patches that it is tested on looks better than it is.",
            where=valid.source,
            hint="Choose it on predictions for other patches.",
        )
