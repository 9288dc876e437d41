"""The operating point of a slide: bounded, closed, and never changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sentinode.model.slide_operating_point import (
    CERTAIN,
    GENERAL,
    POINT_NAMES,
    ChosenOn,
    Reached,
    SlideOperatingPoint,
    SlideOperatingPoints,
    Target,
)

POINT = GENERAL.point


def with_(**values):
    return SlideOperatingPoint.model_validate(POINT.model_dump() | values)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scales_um": ()},
        {"scales_um": (62.0, 31.0), "weights": (1, 1, 0)},
        {"scales_um": (31.0, 31.0), "weights": (1, 1, 0)},
        {"scales_um": (1, 2, 3, 4, 5), "weights": (1, 1, 1, 1, 1, 0)},
        {"scales_um": (-1.0,)},
        {"scales_um": (float("nan"),)},
        {"weights": (1.0,)},
        {"weights": (1.0, float("inf"))},
        {"grow": 0.0},
        {"grow": 1.0},
        {"reach": 1.5},
        {"reach": float("nan")},
        {"smallest_mm2": -1},
        {"slide_slope": 0},
        {"slide_slope": -1},
        {"unknown": 1},
        {"chosen_on": {"description": "x"}},
        {"reached": {"sensitivity": {"value": float("nan")}}},
        {"target": {}},
        {"target": {"sensitivity": 2}},
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        with_(**wrong)


def test_a_point_cannot_be_changed():
    with pytest.raises(ValidationError):
        POINT.reach = 0.1


def test_a_point_survives_json():
    full = with_(
        scales_um=(31.0, 62.0),
        weights=(0.1, 1 / 3, -0.2),
        target={"false_lesions": 0.25},
        reached={"sensitivity": Reached(value=0.5, n=3).model_dump()},
    )
    points = SlideOperatingPoints(points={"specific": full}, default="specific")
    assert SlideOperatingPoints.model_validate_json(points.model_dump_json()) == points
    assert points.point == full


def test_the_default_is_one_of_the_points():
    with pytest.raises(ValidationError, match="none of the points"):
        SlideOperatingPoints(points={"specific": POINT})


@given(st.floats(1e-6, 1 - 1e-6))
def test_what_is_uncertain_lies_below_what_is_reported_and_what_is_certain_above(reach):
    point = with_(reach=reach)
    assert 0 < point.doubtful < reach <= point.certain
    assert point.certain >= CERTAIN


def test_the_general_points_go_from_many_lesions_to_few():
    assert list(GENERAL.points) == list(POINT_NAMES)
    reaches = [point.reach for point in GENERAL.points.values()]
    assert reaches == sorted(reaches)
    assert GENERAL.point.reach == pytest.approx(0.5)


def test_a_point_holds_for_the_reading_of_the_maps_that_it_was_chosen_on():
    by_patch = ChosenOn(description="our lab", slides=20, positive=8, negative=12, lesions=17)
    densely = by_patch.model_copy(update={"reading": "dense"})
    assert by_patch.reading == "patch"  # as points of earlier versions, which do not say it
    assert by_patch.fits("patch") and not by_patch.fits("dense")
    assert densely.fits("dense") and not densely.fits("patch")
    assert GENERAL.point.chosen_on.fits("dense")  # it was chosen on no maps


def test_a_reading_that_does_not_exist_is_refused():
    with pytest.raises(ValidationError):
        ChosenOn(description="our lab", slides=1, positive=1, negative=0, lesions=1, reading="auto")


def test_targets_and_slides_are_said_in_words():
    target = Target(false_lesions=0.25, clean_negatives=0.9, sensitivity=0.5)
    assert str(target) == (
        "at most 0.25 false lesions on a negative slide, at least 90% of the negative slides without a lesion, "
        "at least 50% of the lesions found"
    )
    on = ChosenOn(description="our lab", slides=20, positive=8, negative=12, lesions=17)
    assert str(on) == "our lab (20 slides, 12 without tumour, and 17 lesions)"
    assert str(Reached(value=0.5, low=0.25, high=0.75, n=4)) == "0.50 (0.25 to 0.75)"
    assert str(Reached()) == "undefined" and str(Reached(value=0.5)) == "0.50 (no interval)"
