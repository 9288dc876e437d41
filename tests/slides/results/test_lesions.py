"""Lesions: regions grown on smoothed log-odds, judged by the operating point, measured, named by their diameter."""

import dataclasses
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_maps import MPP, blob, made_map, made_point
from scipy import ndimage
from scipy.special import expit, logit

from sentinode.errors import SlideError
from sentinode.slides.results.lesions import (
    ITC,
    MACRO,
    MICRO,
    NEGATIVE,
    find_lesions,
    named,
    smoothed_log_odds,
)

STEP_UM = 32 * MPP
maps = arrays(np.float32, (9, 11), elements=st.floats(0, 1, width=32) | st.just(float("nan")))


CUT = made_point()


def test_a_square_is_measured_in_microns():
    (lesion,) = find_lesions(made_map(blob(40, 40, (10, 20, 16, 26))), point=CUT)
    assert lesion.windows == 36
    assert lesion.area_mm2 == pytest.approx(36 * STEP_UM**2 / 1e6)
    assert lesion.diameter_um == pytest.approx(6 * np.sqrt(2) * STEP_UM)
    assert lesion.centroid == pytest.approx((23 * 32, 13 * 32))
    assert lesion.max_probability == lesion.mean_probability == pytest.approx(0.95)


def test_microns_come_from_the_slides_own_resolution():
    coarse, fine = (find_lesions(made_map(blob(20, 20, (5, 5, 9, 9)), mpp=mpp), point=CUT) for mpp in (0.5, 0.25))
    assert coarse.found[0].diameter_um == pytest.approx(2 * fine.found[0].diameter_um)
    assert coarse.found[0].area_mm2 == pytest.approx(4 * fine.found[0].area_mm2)


@pytest.mark.parametrize(
    ("diameter_um", "name"),
    [(1, ITC), (200, ITC), (200.1, MICRO), (2000, MICRO), (2000.1, MACRO), (9000, MACRO)],
)
def test_the_longest_diameter_names_the_lesion(diameter_um, name):
    assert named(diameter_um) == name


def test_the_most_certain_comes_first_and_the_largest_names_the_slide():
    probability = blob(120, 120, (5, 5, 9, 9), high=0.99)
    probability[20:90, 20:90], probability[100:112, 5:17] = 0.8, 0.9
    found = find_lesions(made_map(probability), point=CUT)
    assert [lesion.category for lesion in found] == [ITC, MICRO, MACRO]
    assert [lesion.number for lesion in found] == [1, 2, 3]
    assert [lesion.score for lesion in found] == pytest.approx([0.99, 0.9, 0.8], abs=1e-3)
    assert found.largest.category == found.category == MACRO
    assert [np.count_nonzero(found.labels == n) for n in (1, 2, 3)] == [lesion.windows for lesion in found]


def test_of_equal_scores_the_larger_comes_first():
    found = find_lesions(made_map(blob(60, 60, (5, 5, 9, 9), (20, 20, 50, 50))), point=CUT)
    assert [lesion.windows for lesion in found] == [900, 16]


def test_windows_that_touch_at_a_corner_are_one_lesion():
    assert len(find_lesions(made_map(blob(20, 20, (5, 5, 8, 8), (8, 8, 11, 11))), point=CUT)) == 1


def test_a_region_is_grown_where_it_is_likely_and_reported_where_it_is_certain():
    """Hysteresis: the outline of a certain region is that of the likely one around it."""
    probability = blob(40, 40, (10, 10, 20, 20), (25, 25, 35, 35), high=0.7)
    probability[14, 14] = 0.99
    both = made_point(grow=0.6, reach=0.9)
    (lesion,) = find_lesions(made_map(probability), point=both)
    assert lesion.windows == 100
    assert lesion.max_probability == pytest.approx(0.99)


def test_a_region_that_comes_near_is_uncertain_and_no_lesion():
    probability = blob(40, 40, (3, 3, 9, 9), high=0.99)
    probability[20:26, 20:26], probability[30:36, 30:36] = 0.87, 0.85
    found = find_lesions(made_map(probability), point=made_point(reach=0.9))  # uncertain from odds of 9 / 1.5
    assert [lesion.number for lesion in found] == [1]
    assert [(region.number, round(region.score, 2)) for region in found.uncertain] == [(2, 0.87)]
    assert set(np.unique(found.labels)) == {0, 1}
    assert set(np.unique(found.regions)) == {0, 1, 2}
    ((region, outline),) = found.uncertain_outlines()
    assert region.number == 2 and outline.bounds == (640, 640, 832, 832)
    assert [lesion.number for lesion, _ in found.outlines()] == [1]


def test_uncertain_regions_alone_leave_a_slide_negative():
    found = find_lesions(made_map(blob(40, 40, (3, 3, 9, 9), high=0.88)), point=made_point(reach=0.9))
    assert found.category == NEGATIVE and found.largest is None and len(found) == 0
    assert len(found.uncertain) == 1


def test_evidence_is_a_weighted_sum_of_the_scales_and_the_area():
    probability = blob(60, 60, (20, 20, 40, 40), high=0.9)
    rule = made_point(scales_um=(0.0, 62.0), weights=(0.5, 0.25, 0.1), intercept=-1.0, reach=0.1)
    (lesion,) = find_lesions(made_map(probability), point=rule)
    area = np.log2(lesion.area_mm2 / 0.01)
    smoothed = smoothed_log_odds(made_map(probability), [62.0 / STEP_UM])[0].max()
    assert logit(lesion.score) == pytest.approx(0.5 * logit(0.9) + 0.25 * smoothed + 0.1 * area - 1, abs=1e-3)


def test_regions_that_are_too_small_are_left_out():
    window = STEP_UM**2 / 1e6
    probability = blob(40, 40, (3, 3, 5, 5), (20, 20, 23, 23))
    for smallest, windows in ((0.0, [9, 4]), (4 * window, [9, 4]), (4.5 * window, [9]), (1.0, [])):
        found = find_lesions(made_map(probability), point=made_point(smallest_mm2=smallest))
        assert [lesion.windows for lesion in found] == windows
        assert found.uncertain == ()


def test_a_slides_score_is_a_logistic_function_of_its_best_region():
    rule = made_point(slide_slope=2.0, slide_intercept=-1.0)
    found = find_lesions(made_map(blob(30, 30, (5, 5, 9, 9), high=0.9)), point=rule)
    assert logit(found.score) == pytest.approx(2 * logit(0.9) - 1, abs=1e-4)


def test_slides_without_a_region_still_have_an_order():
    slides = [made_map(blob(20, 20, (5, 5, 9, 9), high=high)) for high in (0.06, 0.2, 0.4, 0.7, 0.95)]
    scores = [find_lesions(slide).score for slide in slides]
    assert scores == sorted(scores) and len(set(scores)) == 5


def test_a_slide_without_tissue_is_negative_and_has_no_score():
    found = find_lesions(made_map(np.full((5, 5), np.nan)))
    assert found.category == NEGATIVE
    assert np.isnan(found.score)
    assert list(found.outlines()) == []


def test_the_general_point_lets_no_single_window_make_a_slide_positive():
    for windows, lesions in ((1, 0), (6, 1)):
        hot = made_map(blob(31, 31, (12, 12, 12 + windows, 12 + windows), high=0.9999, low=0.02))
        assert len(find_lesions(hot)) == lesions


def test_one_certain_window_counts_no_more_than_the_limit():
    hot, hotter = (made_map(blob(31, 31, (12, 12, 14, 14), high=high)) for high in (expit(6.01), 1.0))
    assert find_lesions(hot).score == find_lesions(hotter).score


def partly(probability, unassessable):
    """A map whose windows in ``unassessable`` have a probability and cannot be judged."""
    made = made_map(probability)

    class Partly(type(made)):
        assessable = property(lambda self: self.tissue & ~unassessable)

    return Partly(**{field.name: getattr(made, field.name) for field in dataclasses.fields(made)})


def test_what_cannot_be_assessed_is_never_part_of_a_lesion_and_lends_nothing_to_its_neighbours():
    blurred = np.zeros((30, 30), bool)
    blurred[:, :15] = True
    probability = blob(30, 30, (5, 5, 12, 15), (5, 20, 12, 28), high=0.999)
    found = find_lesions(partly(probability, blurred))
    assert [lesion.centroid[0] // 32 for lesion in found] == [24]
    assert not found.regions[blurred].any()
    probability[:, :15] = 0.5
    without = find_lesions(partly(probability, blurred))
    np.testing.assert_array_equal(without.regions, found.regions)
    assert without.score == found.score
    nothing = find_lesions(partly(probability, np.ones((30, 30), bool)))
    assert np.isnan(nothing.score)


def test_what_is_not_tissue_does_not_dilute_its_neighbours():
    island = np.full((21, 21), np.nan)
    island[10, 10] = 0.9
    (smoothed,) = smoothed_log_odds(made_map(island), [2.0])
    assert smoothed[10, 10] == pytest.approx(logit(0.9), abs=1e-5)
    assert np.isnan(smoothed).sum() == 21 * 21 - 1


def test_a_straight_edge_stays_in_place():
    half = blob(30, 30, (0, 15, 30, 30), high=expit(3), low=expit(-3))
    assert np.count_nonzero(find_lesions(made_map(half), point=made_point(scales_um=(62.0,))).labels[15]) == 15


@given(maps, st.floats(0.001, 0.95))
def test_the_prior_of_a_scan_changes_no_evidence(probability, prior):
    even = made_map(np.clip(probability, 0.001, 0.999))
    moved = dataclasses.replace(
        even, probability=expit(logit(even.probability.astype(float)) + logit(prior)).astype(np.float32), prior=prior
    )
    for sigma in (0.0, 1.0, 2.0):
        one, other = (smoothed_log_odds(made, [sigma])[0] for made in (even, moved))
        np.testing.assert_allclose(one, other, atol=5e-3)
    assert find_lesions(moved).score == pytest.approx(find_lesions(even).score, nan_ok=True, abs=5e-3)


@pytest.mark.parametrize("prior", [0.0001, 0.05, 0.3, 0.9])
def test_the_prior_of_a_scan_changes_no_lesion(prior):
    noise = expit(ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(80, 90)), 3) * 40)
    even = find_lesions(made_map(noise))
    moved = find_lesions(made_map(expit(logit(noise) + logit(prior)), prior=prior))
    assert len(even) > 3
    np.testing.assert_array_equal(moved.regions, even.regions)
    assert [lesion.score for lesion in moved] == pytest.approx([lesion.score for lesion in even], abs=1e-4)


@pytest.mark.parametrize("prior", [0, 1, -0.5, float("nan")])
def test_a_map_whose_prior_is_no_share_is_refused(prior):
    with pytest.raises(SlideError, match="states a prior of"):
        find_lesions(made_map(blob(5, 5), prior=prior))


@given(maps)
def test_outlines_are_valid_and_as_large_as_their_lesions(probability):
    found = find_lesions(made_map(probability), point=CUT)
    outlines = list(found.outlines())
    assert [lesion for lesion, _ in outlines] == list(found)
    for lesion, outline in outlines:
        assert outline.is_valid
        assert outline.area * MPP**2 / 1e6 == pytest.approx(lesion.area_mm2)
        left, top, right, bottom = outline.bounds
        assert np.hypot(right - left, bottom - top) * MPP >= lesion.diameter_um * (1 - 1e-9)
    assert sum(lesion.windows for lesion in found) == np.count_nonzero(np.nan_to_num(probability) >= 0.5)


def test_an_outline_lies_where_the_windows_are():
    ((_, outline),) = find_lesions(made_map(blob(20, 20, (4, 6, 8, 12))), point=CUT).outlines()
    assert outline.bounds == (6 * 32, 4 * 32, 12 * 32, 8 * 32)


def test_a_whole_slide_with_four_scales_takes_less_than_a_second():
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(768, 1792)), 1) * 6 - 3
    probability_map = made_map(expit(noise))
    rule = made_point(scales_um=(31.0, 62.0, 93.0, 124.0), weights=(0.3, 0.3, 0.3, 0.3, 0.1))
    began = time.process_time()
    find_lesions(probability_map, point=rule)
    assert time.process_time() - began < 1
