"""Everything that is made of a map, in one folder, whole and repeatable."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from made_maps import asap, blob, made_map, made_point, square
from slide_files import tissue_picture, write_tiff

from sentinode.errors import OutputError, SlideError
from sentinode.model.slide_operating_point import GENERAL, SlideOperatingPoints
from sentinode.slides.reading.annotations import read_annotations
from sentinode.slides.reading.slide import open_slide
from sentinode.slides.results import lesions as finding
from sentinode.slides.results.lesions import NEGATIVE, find_lesions
from sentinode.slides.results.outputs import GEOJSON, OME_TIFF, OUTPUTS, TABLE, TOTALS, read_totals, write_outputs
from sentinode.slides.scanning.tissue import find_tissue

FILES = set(OUTPUTS)


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("slides") / "one.tif"
    write_tiff(path, tissue_picture(640, 480), mpp=0.972)
    with open_slide(path) as opened:
        yield opened


def a_map(slide, *boxes):
    probability_map = made_map(blob(15, 20, *boxes), name=slide.path.name)
    tissue = find_tissue(slide)
    inside = tissue.cells(15, 20, 32.0)
    return dataclasses.replace(
        probability_map, probability=np.where(inside, probability_map.probability, np.nan).astype(np.float32)
    ), tissue


def test_all_files_are_there_and_say_the_same(slide, tmp_path):
    probability_map, tissue = a_map(slide, (0, 0, 15, 20))
    truth = read_annotations(asap(tmp_path / "truth.xml", square(200, 200, 150)))
    write_outputs(tmp_path / "out", slide, probability_map, tissue, truth=truth)
    lesions = find_lesions(probability_map)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    totals = read_totals(tmp_path / "out")
    assert totals.category == lesions.category != NEGATIVE
    assert totals.score == pytest.approx(lesions.score, abs=1e-6)
    rows = list(csv.DictReader((tmp_path / "out" / TABLE).open()))
    features = json.loads((tmp_path / "out" / GEOJSON).read_text())["features"]
    assert len(rows) == len(features) == sum(totals.lesions.values()) == len(lesions)
    assert totals.tumour_mm2 == pytest.approx(sum(float(row["area_mm2"]) for row in rows), abs=1e-5)
    assert totals.scanned_mm2 == pytest.approx(probability_map.tissue.sum() * (32 * 0.972) ** 2 / 1e6, abs=1e-5)
    assert totals.largest_um == pytest.approx(lesions.largest.diameter_um, abs=0.1)


def test_the_totals_say_from_where_the_lesions_count(slide, tmp_path):
    probability_map, tissue = a_map(slide, (5, 5, 10, 10))
    bounded = dataclasses.replace(
        probability_map, slide=dataclasses.replace(probability_map.slide, bounds=(32, 64, 500, 400))
    )
    write_outputs(tmp_path / "one", slide, bounded, tissue)
    write_outputs(tmp_path / "two", slide, bounded, tissue, whole_slide_coordinates=True)
    assert read_totals(tmp_path / "one").geojson == {"coordinates": "bounds", "bounds": [32, 64, 500, 400]}
    assert read_totals(tmp_path / "two").geojson == {"coordinates": "slide"}


def test_totals_of_an_earlier_version_count_from_the_slides_corner(slide, tmp_path):
    probability_map, tissue = a_map(slide)
    write_outputs(tmp_path, slide, probability_map, tissue)
    record = json.loads((tmp_path / TOTALS).read_text())
    del record["geojson"]
    (tmp_path / TOTALS).write_text(json.dumps(record))
    assert read_totals(tmp_path).geojson == {"coordinates": "slide"}


def test_the_same_map_gives_the_same_bytes(slide, tmp_path):
    probability_map, tissue = a_map(slide, (5, 5, 10, 10))
    for name in ("one", "two"):
        write_outputs(tmp_path / name, slide, probability_map, tissue)
    for file in FILES:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_a_map_is_smoothed_once(slide, tmp_path, monkeypatch):
    smooth, calls = finding.smoothed_log_odds, []
    monkeypatch.setattr(finding, "smoothed_log_odds", lambda *args: calls.append(1) or smooth(*args))
    write_outputs(tmp_path, slide, *a_map(slide, (5, 5, 10, 10)))
    assert len(calls) == 1


def test_the_totals_hold_the_verdict_the_uncertain_regions_and_the_point(slide, tmp_path):
    probability_map, tissue = a_map(slide, (0, 0, 15, 20))
    points = SlideOperatingPoints(points={"specific": made_point(reach=0.96)}, default="specific")
    write_outputs(tmp_path, slide, probability_map, tissue, points=points)
    totals = read_totals(tmp_path)
    (region,) = totals.uncertain
    assert (totals.category, region["number"]) == (NEGATIVE, 1)
    assert totals.verdict["look_at"] == [1] and not totals.verdict["certain"]
    assert "uncertain: look at region 1" in totals.verdict["sentence"]
    assert totals.operating_point["name"] == "specific" and totals.operating_point["reach"] == 0.96
    assert totals.score == pytest.approx(0.95, abs=1e-5)
    assert json.loads((tmp_path / GEOJSON).read_text())["features"] == []


def test_without_an_operating_point_the_general_one_is_recorded(slide, tmp_path):
    write_outputs(tmp_path, slide, *a_map(slide))
    record = read_totals(tmp_path).operating_point
    assert record.pop("name") == "balanced"
    assert record == GENERAL.point.model_dump(mode="json")


def test_totals_of_format_1_are_refused_since_their_score_was_another(slide, tmp_path):
    write_outputs(tmp_path, slide, *a_map(slide))
    record = json.loads((tmp_path / TOTALS).read_text()) | {"format": 1}
    (tmp_path / TOTALS).write_text(json.dumps(record))
    with pytest.raises(SlideError, match=r"have format 1(.|\n)*sentinode lesions"):
        read_totals(tmp_path)


def test_a_slide_without_tissue_has_no_score_and_all_files(slide, tmp_path):
    probability_map, tissue = a_map(slide)
    nothing = dataclasses.replace(probability_map, probability=np.full_like(probability_map.probability, np.nan))
    write_outputs(tmp_path, slide, nothing, tissue)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    totals = read_totals(tmp_path)
    assert (totals.score, totals.category, totals.scanned_mm2) == (None, NEGATIVE, 0)


def test_a_full_disk_half_way_leaves_no_half_written_file(slide, tmp_path, monkeypatch):
    probability_map, tissue = a_map(slide, (5, 5, 10, 10))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "out" / f".{OME_TIFF}"))

    monkeypatch.setattr("tifffile.TiffWriter.write", full)
    with pytest.raises(OutputError, match="the disk is full"):
        write_outputs(tmp_path / "out", slide, probability_map, tissue)
    assert {path.name for path in (tmp_path / "out").iterdir()} < FILES


def test_totals_that_are_missing_or_broken_are_refused(tmp_path):
    for content in (None, "{", "{}", "[]"):
        if content is not None:
            (tmp_path / TOTALS).write_text(content)
        with pytest.raises(SlideError, match="totals cannot be read"):
            read_totals(tmp_path)
