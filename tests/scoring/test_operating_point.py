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
    labels, said = zip(*some, strict=True)
    return np.array(labels), np.array(said)


@pytest.mark.parametrize("rule", ["accuracy", "balanced_accuracy", "f1"])
@given(some=rows)
@settings(max_examples=40, deadline=None)
def test_no_threshold_serves_the_rule_better(rule: str, some: list[tuple[bool, float]]) -> None:
    labels, said = columns(some)

    def merit(threshold: float) -> float:
        scores = measure(labels, said, threshold, resamples=0)
        if rule == "balanced_accuracy":
            return scores.recall.value + scores.specificity.value
        return float(getattr(scores, rule).value)

    chosen = merit(choose_threshold(labels, said, rule))
    assert chosen >= max(merit(other) for other in (*np.linspace(0, 1, 21), 0.305, 1.01)) - 1e-12


@given(some=rows, share=st.sampled_from([0.5, 0.9, 0.95, 1.0]))
@settings(max_examples=40, deadline=None)
def test_a_promised_sensitivity_or_specificity_is_kept(some: list[tuple[bool, float]], share: float) -> None:
    labels, said = columns(some)
    sensitive = choose_threshold(labels, said, f"sensitivity@{share}")
    specific = choose_threshold(labels, said, f"specificity@{share}")
    assert measure(labels, said, sensitive, resamples=0).recall.value >= share
    assert measure(labels, said, specific, resamples=0).specificity.value >= share
    # A little further and the promise would be broken, so that nothing is given away on the other side.
    higher, lower = said[said > sensitive].min(initial=1.0), said[said < specific].max(initial=0.0)
    if (said > sensitive).any() and (labels & (said > sensitive) & (said <= higher)).any():
        assert (said[labels] > higher).mean() < share
    if (said < specific).any():
        assert (said[~labels] < lower).mean() < share or lower == 0


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
