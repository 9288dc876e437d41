"""The rule for regions: a penalised logistic fit, and judging a slide by rules that have not seen it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_maps import made_point
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from sentinode.evaluation.annotated_slides import AnnotatedSlide
from sentinode.evaluation.region_rule import cross_fitted, fit_logistic, fit_rule


def a_slide(number, features, is_lesion):
    """A slide with these regions, each lesion among them touched by one region."""
    features = np.asarray(features, float).reshape(-1, 2)
    is_lesion = np.asarray(is_lesion, bool)
    touches = np.eye(len(features), dtype=bool)[:, is_lesion]
    lesions = int(is_lesion.sum())
    return AnnotatedSlide(
        f"s{number:02d}",
        features,
        np.full(len(features), 300.0),
        touches,
        np.full(lesions, 300.0),
        np.array([-3.0, -3]),
    )


def cohort(count=20, seed=0):
    rng = np.random.default_rng(seed)
    slides = []
    for number in range(count):
        is_lesion = rng.random(6) < (0.5 if number % 2 else 0.0)
        slides.append(a_slide(number, rng.normal(size=(6, 2)) + 2 * is_lesion[:, None], is_lesion))
    return slides


def test_the_fit_is_scikit_learns_where_it_pulls_towards_nothing():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 3)) * 2
    labels = rng.random(200) < expit(features @ [1.0, -0.5, 0.0] - 1)
    weights, intercept = fit_logistic(features, labels, towards=np.zeros(4))
    reference = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(features, labels)
    np.testing.assert_allclose(weights, reference.coef_[0], atol=1e-4)
    assert intercept == pytest.approx(reference.intercept_[0], abs=1e-4)


def test_few_regions_leave_the_rule_near_where_it_began():
    weights, _ = fit_logistic([[1.0, 1.0], [0.0, 1.0]], [1, 0], towards=[2.0, 0.5, -1.0])
    np.testing.assert_allclose(weights, [2.0, 0.5], atol=0.3)


@given(st.integers(1, 30), st.integers(0, 5))
def test_regions_that_are_separated_or_of_one_kind_give_finite_rules(count, kind):
    features = np.linspace(-6, 6, count)[:, None]
    labels = np.zeros(count) if kind == 0 else np.ones(count) if kind == 1 else features[:, 0] > kind - 3
    weights, intercept = fit_logistic(features, labels, towards=[1.0, 0.0])
    assert np.isfinite(weights).all() and abs(intercept) <= 50


def test_a_fitted_rule_keeps_everything_else_of_the_point():
    point = made_point(smallest_mm2=0.01, grow=0.7)
    fitted = fit_rule(cohort(), point)
    assert fitted.weights != point.weights
    assert fitted.model_copy(update={"weights": point.weights, "intercept": point.intercept}) == point


def test_a_slide_is_judged_by_a_rule_that_has_not_seen_it():
    slides = cohort()
    odd = a_slide(3, np.array([[9.0, 9.0]] * 6), [True] + [False] * 5)
    changed = [*slides[:3], odd, *slides[4:]]
    before, after = (cross_fitted(some, made_point()) for some in (slides, changed))
    again = cross_fitted([*slides[:3], a_slide(3, odd.features, [True] * 6), *slides[4:]], made_point())
    # Its own labels do not change how it is judged; they change how others are.
    np.testing.assert_array_equal(after[3].evidence, again[3].evidence)
    assert any((one.evidence != other.evidence).any() for one, other in zip(before, after, strict=True))


def test_judging_repeats():
    one, other = (cross_fitted(cohort(), made_point()) for _ in range(2))
    assert all((a.evidence == b.evidence).all() and a.best == b.best for a, b in zip(one, other, strict=True))


def test_a_slide_without_a_region_is_judged_by_its_hottest_window_and_one_without_tissue_is_last():
    empty = a_slide(90, np.zeros((0, 2)), [])
    bare = AnnotatedSlide("bare", empty.features, empty.diameter_um, empty.touches, empty.lesion_um, np.full(2, np.nan))
    judged = {one.slide.name: one for one in cross_fitted([*cohort(), empty, bare], made_point())}
    assert np.isfinite(judged["s90"].best) and judged["bare"].best == -np.inf
