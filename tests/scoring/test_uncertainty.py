"""How sure figures are where slides are known, are few, or are not known."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
from scipy.special import expit

from sentinode.errors import DataError
from sentinode.scoring import METRICS, measure

UNBIASED = tuple(name for name in METRICS if name != "ece")
"""All but the ECE, whose value is too high by chance on so few patches."""


def of_slides(slides: int, seed: int, size: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and slides; each slide leans to one side by itself."""
    rng = np.random.default_rng(seed)
    slide = np.repeat(np.arange(slides), size)
    label = (rng.random(len(slide)) < 0.5).astype(int)
    margin = 1.4 * (2 * label - 1) + rng.normal(0, 1, slides)[slide] + rng.normal(0, 1, len(slide))
    return label, expit(margin.round(1)), slide


def test_with_ten_slides_95_percent_intervals_hold_the_truth_in_more_than_90_percent() -> None:
    """The percentiles of a bootstrap of these slides do so in 75 to 90 %: see benchmarks/interval_coverage.py."""
    truth = measure(*of_slides(5000, 99)[:2], 0.5, resamples=0)
    held = dict.fromkeys(UNBIASED, 0)
    for seed in range(200):
        labels, probabilities, slide = of_slides(10, seed)
        scores = measure(labels, probabilities, 0.5, groups=slide, resamples=1)
        for name in UNBIASED:
            interval = getattr(scores, name)
            held[name] += interval.low <= getattr(truth, name).value <= interval.high
    assert min(held.values()) >= 0.9 * 200, held


@pytest.mark.parametrize("name", METRICS)
def test_by_slide_every_interval_holds_its_value_and_stays_within_its_range(name: str) -> None:
    for slides in (2, 3, 12):
        labels, probabilities, slide = of_slides(slides, slides)
        figure = getattr(measure(labels, probabilities, 0.5, groups=slide), name)
        assert 0 <= figure.low <= figure.value <= figure.high <= (17 if name == "nll" else 1)


def test_other_names_for_the_slides_and_another_order_give_the_same_intervals() -> None:
    labels, probabilities, slide = of_slides(8, 0)
    order = np.random.default_rng(1).permutation(len(labels))
    names = np.array([f"slide {7 - number}" for number in range(8)])
    first = measure(labels, probabilities, 0.5, groups=slide)
    again = measure(labels[order], probabilities[order], 0.5, groups=names[slide[order]], seed=5)
    for name in METRICS:
        one, other = getattr(first, name), getattr(again, name)
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


def test_with_many_slides_the_interval_is_nearly_the_percentiles_of_a_bootstrap_of_slides() -> None:
    labels, probabilities, slide = of_slides(300, 0)
    rng = np.random.default_rng(0)
    resampled = []
    for _ in range(400):
        weight = np.bincount(rng.integers(300, size=300), minlength=300)[slide]
        resampled.append(np.average((probabilities >= 0.5) == labels, weights=weight))
    low, high = np.percentile(resampled, [2.5, 97.5])
    accuracy = measure(labels, probabilities, 0.5, groups=slide).accuracy
    assert (accuracy.low, accuracy.high) == pytest.approx((low, high), abs=0.15 * (high - low))


def test_the_method_is_named() -> None:
    labels, probabilities, slide = of_slides(12, 0)
    by_slide = measure(labels, probabilities, 0.5, groups=slide)
    assert by_slide.interval == "95 % by slide: jackknife over 12 slides, Student's t"
    assert (by_slide.resampled, by_slide.slides, by_slide.without_slide) == ("slide", 12, 0)
    by_patch = measure(labels, probabilities, 0.5, resamples=200)
    assert by_patch.interval == "95 % by patch: percentiles of 200 bootstrap resamples"
    assert (by_patch.resampled, by_patch.slides) == ("patch", None)
    assert measure(labels, probabilities, 0.5, resamples=0).interval == "none"


class TestFewSlides:
    def test_twelve_slides_are_few_and_fifty_are_not(self) -> None:
        labels, probabilities, slide = of_slides(12, 0)
        (note,) = measure(labels, probabilities, 0.5, groups=slide).notes
        assert note.startswith("Only 12 slides: the intervals by slide are rough")
        labels, probabilities, slide = of_slides(50, 0)
        assert measure(labels, probabilities, 0.5, groups=slide).notes == ()

    def test_so_are_fifty_of_which_three_have_tumour(self) -> None:
        labels, probabilities, slide = of_slides(50, 0)
        labels[slide >= 3] = 0
        (note,) = measure(labels, probabilities, 0.5, groups=slide).notes
        assert note.startswith("Only 3 of 50 slides have tumour patches")

    def test_so_are_fifty_of_which_one_has_nearly_all_patches(self) -> None:
        labels, probabilities, slide = of_slides(50, 0, size=60)
        slide = np.where(np.arange(len(slide)) % 60 < 20, slide, 0)
        (note,) = measure(labels, probabilities, 0.5, groups=slide).notes
        assert note.startswith("A few of the 50 slides have most patches and count like 2 of equal size")

    def test_a_class_on_one_slide_has_no_interval_and_says_why(self) -> None:
        labels, probabilities, slide = of_slides(10, 0)
        labels[slide > 0] = 0
        scores = measure(labels, probabilities, 0.5, groups=slide)
        for name in ("auc", "recall", "average_precision"):
            figure = getattr(scores, name)
            assert math.isfinite(figure.value)
            assert math.isnan(figure.low)
            assert "it depends on one slide" in scores.no_interval[name]
        assert set(scores.no_interval) == {"auc", "recall", "average_precision"}
        assert math.isfinite(scores.specificity.low)

    def test_a_class_on_two_slides_has_a_wide_one(self) -> None:
        labels, probabilities, slide = of_slides(10, 3)
        labels[slide > 1] = 0
        recall = measure(labels, probabilities, 0.5, groups=slide).recall
        assert recall.high - recall.low > 0.5

    def test_what_is_never_wrong_is_not_sure_to_be_so(self) -> None:
        labels, _, slide = of_slides(10, 0)
        perfect = measure(labels, np.where(labels == 1, 0.9, 0.1), 0.5, groups=slide)
        for name in ("auc", "accuracy", "recall", "specificity", "precision", "f1", "average_precision"):
            figure = getattr(perfect, name)
            assert figure.high == 1
            assert figure.low == pytest.approx(0.69, abs=0.05)  # as of 10 trials that all went well

    def test_one_slide_alone_is_told_from_no_slides(self) -> None:
        labels, probabilities, _ = of_slides(4, 0)
        alone = measure(labels, probabilities, 0.5, groups=["one"] * len(labels), resamples=50)
        assert (alone.resampled, alone.slides) == ("patch", 1)
        assert alone.notes[0].startswith("The intervals are by patch, since all patches are of one slide")
        none = measure(labels, probabilities, 0.5, resamples=50)
        assert none.notes[0].startswith("The intervals are by patch, since no slides are known")


class TestUnknownSlides:
    @pytest.mark.parametrize("unknown", ["", " ", None, math.nan])
    def test_they_are_counted_and_the_interval_is_said_to_be_too_narrow(self, unknown: object) -> None:
        labels, probabilities, slide = of_slides(50, 0)
        groups = [f"s{name}" if row < 100 else unknown for row, name in enumerate(slide)]
        scores = measure(labels, probabilities, 0.5, groups=np.array(groups, dtype=object))
        assert (scores.resampled, scores.slides, scores.without_slide) == ("slide", 5, 900)
        assert scores.interval.startswith("95 % by slide for 100 of 1,000 patches, the others by patch (too narrow)")
        assert scores.notes[0].startswith("900 of 1,000 patches have no known slide; the others are of 5 slides.")

    def test_no_known_slide_at_all_is_by_patch(self) -> None:
        labels, probabilities, _ = of_slides(4, 0)
        nameless = measure(labels, probabilities, 0.5, groups=[""] * len(labels), resamples=50)
        assert nameless == measure(labels, probabilities, 0.5, resamples=50)

    def test_slides_of_other_patches_are_refused(self) -> None:
        with pytest.raises(DataError, match="80 labels but the slides of 79 patches"):
            measure(*of_slides(4, 0)[:2], 0.5, groups=["a"] * 79)


def test_by_patch_resamples_without_a_class_are_counted() -> None:
    labels, probabilities, _ = of_slides(5, 0)
    labels[:] = 0
    labels[0] = 1
    scores = measure(labels, probabilities, 0.5, resamples=100)
    assert math.isfinite(scores.auc.low)
    assert "of 100 resamples there is no auc, " in scores.notes[1]


def test_by_patch_a_figure_that_no_resample_has_says_so() -> None:
    for seed in range(10):
        scores = measure([0, 1], [0.2, 0.8], 0.5, resamples=1, seed=seed)
        assert list(scores.no_interval) == [name for name in METRICS if math.isnan(getattr(scores, name).low)]
        json.dumps(scores.as_dict(), allow_nan=False)
        if scores.no_interval:
            assert scores.no_interval["auc"] == "no resample has one (one class only)"
            return
    pytest.fail("every resample had both classes")


def test_as_many_slides_as_patches_take_seconds() -> None:
    labels, probabilities, _ = of_slides(32_768, 0, size=1)
    began = time.process_time()
    scores = measure(labels, probabilities, 0.5, groups=np.arange(len(labels)))
    assert time.process_time() - began < 20
    assert "32,768 slides in 1,000 blocks" in scores.interval
    assert scores.auc.high - scores.auc.low < 0.02
