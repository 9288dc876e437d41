"""Two models on the same patches, or on the same slides: the difference, and how sure it is."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentinode.scoring.estimate import Estimate
from sentinode.scoring.intervals import cluster_interval, joined
from sentinode.scoring.metrics import auc
from sentinode.scoring.uncertainty import Slides

ALL_FLIPS, RESAMPLES = 14, 20_000
"""Slides up to which all flips of signs are tried, and how many at random where there are more."""


def auc_difference(labels: ArrayLike, first: ArrayLike, second: ArrayLike, *, groups: ArrayLike | None) -> Estimate:
    """The AUC of ``second`` less that of ``first`` on the same patches, with its paired 95 % interval.

    The jackknife with Student's t leaves out one slide at a time, with both models' scores (see
    :func:`~sentinode.scoring.cluster_interval`). So what makes a slide hard for both does not count twice. Where slides
    are not known, a patch counts as a slide, and the interval is too narrow.

    Args:
        labels: (N,), 0 or 1.
        first, second: (N,), scores on any scale, higher for label 1.
        groups: the slide of each patch; an empty string or None where it is not known.

    Returns:
        NaN where there is one class only. The limits are NaN where the difference would depend on one slide,
        or is the same without any of them.
    """
    label = np.asarray(labels, np.int64).ravel()
    scores = [np.asarray(values, np.float64).ravel() for values in (first, second)]
    value = auc(label, scores[1]) - auc(label, scores[0])
    slides = Slides.of(groups, label)
    block = joined(np.arange(len(label)) if slides.cluster is None else slides.cluster)
    without = []
    for number in range(int(block.max(initial=-1)) + 1):
        rest = block != number
        without.append(auc(label[rest], scores[1][rest]) - auc(label[rest], scores[0][rest]))
    positive, negative = (np.bincount(block, weights=which) for which in (label, 1 - label))
    weights = positive / max(positive.sum(), 1) + negative / max(negative.sum(), 1)
    low, high = cluster_interval(value, without, weights, bounds=(-1.0, 1.0), scale="linear")
    if low == high and value:  # every slide changes alike, which says nothing of the spread
        low, high = math.nan, math.nan
    return Estimate(value, low, high)


def sign_flip_p(differences: ArrayLike) -> float:
    """How often differences as far from zero would come by chance: the exact test of sign flips, on both sides.

    Without a real change each slide's difference would be as likely negative as positive (Fisher 1935). It assumes
    nothing else, and with few slides it is honest: six slides that change, all in one direction, are needed for 0.05.

    Args:
        differences: (slides,), one for each slide.

    Returns:
        From 0 to 1; 1 where nothing changed.
    """
    changed: NDArray[np.float64] = np.asarray(differences, np.float64).ravel()
    changed = changed[changed != 0]
    count = len(changed)
    if count <= ALL_FLIPS:
        signs = 1 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1, 1], (RESAMPLES, count))
        signs[0] = 1  # what was found counts, too, so that p is never 0
    far = np.abs(signs @ changed) >= abs(changed.sum()) - 1e-9
    return float(far.mean())
