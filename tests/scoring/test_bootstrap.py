"""The bootstrap of all metrics at once, against loops of other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn

from sentinode.scoring import METRICS, measure, reliability
from sentinode.scoring.bootstrap import bca_interval, percentile_interval, resampled_metrics
from sentinode.scoring.counts import Counted


def made_up(n: int, seed: int = 0, digits: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    return labels, (1 / (1 + np.exp(-rng.normal(2 * labels - 1, 1.5)))).round(digits)


def test_resamples_of_clusters_are_those_of_copied_patches() -> None:
    labels, probabilities = made_up(300)
    cluster = np.arange(300) // 7
    counted = Counted.of(labels, probabilities, 0.4)
    found = resampled_metrics([counted], cluster, 20, seed=3)[0]
    chosen = np.random.default_rng(3).integers(43, size=(20, 43))
    for row, units in enumerate(chosen):
        rows = np.concatenate([np.flatnonzero(cluster == unit) for unit in units])
        values = dict(zip(METRICS, found[row], strict=True))
        label, probability = labels[rows], probabilities[rows]
        assert values["auc"] == pytest.approx(sklearn.roc_auc_score(label, probability))
        assert values["average_precision"] == pytest.approx(sklearn.average_precision_score(label, probability))
        assert values["f1"] == pytest.approx(sklearn.f1_score(label, probability >= 0.4))
        assert values["specificity"] == pytest.approx(sklearn.recall_score(1 - label, probability < 0.4))
        assert values["brier"] == pytest.approx(sklearn.brier_score_loss(label, probability))
        assert values["nll"] == pytest.approx(sklearn.log_loss(label, probability.clip(1e-7, 1 - 1e-7)))
        assert values["ece"] == pytest.approx(reliability(label, probability).error)


@given(st.integers(1, 60), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_many_sets_at_once_have_the_metrics_of_each_alone(n: int, seed: int) -> None:
    labels, probabilities = made_up(n, seed, digits=1)
    counted = Counted.of(labels, probabilities, 0.5)
    normal, tumour = counted.counts
    twice = counted.metrics_of_many((np.stack([normal, 3 * normal]), np.stack([tumour, 3 * tumour])))
    np.testing.assert_allclose(twice[0], counted.metrics(counted.counts))
    ranking = [METRICS.index(name) for name in ("auc", "accuracy", "f1", "average_precision", "nll", "brier")]
    np.testing.assert_allclose(twice[0][ranking], twice[1][ranking])


def test_models_are_resampled_by_the_same_patches() -> None:
    labels, probabilities = made_up(200)
    same = Counted.of(labels, probabilities, 0.5)
    monotone = Counted.of(labels, probabilities**3, 0.5**3)
    one, other = resampled_metrics([same, monotone], None, 50, seed=0)
    for name in ("auc", "accuracy", "f1", "average_precision"):
        np.testing.assert_allclose(one[:, METRICS.index(name)], other[:, METRICS.index(name)])


def test_the_same_seed_gives_the_same_resamples_whatever_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted.of(*made_up(100), 0.5)
    whole = resampled_metrics([counted], None, 30, seed=1)
    monkeypatch.setattr("sentinode.scoring.bootstrap.CELLS", 1)
    np.testing.assert_allclose(whole, resampled_metrics([counted], None, 30, seed=1), rtol=1e-12)


class TestBca:
    def test_it_is_scipys(self) -> None:
        data = np.random.default_rng(0).exponential(size=40)
        ours = stats.bootstrap((data,), np.mean, n_resamples=999, method="percentile", rng=np.random.default_rng(1))
        theirs = stats.bootstrap((data,), np.mean, n_resamples=0, method="BCa", bootstrap_result=ours)
        without = (data.sum() - data) / 39
        interval = bca_interval(float(data.mean()), ours.bootstrap_distribution, without)
        assert interval == pytest.approx(tuple(theirs.confidence_interval))
        assert percentile_interval(ours.bootstrap_distribution) == pytest.approx(tuple(ours.confidence_interval))

    def test_without_bias_and_skewness_it_is_the_percentiles(self) -> None:
        values = np.linspace(-1, 1, 1001)
        assert bca_interval(0.0, values, [-1.0, 1.0]) == pytest.approx(percentile_interval(values))

    @pytest.mark.parametrize(
        ("resampled", "without"),
        [([1.0, 1.0], [0.9]), ([0.1, 0.2], [0.4, 0.5]), ([0.1, 0.9], [math.nan, 0.5]), ([math.nan], [0.4, 0.5])],
    )
    def test_where_there_is_none_it_is_nan(self, resampled: list[float], without: list[float]) -> None:
        assert all(math.isnan(limit) for limit in bca_interval(0.5, resampled, without))


class TestMeasure:
    def test_bca_is_named_and_is_near_the_percentiles_where_all_is_smooth(self) -> None:
        labels, probabilities = made_up(2000)
        bca = measure(labels, probabilities, 0.5, interval="bca", resamples=400)
        percentile = measure(labels, probabilities, 0.5, interval="percentile", resamples=400)
        assert bca.interval == "95 % by patch: BCa of 400 bootstrap resamples, for the ECE their percentiles"
        assert (bca.ece.low, bca.ece.high) == (percentile.ece.low, percentile.ece.high)
        for name in ("auc", "accuracy", "nll"):
            one, other = getattr(bca, name), getattr(percentile, name)
            assert one.low == pytest.approx(other.low, abs=0.25 * (other.high - other.low))

    def test_copies_are_drawn_together_so_the_interval_is_that_of_fewer_patches(self) -> None:
        labels, probabilities = made_up(300)
        twice = np.repeat(np.arange(300), 4).astype(str)
        copied = measure(labels.repeat(4), probabilities.repeat(4), 0.5, copies=twice, resamples=300)
        once = measure(labels, probabilities, 0.5, resamples=300)
        assert copied.interval.startswith("95 % by patch, copies of a patch together: percentiles of 300")
        for name in ("auc", "accuracy", "brier"):
            one, other = getattr(copied, name), getattr(once, name)
            assert one.high - one.low == pytest.approx(other.high - other.low, rel=0.2)
            assert copied.auc_delong.high == pytest.approx(once.auc_delong.high, abs=0.01)

    def test_copies_join_slides(self) -> None:
        labels, probabilities = made_up(100)
        slides = np.repeat(np.arange(10), 10).astype(str)
        copies = np.where(np.isin(np.arange(100), (5, 15)), "x", "")
        joined = measure(labels, probabilities, 0.5, groups=slides, copies=copies)
        assert "jackknife over 9 slides" in joined.interval or "jackknife over 10 slides in 9" in joined.interval

    def test_a_bootstrap_of_few_slides_is_said_to_be_too_narrow(self) -> None:
        labels, probabilities = made_up(200)
        slides = np.repeat(np.arange(10), 20)
        scores = measure(labels, probabilities, 0.5, groups=slides, interval="percentile", resamples=50)
        assert scores.interval == "95 % by slide: percentiles of 50 bootstrap resamples of 10 slides"
        assert "too narrow" in scores.notes[-1]

    def test_two_slides_are_too_few_for_any_interval_to_rely_on(self) -> None:
        labels, probabilities = made_up(100)
        scores = measure(labels, probabilities, 0.5, groups=np.repeat([0, 1], 50))
        assert scores.notes[0].startswith("Only 2 slides: no interval from so few can be relied on")

    def test_the_jackknife_by_patch_is_that_of_independent_patches(self) -> None:
        labels, probabilities = made_up(800)
        jackknife = measure(labels, probabilities, 0.5, interval="jackknife").auc
        delong = measure(labels, probabilities, 0.5, resamples=1).auc_delong
        assert jackknife.high - jackknife.low == pytest.approx(delong.high - delong.low, rel=0.1)

    def test_an_unknown_kind_is_refused(self) -> None:
        with pytest.raises(Exception, match="no intervals by 'wald'"):
            measure([0, 1], [0.1, 0.9], 0.5, interval="wald")
