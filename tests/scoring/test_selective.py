import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from sentinode.scoring.selective import risk_coverage, selected


def sample(n: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    margins = 2 * rng.standard_normal(n)
    return rng.random(n) < expit(margins), expit(margins)


def test_the_area_is_the_mean_of_the_risks_of_all_prefixes() -> None:
    labels, probabilities = sample()
    order = np.argsort(-np.abs(probabilities - 0.5))
    wrong = ((probabilities >= 0.5) != labels)[order]
    risks = np.cumsum(wrong) / np.arange(1, 1001)
    found = risk_coverage(labels, probabilities, 0.5)
    np.testing.assert_allclose(found.risk, risks, atol=1e-12)
    assert found.aurc == pytest.approx(risks.mean())
    assert found.risk[-1] == pytest.approx(wrong.mean())


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_order_and_swapped_classes_do_not_matter(seed: int) -> None:
    labels, probabilities = sample(60, seed)
    probabilities = probabilities.round(1) * 0.98 + 0.0123
    found = risk_coverage(labels, probabilities, 0.5).aurc
    order = np.random.default_rng(seed).permutation(60)
    assert risk_coverage(labels[order], probabilities[order], 0.5).aurc == pytest.approx(found)
    assert risk_coverage(~labels, 1 - probabilities, 0.5).aurc == pytest.approx(found)


def test_errors_that_all_come_last_have_no_excess() -> None:
    assert risk_coverage([1, 1, 0, 1], [0.99, 0.98, 0.03, 0.45], 0.5).excess == pytest.approx(0)


def test_equally_sure_patches_have_the_expected_risk() -> None:
    found = risk_coverage([1, 0, 1, 0], [0.7] * 4, 0.5)
    np.testing.assert_allclose(found.risk, 0.5)
    assert found.excess > 0


def test_fewer_patches_are_judged_better_and_limits_may_come_from_others() -> None:
    labels, probabilities = sample(4000)
    accuracies = [one.accuracy.value for one in selected(labels, probabilities, 0.5)]
    assert accuracies == sorted(accuracies)
    [one] = selected(labels, probabilities, 0.5, others=sample(4000, 1)[1], coverages=[0.8])
    assert one.reached.value == pytest.approx(0.8, abs=0.03)


def test_constant_probabilities_and_one_class_have_figures() -> None:
    [one] = selected([1, 1], [0.5, 0.5], 0.5, coverages=[0.5])
    assert one.reached.value == 1
