"""The pages of a batch: sorted by score, linked, and without anything from elsewhere."""

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from made_maps import blob, made_map, made_point
from slide_files import tissue_picture, write_tiff

from sentinode.errors import SlideError
from sentinode.model.slide_operating_point import ChosenOn, Reached, SlideOperatingPoints, Target
from sentinode.slides.reading.slide import open_slide
from sentinode.slides.results.lesions import MICRO, NEGATIVE
from sentinode.slides.results.outputs import TOTALS, write_outputs
from sentinode.slides.results.staging import Patient
from sentinode.slides.results.summary import PAGE, read_rows, write_summary
from sentinode.slides.scanning.manifest import FAILED, MANIFEST, RUNNING, SlideState
from sentinode.slides.scanning.probability_map import write_map
from sentinode.slides.scanning.tissue import find_tissue

POINTS = SlideOperatingPoints(
    points={
        "balanced": made_point(reach=0.65).model_copy(
            update={
                "target": Target(false_lesions=0.25, clean_negatives=0.9),
                "chosen_on": ChosenOn(
                    description="slides <of> ours", slides=20, positive=9, negative=11, lesions=17, window_um=31.1
                ),
                "reached": {"clean_negatives": Reached(value=0.9, low=0.6, high=0.98, n=11)},
            }
        )
    }
)


class Page(HTMLParser):
    """What a page shows and refers to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.text, self.tags = [], "", set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.links += [value for name, value in attributes if name in ("href", "src")]

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """Three scanned slides, one with a name that needs care, and one that failed."""
    folder = tmp_path_factory.mktemp("batch")
    path = folder / "slide.tif"
    write_tiff(path, tissue_picture(640, 480), mpp=0.972)
    with open_slide(path) as slide:
        tissue = find_tissue(slide)
        for name, high in (("low", 0.6), ("high & <odd> #1", 0.99), ("none", 0.1)):
            made = made_map(blob(15, 20, (3, 3, 9, 9), high=high), name=f"{name}.tif")
            (folder / name).mkdir()
            write_map(folder / name, made)
            write_outputs(folder / name, slide, made, tissue, points=POINTS)
    state = SlideState("cut", "cut.svs", FAILED, "the slide is truncated.")
    (folder / "cut").mkdir()
    (folder / "cut" / MANIFEST).write_text(json.dumps(dataclasses.asdict(state)))
    return folder


def test_the_highest_score_comes_first_and_failures_last(batch):
    assert [row.name for row in read_rows(batch)] == ["high & <odd> #1", "low", "none", "cut"]


def test_every_link_leads_to_a_file_of_the_batch(batch):
    page = write_summary(batch)
    assert page == batch / PAGE
    for path in (page, *(batch / row.name / PAGE for row in read_rows(batch) if row.totals)):
        shown = Page(path)
        assert shown.links
        for link in shown.links:
            assert (path.parent / unquote(link)).is_file(), link
        assert "script" not in shown.tags
        assert not re.search(r"https?:|url\(|@import", path.read_text(encoding="utf-8"))


def test_names_and_reasons_are_shown_as_they_are(batch):
    text = Page(write_summary(batch)).text
    assert "high & <odd> #1" in text
    assert "the slide is truncated." in text
    assert "4 slides: 1 with a lesion, 1 uncertain, 1 without a result" in text
    assert "For research, not for diagnosis." in text


def test_the_pages_lead_with_the_verdict_and_say_by_which_point(batch):
    shown = Page(write_summary(batch)).text
    pages = {name: Page(batch / name / PAGE).text for name in ("high & <odd> #1", "low", "none")}
    for text, sentence in (
        (pages["high & <odd> #1"], "Micrometastasis: one lesion, 0.26 mm."),
        (pages["low"], "Negative, uncertain: look at region 1 (P(lesion) 0.60, 0.26 mm)."),
        (pages["none"], "Negative: no lesion was found."),
    ):
        assert sentence in shown
        assert sentence in text
        for words in (shown, text):
            assert "at most 0.25 false lesions on a negative slide, at least 90%" in words
            assert "slides <of> ours (20 slides, 11 without tumour, and 17 lesions)" in words
            assert "0.90 (0.60 to 0.98)" in words
    assert "P(slide is positive): 0.99" in pages["high & <odd> #1"]
    assert "Uncertain regions" in pages["low"] and "Uncertain regions" not in pages["none"]
    assert "do not hold here" not in shown


def test_a_point_that_was_chosen_on_other_windows_is_said_to_be(batch):
    record = json.loads((batch / "none" / TOTALS).read_text())
    (batch / "none" / TOTALS).write_text(json.dumps(record | {"window_um": 93.3}))
    write_summary(batch)
    assert "a window every 31.1 µm, and this map has one every 93.3 µm" in Page(batch / "none" / PAGE).text
    (batch / "none" / TOTALS).write_text(json.dumps(record))


def test_a_point_that_was_chosen_on_maps_of_the_other_reading_is_said_to_be(batch):
    record = json.loads((batch / "none" / TOTALS).read_text())
    (batch / "none" / TOTALS).write_text(json.dumps(record | {"engine": "torch cpu float32 dense"}))
    write_summary(batch)
    sentence = "chosen on maps that were read patch by patch, and this map was read densely"
    for page in (batch / PAGE, batch / "none" / PAGE):
        assert sentence in Page(page).text
    assert sentence not in Page(batch / "low" / PAGE).text
    (batch / "none" / TOTALS).write_text(json.dumps(record))


def test_totals_of_an_earlier_version_are_not_shown_and_the_way_out_is(batch):
    old = (batch / "none" / TOTALS).read_text()
    (batch / "none" / TOTALS).write_text('{"format": 1, "score": 0.1}')
    (row,) = [row for row in read_rows(batch) if row.name == "none"]
    assert row.totals is None and "earlier version; 'sentinode lesions'" in row.reason
    (batch / "none" / TOTALS).write_text(old)


def test_what_could_not_be_written_again_is_said_beside_the_old_result(batch):
    rows = {row.name: row for row in read_rows(batch, failed={"low": "the slide is gone."})}
    assert rows["low"].totals is not None and "the slide is gone." in rows["low"].reason
    text = Page(write_summary(batch, failed={"low": "the slide is gone."})).text
    assert "could not write its files: the slide is gone." in text


def test_a_slide_that_is_being_scanned_again_shows_nothing_old(batch):
    state = SlideState("low", "low.svs", RUNNING)
    (batch / "low" / MANIFEST).write_text(json.dumps(dataclasses.asdict(state)))
    (row,) = [row for row in read_rows(batch) if row.name == "low"]
    assert row.totals is None and row.reason == "not finished"
    (batch / "low" / MANIFEST).unlink()


def test_a_path_whose_bytes_are_no_text_does_not_stop_the_page(batch):
    state = SlideState("cut", "\udcff.svs", FAILED, "\udcff.svs: the slide is truncated.")
    (batch / "cut" / MANIFEST).write_text(json.dumps(dataclasses.asdict(state)))
    assert "?.svs: the slide is truncated." in write_summary(batch).read_text(encoding="utf-8")


def test_patients_are_listed_with_their_stage(batch):
    text = Page(write_summary(batch, patients=[Patient("p<1>", "pN1mi", {"a": MICRO, "b": NEGATIVE})])).text
    assert "p<1>" in text
    assert "pN1mi" in text
    assert "a: micrometastasis; b: negative" in text


def test_the_pages_repeat_byte_for_byte(batch):
    first, again = (write_summary(batch).read_bytes() for _ in range(2))
    assert first == again


def test_a_folder_without_slides_is_refused(tmp_path):
    with pytest.raises(SlideError, match="no scanned slides here"):
        write_summary(tmp_path)


def test_totals_of_another_version_are_refused_with_a_way_out(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / TOTALS).write_text('{"unknown": 1}')
    with pytest.raises(SlideError, match="sentinode lesions"):
        write_summary(tmp_path)


def test_a_share_that_would_be_shown_as_nothing_is_not_listed(batch, tmp_path):
    copy = shutil.copytree(batch, tmp_path / "batch")
    totals = json.loads((copy / "low" / TOTALS).read_text())
    (copy / "low" / TOTALS).write_text(json.dumps(totals | {"unassessable": {"fold": 0.02, "ink": 0.0002}}))
    write_summary(copy)
    shown = Page(copy / "low" / PAGE).text
    assert "2.0 % of the tissue: fold" in shown
    assert "of the tissue: ink" not in shown
