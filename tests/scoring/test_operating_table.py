import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import f1_score, precision_score, recall_score

from sentinode.errors import DataError, RecipeError
from sentinode.scoring.operating_table import POINTS, at_threshold, operating_points


def sample(n: int, seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.5
    return labels, expit(2 * rng.normal(np.where(labels, 1, -1) + shift, 1))


def test_the_figures_are_those_of_scikit_learn() -> None:
    labels, probabilities = sample(500, 0)
    found = at_threshold(labels, probabilities, 0.3)
    called = probabilities >= 0.3
    assert found.sensitivity.value == pytest.approx(recall_score(labels, called))
    assert found.precision.value == pytest.approx(precision_score(labels, called))
    assert found.f1 == pytest.approx(f1_score(labels, called))


def test_a_shift_on_test_is_seen_as_a_drop() -> None:
    points = {one.rule: one for one in operating_points(sample(3000, 1), sample(3000, 2, shift=-0.6))}
    assert set(points) == set(POINTS)
    assert points["sensitivity@0.95"].drop > 0.05
    assert points["specificity@0.95"].drop < 0
    assert points["cost@5"].drop > 0  # a higher cost on test is a loss


@pytest.mark.parametrize("cost", [0.2, 1.0, 5.0, 40.0])
def test_no_threshold_costs_less(cost: float) -> None:
    labels, probabilities = sample(300, 3)
    chosen = operating_points((labels, probabilities), (labels, probabilities), [f"cost@{cost}"])[0]
    everywhere = [at_threshold(labels, probabilities, t, miss=cost).cost for t in np.linspace(0, 1, 401)]
    assert chosen.valid is not None
    assert chosen.valid.cost <= min(everywhere) + 1e-12


def test_a_point_that_no_threshold_keeps_is_named_with_its_reason() -> None:
    labels, probabilities = np.array([0, 0, 1, 1]), np.array([1.0, 1.0, 1.0, 0.4])
    [point] = operating_points((labels, probabilities), (labels, probabilities), ["specificity@0.95"])
    assert point.valid is None
    assert "probability of exactly 1" in point.as_dict()["reason"]


def test_test_of_one_class_has_no_specificity_and_valid_of_one_class_is_refused() -> None:
    valid = sample(100, 0)
    [point] = operating_points(valid, (np.ones(5, int), np.full(5, 0.9)), ["specificity@0.95"])
    assert point.as_dict()["drop"] is None
    with pytest.raises(DataError, match="one class"):
        operating_points((np.ones(5, int), np.full(5, 0.9)), valid)


@pytest.mark.parametrize("rule", ["cost@0", "cost@-1", "cost@much", "cost@inf", "cost"])
def test_a_cost_that_is_no_number_above_0_is_refused(rule: str) -> None:
    with pytest.raises(RecipeError):
        operating_points(sample(50, 0), sample(50, 1), [rule])
