"""The threshold from which a patch is called tumour, and the rule that chose it."""

from __future__ import annotations

import logging
import math

import numpy as np
from numpy.typing import ArrayLike

from sentinode.errors import DataError, RecipeError, nearest

log = logging.getLogger(__name__)

RULES = ("accuracy", "balanced_accuracy", "f1", "sensitivity@0.95", "specificity@0.95", "half")
"""The rules; the two with an ``@`` take any share above 0, up to 1."""


def choose_threshold(labels: ArrayLike, probabilities: ArrayLike, rule: str) -> float:
    """The threshold on P(tumour) that serves ``rule`` best on these patches.

    Thresholds lie half-way between neighbouring probabilities, so that rounding moves no patch across. Of
    several that serve equally well the one nearest to 0.5 is taken.

    Args:
        labels: (N,), 0 or 1.
        probabilities: (N,), P(tumour) from 0 to 1.
        rule: ``accuracy``, ``balanced_accuracy`` (Youden's J), ``f1``, ``half`` (0.5 whatever the data),
            ``sensitivity@S`` (the highest threshold that keeps sensitivity at S or above) or
            ``specificity@S`` (the lowest that keeps specificity at S or above).

    Returns:
        The threshold; a patch whose probability is equal or above is called tumour. 0.5, with a warning,
        where there is one class only.

    Raises:
        RecipeError: the rule is unknown.
        DataError: there are no patches, or unequal numbers of labels and probabilities.
    """
    name, share = parse_rule(rule)
    if name == "half":
        return 0.5
    label = np.asarray(labels).ravel() == 1
    said = np.asarray(probabilities, dtype=np.float64).ravel()
    if not len(label) or len(label) != len(said):
        raise DataError(f"a threshold cannot be chosen on {len(label)} labels and {len(said)} probabilities.")
    if label.all() or not label.any():
        log.warning("Only one class among the patches: no threshold can be chosen, 0.5 is used.")
        return 0.5

    scores, rank = np.unique(said, return_inverse=True)
    between = (scores[:-1] + scores[1:]) / 2
    above = (scores[-1] + 1) / 2 if scores[-1] < 1 else math.nextafter(1, 2)
    thresholds = np.concatenate(([0.0], between, [above]))
    fn = np.concatenate(([0], np.cumsum(np.bincount(rank[label], minlength=len(scores)))))
    tn = np.concatenate(([0], np.cumsum(np.bincount(rank[~label], minlength=len(scores)))))
    tp, fp = label.sum() - fn, (~label).sum() - tn
    sensitivity, specificity = tp / label.sum(), tn / (~label).sum()

    if name == "sensitivity":
        return float(thresholds[sensitivity >= share].max())
    if name == "specificity":
        return float(thresholds[specificity >= share].min())
    merit = {
        "accuracy": tp + tn,
        "balanced_accuracy": sensitivity + specificity,
        "f1": 2 * tp / (2 * tp + fp + fn),
    }[name]
    best = thresholds[np.isclose(merit, merit.max(), rtol=1e-12, atol=0)]
    return float(best[np.abs(best - 0.5).argmin()])


def parse_rule(rule: str) -> tuple[str, float]:
    """The rule's name and its share (0 where it takes none).

    Raises:
        RecipeError: it is unknown, or its share is not above 0 and at most 1.
    """
    name, at, share = rule.partition("@")
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
        hint=(f"Did you mean {guess!r}? " if guess else "") + f"The rules are {', '.join(RULES)}.",
    )
