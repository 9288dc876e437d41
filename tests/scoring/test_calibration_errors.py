import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss
from statsmodels.api import Logit
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from sentinode.errors import DataError
from sentinode.scoring.calibration_errors import (
    brier_parts,
    calibration_errors,
    cox_line,
    reliability_bins,
    width_error,
)

Patches = tuple[NDArray[np.bool_], NDArray[np.float64]]


def sample(n: int = 3000, seed: int = 0, slope: float = 1.0, offset: float = 0.0) -> Patches:
    """Labels, and probabilities that are right if ``slope`` is 1 and ``offset`` 0."""
    rng = np.random.default_rng(seed)
    margins = 2 * rng.standard_normal(n)
    return rng.random(n) < expit(slope * margins + offset), expit(margins)


def test_the_errors_of_equal_width_are_those_of_torchmetrics() -> None:
    labels, probabilities = sample(slope=0.5, offset=0.4)
    found = calibration_errors(labels, probabilities)
    p, y = torch.tensor(probabilities), torch.tensor(labels).int()
    assert found.equal_width == pytest.approx(float(binary_calibration_error(p, y, n_bins=15)), abs=1e-6)
    assert found.largest == pytest.approx(float(binary_calibration_error(p, y, n_bins=15, norm="max")), abs=1e-6)
    both = torch.stack([1 - p, p], dim=1)
    top = multiclass_calibration_error(both, y, num_classes=2, n_bins=15)
    assert found.top_label == pytest.approx(float(top), abs=1e-6)


def test_brier_nll_and_bins_are_those_of_scikit_learn() -> None:
    labels, probabilities = sample(slope=0.5)
    found = calibration_errors(labels, probabilities)
    assert found.brier.score == pytest.approx(brier_score_loss(labels, probabilities), abs=1e-12)
    assert found.nll == pytest.approx(log_loss(labels, probabilities), abs=1e-12)
    observed, predicted = calibration_curve(labels, probabilities, n_bins=15, strategy="quantile")
    np.testing.assert_allclose([one.observed.value for one in found.bins], observed, atol=0.01)
    np.testing.assert_allclose([one.predicted for one in found.bins], predicted, atol=0.01)


def test_the_line_of_cox_is_the_logistic_regression_of_statsmodels() -> None:
    labels, probabilities = sample(slope=0.6, offset=0.3)
    odds = np.log(probabilities / (1 - probabilities))
    design = np.stack([np.ones(len(odds)), odds], axis=1)
    reference = Logit(labels.astype(float), design).fit(disp=0, cov_type="HC1")
    line = cox_line(labels, probabilities)
    assert line is not None
    assert (line.intercept.value, line.slope.value) == pytest.approx(tuple(reference.params), abs=1e-5)
    np.testing.assert_allclose([line.slope.low, line.slope.high], reference.conf_int()[1], atol=1e-3)


def test_by_slide_the_line_of_cox_has_the_clustered_errors_of_statsmodels() -> None:
    labels, probabilities = sample(slope=0.6)
    slides = np.arange(len(labels)) // 100
    odds = np.log(probabilities / (1 - probabilities))
    design = np.stack([np.ones(len(odds)), odds], axis=1)
    clustered = {"groups": slides, "use_correction": True}
    reference = Logit(labels.astype(float), design).fit(disp=0, cov_type="cluster", cov_kwds=clustered)
    line = cox_line(labels, probabilities, slides)
    assert line is not None
    np.testing.assert_allclose([line.slope.low, line.slope.high], reference.conf_int()[1], atol=1e-3)


def test_published_parts_of_the_brier_score() -> None:
    """Forecasts of 0.2 and 0.8, ten each, of which 3 and 7 come true: by hand after Murphy (1973)."""
    probabilities = np.repeat([0.2, 0.8], 10)
    labels = np.r_[np.arange(10) < 3, np.arange(10) < 7]
    found = brier_parts(labels, probabilities)
    assert (found.reliability, found.resolution, found.uncertainty) == pytest.approx((0.01, 0.04, 0.25))
    assert found.within == pytest.approx(0, abs=1e-15)
    assert found.score == pytest.approx(0.22)


def test_perfect_calibration_has_no_error() -> None:
    probabilities = np.repeat([0.25, 0.75], 400)
    labels = np.r_[np.arange(400) < 100, np.arange(400) < 300]
    found = calibration_errors(labels, probabilities)
    assert max(found.equal_mass, found.equal_width, found.top_label, *found.classwise) == pytest.approx(0, abs=1e-12)
    assert found.brier.reliability == pytest.approx(0, abs=1e-12)
    assert found.line is not None
    assert found.line.slope.value == pytest.approx(1, abs=1e-5)
    assert found.line.shift == pytest.approx(0, abs=1e-12)


@given(seed=st.integers(0, 2**32 - 1), decimals=st.sampled_from([1, 2, 9]))
@settings(max_examples=25, deadline=None)
def test_order_does_not_matter_and_swapped_classes_mirror(seed: int, decimals: int) -> None:
    labels, probabilities = sample(120, seed)
    probabilities = probabilities.round(decimals)
    found = calibration_errors(labels, probabilities)
    order = np.random.default_rng(seed).permutation(120)
    again = calibration_errors(labels[order], probabilities[order])
    assert again.equal_mass == pytest.approx(found.equal_mass, abs=1e-12)
    assert again.brier.reliability == pytest.approx(found.brier.reliability, abs=1e-12)
    swapped = calibration_errors(~labels, 1 - probabilities)
    assert swapped.equal_mass == pytest.approx(found.equal_mass, abs=1e-9)
    assert swapped.brier.score == pytest.approx(found.brier.score, abs=1e-12)
    parts = found.brier
    assert parts.reliability - parts.resolution + parts.uncertainty + parts.within == pytest.approx(parts.score)


def test_the_interval_of_a_dot_holds_the_observed_share_and_is_wider_by_slide() -> None:
    labels, probabilities = sample()
    slides = np.arange(3000) % 6
    for by_patch, by_slide in zip(
        reliability_bins(labels, probabilities), reliability_bins(labels, probabilities, slides), strict=True
    ):
        assert by_patch.observed.low < by_patch.observed.value < by_patch.observed.high
        assert by_slide.observed.value == by_patch.observed.value


def test_constant_probabilities_are_one_bin_without_a_line() -> None:
    found = calibration_errors([0, 1, 1, 1], [0.5] * 4)
    assert len(found.bins) == 1
    assert found.equal_mass == found.equal_width == pytest.approx(0.25)
    assert found.brier.resolution == pytest.approx(0)
    assert found.line is None


def test_one_class_alone_and_two_slides_still_have_figures() -> None:
    found = calibration_errors([1, 1, 1], [0.2, 0.9, 0.7], np.array([0, 0, 1]))
    assert found.line is None
    assert found.brier.uncertainty == 0
    assert found.equal_width == width_error([1, 1, 1], [0.2, 0.9, 0.7])


@pytest.mark.parametrize(("labels", "probabilities"), [([], []), ([0], [0.1, 0.2]), ([2], [0.1]), ([1], [1.2])])
def test_what_does_not_belong_together_is_refused(labels: list[int], probabilities: list[float]) -> None:
    with pytest.raises(DataError):
        calibration_errors(labels, probabilities)
