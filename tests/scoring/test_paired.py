"""Two models on the same patches or slides: the difference, held against other programs and against known cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, wilcoxon

from sentinode.scoring import auc
from sentinode.scoring.paired import ALL_FLIPS, auc_difference, sign_flip_p


def two_models(count: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    common = labels + rng.normal(0, 1, count)
    return labels, common + rng.normal(0, 0.3, count), common + rng.normal(0, 0.6, count)


def delong(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """The standard error of the difference of two AUCs (DeLong, DeLong and Clarke-Pearson 1988)."""
    parts = []
    for scores in (first, second):
        above = scores[labels == 1][:, None] > scores[labels == 0][None]
        parts.append((above.mean(axis=1), above.mean(axis=0)))
    ten, one = (np.array([part[k] for part in parts]) for k in (0, 1))
    covariance = np.cov(ten) / ten.shape[1] + np.cov(one) / one.shape[1]
    contrast = np.array([-1.0, 1.0])
    return float(math.sqrt(contrast @ covariance @ contrast))


def test_by_patch_the_interval_is_delongs() -> None:
    labels, first, second = two_models()
    found = auc_difference(labels, first, second, groups=None)
    assert found.value == pytest.approx(auc(labels, second) - auc(labels, first))
    reach = norm.ppf(0.975) * delong(labels, first, second)
    assert (found.high - found.low) / 2 == pytest.approx(reach, rel=0.03)


def test_by_slide_it_is_wider_where_slides_differ() -> None:
    labels, first, second = two_models()
    slides = np.repeat([f"s{number}" for number in range(10)], 40)
    second = second + np.repeat(np.linspace(-1, 1, 10), 40) * (2 * labels - 1)
    by_patch, by_slide = (auc_difference(labels, first, second, groups=groups) for groups in (None, slides))
    assert by_slide.value == by_patch.value
    assert by_slide.high - by_slide.low > 1.5 * (by_patch.high - by_patch.low)


def test_the_same_model_twice_differs_by_nothing() -> None:
    labels, first, _ = two_models(60)
    found = auc_difference(labels, first, first, groups=None)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_without_an_interval_or_without_a_figure() -> None:
    labels = np.array([0, 0, 1, 1])
    scores = np.array([0.1, 0.4, 0.3, 0.9])
    assert math.isnan(auc_difference(labels, scores, scores, groups=["a", "a", "b", "b"]).low)
    alike = auc_difference([0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], groups=["a", "a", "b", "b"])
    assert alike.value == 1 and math.isnan(alike.low), "two slides that change alike are not certain"
    assert math.isnan(auc_difference(np.ones(4), scores, scores, groups=None).value)


def test_six_slides_tell_and_five_cannot() -> None:
    assert sign_flip_p([-1] * 6) == pytest.approx(2 / 64)
    assert sign_flip_p([-9] * 5) == pytest.approx(2 / 32)
    assert sign_flip_p([-1, 0, 0]) == sign_flip_p([0, 0]) == sign_flip_p([]) == 1


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-5, 5), max_size=ALL_FLIPS))
def test_p_is_a_share_and_does_not_depend_on_the_side_or_the_order(differences: list[int]) -> None:
    p = sign_flip_p(differences)
    assert 0 < p <= 1
    assert sign_flip_p([-one for one in differences]) == p == sign_flip_p(sorted(differences))


def test_on_ranks_it_is_wilcoxons_test_and_many_slides_are_sampled() -> None:
    ranks = np.array([1, -2, 3, 4, 5, -6, 7, 8, 9, 10])
    assert sign_flip_p(ranks) == pytest.approx(wilcoxon(ranks, method="exact").pvalue)
    rng = np.random.default_rng(0)
    many = rng.permutation(np.arange(1, 31)) * np.where(rng.random(30) < 0.8, 1, -1)
    assert sign_flip_p(many) == pytest.approx(wilcoxon(many, method="exact").pvalue, abs=0.01)
