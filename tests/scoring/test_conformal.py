import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin

from sentinode.errors import DataError
from sentinode.scoring.conformal import coverage, fit_conformal


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose input is its probability."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Given":
        self.classes_ = np.array([0, 1])
        self.n_features_in_ = 1
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return np.stack([1 - x[:, 0], x[:, 0]], axis=1)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return (x[:, 0] >= 0.5).astype(int)


def sample(n: int, seed: int, share: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < share
    return labels, expit(2 * rng.normal(np.where(labels, 1, -1), 1) + np.log(share / (1 - share)))


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_the_sets_are_those_of_mapie(level: float) -> None:
    labels, probabilities = sample(400, 0)
    new = sample(500, 1)[1]
    fitted = Given().fit(probabilities[:, None], labels.astype(int))
    reference = SplitConformalClassifier(fitted, confidence_level=level, conformity_score="lac", prefit=True)
    reference.conformalize(probabilities[:, None], labels.astype(int))
    _, sets = reference.predict_set(new[:, None])
    np.testing.assert_array_equal(fit_conformal(labels, probabilities, level).sets(new), sets[:, :, 0])


@pytest.mark.parametrize("by_class", [False, True])
def test_the_true_class_is_in_the_set_as_often_as_promised(by_class: bool) -> None:
    new = sample(20_000, 99, 0.2)
    found = []
    for seed in range(80):
        rule = fit_conformal(*sample(200, seed, 0.2), 0.9, by_class=by_class)
        one = coverage(rule, *new)
        found.append((one.covered.value, one.negative.value, one.positive.value))
    covered, negative, positive = np.mean(found, axis=0)
    assert covered == pytest.approx(0.9, abs=0.02)
    if by_class:
        assert min(negative, positive) > 0.89
    else:
        assert positive < 0.87  # only all together are promised


def test_swapped_classes_mirror() -> None:
    labels, probabilities = sample(300, 0)
    one, other = fit_conformal(labels, probabilities, 0.9), fit_conformal(~labels, 1 - probabilities, 0.9)
    np.testing.assert_array_equal(one.sets(probabilities), other.sets(1 - probabilities)[:, ::-1])


def test_too_few_patches_rule_nothing_out() -> None:
    rule = fit_conformal([0, 1], [0.1, 0.9], 0.95)
    assert rule.sets([0.0, 1.0]).all()


def test_constant_probabilities_and_one_class() -> None:
    rule = fit_conformal([0, 1] * 20, [0.5] * 40, 0.9)
    assert coverage(rule, [1, 1], [0.5, 0.5], np.array([0, 1])).covered.value == 1
    with pytest.raises(DataError, match="one class"):
        fit_conformal([1, 1], [0.5, 0.6], 0.9, by_class=True)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_level_out_of_range_is_refused(level: float) -> None:
    with pytest.raises(DataError, match="level"):
        fit_conformal([0, 1], [0.5, 0.6], level)
