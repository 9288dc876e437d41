"""How far samples lie apart: chance gives no alarm at the stated rate, order makes no difference, shifts are seen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from sentinode.scoring import drift
from sentinode.scoring.drift import estimated_share, kernel_difference, score_difference, thinned


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "PERMUTATIONS", 99)


def sample(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (n, 4))


def test_samples_of_one_distribution_are_called_different_as_rarely_as_stated() -> None:
    p = [kernel_difference(sample(40, 2 * at), sample(30, 2 * at + 1), seed=at).p for at in range(100)]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.09)  # three standard errors
    assert np.mean(p) == pytest.approx(0.5, abs=0.12)


def test_slides_of_one_distribution_too_where_patches_would_be_called_different() -> None:
    by_slide, by_patch = [], []
    for at in range(60):
        rng = np.random.default_rng(at)
        slides = np.repeat(np.arange(12), 10)
        points = rng.normal(0, 1, (12, 2))[slides] + 0.3 * rng.normal(0, 1, (120, 2))
        ours, theirs = slides < 6, slides >= 6
        groups = {"our_slides": slides[ours], "their_slides": slides[theirs]}
        by_slide.append(kernel_difference(points[ours], points[theirs], seed=at, **groups).p)
        by_patch.append(kernel_difference(points[ours], points[theirs], seed=at).p)
    assert np.mean(np.array(by_slide) <= 0.1) <= 0.22
    assert np.mean(np.array(by_patch) <= 0.1) > 0.8


@pytest.mark.parametrize("compare", [kernel_difference, lambda a, b: score_difference(a[:, 0], b[:, 0])])
def test_a_shift_is_seen_and_grows(compare) -> None:  # type: ignore[no-untyped-def]
    near, far = (compare(sample(100, 0), sample(80, 1, shift)) for shift in (0.5, 2.0))
    assert far.p == 0.01 and near.p <= 0.05
    assert far.distance > 2 * near.distance
    assert near.low < near.distance < near.high


def test_the_order_of_patches_moves_the_distance_not_at_all() -> None:
    ours, theirs = sample(50, 0), sample(40, 1, 0.3)
    assert kernel_difference(ours[::-1], theirs[::-1]).distance == pytest.approx(
        kernel_difference(ours, theirs).distance
    )


def test_the_distance_of_scores_is_that_of_kolmogorov_and_smirnov() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(0, 20, 90) / 20, rng.integers(3, 24, 70) / 20  # with ties
    found = score_difference(ours, theirs)
    assert found.distance == pytest.approx(ks_2samp(ours, theirs).statistic)


def test_the_distance_of_features_is_that_of_its_definition() -> None:
    ours, theirs = sample(12, 0), sample(9, 1, 0.5)
    squares = ((ours[:, None] - ours) ** 2).sum(2)
    width = np.median(squares[np.triu_indices(12, 1)])

    def mean(a: np.ndarray, b: np.ndarray, same: bool) -> float:
        kernel = np.exp(-((a[:, None] - b) ** 2).sum(2) / width)
        return float(kernel[~np.eye(len(a), dtype=bool)].mean() if same else kernel.mean())

    wanted = mean(ours, ours, True) + mean(theirs, theirs, True) - 2 * mean(ours, theirs, False)
    assert kernel_difference(ours, theirs).distance == pytest.approx(wanted)


def test_patches_of_one_slide_give_no_interval() -> None:
    found = kernel_difference(sample(20, 0), sample(10, 1), their_slides=np.zeros(10, np.int64))
    assert np.isnan(found.low) and np.isnan(found.high)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.5, 1.0])
def test_the_share_of_positives_is_found_from_the_calls_alone(share: float) -> None:
    labels = np.repeat([0, 1], 100)
    calls = np.r_[np.arange(100) < 10, np.arange(100) < 80]  # 10 % of the negatives, 80 % of the positives
    assert estimated_share(share * 0.8 + (1 - share) * 0.1, calls, labels) == pytest.approx(share)
    assert (estimated_share(0.02, calls, labels), estimated_share(0.95, calls, labels)) == (0, 1)


def test_calls_that_tell_nothing_leave_the_known_share() -> None:
    assert estimated_share(0.9, np.ones(4, bool), np.array([0, 0, 0, 1])) == 0.25


@pytest.mark.parametrize(("share", "wanted"), [(0.5, 0.5), (0.2, 0.2), (0.9, 0.9), (0.0, 0.0), (1.0, 1.0)])
def test_a_sample_is_thinned_to_a_share(share: float, wanted: float) -> None:
    labels = np.arange(400) % 2
    rows = thinned(labels, share)
    assert labels[rows].mean() == pytest.approx(wanted, abs=0.01)
    assert len(rows) >= 100 and (np.diff(rows) > 0).all()


def test_thinning_keeps_enough_where_one_class_is_rare() -> None:
    labels = np.r_[np.zeros(190, int), np.ones(10, int)]
    assert len(thinned(labels, 0.9)) >= 49
