import math

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint

from sentinode.scoring.shares import exact_interval, mean, share


@pytest.mark.parametrize(("count", "n"), [(0, 7), (7, 7), (3, 20), (95, 100)])
def test_a_share_by_patch_has_the_interval_of_clopper_and_pearson(count: int, n: int) -> None:
    found = share(np.arange(n) < count)
    assert (found.low, found.high) == pytest.approx(proportion_confint(count, n, method="beta"), abs=1e-12)
    limits = binomtest(count, n).proportion_ci()
    assert exact_interval(count, n) == pytest.approx((limits.low, limits.high), abs=1e-9)


def test_by_slide_alike_patches_make_it_wider() -> None:
    hits = np.repeat([True, True, False, True, True, False, True, True], 50)
    slides = np.repeat(np.arange(8), 50)
    by_patch, by_slide = share(hits), share(hits, slides)
    assert by_slide.value == by_patch.value
    assert by_slide.high - by_slide.low > 3 * (by_patch.high - by_patch.low)


def test_the_mean_of_slides_is_student_s() -> None:
    values = np.array([0.5, 0.7, 0.9, 0.4])
    found = mean(values, np.arange(4))
    reach = 3.182446 * values.std(ddof=1) / 2
    assert (found.low, found.high) == pytest.approx((0.625 - reach, 0.625 + reach), abs=1e-5)


def test_nothing_has_no_share_and_one_slide_no_interval() -> None:
    assert math.isnan(share([]).value) and math.isnan(mean([]).value)
    assert math.isnan(share([True, False], np.zeros(2, int)).low)
    assert math.isnan(mean([1.0, 2.0], np.zeros(2, int)).low)
