import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from sentinode.errors import DataError
from sentinode.scoring import METRICS, auc, measure, pr_curve, roc_curve


def patches(n: int = 400, seed: int = 0, signal: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Labels, half of them tumour, and probabilities that know something of them."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.5).astype(np.uint8)
    margins = rng.normal(signal * (2.0 * labels - 1), 2)
    return labels, 1 / (1 + np.exp(-margins))


# Few distinct probabilities, so that many patches share one.
tied = st.lists(st.tuples(st.booleans(), st.sampled_from([0.02, 0.1, 0.3, 0.5, 0.7, 0.98])), min_size=2)
both_classes = tied.filter(lambda rows: len({label for label, _ in rows}) == 2)


@given(both_classes)
@settings(max_examples=60, deadline=None)
def test_each_figure_is_scikit_learns_also_where_scores_are_equal(rows: list[tuple[bool, float]]) -> None:
    labels, probabilities = (np.array(column) for column in zip(*rows, strict=True))
    called = probabilities >= 0.5
    scores = measure(labels, probabilities, 0.5, resamples=0)

    assert scores.auc.value == pytest.approx(sklearn.roc_auc_score(labels, probabilities))
    assert scores.average_precision.value == pytest.approx(sklearn.average_precision_score(labels, probabilities))
    assert scores.accuracy.value == pytest.approx(sklearn.accuracy_score(labels, called))
    assert scores.recall.value == pytest.approx(sklearn.recall_score(labels, called))
    assert scores.specificity.value == pytest.approx(sklearn.recall_score(~labels, ~called))
    assert scores.f1.value == pytest.approx(sklearn.f1_score(labels, called))
    assert scores.nll.value == pytest.approx(sklearn.log_loss(labels, probabilities))
    assert scores.brier.value == pytest.approx(sklearn.brier_score_loss(labels, probabilities))
    if called.any():
        assert scores.precision.value == pytest.approx(sklearn.precision_score(labels, called))
    else:
        assert math.isnan(scores.precision.value)
    (tn, fp), (fn, tp) = sklearn.confusion_matrix(labels, called)
    assert scores.confusion == {"tp": tp, "fp": fp, "tn": tn, "fn": fn}


@given(both_classes)
@settings(max_examples=60, deadline=None)
def test_curves_are_scikit_learns(rows: list[tuple[bool, float]]) -> None:
    labels, probabilities = (np.array(column) for column in zip(*rows, strict=True))
    fpr, tpr, threshold = sklearn.roc_curve(labels, probabilities, drop_intermediate=False)
    roc = roc_curve(labels, probabilities)
    np.testing.assert_allclose((roc.x, roc.y, roc.threshold), (fpr, tpr, threshold))

    precision, recall, _ = sklearn.precision_recall_curve(labels, probabilities)
    pr = pr_curve(labels, probabilities)
    np.testing.assert_allclose((pr.x[::-1], pr.y[::-1]), (recall[:-1], precision[:-1]))


def test_the_bootstrap_by_counting_is_the_bootstrap_by_copying() -> None:
    labels, probabilities = patches(120)
    probabilities = probabilities.round(1)
    rng = np.random.default_rng(7)
    draws = [rng.integers(120, size=120) for _ in range(100)]
    scores = measure(labels, probabilities, 0.4, resamples=100, seed=7)

    for name, figure in (
        ("auc", sklearn.roc_auc_score),
        ("average_precision", sklearn.average_precision_score),
        ("brier", sklearn.brier_score_loss),
    ):
        copied = np.percentile([figure(labels[draw], probabilities[draw]) for draw in draws], [2.5, 97.5])
        counted = getattr(scores, name)
        assert (counted.low, counted.high) == pytest.approx(tuple(copied))
    copied = np.percentile([np.mean((probabilities[d] >= 0.4) == labels[d]) for d in draws], [2.5, 97.5])
    assert (scores.accuracy.low, scores.accuracy.high) == pytest.approx(tuple(copied))


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    truth = auc(*patches(200_000, seed=99))
    hits = 0
    for seed in range(40):
        interval = measure(*patches(200, seed=seed), 0.5, resamples=100, seed=seed).auc
        hits += interval.low <= truth <= interval.high
    assert hits / 40 > 0.75  # by chance alone about 0.84 to 0.99


def test_drawing_slides_gives_wider_intervals_than_drawing_patches_that_are_copies() -> None:
    labels, probabilities = (np.repeat(column, 20) for column in patches(30))
    slides = np.repeat(np.arange(30), 20)
    by_patch = measure(labels, probabilities, 0.5, resamples=300)
    by_slide = measure(labels, probabilities, 0.5, resamples=300, groups=slides)

    assert (by_patch.resampled, by_slide.resampled) == ("patch", "slide")
    assert by_slide.auc.value == by_patch.auc.value
    assert by_slide.auc.high - by_slide.auc.low > 2 * (by_patch.auc.high - by_patch.auc.low)


def test_a_single_slide_cannot_be_resampled() -> None:
    labels, probabilities = patches(100)
    assert measure(labels, probabilities, 0.5, groups=["one"] * 100, resamples=20).resampled == "patch"


def test_the_same_seed_gives_the_same_intervals() -> None:
    labels, probabilities = patches(100)
    first, again, other = (measure(labels, probabilities, 0.5, resamples=50, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first.auc != other.auc


@pytest.mark.parametrize("name", METRICS)
def test_every_interval_holds_its_value(name: str) -> None:
    figure = getattr(measure(*patches(300), 0.5, resamples=300), name)
    assert figure.low <= figure.value <= figure.high


@pytest.mark.parametrize("name", ["auc", "precision", "recall", "average_precision"])
def test_without_a_tumour_patch_a_figure_is_undefined_and_says_why(name: str) -> None:
    scores = measure([0, 0, 0], [0.1, 0.2, 0.3], 0.5, resamples=20)
    assert math.isnan(getattr(scores, name).value)
    assert scores.as_dict()[name] == {"value": None, "low": None, "high": None}
    assert scores.undefined[name] in ("one class only", "no tumour patch", "no patch was called tumour")
    assert scores.specificity.value == 1.0


def test_what_goes_into_json_is_json() -> None:
    text = json.dumps(measure([1, 1], [0.2, 0.3], 0.5, resamples=5).as_dict(), allow_nan=False)
    figures = json.loads(text)
    assert set(METRICS) < set(figures)
    assert figures["confusion"] == {"tp": 0, "fp": 0, "tn": 0, "fn": 2}


def test_a_resample_of_one_class_is_left_out_of_the_interval() -> None:
    scores = measure([0, 1, 1], [0.2, 0.4, 0.1], 0.3, resamples=100)
    assert 0 <= scores.auc.low <= scores.auc.high <= 1


def test_a_sure_error_costs_much_but_not_everything() -> None:
    assert measure([1, 0], [0.0, 0.0], 0.5, resamples=0).nll.value == pytest.approx(-math.log(1e-7) / 2)


def test_a_probability_equal_to_the_threshold_is_called_tumour() -> None:
    assert measure([1, 0], [0.5, 0.4], 0.5, resamples=0).confusion == {"tp": 1, "fp": 0, "tn": 1, "fn": 0}


@pytest.mark.parametrize(
    ("labels", "probabilities", "word"),
    [
        ([], [], "no patches"),
        ([0, 1], [0.5], "2 labels but 1"),
        ([0, 2], [0.5, 0.5], "other than 0"),
        ([0, 1], [0.5, math.nan], "not numbers"),
        ([0, 1], [0.5, 1.5], "from 0 to 1"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_words(labels: list[int], probabilities: list[float], word: str) -> None:
    with pytest.raises(DataError, match=word):
        measure(labels, probabilities, 0.5)


def test_the_area_of_one_class_is_undefined_and_does_not_crash() -> None:
    assert math.isnan(auc([1, 1], [0.2, 0.9]))


def test_the_whole_test_split_takes_seconds() -> None:
    labels, probabilities = patches(32_768)
    began = time.process_time()
    measure(labels, probabilities, 0.5, resamples=100)
    assert time.process_time() - began < 5
