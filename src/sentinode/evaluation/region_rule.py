"""The rule that gives P(a region is a lesion): a logistic function, fitted to the regions of annotated slides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from sentinode.evaluation.annotated_slides import AnnotatedSlide
from sentinode.model.slide_operating_point import SlideOperatingPoint
from sentinode.slides.results.lesions import evidence_of

ENOUGH = 15
"""Regions of either kind, lesions and others, from which the rule is fitted anew."""

PENALTY = 1.0
"""Weight of the squared distance from the rule that the fit begins with."""

FOLDS = 10
"""Parts of the slides; each is judged by the rule that was fitted to the others."""

LARGEST = 50.0
"""Weights and intercepts are held within minus and plus this."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class JudgedSlide:
    """A slide with the log-odds that a rule gives its regions.

    Attributes:
        slide: the slide, with N regions.
        evidence: float64 (N,), log-odds that each is a lesion.
        best: the slide's own: that of its best region, or of its hottest window; -inf where nothing can be assessed.
    """

    slide: AnnotatedSlide
    evidence: Floats
    best: float

    @classmethod
    def by(cls, slide: AnnotatedSlide, point: SlideOperatingPoint) -> JudgedSlide:
        """A slide judged by the rule of a point."""
        evidence = evidence_of(slide.features, point)
        best = float(evidence.max()) if len(evidence) else float(evidence_of(slide.hottest[None], point)[0])
        return cls(slide, evidence, -math.inf if math.isnan(best) else best)


def fit_logistic(
    features: ArrayLike, labels: ArrayLike, *, towards: ArrayLike, penalty: float = PENALTY
) -> tuple[Floats, float]:
    """The weights and the intercept with the lowest penalised negative log-likelihood.

    It is the sum of the losses plus half the ``penalty`` times the squared distance of the weights from ``towards``; so
    few regions change the rule little. The intercept is free but for a millionth of that. Newton's method, with steps
    halved until they help: the function is convex.

    Args:
        features: (N, F).
        labels: (N,), 0 or 1.
        towards: (F + 1,), the weights and then the intercept that the fit begins with.
        penalty: above 0.

    Returns:
        float64 (F,) and the intercept.
    """
    design = np.column_stack([np.asarray(features, np.float64), np.ones(len(np.asarray(labels)))])
    label = np.asarray(labels, np.float64)
    start = np.asarray(towards, np.float64)
    ridge = penalty * np.append(np.ones(len(start) - 1), 1e-6)

    def loss(weights: Floats) -> float:
        margin = design @ weights
        return float(np.logaddexp(0, margin).sum() - label @ margin + 0.5 * ridge @ (weights - start) ** 2)

    weights, now = start, loss(start)
    for _ in range(100):
        probability = expit(design @ weights)
        gradient = design.T @ (probability - label) + ridge * (weights - start)
        curvature = (design.T * (probability * (1 - probability))) @ design + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while loss(weights - size * step) > now and size > 1e-8:
            size /= 2
        weights = weights - size * step
        before, now = now, loss(weights)
        if before - now < 1e-10 * (1 + abs(now)):
            break
    weights = np.clip(weights, -LARGEST, LARGEST)
    return weights[:-1], float(weights[-1])


def fit_rule(slides: Sequence[AnnotatedSlide], point: SlideOperatingPoint) -> SlideOperatingPoint:
    """A point whose rule is fitted to the regions of slides; everything else is the given point's.

    Args:
        slides: at least one region in all; its features are those of the point's scales.
        point: where the fit begins, and towards which its penalty pulls.
    """
    features = np.concatenate([slide.features for slide in slides])
    labels = np.concatenate([slide.is_lesion for slide in slides])
    weights, intercept = fit_logistic(features, labels, towards=[*point.weights, point.intercept])
    return point.model_copy(update={"weights": tuple(weights.tolist()), "intercept": intercept})


def cross_fitted(slides: Sequence[AnnotatedSlide], point: SlideOperatingPoint) -> list[JudgedSlide]:
    """Every slide judged by a rule that was fitted without it, so that figures on it are honest.

    Args:
        slides: dealt to folds in turn, those with tumour first, so that each fold has both kinds.
        point: where each fit begins.
    """
    order = sorted(range(len(slides)), key=lambda at: (not slides[at].positive, slides[at].name))
    folds = min(FOLDS, len(slides))
    fold = {at: rank % folds for rank, at in enumerate(order)}
    rules = []
    for number in range(folds):
        others = [slide for at, slide in enumerate(slides) if fold[at] != number]
        has_both = any(slide.is_lesion.any() for slide in others) and any((~slide.is_lesion).any() for slide in others)
        rules.append(fit_rule(others, point) if has_both else point)
    return [JudgedSlide.by(slide, rules[fold[at]]) for at, slide in enumerate(slides)]


def count_regions(slides: Sequence[AnnotatedSlide]) -> tuple[int, int]:
    """How many regions are lesions, and how many are not."""
    lesions = sum(int(slide.is_lesion.sum()) for slide in slides)
    return lesions, sum(len(slide.features) for slide in slides) - lesions
