"""Which slides are reviewed, what is said of them, and what is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from made_maps import square
from reviewed_maps import STRIDE, TRUE, judge, review, scanned_slide, write_batch_of
from stand_in import StandInBundle

from sentinode.errors import DataError, SlideError
from sentinode.learning.reviews import kind_of, read_reviews

BUNDLE: Any = StandInBundle()


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    maps = write_batch_of(tmp_path / "maps", BUNDLE)
    for number in range(2):
        scanned_slide(maps, f"s{number}", BUNDLE, number)
    return maps


def test_it_reads_what_was_said_and_by_whom(maps: Path) -> None:
    judge(maps / "s0", 1, "accepted")
    judge(maps / "s0", 2, "rejected", who="ben")
    review(maps / "s0", kind="draw", meaning="tumour", points=square(650, 300, 60))
    review(maps / "s0", kind="draw", meaning="normal", points=square(650, 500, 60))
    reviews = read_reviews(maps)
    (slide,) = reviews.slides
    assert reviews.unreviewed == ("s1",) and slide.reviewers == ("ada", "ben")
    kinds = [kind_of(region) for region in slide.regions]
    assert kinds == ["accepted lesions", "rejected lesions", "drawn as tumour", "drawn as no tumour"]
    assert slide.area("tumour").area == pytest.approx(36 * STRIDE**2 + 3600)
    assert slide.area(None).is_empty and not slide.whole


def test_a_slide_is_known_as_a_whole_only_if_every_lesion_is_judged(maps: Path) -> None:
    review(maps / "s0", kind="look", whole=True)
    judge(maps / "s0", 1, "accepted")
    assert not read_reviews(maps).slides[0].whole
    judge(maps / "s0", 2, "unsure")
    assert not read_reviews(maps).slides[0].whole
    judge(maps / "s0", 2, "rejected")
    assert read_reviews(maps).slides[0].whole


def test_a_verdict_that_was_taken_back_is_no_review(maps: Path) -> None:
    judge(maps / "s0", 1, "accepted")
    before = read_reviews(maps).digest
    judge(maps / "s1", 1, "accepted")
    assert read_reviews(maps).digest != before
    judge(maps / "s0", 1, None)
    judge(maps / "s1", 1, None)
    with pytest.raises(DataError, match=r"nobody has judged a lesion(.|\n)*sentinode view"):
        read_reviews(maps)


def test_a_drawing_over_a_verdict_of_somebody_else_is_a_disagreement(maps: Path) -> None:
    judge(maps / "s0", 1, "accepted")
    corner = STRIDE * TRUE[0]
    review(maps / "s0", "ben", kind="draw", meaning="normal", points=square(corner, corner, 64))
    assert "Lesion 1, tumour by ada, lies partly in Drawn: normal by ben" in read_reviews(maps).disagreements[0]
    judge(maps / "s1", 1, "accepted")
    review(maps / "s1", "ada", kind="draw", meaning="normal", points=square(corner, corner, 64))
    assert len(read_reviews(maps).disagreements) == 1, "nobody contradicts himself"


def test_slides_that_moved_are_found_and_those_gone_or_changed_are_refused(maps: Path, tmp_path: Path) -> None:
    judge(maps / "s0", 1, "accepted")
    judge(maps / "s1", 1, "accepted")
    slides = maps.with_name("slides")
    shutil.move(slides, tmp_path / "moved")
    with pytest.raises(SlideError, match=r"2 of 2 reviewed slides(.|\n)*is not there(.|\n)*--without"):
        read_reviews(maps)
    assert len(read_reviews(maps, elsewhere=[tmp_path / "moved"]).slides) == 2
    shutil.copyfile(tmp_path / "moved" / "s0.tif", tmp_path / "moved" / "s1.tif")
    with pytest.raises(SlideError, match=r"1 of 2(.|\n)*s1: .*replaced or changed"):
        read_reviews(maps, elsewhere=[tmp_path / "moved"])
    reviews = read_reviews(maps, elsewhere=[tmp_path / "moved"], without=["s1"])
    assert [slide.name for slide in reviews.slides] == ["s0"] and reviews.left_out == ("s1",)
    with pytest.raises(DataError, match="no slide here is called s7"):
        read_reviews(maps, without=["s7"])


def test_one_slide_under_two_names_is_refused(maps: Path) -> None:
    judge(maps / "s0", 1, "accepted")
    shutil.copytree(maps / "s0", maps / "t0")
    with pytest.raises(SlideError, match="'s0' and 't0' are the same slide"):
        read_reviews(maps)


def test_a_review_of_another_slide_is_refused(maps: Path) -> None:
    judge(maps / "s0", 1, "accepted")
    path = maps / "s0" / "review.geojson"
    content = json.loads(path.read_text("utf-8"))
    content["sentinode"]["review"]["fingerprint"] = "0" * 64
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(SlideError, match="its review is of another file"):
        read_reviews(maps)


def test_a_folder_without_maps_and_a_damaged_log_are_refused(maps: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SlideError, match="no maps here"):
        read_reviews(tmp_path / "empty")
    (maps / "s0" / "review.jsonl").write_text("nonsense\n", encoding="utf-8")
    with pytest.raises(SlideError, match="line 1 of the review's log"):
        read_reviews(maps)
