"""Linear probes: against scikit-learn, what chooses C, draws of few labels, and eva's protocol."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_features import made_features
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sentinode.errors import DataError, RecipeError
from sentinode.experiments import eva
from sentinode.experiments.features_file import Embeddings
from sentinode.experiments.probing import STRENGTHS, Spread, probe


def test_with_all_labels_it_is_scikit_learn_s_logistic_regression(features: Embeddings) -> None:
    found = probe(features, resamples=20, show=False)
    draw = found.draws[0]
    train, test = features.of("train"), features.of("test")
    model = make_pipeline(StandardScaler(), LogisticRegression(C=draw.strength, max_iter=2000))
    p = model.fit(train.features, train.labels).predict_proba(test.features)[:, 1]
    assert draw.figures["test"]["auc"] == pytest.approx(roc_auc_score(test.labels, p), abs=1e-3)
    called = p >= draw.figures["test"]["threshold"]
    assert draw.figures["test"]["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(test.labels, called), abs=0.02
    )
    assert found.scores["test"].resampled == "slide"
    assert "chosen on valid" in " ".join(found.notes)


def test_test_chooses_nothing(features: Embeddings) -> None:
    """Other labels of test change neither C nor the threshold."""
    labels = features.labels.copy()
    labels[features.split == "test"] = 1 - labels[features.split == "test"]
    ours, theirs = (probe(f, labels=(10, 0), draws=2, resamples=20, show=False) for f in
                    (features, replace(features, labels=labels)))  # fmt: skip
    for mine, other in zip(ours.draws, theirs.draws, strict=True):
        assert mine.strength == other.strength
        assert mine.figures["valid"] == other.figures["valid"]
        assert mine.figures["test"]["auc"] == pytest.approx(1 - other.figures["test"]["auc"])


def test_few_labels_do_not_look_at_valid(features: Embeddings) -> None:
    labels = features.labels.copy()
    labels[features.split == "valid"] = np.random.default_rng(1).permutation(labels[features.split == "valid"])
    ours, theirs = (
        probe(f, labels=(10,), draws=2, show=False).draws for f in (features, replace(features, labels=labels))
    )
    assert [draw.figures["test"] for draw in ours] == [draw.figures["test"] for draw in theirs]


def test_the_same_seed_gives_the_same_table_and_more_labels_help() -> None:
    features = made_features(train=800, test=400, shift=1.5)
    first, second = (probe(features, labels=(5, 200), draws=3, seed=4, show=False) for _ in range(2))
    assert first.as_dict() == second.as_dict()
    assert first.spread(200, "test").mean > first.spread(5, "test").mean
    assert first.labels == (5, 200)


def test_features_without_slides_and_features_without_meaning() -> None:
    nothing = replace(made_features(shift=0.0), slides=None)
    found = probe(nothing, labels=(20, 0), draws=2, resamples=20, show=False)
    assert 0.3 < found.spread(0, "test").mean < 0.7
    assert found.scores["test"].resampled == "patch"
    assert {draw.strength for draw in found.draws} <= set(STRENGTHS)


@settings(max_examples=10, deadline=None)
@given(st.floats(0.01, 1000), st.floats(-100, 100))
def test_the_scale_of_the_features_does_not_matter(scale: float, offset: float) -> None:
    features = made_features(train=60, valid=40, test=40)
    other = replace(features, features=(features.features * np.float32(scale) + np.float32(offset)))
    ours, theirs = (probe(f, splits=("test",), resamples=1, show=False).draws[0].figures["test"]["auc"]
                    for f in (features, other))  # fmt: skip
    assert ours == pytest.approx(theirs, abs=0.01)


def test_eva_s_head_separates_what_is_separable_and_is_seeded() -> None:
    features = made_features(shift=4.0)
    train, valid, test = (features.of(split) for split in ("train", "valid", "test"))
    first, again, other = (
        eva.fit(train.features, train.labels, valid.features, valid.labels, seed, steps=200)(test.features)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert roc_auc_score(test.labels, first) > 0.95


def test_the_protocol_eva_makes_five_runs(features: Embeddings) -> None:
    found = probe(features, protocol="eva", resamples=10, show=False)
    assert len(found.draws) == eva.RUNS
    assert found.draws[0].figures["valid"]["threshold"] == 0.5


@pytest.mark.parametrize(
    ("change", "options", "told"),
    [
        ({}, {"labels": (1,)}, "at least 2"),
        ({}, {"draws": 0}, "at least one draw"),
        ({}, {"protocol": "evas"}, "no protocol 'evas'"),
        ({}, {"labels": (101,)}, "101 labels of each class are asked for"),
        ({"split": np.full(400, "valid")}, {}, "fitted to the train split"),
        ({"split": np.full(400, "train")}, {}, "neither a valid nor a test split"),
        ({"labels": np.zeros(400, np.uint8)}, {}, "one class only"),
        ({"features": np.ones((400, 5), np.float32)}, {}, "the same for all patches"),
        ({}, {"splits": ("all",)}, "no features of the all split"),
    ],
)
def test_what_cannot_be_probed_is_refused(features: Embeddings, change: dict, options: dict, told: str) -> None:  # type: ignore[type-arg]
    with pytest.raises((DataError, RecipeError), match=told):
        probe(replace(features, **change), show=False, **options)


def test_a_spread_is_student_s_interval_of_the_mean() -> None:
    from scipy import stats

    values = [0.80, 0.82, 0.87]
    spread = Spread.of(values)
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (spread.low, spread.high) == (pytest.approx(low), pytest.approx(min(high, 1)))
    assert Spread.of([0.9]).low is None
