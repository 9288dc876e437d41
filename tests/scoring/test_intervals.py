from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from scipy.stats import t as student

from sentinode.scoring.intervals import cluster_interval, effective_clusters, joined

shares = st.floats(0.01, 0.99)
clusters = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=2, max_size=30)
"""How many of a cluster's patches are right, out of how many."""


def share_right(rows: list[tuple[int, int]]) -> tuple[float, np.ndarray, np.ndarray]:
    """A share over clusters, the same without each of them, and their sizes."""
    size = np.array([size for _, size in rows], float)
    right = np.minimum(np.array([right for right, _ in rows], float), size)
    return right.sum() / size.sum(), (right.sum() - right) / (size.sum() - size), size


@given(clusters)
@settings(deadline=None)
def test_it_holds_the_value_and_stays_within_the_bounds(rows: list[tuple[int, int]]) -> None:
    value, without, size = share_right(rows)
    low, high = cluster_interval(value, without, size)
    assert 0 <= low <= value <= high <= 1


@given(clusters, st.lists(st.floats(0.01, 0.999), min_size=2, max_size=5))
@settings(deadline=None)
def test_a_higher_level_never_gives_a_narrower_interval(rows: list[tuple[int, int]], levels: list[float]) -> None:
    value, without, size = share_right(rows)
    limits = [cluster_interval(value, without, size, level=level) for level in sorted(levels)]
    assert all(a[0] >= b[0] and a[1] <= b[1] for a, b in pairwise(limits))


@given(clusters, st.randoms())
@settings(deadline=None)
def test_the_order_of_the_clusters_does_not_matter(rows: list[tuple[int, int]], random) -> None:
    shuffled = random.sample(rows, len(rows))
    assert cluster_interval(*share_right(rows)) == pytest.approx(cluster_interval(*share_right(shuffled)))


def test_of_a_mean_it_is_students_interval() -> None:
    """Of equal clusters the jackknife's standard error of a mean is the usual one."""
    values = np.random.default_rng(0).normal(5, 1, 12)
    without = (values.sum() - values) / 11
    found = cluster_interval(values.mean(), without, np.ones(12), bounds=(0, 10), scale="linear")
    assert found == pytest.approx(student.interval(0.95, 11, values.mean(), values.std(ddof=1) / math.sqrt(12)))


def test_where_all_is_right_it_is_clopper_and_pearsons() -> None:
    exact = binomtest(8, 8).proportion_ci(0.95, "exact")
    assert cluster_interval(1, np.ones(8), np.ones(8)) == pytest.approx((exact.low, exact.high))
    exact = binomtest(0, 8).proportion_ci(0.95, "exact")
    assert cluster_interval(0, np.zeros(8), np.ones(8)) == pytest.approx((exact.low, exact.high))


def test_a_value_that_is_at_its_bound_but_for_rounding_is_treated_so() -> None:
    low, high = cluster_interval(1 - 1e-15, np.full(8, 1 - 1e-15), np.ones(8))
    assert low < 0.7
    assert high == pytest.approx(1)


@given(shares, st.lists(shares, min_size=2, max_size=9), st.floats(0.5, 40))
@settings(deadline=None)
def test_other_bounds_stretch_it(value: float, without: list[float], most: float) -> None:
    unit = cluster_interval(value, without, np.ones(len(without)))
    wide = cluster_interval(most * value, most * np.array(without), np.ones(len(without)), bounds=(0, most))
    assert wide == pytest.approx(tuple(most * limit for limit in unit), abs=1e-9 * most)


@pytest.mark.parametrize(
    ("value", "without"), [(math.nan, [0.1, 0.2]), (0.5, [0.5, math.nan, 0.4]), (0.5, [0.5]), (0.5, [])]
)
def test_what_rests_on_one_cluster_has_no_interval(value: float, without: list[float]) -> None:
    low, high = cluster_interval(value, without, np.ones(len(without)))
    assert math.isnan(low)
    assert math.isnan(high)


def test_one_large_cluster_among_small_ones_widens_it() -> None:
    without = 0.8 + 0.01 * np.array([1, -1, 1, -1, 1, -1])
    even = cluster_interval(0.8, without, np.ones(6))
    uneven = cluster_interval(0.8, without, [50, 1, 1, 1, 1, 1])
    assert uneven[0] < even[0]
    assert uneven[1] > even[1]


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=50))
def test_there_are_never_more_effective_clusters_than_clusters(weights: list[float]) -> None:
    assert 1 - 1e-9 <= effective_clusters(weights) <= len(weights) + 1e-9
    assert effective_clusters(np.ones(len(weights))) == pytest.approx(len(weights))


@given(st.lists(st.integers(0, 60), min_size=1, max_size=300), st.integers(1, 20))
def test_joined_clusters_stay_together_and_are_not_too_many(names: list[int], most: int) -> None:
    cluster = np.unique(names, return_inverse=True)[1]
    block = joined(cluster, most)
    assert len(np.unique(block)) == min(most, cluster.max() + 1)
    assert block.max() == len(np.unique(block)) - 1
    assert all(len(np.unique(block[cluster == one])) == 1 for one in np.unique(cluster))
