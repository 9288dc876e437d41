"""The outline of squares is valid and covers just those squares."""

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from sentinode.slides.results.outline import outline

regions = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=9)).filter(np.any)


@given(regions)
def test_it_covers_exactly_the_squares_and_is_valid(region):
    rows, columns = np.nonzero(region)
    traced = outline(region)
    assert traced.is_valid
    assert traced.equals(shapely.union_all(shapely.box(columns, rows, columns + 1, rows + 1)))


def test_a_ring_has_a_hole():
    region = np.ones((3, 3), bool)
    region[1, 1] = False
    (polygon,) = outline(region).geoms
    assert len(polygon.interiors) == 1
    assert polygon.area == 8


def test_holes_that_touch_at_a_corner_stay_two_holes():
    region = np.ones((4, 4), bool)
    region[1, 1] = region[2, 2] = False
    (polygon,) = outline(region).geoms
    assert [shapely.Polygon(hole).area for hole in polygon.interiors] == [1, 1]


def test_squares_that_touch_at_a_corner_are_two_polygons():
    assert len(outline(np.eye(2, dtype=bool)).geoms) == 2


@given(st.integers(1, 40), st.integers(1, 40))
def test_straight_borders_have_no_needless_corners(rows, columns):
    (polygon,) = outline(np.ones((rows, columns), bool)).geoms
    assert len(polygon.exterior.coords) == 5
