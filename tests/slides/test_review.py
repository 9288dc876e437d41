"""A review: a log of operations beside the map, and the GeoJSON that is made of it."""

from __future__ import annotations

import errno
import json
import os
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_maps import blob, made_map
from scanned_batch import write_lesions
from shapely.geometry import box, shape

from sentinode import leases
from sentinode.errors import AnnotationError, OutputError, SlideError
from sentinode.locks import LOCKS
from sentinode.slides import review
from sentinode.slides.reading.annotations import read_annotations
from sentinode.slides.review import LOG, REVIEW, Review, add_operation, parse_operation, read_lesions, read_review
from sentinode.slides.scanning.probability_map import ProbabilityMap

BOUNDS = (64, 32, 512, 448)
BOXES = ((4, 4, 8, 8), (12, 12, 15, 15))


def made(folder: Path, *, bounds: tuple[int, int, int, int] | None = None) -> ProbabilityMap:
    """A map of two lesions, 4 x 4 windows at row 4, column 4 and 3 x 3 at row 12, column 12, with its GeoJSON."""
    folder.mkdir(parents=True, exist_ok=True)
    found = made_map(blob(20, 20, *BOXES), bounds=bounds)
    write_lesions(folder, found, BOXES)
    return found


def add(folder: Path, found: ProbabilityMap, who: str = "ada", **operation: Any) -> Review:
    content = {"id": str(uuid4()), **operation}
    answered = add_operation(folder, parse_operation(content), who=who, slide=found.slide, bundle=found.bundle)
    assert as_json(read_review(folder)) == as_json(answered), "what the log holds is what was answered"
    return answered


def as_json(one: Review) -> Any:
    """A review as JSON has it, without a difference between tuples and lists."""
    return json.loads(json.dumps(asdict(one)))


def lesion(folder: Path, number: int) -> str:
    return str(read_lesions(folder)[number - 1]["id"])


def features(folder: Path) -> dict[str, dict[str, Any]]:
    """The features of review.geojson by their names."""
    content = json.loads((folder / REVIEW).read_text("utf-8"))
    return {feature["properties"]["name"]: feature for feature in content["features"]}


def square(left: float, top: float, side: float) -> list[tuple[float, float]]:
    return [(left, top), (left + side, top), (left + side, top + side), (left, top + side)]


def test_a_verdict_is_kept_with_who_and_when(tmp_path: Path) -> None:
    found = made(tmp_path)
    add(tmp_path, found, kind="judge", lesion=lesion(tmp_path, 1), verdict="rejected", label="germinal centre")
    judged = read_review(tmp_path).judged[lesion(tmp_path, 1)]
    assert (judged.verdict, judged.label, judged.who) == ("rejected", "germinal centre", "ada")
    assert judged.time.startswith("20")


def test_the_last_verdict_counts_and_none_takes_it_back(tmp_path: Path) -> None:
    found = made(tmp_path)
    one = lesion(tmp_path, 1)
    add(tmp_path, found, kind="judge", lesion=one, verdict="rejected")
    assert add(tmp_path, found, kind="judge", lesion=one, verdict="accepted").judged[one].verdict == "accepted"
    assert add(tmp_path, found, kind="judge", lesion=one, verdict=None).judged[one].verdict is None
    assert read_review(tmp_path).judged[one].verdict is None, "the log can be read again"
    assert add(tmp_path, found, kind="judge", lesion=one, verdict="unsure").judged[one].verdict == "unsure"
    add(tmp_path, found, kind="judge", lesion=one, verdict=None)
    assert not (tmp_path / REVIEW).exists(), "an empty file would read as a slide that is free of tumour"


def test_a_log_of_an_earlier_version_that_took_a_verdict_back_is_read(tmp_path: Path) -> None:
    found = made(tmp_path)
    one = lesion(tmp_path, 1)
    add(tmp_path, found, kind="judge", lesion=one, verdict="rejected")
    add(tmp_path, found, kind="judge", lesion=one, verdict=None)
    assert '"verdict"' not in (tmp_path / LOG).read_text("utf-8").splitlines()[1]
    assert add(tmp_path, found, kind="look", whole=True).judged[one].verdict is None


def test_a_drawing_gets_another_outline_and_another_meaning_and_undoing_takes_them_back(tmp_path: Path) -> None:
    found = made(tmp_path)
    first, second = str(uuid4()), str(uuid4())
    add(tmp_path, found, id=first, kind="draw", meaning="tumour", points=square(10, 10, 50))
    rings = [square(100, 100, 100), square(120, 120, 20)]
    (drawing,) = add(tmp_path, found, "ben", id=second, kind="redraw", drawing=first, rings=rings).drawings.values()
    assert shape(drawing.geometry).area == pytest.approx(100**2 - 20**2) and drawing.meaning == "tumour"
    assert drawing.who == "ben" and drawing.id == first
    relabelled = {"kind": "redraw", "drawing": first, "meaning": "normal", "label": "necrosis"}
    (drawing,) = add(tmp_path, found, **relabelled).drawings.values()
    assert (drawing.meaning, drawing.label) == ("normal", "necrosis")
    assert features(tmp_path)["Drawn: normal"]["properties"]["classification"]["name"] == "Normal: Necrosis"
    (drawing,) = add(tmp_path, found, kind="undo", operation=second).drawings.values()
    assert shape(drawing.geometry).area == pytest.approx(50**2) and drawing.meaning == "normal"
    assert len(add(tmp_path, found, kind="undo", operation=first).drawings) == 0


def test_undoing_takes_back_and_undoing_that_brings_back(tmp_path: Path) -> None:
    found = made(tmp_path)
    drawing = {"kind": "draw", "meaning": "tumour", "points": square(10, 10, 50)}
    first, undo = str(uuid4()), str(uuid4())
    assert len(add(tmp_path, found, id=first, **drawing).drawings) == 1
    assert len(add(tmp_path, found, id=undo, kind="undo", operation=first).drawings) == 0
    assert len(add(tmp_path, found, kind="undo", operation=undo).drawings) == 1


def test_what_is_sent_twice_counts_once(tmp_path: Path) -> None:
    found = made(tmp_path)
    drawing = {"id": str(uuid4()), "kind": "draw", "meaning": "tumour", "points": square(10, 10, 50)}
    assert add(tmp_path, found, **drawing).revision == add(tmp_path, found, **drawing).revision == 1


def test_accepted_rejected_and_drawn_read_back_as_annotations(tmp_path: Path) -> None:
    found = made(tmp_path)
    add(tmp_path, found, kind="judge", lesion=lesion(tmp_path, 1), verdict="accepted")
    add(tmp_path, found, kind="judge", lesion=lesion(tmp_path, 2), verdict="rejected", label="sinus histiocytes")
    add(tmp_path, found, kind="draw", meaning="tumour", points=square(300, 100, 64))
    add(tmp_path, found, kind="draw", meaning="normal", label="necrosis", points=square(140, 140, 32))
    read = read_annotations(tmp_path / REVIEW).on(found.slide.width, found.slide.height)
    assert read.warnings == ()
    wanted = box(128, 128, 256, 256).union(box(300, 100, 364, 164)).difference(box(140, 140, 172, 172))
    assert read.area.symmetric_difference(wanted).area == pytest.approx(0, abs=1e-6)
    assert sorted(region.group for region in read.excluded) == ["Normal: Necrosis", "Normal: Sinus histiocytes"]


def test_lesions_that_nobody_judged_are_never_taken_for_normal(tmp_path: Path) -> None:
    found = made(tmp_path)
    add(tmp_path, found, kind="judge", lesion=lesion(tmp_path, 1), verdict="accepted")
    assert any("'Unreviewed' (1)" in warning for warning in read_annotations(tmp_path / REVIEW).warnings)
    add(tmp_path, found, kind="judge", lesion=lesion(tmp_path, 1), verdict="rejected")
    with pytest.raises(AnnotationError, match="Unreviewed"):
        read_annotations(tmp_path / REVIEW)


def test_an_unsure_lesion_counts_as_neither(tmp_path: Path) -> None:
    found = made(tmp_path)
    add(tmp_path, found, kind="judge", lesion=lesion(tmp_path, 1), verdict="unsure")
    add(tmp_path, found, kind="judge", lesion=lesion(tmp_path, 2), verdict="accepted")
    read = read_annotations(tmp_path / REVIEW)
    assert read.area.area == 96 * 96 and any("'Unsure' (1)" in warning for warning in read.warnings)


def test_tumour_drawn_into_a_rejected_lesion_stays_tumour(tmp_path: Path) -> None:
    found = made(tmp_path)
    add(tmp_path, found, kind="judge", lesion=lesion(tmp_path, 2), verdict="accepted")
    add(tmp_path, found, kind="judge", lesion=lesion(tmp_path, 1), verdict="rejected")
    add(tmp_path, found, kind="draw", meaning="tumour", points=square(150, 150, 40))
    assert read_annotations(tmp_path / REVIEW).area.area == pytest.approx(96 * 96 + 40 * 40)


def test_of_two_drawings_the_later_one_counts_where_they_overlap(tmp_path: Path) -> None:
    found = made(tmp_path)
    for number in (1, 2):
        add(tmp_path, found, kind="judge", lesion=lesion(tmp_path, number), verdict="rejected")
    add(tmp_path, found, kind="draw", meaning="normal", points=square(300, 100, 60))
    add(tmp_path, found, kind="draw", meaning="tumour", points=square(320, 120, 20))
    assert read_annotations(tmp_path / REVIEW).area.area == pytest.approx(400)
    add(tmp_path, found, kind="draw", meaning="normal", points=square(320, 120, 10))
    assert read_annotations(tmp_path / REVIEW).area.area == pytest.approx(300)


def test_coordinates_count_from_the_bounds_as_in_the_lesions_file(tmp_path: Path) -> None:
    found = made(tmp_path, bounds=BOUNDS)
    add(tmp_path, found, kind="judge", lesion=lesion(tmp_path, 1), verdict="accepted")
    add(tmp_path, found, kind="draw", meaning="tumour", points=square(300, 100, 50))
    ring = features(tmp_path)["Drawn: tumour"]["geometry"]["coordinates"][0]
    assert min(ring) == [300 - BOUNDS[0], 100 - BOUNDS[1]]
    read = read_annotations(tmp_path / REVIEW).on(found.slide.width, found.slide.height, BOUNDS)
    assert read.area.symmetric_difference(box(128, 128, 256, 256).union(box(300, 100, 350, 150))).area < 1e-6


def test_a_stroke_of_the_brush_becomes_an_area(tmp_path: Path) -> None:
    found = made(tmp_path)
    review = add(tmp_path, found, kind="draw", meaning="tumour", points=[(100, 100), (200, 100)], radius=10)
    (drawing,) = review.drawings.values()
    assert drawing.geometry["type"] == "MultiPolygon"
    dot = add(tmp_path, found, kind="draw", meaning="tumour", points=[(300, 300)], radius=10)
    assert len(dot.drawings) == 2


def test_a_polygon_that_crosses_itself_or_leaves_the_slide_becomes_a_valid_area_on_it(tmp_path: Path) -> None:
    found = made(tmp_path)
    add(tmp_path, found, kind="judge", lesion=lesion(tmp_path, 1), verdict="accepted")
    add(tmp_path, found, kind="draw", meaning="tumour", points=[(0, 0), (40, 40), (40, 0), (0, 40)])
    add(tmp_path, found, kind="draw", meaning="tumour", points=square(-50, 400, 100))
    assert read_annotations(tmp_path / REVIEW).area.bounds[0] == 0


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        ({"kind": "draw", "meaning": "tumour", "points": square(10_000, 0, 9)}, "no area on the slide"),
        ({"kind": "draw", "meaning": "tumour", "points": [(0, 0), (5, 5)]}, "three corners"),
        ({"kind": "draw", "meaning": "tumour", "points": [(0, 0), (5, 5), (9, 9)]}, "no area"),
        ({"kind": "draw", "meaning": "tumour", "points": [(9, 9)], "radius": 1e6}, "at most 1000 um"),
        ({"kind": "draw", "meaning": "tumour", "points": [(float("nan"), 0)] * 3}, "no operation"),
        ({"kind": "draw", "meaning": "tumour", "points": []}, "no operation"),
        ({"kind": "draw", "meaning": "anything", "points": square(0, 0, 9)}, "no operation"),
        ({"kind": "judge", "lesion": "nobody", "verdict": "accepted"}, "no such lesion"),
        ({"kind": "judge", "lesion": "nobody", "verdict": "splendid"}, "no operation"),
        ({"kind": "judge", "lesion": "x" * 5000, "verdict": None}, "no operation"),
        ({"kind": "comment", "target": "nobody", "text": "hm"}, "no such lesion"),
        ({"kind": "erase", "drawing": "nothing"}, "no such drawing"),
        ({"kind": "redraw", "drawing": "nothing", "meaning": "tumour"}, "no such drawing"),
        ({"kind": "redraw", "drawing": "nothing"}, "changes nothing"),
        ({"kind": "redraw", "drawing": "nothing", "rings": [[(0, 0), (1, 1)]]}, "no operation"),
        ({"kind": "redraw", "drawing": "nothing", "rings": [[(0, 0)] * 15_000] * 2}, "corners"),
        ({"kind": "undo", "operation": str(uuid4())}, "no such operation"),
        ({"kind": "shout"}, "no operation"),
    ],
)
def test_an_operation_without_sense_is_refused_and_leaves_nothing(
    tmp_path: Path, operation: dict[str, Any], why: str
) -> None:
    found = made(tmp_path)
    with pytest.raises(SlideError, match=why):
        add(tmp_path, found, **operation)
    assert not (tmp_path / LOG).exists() and not (tmp_path / REVIEW).exists()


def test_a_comment_is_kept_with_its_lesion(tmp_path: Path) -> None:
    found = made(tmp_path)
    add(tmp_path, found, kind="judge", lesion=lesion(tmp_path, 1), verdict="accepted")
    add(tmp_path, found, kind="comment", target=lesion(tmp_path, 1), text="follicle nearby")
    assert features(tmp_path)["Lesion 1"]["properties"]["metadata"]["comment"] == "follicle nearby"


def test_the_verdict_on_a_lesion_of_an_earlier_scan_is_kept_with_its_outline(tmp_path: Path) -> None:
    found = made(tmp_path)
    add(tmp_path, found, kind="judge", lesion=lesion(tmp_path, 1), verdict="rejected", label="artefact")
    again = made_map(blob(20, 20, (2, 14, 5, 17)))
    write_lesions(tmp_path, again, [(2, 14, 5, 17)])
    add(tmp_path, again, kind="judge", lesion=lesion(tmp_path, 1), verdict="accepted")
    earlier = [
        feature
        for feature in json.loads((tmp_path / REVIEW).read_text("utf-8"))["features"]
        if feature["properties"]["metadata"].get("scan") == "an earlier scan"
    ]
    assert [feature["properties"]["classification"]["name"] for feature in earlier] == ["Normal: Artefact"]


def test_what_a_crash_left_of_a_line_is_dropped_by_the_next_operation(tmp_path: Path) -> None:
    found = made(tmp_path)
    add(tmp_path, found, kind="look", whole=True)
    with (tmp_path / LOG).open("ab") as file:
        file.write(b'{"time": "20')
    assert read_review(tmp_path).revision == 1
    assert add(tmp_path, found, kind="look", whole=False).revision == 2
    assert len((tmp_path / LOG).read_bytes().splitlines()) == 2


def test_a_damaged_line_is_refused_by_its_number(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / LOG).write_text("{}\n", encoding="utf-8")
    with pytest.raises(SlideError, match="line 1"):
        read_review(tmp_path)


def test_two_windows_at_once_lose_nothing_of_each_other(tmp_path: Path) -> None:
    found = made(tmp_path)

    def draw(who: str, top: int) -> None:
        for i in range(12):
            add(tmp_path, found, who, kind="draw", meaning="tumour", points=square(20 * i, top, 15))

    windows = [threading.Thread(target=draw, args=(who, top)) for who, top in (("ada", 10), ("ben", 400))]
    for window in windows:
        window.start()
    for window in windows:
        window.join()
    drawings = read_review(tmp_path).drawings.values()
    assert sorted(drawing.who for drawing in drawings) == ["ada"] * 12 + ["ben"] * 12
    assert len(json.loads((tmp_path / REVIEW).read_text("utf-8"))["features"]) == 24 + 2


def test_a_folder_that_is_closed_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = made(tmp_path)

    def closed(**_: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(review.tempfile, "TemporaryFile", closed)
    assert "not writable" in str(review.reason_not_writable(tmp_path))
    with pytest.raises(OutputError, match="review cannot be saved"):
        add(tmp_path, found, kind="look", whole=True)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 15)), max_size=8))
def test_undoing_everything_leaves_nothing(tmp_path_factory: pytest.TempPathFactory, steps: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("review")
    found = made(folder)
    done = []
    for kind, place in steps:
        identifier = str(uuid4())
        operation: dict[str, Any] = {
            "a": {"kind": "judge", "lesion": lesion(folder, 1 + place % 2), "verdict": "rejected"},
            "b": {"kind": "draw", "meaning": "normal", "points": square(30 * place, 20, 25)},
            "c": {"kind": "comment", "target": lesion(folder, 1), "text": f"{place}"},
            "d": {"kind": "look", "whole": bool(place % 2)},
        }[kind]
        add(folder, found, id=identifier, **operation)
        done.append(identifier)
    for identifier in reversed(done):
        add(folder, found, kind="undo", operation=identifier)
    assert read_review(folder) == Review(revision=2 * len(done))
    assert not (folder / REVIEW).exists()


@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.ENOSYS])
def test_on_a_disk_without_locks_a_lease_is_held_and_one_that_was_lost_saves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    fcntl = pytest.importorskip("fcntl", reason="locks of this system do not depend on the disk")

    def refused(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(fcntl, "flock", refused)
    found = made(tmp_path)
    for _ in range(2):
        add(tmp_path, found, kind="look", whole=True)
    assert (tmp_path / LOCKS / leases.MARK).exists() and not list(tmp_path.rglob("*.lease"))
    before = (tmp_path / LOG).read_bytes()

    def lost(_: leases.Hold) -> None:
        raise leases.LeaseLost

    monkeypatch.setattr(leases.Hold, "require", lost)
    with pytest.raises(OutputError, match="was not saved"):
        add(tmp_path, found, kind="look", whole=True)
    assert (tmp_path / LOG).read_bytes() == before
