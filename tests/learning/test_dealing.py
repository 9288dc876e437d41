"""Each reviewed slide teaches, or is held back, or checks; with both classes in each part where that can be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinode.errors import DataError
from sentinode.learning.dealing import deal_slides


def slides(*classes: str) -> Any:
    """Slides whose reviews have tumour (t), what is none (n), both, or neither."""
    return [
        SimpleNamespace(name=f"s{number:02d}", has_tumour="t" in has, has_normal="n" in has)
        for number, has in enumerate(classes)
    ]


def test_a_third_is_held_back_and_two_at_least() -> None:
    assert len(deal_slides(slides(*["tn"] * 12)).hold) == 4
    assert len(deal_slides(slides(*["tn"] * 4)).hold) == 2
    assert len(deal_slides(slides(*["tn"] * 4), hold_out=1).hold) == 1
    assert deal_slides(slides(*["tn"] * 3), hold_out=0).hold == ()


def test_without_other_data_a_quarter_of_the_rest_checks() -> None:
    dealt = deal_slides(slides(*["tn"] * 12), checking=True)
    assert [len(part) for part in (dealt.teach, dealt.hold, dealt.check)] == [6, 4, 2]


def test_each_part_gets_both_classes_where_that_can_be() -> None:
    dealt = deal_slides(slides(*["n"] * 9, *["t"] * 3), checking=True, hold_out=3)
    for part in (dealt.teach, dealt.hold, dealt.check):
        assert {int(name[1:]) >= 9 for name in part} == {True, False}


@pytest.mark.parametrize(("count", "options"), [(3, {}), (4, {"checking": True}), (4, {"hold_out": 4}), (1, {})])
def test_too_few_slides_are_refused_with_the_reason(count: int, options: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=f"{count} slides are reviewed"):
        deal_slides(slides(*["tn"] * count), **options)


def test_nothing_to_check_on_is_refused() -> None:
    with pytest.raises(DataError, match="cannot have both tumour and what is none"):
        deal_slides(slides(*["n"] * 8), checking=True)


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.sampled_from(["t", "n", "tn", ""]), min_size=4, max_size=20),
    st.integers(0, 5),
    st.booleans(),
)
def test_no_slide_is_in_two_parts_and_none_is_lost(classes: list[str], seed: int, checking: bool) -> None:
    try:
        dealt = deal_slides(slides(*classes), checking=checking, seed=seed)
    except DataError:
        return
    parts = [*dealt.teach, *dealt.hold, *dealt.check]
    assert sorted(parts) == [f"s{number:02d}" for number in range(len(classes))]
    assert dealt == deal_slides(slides(*classes), checking=checking, seed=seed)
