from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinode.evaluation import charts
from sentinode.scoring import measure, pr_curve, reliability, roc_curve

SVG = "{http://www.w3.org/2000/svg}"
LABELS = np.array([0, 0, 1, 1, 0, 1] * 20, np.uint8)
SAID = np.random.default_rng(0).random(120).astype(np.float32)


def words(svg: str) -> str:
    return " ".join("".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(f"{SVG}text"))


@pytest.mark.parametrize("labels", [LABELS, np.zeros(120, np.uint8), np.ones(120, np.uint8)])
def test_every_figure_can_be_drawn_also_of_one_class(labels: np.ndarray) -> None:
    scores, half = (measure(labels, SAID, at, resamples=5) for at in (0.4, 0.5))
    bins = reliability(labels, SAID)
    for svg in (
        charts.roc_figure(roc_curve(labels, SAID), scores, half),
        charts.pr_figure(pr_curve(labels, SAID), scores, half),
        charts.reliability_figure(bins, bins, scores, scores),
        charts.histogram_figure(labels, SAID, 0.4),
    ):
        assert "nan" not in svg.lower()
        assert ElementTree.fromstring(charts.standalone(svg)).find(f"{SVG}style") is not None


def test_one_class_is_said_where_the_curve_would_be() -> None:
    labels = np.zeros(120, np.uint8)
    scores = measure(labels, SAID, 0.5, resamples=0)
    assert "undefined: one class only" in words(charts.roc_figure(roc_curve(labels, SAID), scores, scores))


def test_a_curve_of_many_points_stays_a_small_drawing() -> None:
    rng = np.random.default_rng(1)
    labels, probabilities = rng.integers(0, 2, 50_000).astype(np.uint8), rng.random(50_000)
    scores = measure(labels, probabilities, 0.5, resamples=0)
    assert len(charts.roc_figure(roc_curve(labels, probabilities), scores, scores)) < 100_000


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e4), st.booleans())
def test_ticks_are_few_round_and_within_the_range(low: float, span: float, whole: bool) -> None:
    ticks = charts.ticks(low, low + span, whole)
    slack = 1e-6 * max(abs(low), span, 1)
    assert len(ticks) <= 7
    assert ((ticks >= low - slack) & (ticks <= low + span + slack)).all()
    if whole:
        assert np.allclose(ticks, np.round(ticks))


def test_no_tick_is_a_negative_zero() -> None:
    assert not np.signbit(charts.ticks(0, 1)).any()


def test_the_history_is_drawn_as_far_as_it_goes() -> None:
    history = [{"epoch": 1.0, "train_loss": 0.6, "valid_nll": 0.5, "valid_auc": 0.8}]
    assert len(charts.learning_figures(history)) == 2
    assert charts.learning_figures([{"epoch": 1.0, "valid_auc": 0.8}]) != []
    assert charts.learning_figures([]) == []
    assert charts.learning_figures([{"loss": 1.0}]) == []


def test_an_axis_may_name_its_ticks() -> None:
    chart = charts.Chart("AUC", "patches", "AUC", (2.0, 4.0), named=[(2.5, "316"), (3.0, "1,000 < all")])
    assert "316 1,000 < all" in words(chart.svg())
