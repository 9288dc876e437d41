import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from sentinode.errors import DataError
from sentinode.scoring import auc
from sentinode.scoring.calibration_errors import calibration_errors
from sentinode.scoring.calibrators import METHODS, BetaMap, cross_fit, fit_calibrator
from sentinode.scoring.counts import CLIP


def sample(n: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities that are too sure and favour one class."""
    rng = np.random.default_rng(seed)
    margins = 2 * rng.standard_normal(n)
    return rng.random(n) < expit(0.5 * margins + 0.4), expit(margins)


def nll(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return calibration_errors(labels, probabilities).nll


def test_beta_is_the_logistic_regression_of_scikit_learn() -> None:
    labels, probabilities = sample()
    design = np.stack([np.log(probabilities), -np.log1p(-probabilities)], axis=1)
    reference = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12).fit(design, labels)
    expected = reference.predict_proba(design)[:, 1]
    np.testing.assert_allclose(fit_calibrator("beta", labels, probabilities)(probabilities), expected, atol=1e-4)


def test_a_known_beta_map_is_found_again() -> None:
    rng = np.random.default_rng(3)
    probabilities = rng.random(60_000)
    true = BetaMap(0.6, 1.4, -0.3)
    found = fit_calibrator("beta", rng.random(60_000) < true(probabilities), probabilities)
    assert isinstance(found, BetaMap)
    assert (found.a, found.b, found.c) == pytest.approx((0.6, 1.4, -0.3), abs=0.06)


def test_beta_never_falls() -> None:
    """The classes lie the wrong way round: the best rising map is level."""
    labels, probabilities = sample()
    found = fit_calibrator("beta", ~labels, probabilities)
    assert isinstance(found, BetaMap)
    assert found.a >= 0 and found.b >= 0


def test_isotonic_is_that_of_scikit_learn() -> None:
    labels, probabilities = sample()
    reference = IsotonicRegression(out_of_bounds="clip").fit(probabilities, labels)
    new = np.linspace(0, 1, 301)
    found = fit_calibrator("isotonic", labels, probabilities)
    np.testing.assert_allclose(found(new), reference.predict(new), atol=1e-12)


@given(seed=st.integers(0, 2**32 - 1), decimals=st.sampled_from([1, 2, 12]))
@settings(max_examples=20, deadline=None)
def test_no_method_raises_the_loss_on_its_own_patches_and_isotonic_is_best(seed: int, decimals: int) -> None:
    labels, probabilities = sample(200, seed)
    probabilities = np.clip(probabilities.round(decimals), CLIP, 1 - CLIP)
    losses = {m: nll(labels, fit_calibrator(m, labels, probabilities)(probabilities)) for m in METHODS}
    assert losses["isotonic"] <= min(losses.values()) + 1e-6
    assert losses["beta"] <= losses["platt"] + 1e-6 <= losses["temperature"] + 2e-6 <= losses["none"] + 3e-6


@pytest.mark.parametrize("method", METHODS)
def test_a_calibration_rises_and_order_does_not_matter(method: str) -> None:
    labels, probabilities = sample(500)
    found = fit_calibrator(method, labels, probabilities)
    mapped = found(np.linspace(0, 1, 500))
    assert (np.diff(mapped) >= -1e-12).all()
    assert mapped.min() >= 0 and mapped.max() <= 1
    order = np.random.default_rng(0).permutation(500)
    np.testing.assert_allclose(
        fit_calibrator(method, labels[order], probabilities[order])(probabilities), found(probabilities), atol=1e-5
    )


@pytest.mark.parametrize("method", ["temperature", "platt", "beta"])
def test_a_strictly_rising_map_leaves_the_auc(method: str) -> None:
    labels, probabilities = sample(500)
    assert auc(labels, fit_calibrator(method, labels, probabilities)(probabilities)) == pytest.approx(
        auc(labels, probabilities)
    )


@pytest.mark.parametrize("method", ["platt", "beta", "isotonic", "ensemble"])
def test_swapped_classes_mirror(method: str) -> None:
    labels, probabilities = sample(500)
    one = fit_calibrator(method, labels, probabilities)(probabilities)
    other = fit_calibrator(method, ~labels, 1 - probabilities)(1 - probabilities)
    np.testing.assert_allclose(1 - one, other, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_held_out_was_not_fitted_and_slides_stay_whole(method: str) -> None:
    labels, probabilities = sample(600)
    slides = np.arange(600) // 20
    fitted = cross_fit(method, labels, probabilities, slides, folds=5)
    changed = labels.copy()
    changed[slides == 3] = ~changed[slides == 3]
    again = cross_fit(method, changed, probabilities, slides, folds=5)
    np.testing.assert_array_equal(fitted.held_out[slides == 3], again.held_out[slides == 3])
    assert fitted.calibrator(probabilities).shape == (600,)


def test_cross_fitting_tells_what_isotonic_loses_on_other_patches() -> None:
    labels, probabilities = sample(400)
    own = fit_calibrator("isotonic", labels, probabilities)(probabilities)
    held_out = cross_fit("isotonic", labels, probabilities).held_out
    assert calibration_errors(labels, own).equal_mass < calibration_errors(labels, held_out).equal_mass


def test_constant_probabilities_become_the_share() -> None:
    labels = np.arange(40) < 10
    for method in ("platt", "beta", "isotonic"):
        assert fit_calibrator(method, labels, np.full(40, 0.5))(0.5) == pytest.approx(0.25, abs=1e-3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS)
def test_separated_classes_stay_finite(method: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        found = fit_calibrator(method, [0, 0, 1, 1], [0.0, 0.2, 0.9, 1.0])
    assert np.isfinite(found(np.linspace(0, 1, 11))).all()


def test_bad_input_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="one class"):
        fit_calibrator("beta", [1, 1], [0.2, 0.3])
    with pytest.raises(DataError, match="Did you mean 'isotonic'"):
        fit_calibrator("isotonik", [0, 1], [0.2, 0.3])
    with pytest.raises(DataError, match="one slide"):
        cross_fit("platt", [0, 1, 1], [0.2, 0.3, 0.1], ["a", "a", "a"])
