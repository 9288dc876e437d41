"""A pixel belongs to a region where its centre does."""

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinode.slides.reading.annotations import raster, rasterise


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 25), st.floats(-5, 25)), min_size=3, max_size=9), st.floats(0.5, 3))
def test_a_pixel_is_tumour_where_its_centre_is(points, downsample):
    region = shapely.make_valid(shapely.Polygon(points), method="structure", keep_collapsed=False)
    parts = [p for p in shapely.get_parts(shapely.get_parts([region])) if isinstance(p, shapely.Polygon)]
    region = shapely.MultiPolygon(parts)
    mask = rasterise(region, (20, 20), downsample)
    y, x = (np.mgrid[:20, :20] + 0.5) * downsample
    clear = shapely.distance(region.boundary, shapely.points(x, y)) > 1e-6
    np.testing.assert_array_equal(mask[clear] == 1, shapely.contains_xy(region, x, y)[clear])


def test_an_empty_region_marks_no_pixel():
    assert not rasterise(shapely.MultiPolygon(), (4, 5)).any()


def test_a_few_crossings_are_held_at_a_time_and_the_pixels_are_the_same(monkeypatch):
    comb = [(x, 1 if x % 4 in (0, 3) else 900) for x in range(0, 400) if x % 4 != 2]
    region = shapely.Polygon([*comb, (399, 0), (0, 0)])
    whole = rasterise(region, (1000, 400))
    monkeypatch.setattr(raster, "AT_A_TIME", 3000)
    np.testing.assert_array_equal(rasterise(region, (1000, 400)), whole)
    assert whole.any()
