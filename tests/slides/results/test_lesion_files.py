"""Lesions as QuPath imports them and as a table."""

import csv
import json
import tracemalloc

import numpy as np
import pytest
import shapely
from made_maps import blob, made_map, made_point

from sentinode.slides.reading.annotations import read_annotations
from sentinode.slides.results.lesion_files import COLUMNS, write_geojson, write_table
from sentinode.slides.results.lesions import find_lesions

CUT = made_point()


def a_slide_of_lesions():
    probability = blob(120, 120, (20, 20, 90, 90), high=0.99)
    probability[100:112, 5:17], probability[5:9, 5:9] = 0.95, 0.9
    probability[40:50, 40:50] = 0.01  # a hole
    probability[95:, 60:] = np.nan
    return find_lesions(made_map(probability, stride=32.5), point=CUT)


def test_qupath_finds_class_colour_name_and_measurements(tmp_path):
    lesions = a_slide_of_lesions()
    write_geojson(tmp_path / "lesions.geojson", lesions)
    content = json.loads((tmp_path / "lesions.geojson").read_text())
    assert content["type"] == "FeatureCollection"
    first, second, third = (feature["properties"] for feature in content["features"])
    assert first["objectType"] == "annotation"
    assert first["name"] == "Lesion 1"
    assert first["classification"] == {"name": "Macrometastasis", "color": [213, 94, 0]}
    assert second["classification"]["name"] == "Micrometastasis"
    assert third["classification"]["name"] == "Isolated tumour cells"
    assert first["measurements"]["P(lesion)"] == round(lesions.found[0].score, 6)
    assert first["measurements"]["Longest diameter (um)"] == round(lesions.found[0].diameter_um, 1)
    assert all(isinstance(value, int | float) for value in first["measurements"].values())


def test_polygons_are_valid_closed_wound_by_the_standard_and_keep_their_holes(tmp_path):
    lesions = a_slide_of_lesions()
    write_geojson(tmp_path / "lesions.geojson", lesions)
    features = json.loads((tmp_path / "lesions.geojson").read_text())["features"]
    for lesion, feature in zip(lesions, features, strict=True):
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.is_valid
        assert shape.area == lesion.windows * 32.5**2
        for polygon in shapely.get_parts(shape):
            assert shapely.is_ccw(polygon.exterior)
            assert not any(shapely.is_ccw(hole) for hole in polygon.interiors)
    rings = features[0]["geometry"]["coordinates"]
    assert len(rings) == 2
    assert all(ring[0] == ring[-1] for ring in rings)


def test_what_is_written_reads_back_as_annotations(tmp_path):
    lesions = a_slide_of_lesions()
    write_geojson(tmp_path / "lesions.geojson", lesions)
    annotations = read_annotations(tmp_path / "lesions.geojson")
    assert [region.name for region in annotations.tumour] == ["Lesion 1", "Lesion 2", "Lesion 3"]
    assert annotations.area.area == sum(lesion.windows for lesion in lesions) * 32.5**2


def test_uncertain_regions_are_in_no_file_of_lesions(tmp_path):
    probability = blob(60, 60, (5, 5, 20, 20), high=0.99)
    probability[30:40, 30:40] = 0.88
    lesions = find_lesions(made_map(probability), point=made_point(reach=0.9))
    assert len(lesions.uncertain) == 1
    write_geojson(tmp_path / "a.geojson", lesions)
    write_table(tmp_path / "a.csv", lesions)
    assert len(features_of(tmp_path / "a.geojson")) == 1
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 2


def features_of(path):
    return json.loads(path.read_text())["features"]


def test_coordinates_count_from_the_bounds_to_which_qupath_crops(tmp_path):
    """And the file says so, for programs that do not."""
    boxes = (5, 5, 9, 9), (20, 20, 30, 30)
    whole = find_lesions(made_map(blob(60, 60, *boxes)), point=CUT)
    bounded = find_lesions(made_map(blob(60, 60, *boxes), bounds=(480, 288, 1000, 900)), point=CUT)
    write_geojson(tmp_path / "whole.geojson", whole)
    write_geojson(tmp_path / "bounded.geojson", bounded)
    write_geojson(tmp_path / "asked.geojson", bounded, whole_slide_coordinates=True)
    for feature, moved in zip(
        *map(features_of, (tmp_path / "whole.geojson", tmp_path / "bounded.geojson")), strict=True
    ):
        here, there = (np.array(one["geometry"]["coordinates"]) for one in (feature, moved))
        np.testing.assert_array_equal(here - there, np.broadcast_to((480, 288), here.shape))
        assert moved["id"] == feature["id"]
    assert features_of(tmp_path / "asked.geojson") == features_of(tmp_path / "whole.geojson")
    frames = [
        json.loads((tmp_path / f"{name}.geojson").read_text())["sentinode"] for name in ("whole", "bounded", "asked")
    ]
    assert frames == [
        {"coordinates": "slide"},
        {"coordinates": "bounds", "bounds": [480, 288, 1000, 900]},
        {"coordinates": "slide"},
    ]


def test_the_table_counts_from_the_slides_corner_whatever_its_bounds(tmp_path):
    for name, bounds in (("whole", None), ("bounded", (480, 288, 1000, 900))):
        write_table(tmp_path / name, find_lesions(made_map(blob(60, 60, (5, 5, 9, 9)), bounds=bounds), point=CUT))
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "bounded").read_bytes()


def test_windows_that_touch_at_corners_become_one_multipolygon(tmp_path):
    write_geojson(tmp_path / "a.geojson", find_lesions(made_map(np.eye(4) * 0.9), point=CUT))
    (feature,) = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert feature["geometry"]["type"] == "MultiPolygon"
    assert shapely.geometry.shape(feature["geometry"]).is_valid


def test_no_lesion_is_an_empty_collection(tmp_path):
    write_geojson(tmp_path / "a.geojson", find_lesions(made_map(blob(9, 9))))
    assert json.loads((tmp_path / "a.geojson").read_text())["features"] == []
    write_table(tmp_path / "a.csv", find_lesions(made_map(blob(9, 9))))
    assert (tmp_path / "a.csv").read_text().splitlines() == [",".join(COLUMNS)]


def test_the_table_holds_the_measurements(tmp_path):
    lesions = a_slide_of_lesions()
    write_table(tmp_path / "lesions.csv", lesions)
    rows = list(csv.DictReader((tmp_path / "lesions.csv").open()))
    assert [int(row["lesion"]) for row in rows] == [1, 2, 3]
    assert [row["category"] for row in rows] == [lesion.category for lesion in lesions]
    assert [float(row["score"]) for row in rows] == pytest.approx([0.99, 0.95, 0.9], abs=1e-5)
    assert float(rows[1]["diameter_um"]) == round(lesions.found[1].diameter_um, 1)


def test_memory_does_not_grow_with_the_file(tmp_path):
    """The file is written lesion by lesion, never held."""
    # Long outlines, so that the file outweighs each lesion's bounding box, which is held, and uncollected garbage.
    comb = np.full((60, 60), 0.01, np.float32)
    comb[1:58, 1:58:2] = comb[1, 1:58] = 0.9
    peaks, sizes = [], []
    for times in (2, 10):
        lesions = find_lesions(made_map(np.tile(comb, (times, times))), point=CUT)
        assert len(lesions) == times**2
        tracemalloc.start()
        write_geojson(tmp_path / "a.geojson", lesions)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        sizes.append((tmp_path / "a.geojson").stat().st_size)
    assert peaks[1] - peaks[0] < (sizes[1] - sizes[0]) / 2


def test_the_same_map_gives_the_same_bytes(tmp_path):
    for name in ("a.geojson", "b.geojson"):
        write_geojson(tmp_path / name, a_slide_of_lesions())
    assert (tmp_path / "a.geojson").read_bytes() == (tmp_path / "b.geojson").read_bytes()
