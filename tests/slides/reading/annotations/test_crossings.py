"""Regions that would take hours to unite are refused before it is tried, and drawn ones are not."""

import numpy as np
import pytest
import shapely
from annotation_files import feature, geojson, polygon
from hypothesis import given, settings
from hypothesis import strategies as st
from made_maps import square

from sentinode.errors import AnnotationError
from sentinode.slides.reading.annotations import crossings, read_annotations
from sentinode.slides.reading.annotations.crossings import cross

SLANTING = [(0, 0), (100, 100), (104, 100), (4, 0)]


@pytest.fixture
def read(tmp_path):
    return lambda *features: read_annotations(geojson(tmp_path / "a.geojson", *features))


def strip(x, y, width, height):
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def ring(corners, turns=1, side=1000.0):
    at = 2 * np.pi * turns / corners * np.arange(corners)
    return (5000 + side * np.stack([np.cos(at), np.sin(at)], axis=1)).tolist()


place = st.tuples(st.integers(0, 4), st.integers(0, 4))
side = st.tuples(place, place).filter(lambda ends: ends[0] != ends[1])


@settings(deadline=None, max_examples=300)
@given(side, side)
def test_sides_cross_unless_they_meet_in_a_corner_of_both_or_are_the_same(first, second):
    a, b = shapely.LineString(first), shapely.LineString(second)
    shared = len({*first} & {*second})
    expected = a.intersects(b) and not (shared == 2 or (shared == 1 and a.intersection(b).geom_type == "Point"))
    if shapely.box(*a.bounds).intersects(shapely.box(*b.bounds)):
        assert cross(np.array([first], float), np.array([second], float)).tolist() == [expected]


def test_regions_that_cross_each_other_more_often_than_can_be_united_are_refused(read, monkeypatch):
    monkeypatch.setattr(crossings, "MOST_CROSSINGS", 7)
    lying = feature(polygon(strip(0, 3, 9, 1)))
    for meaning in ("Tumor", "normal"):
        upright = [feature(polygon(strip(x, 0, 1, 9)), meaning) for x in (2, 5)]
        assert read(lying, upright[0]).area.area == (17 if meaning == "Tumor" else 8)
        with pytest.raises(AnnotationError, match="cross each other more than 7 times") as refused:
            read(lying, *upright)
        assert "simplify the outlines" in str(refused.value)


def test_a_region_may_cross_itself_less_often_than_two_may_cross(read, monkeypatch):
    monkeypatch.setattr(crossings, "MOST_OF_ONE", 20)
    assert read(feature(polygon(ring(7, 3)))).area.area > 0  # 14 times
    with pytest.raises(AnnotationError, match="region 'star' crosses itself more than 20 times"):
        read(feature(polygon(ring(11, 3)), name="star"))
    halves = {"type": "MultiPolygon", "coordinates": [[strip(0, 3, 9, 1)], *([strip(x, 0, 1, 9)] for x in (2, 4))]}
    assert read(feature(halves)).area.area == 9 + 2 * 8


def test_long_sides_beside_each_other_are_refused_although_none_crosses(read, monkeypatch):
    monkeypatch.setattr(crossings, "MOST_NEAR", 1000)
    beside = [feature(polygon([(x + 9 * i, y) for x, y in SLANTING])) for i in range(50)]
    assert len(read(*beside[:5]).tumour) == 5
    with pytest.raises(AnnotationError, match="come near each other more than 1,000 times"):
        read(*beside)


def test_more_corners_than_are_read_are_refused(read, monkeypatch):
    monkeypatch.setattr(crossings, "MOST_CORNERS", 50)
    assert read(feature(polygon(ring(49)))).tumour  # and the point that closes it
    with pytest.raises(AnnotationError, match="more than 50 corners"):
        read(feature(polygon(ring(30))), feature(polygon(ring(20)), "normal"))


def test_regions_that_are_drawn_twice_and_corners_that_stand_twice_cross_nothing(read, monkeypatch):
    for name in ("MOST_CROSSINGS", "MOST_OF_ONE"):
        monkeypatch.setattr(crossings, name, 0)
    outline = [corner for corner in [*ring(40), *ring(40)[:1]] for _ in range(2)]
    assert len(read(*[feature(polygon(outline))] * 3).tumour) == 3
    straight = [(0, 0), (1, 0), (2, 0), (3, 0), (3, 3), (0, 3)]
    assert read(feature(polygon(straight, [(1, 1), (2, 1), (2, 2)]))).area.area == 8.5


def test_the_pairs_are_the_same_however_few_are_held_at_once(read, monkeypatch):
    monkeypatch.setattr(crossings, "AT_A_TIME", 1)
    monkeypatch.setattr(crossings, "MOST_CROSSINGS", 2)
    crossing = [feature(polygon(square(at, at, 4))) for at in (0, 2)]
    assert read(*crossing).area.area == 2 * 16 - 4
    with pytest.raises(AnnotationError, match="cross each other more than 2 times"):
        read(*crossing, feature(polygon(square(3, 3, 4))))
