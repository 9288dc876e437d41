"""A power law of learning: it is found where it is there, and a forecast is made only where one is earned."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinode.scoring.power_law import AHEAD, fit_power_law, forecast

SIZES = [250, 500, 1000, 2000, 4000]


def law(floor: float, scale: float, exponent: float, sizes: list[int]) -> list[float]:
    return [floor + scale * (size / 1000) ** -exponent for size in sizes]


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 0.1), st.floats(0.02, 0.3), st.floats(0.2, 1.2))
def test_a_law_that_is_there_is_found_and_forecast(floor: float, scale: float, exponent: float) -> None:
    errors = law(floor, scale, exponent, SIZES)
    found = fit_power_law(SIZES, errors)
    for size, error in zip(SIZES, errors, strict=True):
        assert found.error(size) == pytest.approx(error, rel=1e-3)
    told = forecast(SIZES, errors)
    assert told.predicted == pytest.approx(errors[-1], rel=0.01)
    assert not told.why
    true = law(floor, scale, exponent, [one.size for one in told.ahead])
    assert [one.error for one in told.ahead] == pytest.approx(true, rel=0.02)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.001, 0.5), min_size=4, max_size=7), st.integers(1, 50))
def test_a_forecast_never_leaves_the_range_of_errors_nor_goes_beyond_four_times_the_data(
    errors: list[float], unit: int
) -> None:
    sizes = [unit * 2**place for place in range(len(errors))]
    told = forecast(sizes, errors)
    assert (told.why == "") == (told.law is not None) == bool(told.ahead)
    for one in told.ahead:
        assert sizes[-1] < one.size <= 4 * sizes[-1]
        assert 0 <= one.low <= one.error <= one.high <= 1
    assert max(AHEAD) == 4


def test_the_unit_of_size_does_not_matter() -> None:
    errors = [0.31, 0.2, 0.14, 0.11, 0.09]
    one, other = forecast(SIZES, errors), forecast([10 * size for size in SIZES], errors)
    assert [ahead.error for ahead in one.ahead] == pytest.approx([ahead.error for ahead in other.ahead])


@pytest.mark.parametrize(
    ("errors", "why"),
    [
        ([0.3, 0.2, 0.1], "needs 4 sizes"),
        ([0.3, 0.2, 0.1, 0.0], "no error left"),
        ([0.3, 0.2, 0.1, 0.1], "not better than the one before"),
        ([0.3, 0.2, 0.1, 0.12], "not better than the one before"),
        ([0.3, 0.299, 0.298, 0.1], "missed the largest by 0.19"),
    ],
)
def test_no_forecast_is_made_where_none_is_earned(errors: list[float], why: str) -> None:
    told = forecast([2**place for place in range(len(errors))], errors)
    assert why in told.why
    assert told.law is None and not told.ahead
