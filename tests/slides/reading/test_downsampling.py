"""The factor of a level, found from sizes that were rounded: what a scanner meant, and not the ratio of its sizes."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinode.slides.reading.downsampling import Size, factors_of
from sentinode.slides.reading.pyramid import Level, levels_of

ROUNDINGS = [math.floor, math.ceil, round]


def chain(base: Size, step: float, rounded: Callable[[float], int], *, least: int = 100) -> list[Size]:
    """The sizes of a pyramid whose levels are each made of the one before."""
    sizes = [base]
    while min(sizes[-1]) / step >= least:
        width, height = sizes[-1]
        sizes.append((rounded(width / step), rounded(height / step)))
    return sizes


def levels(sizes: list[Size], *, tile: int = 256) -> tuple[Level, ...]:
    return levels_of(sizes, [(tile, tile)] * len(sizes))


def factors(sizes: list[Size], *, tile: int = 256) -> list[tuple[float, float]]:
    return [(level.downsample_x, level.downsample_y) for level in levels(sizes, tile=tile)]


@pytest.mark.parametrize("rounded", ROUNDINGS)
@pytest.mark.parametrize("step", [2, 3, 4, 10, 1.5, 2.5, 1.25])
@given(base=st.tuples(st.integers(3000, 120_000), st.integers(3000, 120_000)))
@settings(max_examples=10, deadline=None)
def test_the_step_of_a_pyramid_is_found_whatever_the_size_and_the_rounding(
    step: float, rounded: Callable[[float], int], base: Size
) -> None:
    sizes = chain(base, step, rounded)
    for i, (across, down) in enumerate(factors(sizes)):
        assert across == down == pytest.approx(step**i, rel=1e-12)


@given(base=st.tuples(st.integers(2000, 120_000), st.integers(2000, 120_000)), factor=st.floats(1.1, 40))
@settings(max_examples=100, deadline=None)
def test_no_place_of_a_level_is_ever_put_a_pixel_off(base: Size, factor: float) -> None:
    size = round(base[0] / factor), round(base[1] / factor)
    for long, short, found in zip(base, size, factors([base, size], tile=10**6)[1], strict=True):
        assert abs(long / found - long / factor) < 1.5
        assert abs(long / found - short) < 1


def test_a_slide_of_odd_size_has_the_factors_of_its_even_neighbour() -> None:
    even = factors([(16_000, 12_000), (8000, 6000), (4000, 3000), (2000, 1500)])
    assert factors([(16_001, 12_003), (8000, 6001), (4000, 3000), (2000, 1500)]) == even
    assert even == [(1, 1), (2, 2), (4, 4), (8, 8)]


def test_levels_may_skip_steps_as_aperios_do() -> None:
    assert factors([(46_000, 32_914), (11_500, 8228), (2875, 2057)]) == [(1, 1), (4, 4), (16, 16)]
    assert factors([(100_003, 80_001), (25_000, 20_000), (6250, 5000), (3125, 2500)])[-1] == (32, 32)


def test_a_narrow_slide_has_one_factor_for_both_sides() -> None:
    assert factors([(100_003, 1003), (50_001, 501), (25_000, 250), (3125, 31)]) == [(1, 1), (2, 2), (4, 4), (32, 32)]
    # No simple factor: the long side tells it more exactly than the short one, whose own ratio would be 3.949.
    (across, down) = factors([(100_003, 1003), (25_281, 254)])[1]
    assert across == down == 100_003 / 25_281


def test_levels_that_were_cut_or_filled_up_to_whole_tiles_are_known_for_what_they_are() -> None:
    assert factors([(8000, 6000), (3584, 2560), (1536, 1024)], tile=512) == [(1, 1), (2, 2), (4, 4)]
    assert factors([(8000, 6000), (4096, 3072), (2048, 1536)], tile=512) == [(1, 1), (2, 2), (4, 4)]
    assert factors([(8000, 6001), (3840, 3000)], tile=256) == [(1, 1), (2, 2)]


def test_a_factor_that_is_not_simple_stays_what_the_sizes_say() -> None:
    (across, down) = factors([(50_000, 40_000), (12_640, 10_112)])[1]
    assert across == down == pytest.approx(3.9557, abs=1e-4)


def test_sides_that_were_reduced_by_different_factors_keep_them() -> None:
    assert factors([(4000, 3000), (1000, 857)])[1] == (4, 3000 / 857)


def test_a_stated_factor_stands_where_the_sizes_say_something_else() -> None:
    sizes, tiles = [(1000, 800), (466, 373)], [(240, 240)] * 2
    assert factors(sizes)[1] == pytest.approx((2.145, 2.145), abs=1e-3)
    levels = levels_of(sizes, tiles, [(1.0, 1.0), (2.0, 2.0)])
    assert (levels[1].downsample_x, levels[1].downsample_y) == (2, 2)


def test_a_stated_factor_that_was_itself_taken_from_rounded_sizes_becomes_the_simple_one() -> None:
    stated = 46_001 / 11_500, 32_915 / 8228
    assert factors_of((46_001, 32_915), (11_500, 8228), (240, 240), stated=stated) == (4, 4)


def test_only_some_levels_need_to_state_a_factor() -> None:
    sizes = [(2001, 1501), (1000, 750), (500, 375)]
    found = levels_of(sizes, [(64, 64)] * 3, [None, None, (4.1, 4.2)])
    assert [(level.downsample_x, level.downsample_y) for level in found] == [(1, 1), (2, 2), (4.1, 4.2)]


def test_levels_are_compared_by_the_mean_of_both_factors() -> None:
    assert levels_of([(100, 100), (50, 40)], [(64, 64)] * 2, [None, (2.0, 2.5)])[1].downsample == 2.25
