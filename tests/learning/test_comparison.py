"""What both bundles report on a slide, by its review; and when a change is told from chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_maps import blob, made_map, made_point, square
from reviewed_maps import FALSE, SIDE, STRIDE, TRUE, judge, review, scanned_slide, write_batch_of
from stand_in import StandInBundle

from sentinode.learning.comparison import Change, SlideChange, Tally, compare_slides, lesions_of, tally
from sentinode.learning.lessons import quiet_area
from sentinode.learning.reviews import ReviewedSlide, read_reviews
from sentinode.learning.verdict import decide

BUNDLE: Any = StandInBundle()
ELSEWHERE = (5, 14, 9, 18)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return scanned_slide(write_batch_of(tmp_path / "maps", BUNDLE), "s0", BUNDLE)


def reviewed(folder: Path) -> ReviewedSlide:
    return read_reviews(folder.parent).slides[0]


def reported(*boxes: tuple[int, int, int, int]) -> Any:
    return made_map(blob(SIDE, SIDE, *boxes))


def test_lesions_are_told_apart_by_what_the_review_says(folder: Path) -> None:
    judge(folder, 1, "accepted")
    judge(folder, 2, "rejected")
    slide, point = reviewed(folder), made_point()
    assert lesions_of(slide) == 1
    assert tally(slide, reported(TRUE, FALSE), point) == Tally(found=1, false=1, unjudged=0, open=0)
    assert tally(slide, reported(), point) == Tally(0, 0, 0, 0)
    assert tally(slide, reported(TRUE, ELSEWHERE), point) == Tally(1, 0, 1, 0)
    review(folder, kind="look", whole=True)
    assert tally(reviewed(folder), reported(TRUE, ELSEWHERE), point) == Tally(1, 1, 0, 0)


def test_what_nobody_judged_counts_for_neither(folder: Path) -> None:
    judge(folder, 1, "accepted")
    assert tally(reviewed(folder), reported(FALSE), made_point()) == Tally(0, 0, 0, 1)
    judge(folder, 2, "unsure")
    assert tally(reviewed(folder), reported(FALSE), made_point()) == Tally(0, 0, 0, 1)


def test_a_drawn_lesion_that_the_old_bundle_missed_can_be_found(folder: Path) -> None:
    top, left, _, _ = ELSEWHERE
    review(folder, kind="draw", meaning="tumour", points=square(left * STRIDE, top * STRIDE, 4 * STRIDE))
    slide = reviewed(folder)
    assert [tally(slide, reported(*boxes), made_point()).found for boxes in ((), (ELSEWHERE,))] == [0, 1]


def test_a_replay_sample_keeps_away_from_all_that_was_listed_or_drawn(folder: Path) -> None:
    judge(folder, 1, "accepted")
    review(folder, kind="draw", meaning="normal", points=square(600, 600, 60))
    slide = reviewed(folder)
    area = quiet_area(slide)
    assert area.area > 0
    for region in slide.regions:
        assert area.distance(region.area) >= 0.99 * STRIDE  # a circle is made of straight pieces


def change(old: tuple[int, int], new: tuple[int, int], unjudged: int = 0) -> SlideChange:
    """A slide with one lesion; found and false lesions of both bundles."""
    return SlideChange("s", False, 1, Tally(*old, 0, 0), Tally(*new, unjudged, 0))


def outcomes(slides: list[SlideChange]) -> list[str]:
    return [change.outcome for change in compare_slides(slides)]


def test_six_slides_with_fewer_false_lesions_are_better_and_five_cannot_tell() -> None:
    assert outcomes([change((1, 2), (1, 0))] * 6) == ["better", "cannot be told"]
    assert outcomes([change((1, 2), (1, 0))] * 5) == ["cannot be told", "cannot be told"]
    assert outcomes([change((1, 0), (0, 0))] * 6) == ["cannot be told", "worse"]
    assert outcomes([change((1, 0), (1, 1))] * 6) == ["worse", "cannot be told"]
    assert compare_slides([]) == []


def test_a_gain_counts_only_if_it_holds_against_all_that_nobody_judged() -> None:
    """The rejected lesions are the old bundle's own, so another bundle reports fewer of them whatever it is worth."""
    assert outcomes([change((1, 2), (1, 0), unjudged=2)] * 8)[0] == "cannot be told"
    assert outcomes([change((1, 2), (1, 0), unjudged=1)] * 8)[0] == "better"
    assert outcomes([change((1, 2), (1, 3), unjudged=5)] * 8)[0] == "worse"


def figure(outcome: Any, *, decides: bool = True, unit: str = "patches", n: int = 100) -> Change:
    return Change("AUC", 0.9, 0.95, 0.01, 0.09, 0.5, n, unit, outcome, decides)


def test_the_verdict_names_what_is_better_and_what_is_worse() -> None:
    better, worse, even = figure("better"), figure("worse"), figure("cannot be told")
    assert decide([better, even]).name == "helped"
    assert decide([worse, even]).name == "harmed"
    assert decide([better, worse]).name == "mixed"
    assert decide([even]).name == "cannot be told"
    assert decide([figure("better", decides=False)]).name == "cannot be told"
    assert (
        "AUC 0.9000 before, 0.9500 after (difference +0.0500, +0.0100 to +0.0900; n = 100" in decide([better]).sentence
    )


def test_too_few_slides_are_named_in_the_verdict() -> None:
    sentence = decide([figure("cannot be told", unit="slides", n=3)]).sentence
    assert "3 slides cannot tell it, whatever they show: 6 or more have to change" in sentence
    assert "no slide was held back" in decide([]).sentence
