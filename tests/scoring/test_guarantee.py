import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.risk_control import BinaryClassificationController
from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value
from scipy.special import expit
from scipy.stats import binomtest

from sentinode.errors import DataError
from sentinode.scoring.guarantee import guaranteed_threshold, hoeffding_bentkus, needed_units, recall_by_unit


def positives(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n positive patches of uniform scores, so that the recall at a threshold t is 1 - t; and as many negative."""
    rng = np.random.default_rng(seed)
    return np.repeat([1, 0], n), np.r_[rng.random(n), 0.3 * rng.random(n)]


@pytest.mark.parametrize(("n", "recall", "confidence"), [(60, 0.9, 0.9), (300, 0.95, 0.9), (200, 0.8, 0.95)])
def test_by_patch_it_is_kept_as_often_as_it_says(n: int, recall: float, confidence: float) -> None:
    draws = 500
    true = np.array(
        [
            1 - guaranteed_threshold(*positives(n, seed), recall=recall, confidence=confidence).threshold
            for seed in range(draws)
        ]
    )
    broken = int((true < recall).sum())
    assert binomtest(broken, draws, 1 - confidence, alternative="greater").pvalue > 0.001
    assert broken > 0  # it gives little away


def test_by_slide_it_is_kept_as_often_as_it_says_where_a_bound_by_patch_is_not() -> None:
    """Slides differ: the scores of all positive patches of a slide are moved together."""
    recall, confidence, draws = 0.8, 0.9, 100
    shifts = np.random.default_rng(9).normal(0, 1.5, 50_000)

    def true_recall(threshold: float) -> float:
        odds = np.log(threshold / (1 - threshold))
        return float(1 - expit((odds - 2 - shifts) * 1.7).mean())

    by_slide, by_patch = [], []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        slides = np.repeat(np.arange(60), 20)
        scores = expit(2 + rng.normal(0, 1.5, 60)[slides] + rng.logistic(0, 1 / 1.7, 1200))
        labels = np.ones(1200, int)
        asked = {"recall": recall, "confidence": confidence}
        by_slide.append(true_recall(guaranteed_threshold(labels, scores, groups=slides, **asked).threshold))
        by_patch.append(true_recall(guaranteed_threshold(labels, scores, **asked).threshold))
    assert np.mean(np.array(by_slide) < recall) <= 1 - confidence
    assert np.mean(np.array(by_patch) < recall) > 1 - confidence + 0.05


def test_it_is_not_above_what_mapie_finds_safe_plus_a_step_and_not_below_it() -> None:
    """MAPIE's p-value is wider than the exact one, so the exact threshold is a little higher."""
    labels, scores = positives(500, 4)
    steps = np.linspace(0.99, 0, 100)[::-1]
    controller = BinaryClassificationController(
        lambda x: np.stack([1 - x[:, 0], x[:, 0]], axis=1),
        risk="recall",
        target_level=0.9,
        confidence_level=0.9,
        list_predict_params=steps,
        fwer_method="fixed_sequence",
    )
    controller.calibrate(scores[:, None], labels)
    safe = float(np.max(controller.valid_predict_params))
    ours = guaranteed_threshold(labels, scores, recall=0.9, confidence=0.9).threshold
    assert safe <= ours <= safe + 0.03


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(5, 500), st.floats(0.01, 0.5))
def test_the_p_value_is_that_of_mapie(risks: list[float], n: int, allowed: float) -> None:
    reference = np.ravel(compute_hoeffding_bentkus_p_value(np.array(risks), n, allowed))
    np.testing.assert_allclose(hoeffding_bentkus(risks, n, allowed), np.minimum(reference, 1), rtol=1e-6, atol=1e-12)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_equal_scores_are_missed_together_and_order_does_not_matter(seed: int) -> None:
    labels, scores = positives(100, seed)
    scores = scores.round(1)
    found = guaranteed_threshold(labels, scores, recall=0.8)
    assert recall_by_unit(labels, scores, found.threshold).value == pytest.approx(found.reached)
    order = np.random.default_rng(seed).permutation(200)
    assert guaranteed_threshold(labels[order], scores[order], recall=0.8) == found


def test_slides_of_one_patch_need_as_much_as_patches_and_the_bound_by_slide_is_wider() -> None:
    labels, scores = positives(400, 1)
    alone = np.arange(800)
    by_slide = guaranteed_threshold(labels, scores, recall=0.9, groups=alone)
    by_patch = guaranteed_threshold(labels, scores, recall=0.9)
    assert by_slide.by_group and by_slide.n == 400
    assert 0 < by_slide.threshold <= by_patch.threshold


@pytest.mark.parametrize(
    ("recall", "confidence", "needed"), [(0.95, 0.9, 45), (0.9, 0.9, 22), (0.95, 0.95, 59), (0.5, 0.5, 1)]
)
def test_too_few_are_refused_with_the_number_that_is_needed(recall: float, confidence: float, needed: int) -> None:
    assert needed_units(recall, confidence) == needed
    labels, scores = positives(needed, 0)
    assert guaranteed_threshold(labels, scores, recall=recall, confidence=confidence).reached == 1
    if needed > 1:
        with pytest.raises(DataError, match=f"; {needed} are needed"):
            guaranteed_threshold(labels[1:], scores[1:], recall=recall, confidence=confidence)


def test_two_slides_are_too_few_and_one_class_has_no_positive() -> None:
    labels, scores = positives(100, 0)
    with pytest.raises(DataError, match="2 slides with a positive patch; 45 are needed"):
        guaranteed_threshold(labels, scores, groups=np.arange(200) % 2)
    with pytest.raises(DataError, match="0 positive patches"):
        guaranteed_threshold([0, 0], [0.1, 0.2])


@pytest.mark.parametrize("share", [0.0, 1.0, 1.5, float("nan")])
def test_shares_out_of_range_are_refused(share: float) -> None:
    labels, scores = positives(100, 0)
    for asked in ({"recall": share}, {"confidence": share}):
        with pytest.raises(DataError, match="cannot be guaranteed"):
            guaranteed_threshold(labels, scores, **asked)


def test_constant_probabilities_call_everything() -> None:
    found = guaranteed_threshold([1] * 60 + [0] * 60, [0.5] * 120)
    assert found.threshold <= 0.5
    assert found.reached == 1
