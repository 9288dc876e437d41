"""Lesions: smoothed, cut at the threshold, measured in microns, named by their longest diameter."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_maps import MPP, blob, made_map
from scipy.special import expit, logit

from sentinode.errors import SlideError
from sentinode.slides.results.lesions import ITC, MACRO, MICRO, NEGATIVE, find_lesions, named, smooth

STEP_UM = 32 * MPP
maps = arrays(np.float32, (9, 11), elements=st.floats(0, 1, width=32) | st.just(float("nan")))


def test_a_square_is_measured_in_microns():
    (lesion,) = find_lesions(made_map(blob(40, 40, (10, 20, 16, 26))), sigma_um=0)
    assert lesion.windows == 36
    assert lesion.area_mm2 == pytest.approx(36 * STEP_UM**2 / 1e6)
    assert lesion.diameter_um == pytest.approx(6 * np.sqrt(2) * STEP_UM)
    assert lesion.centroid == pytest.approx((23 * 32, 13 * 32))
    assert lesion.max_probability == lesion.mean_probability == pytest.approx(0.95)


def test_microns_come_from_the_slides_own_resolution():
    coarse, fine = (find_lesions(made_map(blob(20, 20, (5, 5, 9, 9)), mpp=mpp), sigma_um=0) for mpp in (0.5, 0.25))
    assert coarse.found[0].diameter_um == pytest.approx(2 * fine.found[0].diameter_um)
    assert coarse.found[0].area_mm2 == pytest.approx(4 * fine.found[0].area_mm2)


@pytest.mark.parametrize(
    ("diameter_um", "name"),
    [(1, ITC), (200, ITC), (200.1, MICRO), (2000, MICRO), (2000.1, MACRO), (9000, MACRO)],
)
def test_the_longest_diameter_names_the_lesion(diameter_um, name):
    assert named(diameter_um) == name


def test_the_largest_comes_first_and_names_the_slide():
    found = find_lesions(made_map(blob(120, 120, (5, 5, 9, 9), (20, 20, 90, 90), (100, 5, 112, 17))))
    assert [lesion.category for lesion in found] == [MACRO, MICRO, ITC]
    assert [lesion.number for lesion in found] == [1, 2, 3]
    assert found.category == MACRO
    assert [np.count_nonzero(found.labels == n) for n in (1, 2, 3)] == [lesion.windows for lesion in found]


def test_windows_that_touch_at_a_corner_are_one_lesion():
    assert len(find_lesions(made_map(blob(20, 20, (5, 5, 8, 8), (8, 8, 11, 11))), sigma_um=0)) == 1


def test_a_slide_without_tumour_is_negative_and_has_a_score():
    found = find_lesions(made_map(blob(20, 20)))
    assert found.category == NEGATIVE
    assert len(found) == 0
    assert found.score == pytest.approx(0.05, abs=1e-6)


def test_a_slide_without_tissue_is_negative_and_has_no_score():
    found = find_lesions(made_map(np.full((5, 5), np.nan)))
    assert found.category == NEGATIVE
    assert np.isnan(found.score)
    assert list(found.outlines()) == []


def test_one_hot_window_alone_is_smoothed_away():
    hot = made_map(blob(21, 21, (10, 10, 11, 11), high=0.99, low=0.01))
    assert len(find_lesions(hot, sigma_um=0)) == 1
    assert len(find_lesions(hot)) == 0


def test_what_is_not_tissue_does_not_dilute_its_neighbours():
    island = np.full((21, 21), np.nan)
    island[10, 10] = 0.9
    assert smooth(made_map(island))[10, 10] == pytest.approx(0.9)
    assert np.isnan(smooth(made_map(island))).sum() == 21 * 21 - 1


def test_a_straight_edge_stays_in_place_at_any_threshold():
    for threshold in (0.02, 0.5, 0.9):
        low, high = expit(logit(threshold) + np.array([-3, 3]))
        half = blob(30, 30, (0, 15, 30, 30), high=high, low=low)
        assert np.count_nonzero(find_lesions(made_map(half, threshold=threshold)).labels[15]) == 15


@given(maps, st.floats(-5, 1))
def test_the_correction_of_the_prior_changes_no_lesion(probability, shift):
    plain = made_map(np.clip(probability, 0.001, 0.999))
    moved = dataclasses.replace(
        plain,
        probability=expit(logit(plain.probability.astype(float)) + shift).astype(np.float32),
        threshold=float(expit(shift)),
    )
    before, after = smooth(plain).astype(float), smooth(moved).astype(float)
    np.testing.assert_allclose(logit(after), logit(before) + shift, atol=1e-3)


@given(maps)
def test_outlines_are_valid_and_as_large_as_their_lesions(probability):
    found = find_lesions(made_map(probability), sigma_um=0)
    outlines = list(found.outlines())
    assert [lesion for lesion, _ in outlines] == list(found)
    for lesion, outline in outlines:
        assert outline.is_valid
        assert outline.area * MPP**2 / 1e6 == pytest.approx(lesion.area_mm2)
        left, top, right, bottom = outline.bounds
        assert np.hypot(right - left, bottom - top) * MPP >= lesion.diameter_um * (1 - 1e-9)
    assert sum(lesion.windows for lesion in found) == np.count_nonzero(np.nan_to_num(probability) >= 0.5)


def test_an_outline_lies_where_the_windows_are():
    ((_, outline),) = find_lesions(made_map(blob(20, 20, (4, 6, 8, 12))), sigma_um=0).outlines()
    assert outline.bounds == (6 * 32, 4 * 32, 12 * 32, 8 * 32)


@pytest.mark.parametrize("sigma_um", [-1, float("nan"), float("inf")])
def test_a_smoothing_that_makes_no_sense_is_refused(sigma_um):
    with pytest.raises(SlideError, match="makes no sense"):
        find_lesions(made_map(blob(5, 5)), sigma_um=sigma_um)
