"""DeLong's variances against the package MLstatkit, and what holds for every area."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from MLstatkit import Delong_test
from sklearn.metrics import roc_auc_score

from sentinode.scoring.delong import areas


def made_up(n: int, seed: int, digits: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 3 == 0).astype(int)
    common = rng.normal(labels, 1)
    return labels, (common + rng.normal(0, 0.7, n)).round(digits), (common + rng.normal(0, 1, n)).round(digits)


@given(st.integers(12, 200), st.integers(0, 500))
@settings(max_examples=25, deadline=None)
def test_interval_and_test_are_mlstatkits_also_with_equal_scores(n: int, seed: int) -> None:
    labels, one, other = made_up(n, seed)
    found = areas(labels, [one, other])
    assert found.values == pytest.approx([roc_auc_score(labels, one), roc_auc_score(labels, other)])
    z, p, first, second, *_, about = Delong_test(labels, one, other)
    if about["method"] != "delong" or min(found.covariance.diagonal()) < 1e-12:
        return
    assert found.interval(0) == pytest.approx(first)
    assert found.interval(1) == pytest.approx(second)
    value, low, high, ours = found.difference(1, 0)
    assert ours == pytest.approx(p)
    assert value / ((high - low) / 2 / 1.959964) == pytest.approx(z, rel=1e-5)


def test_clusters_of_one_patch_are_no_clusters() -> None:
    labels, one, other = made_up(400, 0)
    alone, clustered = areas(labels, [one, other]), areas(labels, [one, other], np.arange(400))
    assert clustered.covariance == pytest.approx(alone.covariance)


def test_copies_count_once() -> None:
    labels, one, other = made_up(300, 1)
    copied = areas(labels.repeat(5), [one.repeat(5), other.repeat(5)], np.arange(300).repeat(5))
    once = areas(labels, [one, other])
    assert copied.values == pytest.approx(once.values)
    assert copied.covariance == pytest.approx(once.covariance, rel=0.02)


def test_by_slide_the_variance_is_that_of_many_samples() -> None:
    """Obuchowski's estimate is, on average, the variance of the area over data sets of 30 slides."""
    values, estimates = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        slide = np.repeat(np.arange(30), 12)
        labels = (rng.random(len(slide)) < 0.5).astype(int)
        scores = labels + rng.normal(0, 1, 30)[slide] + rng.normal(0, 1, len(slide))
        found = areas(labels, [scores], slide)
        values.append(found.values[0])
        estimates.append(found.covariance[0, 0])
    assert np.mean(estimates) == pytest.approx(np.var(values), rel=0.2)


@given(st.integers(12, 100), st.integers(0, 500))
@settings(max_examples=25, deadline=None)
def test_order_scale_and_the_names_of_the_classes_do_not_matter(n: int, seed: int) -> None:
    labels, one, other = made_up(n, seed)
    cluster = np.arange(n) // 3
    found = areas(labels, [one, other], cluster)
    order = np.random.default_rng(seed).permutation(n)
    for again in (
        areas(labels[order], [one[order], other[order]], cluster[order]),
        areas(labels, [np.exp(one), 3 * other - 5], cluster),
        areas(1 - labels, [-one, -other], cluster),
    ):
        assert again.values == pytest.approx(found.values)
        assert again.covariance == pytest.approx(found.covariance)
    assert areas(1 - labels, [one]).values == pytest.approx(1 - found.values[:1])


def test_what_is_ranked_without_an_error_has_no_interval() -> None:
    found = areas([0, 0, 1, 1], [[0.1, 0.2, 0.8, 0.9]])
    assert found.values[0] == 1
    assert all(math.isnan(limit) for limit in found.interval())


@pytest.mark.parametrize("labels", [[1, 1, 1], [0, 0, 0], [0, 0, 1]])
def test_one_class_or_one_patch_of_a_class_has_none_either(labels: list[int]) -> None:
    assert all(math.isnan(limit) for limit in areas(labels, [[0.1, 0.5, 0.3]]).interval())
