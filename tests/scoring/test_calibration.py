import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from sentinode.errors import DataError
from sentinode.scoring import calibrated, ece_floor, fit_platt, fit_temperature, measure, reliability


def sample(temperature: float, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Margins that are ``temperature`` times too sure, and their labels."""
    rng = np.random.default_rng(1)
    margins = rng.normal(0, 2, n)
    return margins * temperature, rng.random(n) < expit(margins)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found_again(temperature: float) -> None:
    assert fit_temperature(*sample(temperature)) == pytest.approx(temperature, rel=0.05)


def test_no_other_temperature_has_a_lower_likelihood_loss() -> None:
    margins, labels = sample(1.7, 500)
    best = fit_temperature(margins, labels)

    def loss(temperature: float) -> float:
        return measure(labels, expit(margins / temperature), 0.5, resamples=0).nll.value

    assert loss(best) < min(loss(best * 1.05), loss(best / 1.05), loss(1.0))


def test_calibrating_keeps_the_order_and_the_side_of_one_half() -> None:
    margins = np.linspace(-8, 8, 101)
    predicted = calibrated(margins, 2.0)
    assert predicted.dtype == np.float32
    assert (np.diff(predicted) > 0).all()
    assert predicted[50] == 0.5


@pytest.mark.parametrize("labels", [[1, 1, 1], [0, 0, 0]])
def test_one_class_leaves_the_temperature_at_one_and_warns(labels: list[int], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert fit_temperature([1.0, -2.0, 3.0], labels) == 1.0
    assert "one class" in caplog.text


def test_margins_without_an_error_leave_the_temperature_at_one_and_warn(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert fit_temperature([2.0, -1.0], [1, 0]) == 1.0
    assert "classified correctly" in caplog.text


def test_margins_that_are_all_wrong_end_at_the_end_of_the_range(caplog: pytest.LogCaptureFixture) -> None:
    assert fit_temperature([-2.0, 1.0], [1, 0]) == pytest.approx(20, rel=0.01)
    assert "limit of its range" in caplog.text


@pytest.mark.parametrize(("margins", "labels"), [([], []), ([1.0], [1, 0]), ([np.nan, 1.0], [1, 0])])
def test_margins_that_cannot_be_fitted_are_refused(margins: list[float], labels: list[int]) -> None:
    with pytest.raises(DataError):
        fit_temperature(margins, labels)


@pytest.mark.parametrize(("temperature", "offset"), [(0.5, 1.0), (1.0, 0.0), (3.0, -2.0)])
def test_a_known_temperature_and_offset_are_found_again(temperature: float, offset: float) -> None:
    rng = np.random.default_rng(0)
    margins = 3 * rng.standard_normal(60_000)
    labels = rng.random(60_000) < expit((margins + offset) / temperature)
    assert fit_platt(margins, labels) == pytest.approx((temperature, offset), abs=0.08)


@given(st.integers(0, 2**32 - 1))
def test_with_the_offset_the_mean_probability_is_the_share_of_tumour(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.random(300) < 0.3
    margins = 2 * rng.standard_normal(300) + labels + rng.normal()
    temperature, offset = fit_platt(margins, labels)
    assert calibrated(margins + offset, temperature).mean() == pytest.approx(labels.mean(), abs=1e-3)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("patches", "distance"), [(300, 1.0), (3000, 3.0), (400, 8.0), (400, 9.0)], ids=["much", "some", "little", "least"]
)
def test_the_offset_and_temperature_are_those_of_scikit_learn(patches: int, distance: float, seed: int) -> None:
    """However little the classes overlap."""
    rng = np.random.default_rng(seed)
    labels = rng.random(patches) < 0.3
    margins = 2 * rng.standard_normal(patches) + distance * labels - 1
    margins[:2], labels[:2] = (2.5, 3.0), (True, False)  # so that no threshold separates them wholly
    reference = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12).fit(margins[:, None], labels)
    temperature, offset = fit_platt(margins, labels)
    expected = reference.predict_proba(margins[:, None])[:, 1]
    np.testing.assert_allclose(expit((margins + offset) / temperature), expected, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("margins", [[-2.0, -1, 3, 4], [1.0, 2, 3, 4]])
def test_where_labels_cannot_say_there_is_no_offset(margins: list[float]) -> None:
    labels = [0, 0, 1, 1]
    assert fit_platt(margins, labels) == (fit_temperature(margins, labels), 0.0)
    assert fit_platt(margins, [1, 1, 1, 1]) == (1.0, 0.0)


def test_bins_hold_equally_many_patches_as_split_by_numpy() -> None:
    rng = np.random.default_rng(0)
    predicted, labels = rng.random(1000), rng.random(1000) < 0.4
    order = np.argsort(predicted)
    by_numpy = np.array_split(order, 15)
    bins = reliability(labels, predicted)

    np.testing.assert_allclose(bins.predicted, [predicted[rows].mean() for rows in by_numpy])
    np.testing.assert_allclose(bins.true, [labels[rows].mean() for rows in by_numpy])
    assert bins.count.tolist() == [len(rows) for rows in by_numpy]
    error = sum(len(rows) * abs(predicted[rows].mean() - labels[rows].mean()) for rows in by_numpy) / 1000
    assert bins.error == pytest.approx(error)
    assert measure(labels, predicted, 0.5, resamples=0).ece.value == pytest.approx(error)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.4, 0.8])), min_size=1), st.randoms())
def test_the_order_of_patches_with_equal_scores_does_not_matter(rows, random) -> None:
    shuffled = rows.copy()
    random.shuffle(shuffled)
    error, other = (reliability(*zip(*some, strict=True)).error for some in (rows, shuffled))
    assert error == pytest.approx(other)
    assert 0 <= error <= 1


def test_what_is_said_as_often_as_it_is_true_has_no_error() -> None:
    assert reliability([1, 0, 0, 0] * 30, [0.25] * 120).error == pytest.approx(0)


def test_fewer_patches_than_bins_are_a_bin_each() -> None:
    assert reliability([1, 0], [0.9, 0.2]).error == pytest.approx(0.15)


def test_a_perfectly_calibrated_model_scores_about_three_hundredths_on_a_thousand_patches() -> None:
    rng = np.random.default_rng(5)
    predicted = expit(rng.normal(0, 3, 1000))
    floor = ece_floor(predicted)
    assert 0.02 < floor.value < 0.04
    assert floor.low < floor.value < floor.high


def test_the_floor_falls_with_more_patches() -> None:
    predicted = expit(np.random.default_rng(0).normal(0, 2, 20_000))
    assert ece_floor(predicted, draws=20).value < ece_floor(predicted[:1000], draws=20).value / 3
