"""Differences between settings that were trained with several seeds: both errors count, and neither is lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats import t as student

from sentinode.errors import DataError
from sentinode.scoring import Predictions
from sentinode.scoring.seeds import combined, compare_seeds

ERRORS = st.floats(1e-4, 1.0)


def made(shift: float, seed: int, patches: int = 200, ids: str = "p") -> Predictions:
    """Predictions whose classes lie ``shift`` apart."""
    labels = np.arange(patches) % 2
    score = np.random.default_rng(seed).normal(labels * shift)
    return Predictions(
        name=f"model {seed}",
        ids=np.array([f"{ids}{number}" for number in range(patches)]),
        labels=labels.astype(np.uint8),
        probabilities=norm.cdf(score - shift / 2),
        threshold=0.5,
    )


@given(ERRORS, st.integers(1, 20), st.floats(-1, 1))
def test_with_one_error_alone_it_is_students_or_the_normal_interval(error: float, freedom: int, value: float) -> None:
    low, high, _ = combined(value, error, freedom, 0.0)
    assert (high - low) / 2 == pytest.approx(student.ppf(0.975, freedom) * error)
    low, high, _ = combined(value, 0.0, 0, error)
    assert (high - low) / 2 == pytest.approx(norm.ppf(0.975) * error)


@given(ERRORS, ERRORS, st.floats(-3, 3))
def test_the_interval_is_wider_than_either_error_alone_and_agrees_with_p(
    seeds: float, patches: float, value: float
) -> None:
    low, high, p = combined(value, seeds, 2, patches)
    assert high - low >= 2 * max(student.ppf(0.975, 2) * seeds, norm.ppf(0.975) * patches) * (1 - 1e-9)
    assert (p < 0.05) == (low > 0 or high < 0) or p == pytest.approx(0.05, abs=1e-6)


def test_a_large_difference_is_found_and_none_is_not() -> None:
    far = compare_seeds([{s: made(4.0, s) for s in range(3)}, {s: made(1.0, s + 9) for s in range(3)}], resamples=200)
    same = compare_seeds([{s: made(1.5, s) for s in range(3)}, {s: made(1.5, s + 9) for s in range(3)}], resamples=200)
    assert far.of("auc")[0].better == 0
    assert far.of("nll")[0].better == 0  # lower is better
    assert same.of("auc")[0].better is None


def test_swapping_the_settings_mirrors_the_difference() -> None:
    one, other = {0: made(2.0, 1), 1: made(2.0, 2)}, {0: made(1.0, 3), 1: made(1.0, 4)}
    forth = compare_seeds([one, other], resamples=50).of("auc")[0]
    back = compare_seeds([other, one], resamples=50).of("auc")[0]
    assert (forth.value, forth.low, forth.high) == pytest.approx((-back.value, -back.high, -back.low))


def test_only_seeds_that_both_have_are_compared() -> None:
    found = compare_seeds([{0: made(2.0, 1), 1: made(2.0, 2)}, {1: made(1.0, 3), 2: made(1.0, 4)}], resamples=50)
    assert found.seeds == 1
    assert "variance of training is not seen" in " ".join(found.notes)
    assert not compare_seeds([{0: made(2.0, 1)}, {1: made(1.0, 3)}], resamples=50).differences


def test_the_error_over_seeds_counts() -> None:
    """The same mean difference with seeds that disagree has the wider interval."""
    steady = [{s: made(2.0, s) for s in range(3)}, {s: made(1.5, s) for s in range(3)}]
    unsteady = [{s: made(2.0, s) for s in range(3)}, {s: made(1.5 + (s - 1), s) for s in range(3)}]
    width = [compare_seeds(one, resamples=100).of("auc")[0] for one in (steady, unsteady)]
    assert width[1].high - width[1].low > 2 * (width[0].high - width[0].low)


def test_with_fewer_than_five_slides_no_difference_is_called_real() -> None:
    def of_slides(shift: float, seed: int, slides: int) -> Predictions:
        names = np.array([f"s{number % slides}" for number in range(200)])
        return replace(made(shift, seed), slides=np.repeat(names[:100], 2))

    for slides, is_real in ((3, False), (8, True)):
        sets = [{s: of_slides(shift, s, slides) for s in range(3)} for shift in (4.0, 0.5)]
        found = compare_seeds(sets, resamples=50)
        assert (found.of("auc")[0].better == 0) is is_real
        assert found.of("auc")[0].value > 0
        assert ("no difference can be called real" in " ".join(found.notes)) is not is_real


def test_other_patches_and_a_missing_threshold_are_refused() -> None:
    with pytest.raises(DataError, match="not of the same patches"):
        compare_seeds([{0: made(2.0, 1)}, {0: made(2.0, 1, ids="q")}])

    bare = replace(made(2.0, 1), threshold=None)
    with pytest.raises(DataError, match="has no threshold"):
        compare_seeds([{0: bare}, {0: made(1.0, 2)}])
