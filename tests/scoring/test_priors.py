import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinode.errors import DataError
from sentinode.scoring.priors import at_prior, estimate_prior, with_prior


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0, 1))
def test_there_and_back_is_where_one_was(old: float, new: float, probability: float) -> None:
    assert with_prior(with_prior([probability], old, new), new, old)[0] == pytest.approx(probability, abs=1e-9)


def test_by_bayes_a_probability_of_a_half_becomes_the_new_share() -> None:
    assert with_prior([0.5], 0.5, 0.1)[0] == pytest.approx(0.1)


def two_classes(share: float, n: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities that are right where the share is one half."""
    rng = np.random.default_rng(0)
    labels = rng.random(n) < share
    return labels, 1 / (1 + np.exp(-2 * rng.normal(np.where(labels, 1, -1), 1)))


@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_the_share_is_found_without_labels(share: float) -> None:
    assert estimate_prior(two_classes(share)[1], 0.5) == pytest.approx(share, abs=0.02)


def test_weighed_to_another_prior_the_figures_are_those_of_such_patches() -> None:
    labels, probabilities = two_classes(0.5)
    found = at_prior(labels, probabilities, 0.5, 0.1)
    rare, at_rare = two_classes(0.1, 200_000)
    assert found is not None
    assert found.precision == pytest.approx(rare[at_rare >= 0.5].mean(), abs=0.02)
    assert found.negative_value == pytest.approx((~rare)[at_rare < 0.5].mean(), abs=0.01)
    assert found.ece > 0.05 > 0.01 > found.ece_corrected


def test_one_class_alone_has_no_other_prior() -> None:
    assert at_prior([1, 1], [0.2, 0.4], 0.5, 0.1) is None


@pytest.mark.parametrize("prior", [0.0, 1.0, -1.0, float("nan")])
def test_a_prior_out_of_range_is_refused(prior: float) -> None:
    with pytest.raises(DataError, match="share of the positive class"):
        with_prior([0.5], 0.5, prior)
