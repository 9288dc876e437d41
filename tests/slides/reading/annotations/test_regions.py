"""Regions on their slide: moved by its bounds where QuPath cropped it, checked, and made into a mask."""

import time

import numpy as np
import pytest
from annotation_files import feature, geojson, polygon
from hypothesis import given
from hypothesis import strategies as st
from made_maps import asap, square

from sentinode.errors import AnnotationError
from sentinode.slides.reading.annotations import read_annotations

BOUNDS = (480, 288, 960, 768)
"""Of a slide of 1,600 x 1,200 pixels."""


def test_regions_outside_the_slide_are_refused(tmp_path):
    annotations = read_annotations(asap(tmp_path / "a.xml", square(0, 0, 10), square(5000, 0, 10)))
    for width in (1000, 5000):  # at 5,000 it touches the border
        with pytest.raises(AnnotationError, match=f"region 'Annotation 1' lies outside the slide of {width} x 800"):
            annotations.on(width, 800)
    assert annotations.on(6000, 800) is annotations


def test_a_region_across_the_border_is_clipped_and_said(tmp_path):
    annotations = read_annotations(asap(tmp_path / "a.xml", square(-50, 0, 100))).on(100, 100)
    assert annotations.warnings == (
        "region 'Annotation 0' lies across the slide's border; what is beyond it does not count.",
    )
    assert annotations.mask(100, 100).sum() == 50 * 100


def test_regions_of_one_name_are_told_apart(tmp_path):
    path = geojson(
        tmp_path / "a.geojson",
        feature(polygon(square(-5, 0, 10)), name="x"),
        feature(polygon(square(900, 0, 9)), name="x"),
    )
    with pytest.raises(AnnotationError, match="region 'x' lies outside"):
        read_annotations(path).on(100, 100)


def test_qupaths_coordinates_are_moved_by_the_bounds_and_that_is_said(tmp_path):
    path = geojson(
        tmp_path / "a.geojson", feature(polygon(square(96, 96, 200))), feature(polygon(square(96, 96, 9)), "Ignore*")
    )
    annotations = read_annotations(path).on(1600, 1200, BOUNDS)
    assert annotations.area.bounds == (576, 384, 776, 584)
    assert annotations.excluded[0].shape.bounds == (576, 384, 585, 393)
    (warning,) = annotations.warnings
    assert "moved by 480, 288 pixels" in warning
    assert annotations.on(1600, 1200, BOUNDS) is annotations


def test_a_scale_comes_before_the_bounds(tmp_path):
    path = geojson(tmp_path / "a.geojson", feature(polygon(square(24, 24, 50))))
    assert read_annotations(path, scale=4).on(1600, 1200, BOUNDS).area.bounds == (576, 384, 776, 584)


def test_other_programs_do_not_crop(tmp_path):
    shape = (576, 384, 776, 584)
    (tmp_path / "a.json").write_text('{"positive": [{"vertices": [[576, 384], [776, 384], [776, 584], [576, 584]]}]}')
    path = geojson(tmp_path / "a.geojson", feature(polygon(square(576, 384, 200))))
    for annotations in (
        read_annotations(asap(tmp_path / "a.xml", square(576, 384, 200))),
        read_annotations(tmp_path / "a.json"),
        read_annotations(path, whole_slide_coordinates=True),
    ):
        assert annotations.on(1600, 1200, BOUNDS).area.bounds == shape
        assert annotations.warnings == ()


def test_a_slide_without_bounds_or_with_all_of_it_as_bounds_moves_nothing(tmp_path):
    path = geojson(tmp_path / "a.geojson", feature(polygon(square(96, 96, 200))))
    for bounds in (None, (0, 0, 1600, 1200)):
        annotations = read_annotations(path).on(1600, 1200, bounds)
        assert annotations.area.bounds == (96, 96, 296, 296)
        assert annotations.warnings == ()


def test_what_qupath_could_not_have_shown_is_refused_with_the_way_out(tmp_path):
    path = geojson(tmp_path / "a.geojson", feature(polygon(square(1000, 900, 100))))
    with pytest.raises(
        AnnotationError, match=r"outside the 960 x 768 pixels of the slide's bounds(.|\n)*--whole-slide"
    ):
        read_annotations(path).on(1600, 1200, BOUNDS)


def test_what_the_file_says_of_its_coordinates_is_stronger_than_the_option(tmp_path):
    def bounds_of(whole_slide_coordinates, slide_bounds, **frame):
        path = geojson(tmp_path / "a.geojson", feature(polygon(square(96, 96, 200))), sentinode=frame)
        annotations = read_annotations(path, whole_slide_coordinates=whole_slide_coordinates)
        return annotations.on(1600, 1200, slide_bounds).area.bounds

    for option in (False, True):
        assert bounds_of(option, BOUNDS, coordinates="slide", bounds=list(BOUNDS)) == (96, 96, 296, 296)
        assert bounds_of(option, BOUNDS, coordinates="bounds", bounds=list(BOUNDS)) == (576, 384, 776, 584)
        assert bounds_of(option, None, coordinates="bounds", bounds=list(BOUNDS)) == (576, 384, 776, 584)
        assert bounds_of(option, BOUNDS, coordinates="bounds", bounds=None) == (96, 96, 296, 296)
    with pytest.raises(AnnotationError, match="written for a slide with the bounds"):
        bounds_of(False, (0, 0, 960, 768), coordinates="bounds", bounds=list(BOUNDS))


@given(st.integers(0, 500), st.integers(0, 500), st.integers(2, 99))
def test_moved_by_the_bounds_the_mask_is_the_same_part_of_the_slide(tmp_path_factory, left, top, side):
    path = geojson(tmp_path_factory.mktemp("a") / "a.geojson", feature(polygon(square(0, 0, side))))
    mask = read_annotations(path).on(600, 600, (left, top, 100, 100)).mask(600, 600)
    assert mask.sum() == side**2
    assert mask[top : top + side, left : left + side].all()


def test_exclusions_are_cut_out_of_the_regions_that_they_touch_alone(tmp_path):
    regions = [feature(polygon(square(20 * i, 0, 10))) for i in range(5)]
    path = geojson(tmp_path / "a.geojson", *regions, feature(polygon(square(15, 0, 10)), "Ignore*"))
    area = read_annotations(path).area
    assert area.area == 5 * 100 - 50
    assert area.is_valid
    assert len(area.geoms) == 5


def test_bands_are_the_mask(tmp_path):
    annotations = read_annotations(asap(tmp_path / "a.xml", square(100, 900, 700), square(300, 1000, 33.3)))
    bands = list(annotations.bands(2000, 3000))
    assert max(map(len, bands)) <= 1024
    np.testing.assert_array_equal(np.concatenate(bands), annotations.mask(2000, 3000))


@pytest.mark.real
def test_the_real_slide_rasterises_in_seconds_at_full_width(shared):
    path = shared / "slides" / "camelyon16_tumor_001.json"
    annotations = read_annotations(path, scale=1 / 4)
    began = time.process_time()
    mask = annotations.mask(24_576, 57_344, downsample=8)
    assert time.process_time() - began < 5
    assert mask.shape == (7168, 3072)
    assert mask.sum() * 64 == pytest.approx(annotations.area.area, rel=0.005)


@pytest.mark.real
def test_the_real_lesions_fit_the_level_5_slide_only_when_scaled(shared):
    path = shared / "slides" / "camelyon16_tumor_001.json"
    assert len(read_annotations(path, scale=1 / 32).on(3072, 7168).tumour) == 2
    with pytest.raises(AnnotationError, match="--scale"):
        read_annotations(path).on(3072, 7168)
