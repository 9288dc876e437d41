import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinode.errors import DataError, RecipeError
from sentinode.scoring import RULES, choose_threshold, measure

rows = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.02, 0.3, 0.31, 0.5, 0.7, 1.0])), min_size=2).filter(
    lambda some: len({label for label, _ in some}) == 2
)


def columns(some: list[tuple[bool, float]]) -> tuple[np.ndarray, np.ndarray]:
    labels, probabilities = zip(*some, strict=True)
    return np.array(labels), np.array(probabilities)


@pytest.mark.parametrize("rule", ["accuracy", "balanced_accuracy", "f1"])
@given(some=rows)
@settings(max_examples=40, deadline=None)
def test_no_threshold_serves_the_rule_better(rule: str, some: list[tuple[bool, float]]) -> None:
    labels, probabilities = columns(some)

    def merit(threshold: float) -> float:
        scores = measure(labels, probabilities, threshold, resamples=0)
        if rule == "balanced_accuracy":
            return scores.recall.value + scores.specificity.value
        return float(getattr(scores, rule).value)

    chosen = merit(choose_threshold(labels, probabilities, rule))
    assert chosen >= max(merit(other) for other in (*np.linspace(0, 1, 21), 0.305)) - 1e-12


@given(some=rows, share=st.sampled_from([0.5, 0.9, 0.95, 1.0]))
@settings(max_examples=40, deadline=None)
def test_a_promised_sensitivity_or_specificity_is_kept(some: list[tuple[bool, float]], share: float) -> None:
    labels, probabilities = columns(some)
    sensitive = choose_threshold(labels, probabilities, f"sensitivity@{share}")
    assert measure(labels, probabilities, sensitive, resamples=0).recall.value >= share
    if (probabilities[~labels] < 1).mean() < share:  # those of exactly 1 are called tumour by every threshold
        with pytest.raises(DataError, match="reaches a specificity"):
            choose_threshold(labels, probabilities, f"specificity@{share}")
        return
    specific = choose_threshold(labels, probabilities, f"specificity@{share}")
    assert measure(labels, probabilities, specific, resamples=0).specificity.value >= share
    # A little further and the promise would be broken, so that nothing is given away on the other side.
    higher, lower = (
        probabilities[probabilities > sensitive].min(initial=1.0),
        probabilities[probabilities < specific].max(initial=0.0),
    )
    if (probabilities > sensitive).any() and (labels & (probabilities > sensitive) & (probabilities <= higher)).any():
        assert (probabilities[labels] > higher).mean() < share
    if (probabilities < specific).any():
        assert (probabilities[~labels] < lower).mean() < share or lower == 0


DENORMAL = np.nextafter(0, 1)
any_probability = st.one_of(
    st.floats(0, 1),
    st.floats(0, 1, width=32),
    st.sampled_from([0.0, 1.0, DENORMAL, 2 * DENORMAL, np.nextafter(1, 0), 0.5, np.nextafter(0.5, 1)]),
    st.sampled_from([float(np.float32(value)) for value in (1 - 2**-24, 1 - 2**-23, 2**-149, 0.5 + 2**-24)]),
)
patches = st.lists(st.tuples(st.booleans(), any_probability), min_size=2, max_size=40).filter(
    lambda some: len({label for label, _ in some}) == 2
)


@pytest.mark.parametrize("rule", RULES)
@given(some=patches, half_precision=st.booleans())
@settings(max_examples=150, deadline=None)
def test_whatever_the_probabilities_a_threshold_is_a_number_and_calls_what_its_rule_counted(
    rule: str, some: list[tuple[bool, float]], half_precision: bool
) -> None:
    labels, probabilities = columns(some)
    probabilities = probabilities.astype(np.float32) if half_precision else probabilities
    try:
        threshold = choose_threshold(labels, probabilities, rule)
    except DataError as error:
        assert rule == "specificity@0.95"
        assert (probabilities[~labels] == 1).sum() > 0.05 * (~labels).sum() - 1e-9, error
        return
    assert 0 <= threshold <= 1
    if rule == "half":
        return
    # Every other way to cut the patches that a threshold up to 1 can make, and what the rule thinks of it.
    called = probabilities >= threshold
    cuts = [probabilities >= score for score in np.unique(probabilities)] + (
        [probabilities > 1] if probabilities.max() < 1 else []
    )
    assert worth(labels, called, rule) == pytest.approx(max(worth(labels, cut, rule) for cut in cuts), abs=1e-12)


def worth(labels: np.ndarray, called: np.ndarray, rule: str) -> float:
    sensitivity, specificity = called[labels].mean(), (~called[~labels]).mean()
    match rule:
        case "accuracy":
            return float((called == labels).mean())
        case "balanced_accuracy":
            return float(sensitivity + specificity)
        case "f1":
            return float(2 * (called & labels).sum() / (called.sum() + labels.sum()))
        case "sensitivity@0.95":
            return float(specificity) if sensitivity >= 0.95 else -1.0
    return float(sensitivity) if specificity >= 0.95 else -1.0


@pytest.mark.parametrize("rule", ["accuracy", "balanced_accuracy", "f1", "sensitivity@0.95"])
@pytest.mark.parametrize("probabilities", [[0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [0.3] * 4])
def test_saturated_and_equal_probabilities_have_a_threshold(rule: str, probabilities: list[float]) -> None:
    assert 0 <= choose_threshold([0, 0, 1, 1], probabilities, rule) <= 1


def test_saturated_probabilities_that_are_right_are_cut_in_the_middle() -> None:
    for rule in RULES:
        assert choose_threshold([0, 0, 1, 1], [0, 0, 1, 1], rule) == 0.5


def test_a_specificity_that_no_threshold_keeps_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"reaches a specificity of 0\.95: 2 of 3 normal patches") as refused:
        choose_threshold([0, 0, 0, 1], [1, 1, 0, 1], "specificity@0.95")
    assert "another rule" in (refused.value.hint or "")


@pytest.mark.parametrize("wrong", [float("nan"), -0.1, 1.5, float("inf")])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    with pytest.raises(DataError, match="1 of 3 probabilities"):
        choose_threshold([0, 1, 1], [0.2, 0.8, wrong], "accuracy")


def test_neighbours_too_near_for_a_number_between_them_are_still_told_apart() -> None:
    low, high = np.float32(0.5), np.nextafter(np.float32(0.5), np.float32(1))
    probabilities = np.array([low, low, high, high])
    threshold = choose_threshold([0, 0, 1, 1], probabilities, "accuracy")
    assert (probabilities >= threshold).tolist() == [False, False, True, True]  # numpy rounds the threshold to float32
    assert (probabilities.astype(np.float64) >= threshold).tolist() == [False, False, True, True]


def test_a_threshold_lies_between_patches_so_that_rounding_moves_none() -> None:
    assert choose_threshold([0, 0, 1, 1], [0.1, 0.3, 0.7, 0.9], "accuracy") == pytest.approx(0.5)
    assert choose_threshold([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], "accuracy") == pytest.approx(0.25)


def test_half_is_one_half_whatever_the_data() -> None:
    assert choose_threshold([0, 1], [0.9, 0.1], "half") == 0.5


@pytest.mark.parametrize("rule", RULES)
def test_one_class_leaves_the_threshold_at_one_half(rule: str) -> None:
    assert choose_threshold([1, 1], [0.9, 0.8], rule) == 0.5


def test_an_unknown_rule_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'balanced_accuracy'"):
        choose_threshold([0, 1], [0.1, 0.9], "balanced_acuracy")


@pytest.mark.parametrize("rule", ["sensitivity@0", "sensitivity@1.5", "specificity@high", "sensitivity@nan"])
def test_a_share_out_of_range_says_the_range(rule: str) -> None:
    with pytest.raises(RecipeError, match="above 0 and at most 1"):
        choose_threshold([0, 1], [0.1, 0.9], rule)


@pytest.mark.parametrize("rule", ["sensitivity", "sensitivity@", ""])
def test_a_rule_without_its_share_is_refused(rule: str) -> None:
    with pytest.raises(RecipeError):
        choose_threshold([0, 1], [0.1, 0.9], rule)


def test_no_patches_are_refused() -> None:
    with pytest.raises(DataError):
        choose_threshold([], [], "accuracy")
