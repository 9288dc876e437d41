"""Differences of models on the same patches, against statsmodels, MLstatkit and simulations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from MLstatkit import Delong_test
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from sentinode.errors import DataError
from sentinode.scoring import METRICS
from sentinode.scoring.comparison import LOWER_IS_BETTER, compare_metrics, holm, mcnemar
from sentinode.scoring.predictions import Predictions


def models(n: int, seed: int = 0, noise: tuple[float, ...] = (0.5, 1.0), **more: Any) -> list[Predictions]:
    """Models that see the same evidence, each with its own noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n).astype(np.uint8)
    common = rng.normal(2.0 * labels - 1, 1)
    ids = np.arange(n).astype(str)
    return [
        Predictions(f"m{at}", ids, labels, 1 / (1 + np.exp(-common - rng.normal(0, one, n))), threshold=0.5, **more)
        for at, one in enumerate(noise)
    ]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
@settings(max_examples=40, deadline=None)
def test_mcnemar_is_statsmodels(rows: list[tuple[bool, bool]]) -> None:
    one, other = (np.array(column) for column in zip(*rows, strict=True))
    table = [[(one & other).sum(), (one & ~other).sum()], [(~one & other).sum(), (~one & ~other).sum()]]
    assert mcnemar(one, other).p == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue)


def test_mcnemar_of_clusters_of_one_patch_is_the_usual_one() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.random(2000) < 0.8, rng.random(2000) < 0.77
    table = [[(one & other).sum(), (one & ~other).sum()], [(~one & other).sum(), (~one & ~other).sum()]]
    usual = statsmodels_mcnemar(table, exact=False, correction=False).pvalue
    assert mcnemar(one, other, np.arange(2000)).p == pytest.approx(usual)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_holm_is_statsmodels(p: list[float]) -> None:
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_holm_leaves_out_what_is_undefined() -> None:
    assert holm([0.01, math.nan, 0.02]) == pytest.approx([0.02, math.nan, 0.02], nan_ok=True)


def test_the_area_is_tested_by_delong() -> None:
    sets = models(400)
    (found,) = compare_metrics(sets, resamples=20).of("auc")
    _, p, *_ = Delong_test(sets[0].labels, sets[0].probabilities, sets[1].probabilities)
    assert found.p == pytest.approx(p)
    assert found.method == "DeLong"


def test_the_same_model_twice_differs_in_nothing() -> None:
    one, _ = models(200)
    for found in compare_metrics([one, one], resamples=50).differences:
        assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)
        assert found.better is None


@pytest.mark.parametrize("by", ["patch", "slide", "few slides"])
def test_the_other_way_round_mirrors(by: str) -> None:
    slides = {"patch": None, "slide": np.arange(400) // 4, "few slides": np.arange(400) // 40}[by]
    more = {} if slides is None else {"slides": slides.astype(str)}
    one, other = models(400, **more)
    for there, back in zip(
        compare_metrics([one, other], resamples=100).differences,
        compare_metrics([other, one], resamples=100).differences,
        strict=True,
    ):
        assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))
        assert there.p == pytest.approx(back.p)


def test_a_much_better_model_is_called_better_by_every_metric() -> None:
    good, bad = models(3000, noise=(0.1, 3.0))
    found = compare_metrics([bad, good], resamples=400)
    for metric in ("auc", "accuracy", "f1", "average_precision", "nll", "brier", "ece"):
        (one,) = found.of(metric)
        assert one.better == 1, metric
        assert (one.value > 0) == (metric in LOWER_IS_BETTER)


def test_many_pairs_are_corrected() -> None:
    found = compare_metrics(models(300, noise=(0.5, 0.8, 1.1, 1.4)), resamples=50)
    for metric in METRICS:
        of_metric = found.of(metric)
        assert len(of_metric) == 6
        assert [one.corrected for one in of_metric] == pytest.approx(holm([one.p for one in of_metric]))


def test_if_the_models_are_equally_good_five_of_a_hundred_data_sets_show_a_difference() -> None:
    """With 20 slides that lean to one side, on which tests by patch would find far too many."""
    shown = {"auc": 0, "accuracy": 0, "brier": 0}
    for seed in range(150):
        rng = np.random.default_rng(seed)
        slide = np.repeat(np.arange(20), 15)
        labels = rng.integers(2, size=300).astype(np.uint8)
        lean = rng.normal(0, 1, (2, 20))[:, slide]
        margins = 1.5 * (2.0 * labels - 1) + lean + rng.normal(0, 1, (2, 300))
        ids, slides = np.arange(300).astype(str), slide.astype(str)
        pair = [
            Predictions(n, ids, labels, 1 / (1 + np.exp(-m)), slides, threshold=0.5)
            for n, m in zip("ab", margins, strict=True)
        ]
        found = compare_metrics(pair)
        for metric in shown:
            shown[metric] += found.of(metric)[0].p < 0.05
    assert max(shown.values()) <= 0.1 * 150, shown


class TestNonInferiority:
    def test_a_model_is_not_worse_than_its_copy_by_any_margin_that_noise_allows(self) -> None:
        one, other = models(4000, noise=(0.5, 0.5))
        (found,) = compare_metrics([one, other], margin=("auc", 0.02), resamples=20).non_inferiority
        assert found.shown
        assert (found.model, found.reference) == (1, 0)
        assert found.worst > -0.02

    def test_a_much_worse_one_is(self) -> None:
        good, bad = models(2000, noise=(0.1, 3.0))
        for metric in METRICS:
            (found,) = compare_metrics([good, bad], margin=(metric, 0.01), resamples=200).non_inferiority
            if metric not in ("precision", "recall", "specificity"):
                assert not found.shown, metric
                assert found.advantage < 0

    def test_it_is_shown_where_the_interval_lies_above_the_margin(self) -> None:
        for seed in range(10):
            pair = models(500, seed, noise=(0.5, 0.6))
            (found,) = compare_metrics(pair, margin=("auc", 0.01), resamples=20).non_inferiority
            assert found.shown == (found.worst > -0.01)

    def test_a_lower_loss_is_an_advantage(self) -> None:
        good, bad = models(2000, noise=(0.1, 3.0))
        (found,) = compare_metrics([bad, good], margin=("nll", 0.01), resamples=200).non_inferiority
        assert found.shown
        assert found.advantage > 0

    @pytest.mark.parametrize("margin", [("auc", 0.0), ("auc", -0.1), ("auc", math.nan), ("area", 0.1)])
    def test_a_margin_that_is_none_is_refused(self, margin: tuple[str, float]) -> None:
        with pytest.raises(DataError, match="cannot be tested"):
            compare_metrics(models(20), margin=margin)


def test_what_cannot_be_compared_is_refused() -> None:
    one, other = models(20)
    with pytest.raises(DataError, match="two models or more"):
        compare_metrics([one])
    with pytest.raises(DataError, match="not of the same patches"):
        compare_metrics([one, other.rows(np.arange(19))])


def test_one_class_alone_has_no_area_and_does_not_crash() -> None:
    pair = [
        Predictions(name, np.array(["a", "b", "c"]), np.ones(3, np.uint8), np.array(p), threshold=0.5)
        for name, p in (("a", [0.2, 0.7, 0.9]), ("b", [0.6, 0.8, 0.3]))
    ]
    found = compare_metrics(pair, resamples=30)
    assert math.isnan(found.of("auc")[0].value)
    assert found.of("auc")[0].better is None
    assert math.isfinite(found.of("accuracy")[0].p)
