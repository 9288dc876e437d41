"""The choice of an operating point: by a target in the field's words, or refused with the nearest."""

import dataclasses
import json
import math

import numpy as np
import pytest
from made_maps import asap, made_map, made_point, square
from scipy.special import expit, logit
from stand_in import StandInBundle

from sentinode.errors import DataError, OutputError, SlideError
from sentinode.evaluation.annotated_slides import AnnotatedSlide
from sentinode.evaluation.operating import Trade, choose, figures, operate, require_new, target_of, trade_of
from sentinode.evaluation.operating_page import CURVE, PAGE, RECORD, write_operating
from sentinode.evaluation.region_rule import JudgedSlide
from sentinode.model.slide_operating_point import Target
from sentinode.slides.results.lesions import find_lesions
from sentinode.slides.scanning.probability_map import open_map, write_map


def judged(name, evidence, touches=(), lesion_um=()):
    """A slide whose regions have these log-odds; ``touches`` names for each lesion the region that touches it."""
    matrix = np.zeros((len(evidence), len(lesion_um)), bool)
    for lesion, region in enumerate(touches):
        if region is not None:
            matrix[region, lesion] = True
    slide = AnnotatedSlide(
        name,
        np.zeros((len(evidence), 2)),
        np.array([300.0] * len(evidence)),
        matrix,
        np.array(lesion_um, float),
        np.zeros(2),
    )
    return JudgedSlide(slide, np.array(evidence, float), max(evidence, default=-5.0))


SLIDES = [
    judged("ill", [4.0, 1.0, 0.0], [0, 1], [2500.0, 150.0]),
    judged("worse", [3.0, 0.5], [0, None], [700.0, 300.0]),
    judged("well", [2.0, -1.0]),
    judged("fine", []),
]


def test_the_trade_by_hand():
    trade = trade_of(SLIDES)
    at = {round(cut, 6): i for i, cut in enumerate(trade.cut)}
    assert sorted(at) == pytest.approx([-1.1, 0.0, 1.5, 2.5, 3.5, 4.1])
    np.testing.assert_allclose(trade.false_lesions, [1, 0.5, 0.5, 0, 0, 0])
    np.testing.assert_allclose(trade.clean_negatives, [0.5, 0.5, 0.5, 1, 1, 1])
    np.testing.assert_allclose(trade.sensitivity, [0.75, 0.75, 0.5, 0.5, 0.25, 0])


@pytest.mark.parametrize(
    ("target", "cut"),
    [
        ({"false_lesions": 1}, 0.0),
        ({"false_lesions": 0.5}, 0.0),
        ({"false_lesions": 0}, 2.5),
        ({"clean_negatives": 1}, 2.5),
        ({"false_lesions": 10, "clean_negatives": 0.9}, 2.5),
        ({"sensitivity": 0.75}, 0.0),
        ({"sensitivity": 0.2}, 3.5),
        ({"false_lesions": 0.5, "sensitivity": 0.7}, 0.0),
    ],
)
def test_the_target_names_the_cut(target, cut):
    trade = trade_of(SLIDES)
    assert trade.cut[choose(trade, Target(**target))] == pytest.approx(cut)


def test_the_sensitive_point_spends_what_it_is_allowed():
    trade = trade_of(SLIDES)
    assert trade.cut[choose(trade, Target(false_lesions=1), spend=True)] == pytest.approx(-1.1)


def test_a_target_that_no_setting_reaches_is_refused_with_the_nearest():
    with pytest.raises(DataError, match=r"no setting reaches the target.*0\.5 false lesions.*75% of the lesions found"):
        choose(trade_of(SLIDES), Target(sensitivity=0.95))
    with pytest.raises(DataError, match=r"The nearest: 0 false lesions.*50% of the lesions"):
        choose(trade_of(SLIDES), Target(false_lesions=0, sensitivity=0.6))


def test_maps_in_which_no_region_touches_a_lesion_are_refused():
    missed = [judged("ill", [4.0], [None], [300.0]), judged("well", [2.0])]
    with pytest.raises(DataError, match="no region of the maps touches an annotated lesion"):
        choose(trade_of(missed), Target(false_lesions=1))


def test_slides_without_any_region_have_a_trade():
    trade = trade_of([judged("ill", [], [None], [300.0]), judged("well", [])])
    assert isinstance(trade, Trade) and trade.sensitivity.tolist() == [0]


def test_the_figures_by_hand():
    found = figures(SLIDES, 1.5)
    assert {key: value.value for key, value in found.items()} == {
        "false_lesions": 0.5,
        "clean_negatives": 0.5,
        "uncertain_negatives": 0.0,
        "sensitivity": 0.5,
        "sensitivity_to_0.2_mm": 0.0,
        "sensitivity_to_0.6_mm": 0.0,
        "sensitivity_to_2_mm": 1.0,
        "sensitivity_above_2_mm": 1.0,
        "slide_auc": 1.0,
        "category_accuracy": 0.5,  # the diameter of each region here is 0.3 mm
    }
    assert found["sensitivity"].n == 4
    assert found["sensitivity_to_0.2_mm"].low is None  # it would rest on one slide


def test_no_false_lesion_at_all_still_has_an_upper_limit():
    rate = figures(SLIDES, 2.5)["false_lesions"]
    assert (rate.value, rate.low) == (0, 0) and rate.high == pytest.approx(-math.log(0.025) / 2)


def test_a_class_of_size_without_a_lesion_has_no_figure():
    found = figures([judged("ill", [4.0], [0], [300.0]), judged("well", [])], 0.0)
    assert found["sensitivity_above_2_mm"].value is None and found["sensitivity_above_2_mm"].n == 0


@pytest.fixture
def lab(tmp_path):
    """Twenty slides: ten with a lesion of 6 to 20 windows, all with noise that looks a little like one."""
    rng = np.random.default_rng(0)
    maps, truth = tmp_path / "maps", tmp_path / "truth"
    truth.mkdir()
    for number in range(20):
        name, ill = f"{number:02d}", number < 10
        probability = expit(rng.normal(-3, 0.5, (80, 80)))
        for row, column in rng.integers(5, 30, (4, 2)):
            probability[row : row + 2, column : column + 3] = expit(rng.normal(2.0, 0.5))
        side = int(rng.integers(6, 20))
        if ill:
            probability[50 : 50 + side, 50 : 50 + side] = expit(rng.normal(4, 0.5))
        prior = 0.05 if number % 2 else 0.5
        write_map(maps / name, made_map(expit(logit(probability) + logit(prior)), prior=prior))
        asap(truth / f"{name}.xml", *([square(1600, 1600, 32 * side)] if ill else []))
    return maps, truth


def a_bundle(**points):
    bundle = StandInBundle(fingerprint="b" * 64)
    bundle.card = bundle.card.model_copy(update={"slide_operating_points": points})
    return bundle


def test_three_points_are_chosen_in_order_and_say_what_they_were_chosen_on(lab):
    result = operate(*lab, a_bundle(), target=Target(false_lesions=0.5), grow=0.8, description="our lab", show=False)
    points = result.points.points
    assert points["sensitive"].reach <= points["balanced"].reach <= points["specific"].reach
    assert [point.target.false_lesions for point in points.values()] == [2.0, 0.5, 0.1]
    assert points["balanced"].reached["false_lesions"].value <= 0.5
    assert points["balanced"].reached["sensitivity"].value == 1
    on = result.points.point.chosen_on
    assert (on.description, on.slides, on.positive, on.negative, on.lesions) == ("our lab", 20, 10, 10, 10)
    assert on.window_um == pytest.approx(31.104) and len(on.fingerprint) == 64
    assert any("10 slides with tumour and 10 without" in warning for warning in result.warnings)


def read_densely(folder):
    """Make a map one that was read densely."""
    probability_map = open_map(folder)
    write_map(folder, dataclasses.replace(probability_map, engine=f"{probability_map.engine} dense"))


def test_a_point_keeps_how_the_maps_were_read(lab):
    assert operate(*lab, a_bundle(), show=False).points.point.chosen_on.reading == "patch"
    for folder in lab[0].iterdir():
        read_densely(folder)
    assert {point.chosen_on.reading for point in operate(*lab, a_bundle(), show=False).points.points.values()} == {
        "dense"
    }


def test_maps_of_both_readings_are_refused(lab):
    read_densely(lab[0] / "07")
    with pytest.raises(
        SlideError, match=r"read patch by patch, such as \d\d, and some densely, such as 07(.|\n)*one --rea"
    ):
        operate(*lab, a_bundle(), show=False)


def test_the_rule_is_fitted_only_where_there_are_enough_regions_of_both_kinds(lab):
    start = made_point(scales_um=(31.0,), grow=0.6)
    many = operate(*lab, a_bundle(balanced=start), show=False)
    assert min(many.regions) < 15 and not many.refitted
    assert many.points.point.weights == start.weights
    kept = operate(*lab, a_bundle(balanced=start), refit=False, show=False)
    assert kept.points == many.points


def test_with_enough_regions_the_rule_is_fitted_and_figures_are_cross_fitted(lab, monkeypatch):
    monkeypatch.setattr("sentinode.evaluation.operating.ENOUGH", 5)
    start = made_point(scales_um=(31.0,), grow=0.6)
    fitted = operate(*lab, a_bundle(balanced=start), show=False)
    assert fitted.refitted and fitted.points.point.weights != start.weights
    assert fitted.points.point.scales_um == start.scales_um


def test_the_point_finds_on_the_maps_what_its_figures_say(lab):
    """Without a fit, the figures are those of the very lesions that a scan reports."""
    result = operate(*lab, a_bundle(), refit=False, show=False)
    point = result.points.point
    counts = [len(find_lesions(open_map(lab[0] / f"{number:02d}"), point=point)) for number in range(10, 20)]
    assert np.mean(counts) == pytest.approx(point.reached["false_lesions"].value)


def test_the_choice_repeats_byte_for_byte(lab, tmp_path):
    for name in ("one", "two"):
        write_operating(tmp_path / name, operate(*lab, a_bundle(), show=False), name="a & b")
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert files.keys() == {PAGE, RECORD, CURVE}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    page = files[PAGE].decode()
    assert "a &amp; b" in page and "<svg" in page and "http://www.w3.org" in page and "<script" not in page
    record = json.loads(files[RECORD])
    assert len(record["per_slide"]) == 20 and record["points"]["default"] == "balanced"


def test_truth_without_a_positive_or_without_a_negative_slide_is_refused_and_says_which_target(lab):
    maps, truth = lab
    faults = ((range(10), "no sensitivity can be measured"), (range(10, 20), "neither false lesions on a negative"))
    for numbers, fault in faults:
        saved = {}
        for number in numbers:
            file = truth / f"{number:02d}.xml"
            saved[file] = file.read_text()
            asap(file, *([] if number < 10 else [square(300, 300, 200)]))
        with pytest.raises(DataError, match=fault):
            operate(maps, truth, a_bundle(), show=False)
        for file, text in saved.items():
            file.write_text(text)


def test_a_target_out_of_range_is_refused_and_none_is_the_usual_one():
    assert target_of(None, None, None).false_lesions == 0.25
    for wrong in ((-1, None, None), (None, 1.5, None), (None, None, 90.0), (float("nan"), None, None)):
        with pytest.raises(DataError, match="makes no sense"):
            target_of(*wrong)


def test_places_that_are_taken_are_refused_before_the_work(tmp_path):
    with pytest.raises(OutputError, match="is not overwritten"):
        require_new(tmp_path / "new", tmp_path)
    require_new(tmp_path / "new", tmp_path / "report")
