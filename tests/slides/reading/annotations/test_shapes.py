"""Outlines and holes become valid areas: loops stay filled, and no hole adds area."""

import json
import time

import numpy as np
import pytest
import shapely
from annotation_files import feature, geojson, polygon
from hypothesis import given, settings
from hypothesis import strategies as st
from made_maps import asap, square

from sentinode.slides.reading.annotations import read_annotations
from sentinode.slides.reading.annotations.drawing import Drawing, Malformed
from sentinode.slides.reading.annotations.shapes import areas_of

T = square(100, 100, 200)


def area(tmp_path, *features):
    annotations = read_annotations(geojson(tmp_path / "a.geojson", *features))
    return annotations.area.area, annotations.warnings


@pytest.mark.parametrize(
    ("holes", "left"),
    [
        ([square(500, 500, 50)], 40_000),  # outside
        ([square(500, 500, 50), square(150, 150, 50)], 37_500),
        ([square(280, 280, 50)], 40_000 - 20**2),  # across the border
        ([square(150, 150, 50), square(175, 175, 50)], 40_000 - 2 * 2500 + 25**2),  # overlapping
        ([square(150, 150, 50), square(160, 160, 10)], 37_500),  # one in the other
        ([square(150, 150, 50), square(150, 150, 50)], 37_500),  # twice
        ([[(150, 150), (200, 200), (200, 150), (150, 200)]], 40_000 - 1250),  # crossing itself
        ([square(100, 100, 50)], 37_500),  # along the border
        ([square(0, 0, 900)], None),  # all of it
    ],
)
def test_holes_only_ever_take_area_away(tmp_path, holes, left):
    cut = feature(polygon(T, *holes), name="x")
    if left is None:
        return self_refused(tmp_path, cut)
    found, warnings = area(tmp_path, cut)
    assert found == left
    assert [w.startswith("region 'x' is not a simple polygon") for w in warnings] == [True]
    return None


def self_refused(tmp_path, cut):
    with pytest.raises(Exception, match="nothing with an area was left"):
        area(tmp_path, cut)


def test_an_island_in_a_hole_counts(tmp_path):
    rings = [polygon(square(100, 100, 300), square(150, 150, 200)), polygon(square(200, 200, 50))]
    donut = {"type": "MultiPolygon", "coordinates": [ring["coordinates"] for ring in rings]}
    assert area(tmp_path, feature(donut)) == (90_000 - 40_000 + 2500, ())
    assert area(tmp_path, *map(feature, rings)) == (90_000 - 40_000 + 2500, ())


def test_parts_that_overlap_count_once_and_that_is_said(tmp_path):
    rings = [polygon(square(0, 0, 100)), polygon(square(50, 0, 100))]
    both = {"type": "MultiPolygon", "coordinates": [ring["coordinates"] for ring in rings]}
    found, (warning,) = area(tmp_path, feature(both))
    assert found == 15_000
    assert "its parts overlap" in warning


def test_a_polygon_that_crosses_itself_is_repaired_and_said(tmp_path):
    annotations = read_annotations(asap(tmp_path / "a.xml", [(0, 0), (10, 10), (10, 0), (0, 10)]))
    assert annotations.area.is_valid
    assert annotations.area.area == 50
    assert annotations.warnings == (
        "region 'Annotation 0' is not a simple polygon (self-intersection) and was repaired.",
    )


def test_a_loop_of_the_pen_stays_filled(tmp_path):
    loop = [(0, 0), (10, 0), (10, 10), (4, 10), (4, 4), (6, 4), (6, 12), (0, 12)]
    assert read_annotations(asap(tmp_path / "a.xml", loop)).area.contains(shapely.Point(5, 7))


def test_a_ring_that_touches_itself_in_a_point_keeps_its_area(tmp_path):
    touching = [(0, 0), (10, 0), (10, 10), (5, 0), (0, 10)]
    assert area(tmp_path, feature(polygon(touching)))[0] == 50


@pytest.mark.parametrize("points", [[], [(1, 1)], [(1, 1), (2, 2)], [(1, 1), (2, 2), (3, 3)]])
def test_a_region_without_area_is_left_out_and_said(tmp_path, points):
    annotations = read_annotations(asap(tmp_path / "a.xml", points, square(0, 0, 4)))
    assert len(annotations.tumour) == 1
    assert annotations.warnings == ("region 'Annotation 0' has no area and was left out.",)


corners = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=6)


@settings(deadline=None, max_examples=200)
@given(corners, st.lists(corners, max_size=3))
def test_any_polygon_is_its_outlines_area_without_its_holes(outline, holes):
    def filled(ring):
        return shapely.make_valid(shapely.Polygon(ring), method="structure", keep_collapsed=False)

    expected = filled(outline).difference(shapely.union_all([filled(hole) for hole in holes]))
    drawing = Drawing("x", ("Tumor",), [[np.array(ring, float) for ring in (outline, *holes)]])
    (shape,) = areas_of([drawing], scale=2.0).shapes
    assert (0 if shape is None else shape.area) == pytest.approx(4 * expected.area)
    assert shape is None or shape.is_valid


def test_sixty_thousand_regions_take_seconds(tmp_path):
    """13 s before. Now some five times what the JSON alone takes; processor time, since other programs run beside."""
    squares = (feature(polygon(square(3 * (i % 300), 3 * (i // 300), 2))) for i in range(60_000))
    path = geojson(tmp_path / "many.geojson", *squares)
    began = time.process_time()
    json.loads(path.read_text())
    parsed = time.process_time()
    annotations = read_annotations(path).on(1000, 1000)
    assert annotations.area.area == 240_000
    assert annotations.mask(1000, 1000).sum() == 240_000
    assert time.process_time() - parsed < 12 * (parsed - began)


def test_thousands_of_faults_are_one_sentence(tmp_path):
    dots = (feature({"type": "Point", "coordinates": [i, i]}, name=f"n{i}") for i in range(5000))
    _, warnings = area(tmp_path, *dots, feature(polygon(T)))
    assert warnings == ("5000 regions ('n0', 'n1', 'n2', ...) have no area and were left out.",)


def test_an_outline_that_crosses_itself_countless_times_is_refused_and_not_repaired_for_hours() -> None:
    corners = 2001
    turn = 2 * np.pi * (corners // 2) / corners * np.arange(corners)
    star = 5000 + 4000 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    with pytest.raises(Malformed, match="region 'star' crosses itself more than 10,000 times"):
        areas_of([Drawing("star", ("tumour",), [[star]])])


def test_one_that_crosses_itself_a_few_times_for_each_corner_is_repaired() -> None:
    turn = 2 * np.pi * 3 / 7 * np.arange(7)
    star = 50 + 40 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    areas = areas_of([Drawing("star", ("tumour",), [[star]])])
    assert areas.shapes[0] is not None and areas.repaired
