import numpy as np
import pytest
from scipy.special import expit

from sentinode.errors import DataError
from sentinode.scoring.decision_curve import decision_curve


def sample(n: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    margins = 2 * rng.standard_normal(n)
    return rng.random(n) < expit(margins), expit(margins)


def test_the_net_benefit_is_that_of_vickers_and_elkin() -> None:
    labels, probabilities = sample()
    curve = decision_curve(labels, probabilities, thresholds=[0.2, 0.5])
    for at, t in enumerate((0.2, 0.5)):
        called = probabilities >= t
        tp, fp = (called & labels).sum(), (called & ~labels).sum()
        assert curve.model[at] == pytest.approx(tp / 2000 - fp / 2000 * t / (1 - t))
    assert curve.everyone[1] == pytest.approx(labels.mean() - (1 - labels.mean()))


def test_calling_everything_is_acting_on_everyone() -> None:
    labels, _ = sample()
    curve = decision_curve(labels, np.ones(2000))
    np.testing.assert_allclose(curve.model, curve.everyone, atol=1e-12)
    assert curve.useful is None


def test_a_calibrated_model_is_useful_almost_everywhere_and_a_constant_one_nowhere() -> None:
    labels, probabilities = sample()
    low, high = decision_curve(labels, probabilities).useful or (1, 0)
    assert low < 0.1 and high > 0.85
    assert decision_curve(labels, np.full(2000, labels.mean())).useful is None


def test_by_slide_the_limits_are_wider_if_slides_differ() -> None:
    labels = np.repeat(np.arange(10) % 3 == 0, 50)
    probabilities = np.where(labels, 0.8, 0.3)
    by_patch, by_slide = (
        decision_curve(labels, probabilities),
        decision_curve(labels, probabilities, np.repeat(np.arange(10), 50)),
    )
    assert (by_slide.high - by_slide.low >= by_patch.high - by_patch.low - 1e-12).all()


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_a_threshold_without_odds_is_refused(threshold: float) -> None:
    with pytest.raises(DataError, match="above 0 and below 1"):
        decision_curve([0, 1], [0.1, 0.9], thresholds=[threshold])


def test_one_class_alone_has_a_curve() -> None:
    assert np.isfinite(decision_curve([1, 1], [0.2, 0.7]).model).all()
