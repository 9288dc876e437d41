"""What a file means: tumour, exclusions, or a slide that was looked at and found free of tumour."""

import json
import math

import pytest
from annotation_files import asap_file, feature, geojson, polygon
from hypothesis import given
from hypothesis import strategies as st
from made_maps import asap, square

from sentinode.errors import AnnotationError
from sentinode.slides.reading.annotations import read_annotations
from sentinode.slides.reading.annotations.meaning import EXCLUDED, IGNORED, TUMOUR, Meanings, comparable

T = square(100, 100, 200)


def test_ncrfs_negatives_are_cut_out(tmp_path):
    path = tmp_path / "a.json"
    regions = {
        "positive": [{"name": "_0", "vertices": square(0, 0, 100)}],
        "negative": [{"name": "_2", "vertices": square(10, 10, 10)}],
    }
    path.write_text(json.dumps(regions))
    assert read_annotations(path).area.area == 100**2 - 10**2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"positive": [{"name": "_0"}]}, "number 0 of 'positive' has no list of vertices"),
        ({"positive": None}, "'positive' is not a list"),
        ({"positive": [[1, 2]]}, "number 0 of 'positive' has no list"),
        ({"positive": [{"vertices": [[0, 0], [1, math.nan], [2, 0]]}]}, "not a number"),
        ({"positive": [{"vertices": [[0, 0], ["1", 1], [2, 0]]}]}, "broken coordinate"),
    ],
)
def test_ncrf_that_is_broken_is_refused(tmp_path, content, message):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match=message):
        read_annotations(tmp_path / "a.json")


def test_a_scale_takes_level_0_to_another_level(tmp_path):
    path = asap(tmp_path / "a.xml", square(64, 32, 320))
    assert read_annotations(path, scale=1 / 32).area.bounds == (2, 1, 12, 11)


@pytest.mark.parametrize("scale", [0, -1, math.nan, math.inf])
def test_a_scale_that_makes_no_sense_is_refused(tmp_path, scale):
    with pytest.raises(AnnotationError, match="is not possible"):
        read_annotations(asap(tmp_path / "a.xml", T), scale=scale)


def test_coordinates_that_are_fractions_of_a_picture_are_not_taken_for_pixels(tmp_path):
    path = geojson(tmp_path / "a.geojson", feature(polygon([(0.2, 0.2), (0.4, 0.2), (0.4, 0.5)])))
    with pytest.raises(AnnotationError, match="fractions of a picture, not pixels"):
        read_annotations(path)
    assert read_annotations(path, scale=1000).area.area == pytest.approx(30_000)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: asap(path / "a.xml"),
        lambda path: geojson(path / "a.geojson"),
        lambda path: asap_file(path / "a.xml", ("a", "Polygon", "normal", T)),
        lambda path: geojson(path / "a.geojson", feature(polygon(T), "Ignore*")),
    ],
)
def test_a_file_without_regions_or_with_exclusions_alone_is_a_slide_without_tumour(tmp_path, write):
    annotations = read_annotations(write(tmp_path))
    assert annotations.tumour == ()
    assert annotations.area.is_empty
    assert not annotations.mask(100, 80, 8).any()
    assert annotations.mask(100, 80, 8).shape == (10, 12)


DOT, LINE = {"type": "Point", "coordinates": [3, 4]}, {"type": "LineString", "coordinates": [[3, 4], [9, 9]]}


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([feature(DOT)], "nothing with an area was left of its 1 regions"),
        ([feature(LINE), feature(None)], "nothing with an area was left of its 2 regions"),
        ([feature(DOT), feature(polygon(T), "Ignore*")], "nothing with an area was left"),
        ([feature(DOT, "Ignore*")], "nothing with an area was left"),
        ([feature(polygon(T)), feature(polygon(square(0, 0, 900)), "Ignore*")], "the exclusions cover all"),
        ([feature(polygon(T), "Carcinoma")], "none of the 1 regions has a class that means tumour or an exclusion"),
        ([feature(polygon(T), None), feature(polygon(T), "Ignore*")], "none of the 2 regions has a class that means"),
        ([feature(polygon(T), "Tumor", objectType="cell")], "holds no annotation, only objects .*'cell' \\(1\\)"),
        ([feature(polygon(T), objectType="root")], "holds no annotation"),
    ],
)
def test_a_file_of_which_nothing_is_left_is_refused_and_never_free_of_tumour(tmp_path, features, message):
    with pytest.raises(AnnotationError, match=message):
        read_annotations(geojson(tmp_path / "a.geojson", *features))


def test_other_classes_are_ignored_and_said(tmp_path):
    path = geojson(
        tmp_path / "a.geojson",
        feature(polygon(T)),
        *[feature(polygon(square(9, 9, 4)), "Necrosis")] * 2,
        feature(polygon(square(9, 9, 4)), None),
    )
    annotations = read_annotations(path)
    assert annotations.area.area == 40_000
    assert annotations.warnings == ("regions of other classes were ignored: 'Necrosis' (2), 'unclassified' (1).",)


def test_a_class_that_is_not_known_can_be_named_as_the_message_prints_it(tmp_path):
    for kind in ("Carcinoma", "Stroma: Positive", None):
        path = geojson(tmp_path / "a.geojson", feature(polygon(T), kind))
        with pytest.raises(AnnotationError) as refused:
            read_annotations(path)
        named = refused.value.hint.split('"')[1]
        assert named in refused.value.what
        assert read_annotations(path, tumour_classes=[named]).area.area == 40_000
        assert read_annotations(path, excluded_classes=[named]).tumour == ()
        annotations = read_annotations(path, ignored_classes=[named])
        assert (annotations.tumour, annotations.excluded) == ((), ())
        assert f"do not mean tumour were ignored: '{named}' (1)" in annotations.warnings[0]


def test_names_on_purpose_replace_the_usual_ones(tmp_path):
    path = geojson(tmp_path / "a.geojson", feature(polygon(T)), feature(polygon(square(500, 0, 10)), "Negative"))
    assert read_annotations(path, tumour_classes=["negative"]).area.area == 100
    assert read_annotations(path, tumour_classes=["negative", "TUMOR"]).area.area == 40_100
    assert read_annotations(path, ignored_classes=["Negative"]).excluded == ()


def test_a_class_with_two_meanings_is_refused():
    with pytest.raises(AnnotationError, match="the class 'x' was given for tumour and for excluded"):
        Meanings(tumour=["x"], excluded=["X "])


def test_a_regions_first_name_that_has_a_meaning_decides():
    meanings = Meanings(ignored=["Tissue"])
    assert meanings.of(("Exclusion", "Tumor")) == (EXCLUDED, "Exclusion")
    assert meanings.of(("ITC", "Tumor")) == (TUMOUR, "Tumor")
    assert meanings.of(("tissue",)) == (IGNORED, "tissue")
    assert meanings.of(("Stroma", "Study 1")) is None


@given(st.text())
def test_names_are_compared_without_case_and_spaces(name):
    assert comparable(f" {name}  ") == comparable(name) == comparable(comparable(name))


def test_accents_are_compared_whatever_their_form():
    assert comparable("Lésion") == comparable("Le\u0301sion")


@pytest.mark.real
@pytest.mark.parametrize(
    ("case", "area"),
    [
        ("asap_pointset_filled/pointset.xml", 40_000),
        ("geojson_detections_count_as_regions/cells_positive.geojson", 40_000),
        ("geojson_detections_count_as_regions/detections_old_id.geojson", 40_000),
        ("geojson_detections_count_as_regions/tiles_tumor.geojson", 40_000),
        ("geojson_hole_outside_adds_area/hole_outside.geojson", 40_000),
        ("geojson_null_or_empty_geometry/emptypoly.geojson", 40_000),
        ("geojson_null_or_empty_geometry/geometry_null.geojson", 40_000),
        ("xml_declared_encoding/latin1.xml", 40_000),
        ("annotation_all_left_out_is_normal/geometrycollection.geojson", 50_000),
        ("annotation_all_left_out_is_normal/dot_only.xml", "nothing with an area was left"),
        ("geojson_null_or_empty_geometry/bare_geometry.geojson", "is a Polygon without a feature"),
        ("tumour_class_dead_end/carcinoma.geojson", '--tumour-class "Carcinoma"'),
        ("tumour_class_dead_end/unclassified.geojson", '--tumour-class "unclassified"'),
    ],
)
def test_the_inputs_that_went_wrong_are_right(shared, case, area):
    path = shared.parent / "cases" / case
    if isinstance(area, str):
        with pytest.raises(AnnotationError, match=area):
            read_annotations(path)
    else:
        assert read_annotations(path).area.area == area
