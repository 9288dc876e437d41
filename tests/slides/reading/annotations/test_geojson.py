"""QuPath's GeoJSON: only what was drawn counts, by its base class, and every geometry as QuPath reads it."""

import json

import pytest
from annotation_files import feature, geojson, polygon
from hypothesis import given, settings
from hypothesis import strategies as st
from made_maps import square

from sentinode.errors import AnnotationError
from sentinode.slides.reading.annotations import read_annotations

T = square(100, 100, 200)
SMALL = square(500, 500, 50)


def test_holes_and_multipolygons_are_respected(tmp_path):
    many = {"type": "MultiPolygon", "coordinates": [polygon(square(200, 0, 10))["coordinates"]]}
    path = geojson(
        tmp_path / "a.geojson",
        feature(polygon(square(0, 0, 100), square(40, 40, 20))),
        feature(many, "Tumor: Positive"),
        feature(polygon(square(0, 0, 10)), "Ignore*"),
    )
    assert read_annotations(path).area.area == 100**2 - 20**2 + 10**2 - 10**2


@pytest.mark.parametrize("kind", ["detection", "cell", "tile", "tmaCore", "root", "Cell", "something"])
@pytest.mark.parametrize("key", ["objectType", "object_type"])
@pytest.mark.parametrize("named", ["Positive", "Negative"])
def test_only_annotations_count(tmp_path, kind, key, named):
    other = feature(polygon(square(110, 110, 10)), named)
    other["properties"] = {key: kind, "classification": {"name": named}}
    annotations = read_annotations(geojson(tmp_path / "a.geojson", feature(polygon(T)), other))
    assert annotations.area.area == 40_000
    assert annotations.warnings == (f"objects that are not annotations were ignored: '{kind}' (1).",)


def test_qupath_02_said_the_type_in_the_id(tmp_path):
    old = {"classification": {"name": "Tumor", "colorRGB": -1}}
    detection = {"type": "Feature", "id": "PathDetectionObject", "geometry": polygon(SMALL), "properties": old}
    annotation = {"type": "Feature", "id": "PathAnnotationObject", "geometry": polygon(T), "properties": old}
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps([detection, annotation]))
    assert read_annotations(path).area.area == 40_000
    assert "'detection' (1)" in read_annotations(path).warnings[0]


def test_a_plain_feature_without_a_type_counts(tmp_path):
    untyped = {"type": "Feature", "geometry": polygon(T), "properties": {"classification": "Tumor", "type": "polyline"}}
    assert read_annotations(geojson(tmp_path / "a.geojson", untyped)).area.area == 40_000


def test_children_of_an_exported_hierarchy_count(tmp_path):
    """QuPath nests them in their parent's properties."""
    child = feature(polygon(T), childObjects=[feature(polygon(square(150, 150, 10)), "Ignore*")])
    cell = feature(polygon(SMALL), "Positive", objectType="cell")
    tissue = feature(polygon(square(0, 0, 900)), "Tissue", childObjects=[child, cell])
    annotations = read_annotations(geojson(tmp_path / "a.geojson", tissue))
    assert annotations.area.area == 200**2 - 10**2
    assert "'cell' (1)" in " ".join(annotations.warnings)


@pytest.mark.parametrize(
    ("classification", "counts"),
    [
        ("Tumor", True),
        ({"name": "Tumor"}, True),
        ({"name": "Tumor", "colorRGB": -3670016}, True),
        ({"names": ["Tumor", "Positive"]}, True),
        ({"names": ["Stroma", "Positive"]}, False),
        ("Tumor: Negative", True),
        ("Stroma: Positive", False),
        ({"name": "Positive", "parentClass": {"name": "Stroma", "colorRGB": -2}}, False),
        ({"name": "Negative", "parentClass": {"name": "Tumor"}}, True),
        ({"name": "CD8", "parentClass": {"name": "Positive", "parentClass": {"name": "Stroma"}}}, False),
        ({"name": "Stroma: Positive", "colorRGB": -1}, False),
        (["Tumor", "Positive"], True),
        (" tumor ", True),
        ("Positive", True),
        ({}, False),
        (None, False),
        ("", False),
    ],
)
def test_a_derived_class_is_what_its_base_class_is(tmp_path, classification, counts):
    derived = feature(polygon(T), None, classification=classification)
    annotations = read_annotations(geojson(tmp_path / "a.geojson", derived, feature(polygon(SMALL))))
    assert annotations.area.area == 2500 + 40_000 * counts
    assert bool(annotations.warnings) is not counts


def test_a_derived_class_can_be_named_whole_or_by_any_class_that_it_derives_from(tmp_path):
    path = geojson(tmp_path / "a.geojson", feature(polygon(T), "Stroma: Positive: CD8"))
    for name in ("Stroma", "stroma: positive", "Stroma: Positive: CD8"):
        assert read_annotations(path, tumour_classes=[name]).area.area == 40_000
    with pytest.raises(AnnotationError, match="'Stroma: Positive: CD8' \\(1\\)"):
        read_annotations(path, tumour_classes=["CD8"])


def test_the_polygons_of_a_collection_count_however_deep_they_lie(tmp_path):
    inner = {"type": "GeometryCollection", "geometries": [polygon(square(400, 400, 100)), None]}
    many = {"type": "GeometryCollection", "geometries": [polygon(T), {"type": "Point", "coordinates": [1, 1]}, inner]}
    annotations = read_annotations(geojson(tmp_path / "a.geojson", feature(many, name="x")))
    assert annotations.area.area == 50_000
    assert annotations.warnings == ("region 'x' holds other parts than areas, which do not count, and was kept.",)


@pytest.mark.parametrize(
    "empty",
    [
        None,
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": [[]]},
        {"type": "Polygon", "coordinates": None},
        {"type": "MultiPolygon", "coordinates": []},
        {"type": "MultiPolygon", "coordinates": [[]]},
        {"type": "GeometryCollection", "geometries": []},
        {"type": "GeometryCollection", "geometries": [{"type": "LineString", "coordinates": [[1, 1], [5, 5]]}]},
        {"type": "Polygon", "coordinates": [[[1, 1], [2, 2]]]},
        {"type": "Polygon", "coordinates": [[[1, 1], [2, 2], [1, 1]]]},
        {"type": "Polygon", "coordinates": [[[1, 1], [1, 1], [1, 1], [1, 1]]]},
        {"type": "Point", "coordinates": [3, 4]},
        {"type": "MultiPoint", "coordinates": [[3, 4]]},
        {"type": "LineString", "coordinates": [[3, 4], [9, 9], [3, 9]]},
        {"type": "MultiLineString", "coordinates": [[[3, 4], [9, 9]]]},
    ],
)
def test_a_geometry_without_area_is_left_out_and_said_and_alone_it_is_refused(tmp_path, empty):
    annotations = read_annotations(geojson(tmp_path / "a.geojson", feature(empty, name="dot"), feature(polygon(T))))
    assert annotations.area.area == 40_000
    assert annotations.warnings == ("region 'dot' has no area and was left out.",)
    with pytest.raises(AnnotationError, match="nothing with an area was left of its 1 regions \\('dot'\\)"):
        read_annotations(geojson(tmp_path / "b.geojson", feature(empty, name="dot")))


def test_a_geometry_of_an_unknown_type_is_left_out_by_name(tmp_path):
    circle = {"type": "Circle", "coordinates": [5, 5], "radius": 3}
    annotations = read_annotations(geojson(tmp_path / "a.geojson", feature(circle, name="c"), feature(polygon(T))))
    assert annotations.warnings == ("region 'c' is of the unknown type 'Circle' and was left out.",)


def test_a_third_number_and_a_ring_left_open_make_no_difference(tmp_path):
    high = {"type": "Polygon", "coordinates": [[[100, 100, 7], [300, 100], [300, 300, 7], [100, 300]]]}
    assert read_annotations(geojson(tmp_path / "a.geojson", feature(high))).area.area == 40_000


@pytest.mark.parametrize(
    "content",
    [
        {"type": "FeatureCollection"},
        {"type": "FeatureCollection", "features": None},
        {"type": "FeatureCollection", "features": [{}]},
        {"type": "FeatureCollection", "features": [3]},
        {"type": "FeatureCollection", "features": [None]},
        {"type": "FeatureCollection", "features": [polygon(T)]},
        {"type": "FeatureCollection", "features": [{"type": "Feature"}]},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": polygon(T), "properties": [1]}]},
        {"type": "Topology", "objects": {}},
        {"hello": 1},
        {},
        polygon(T),
        {"type": "GeometryCollection", "geometries": [polygon(T)]},
        "text",
        3,
        None,
    ],
)
def test_what_is_no_geojson_is_refused_in_plain_words(tmp_path, content):
    (tmp_path / "a.geojson").write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match="neither QuPath's GeoJSON nor NCRF's JSON") as refused:
        read_annotations(tmp_path / "a.geojson")
    assert not any(word in str(refused.value) for word in ("Error", "NoneType", "dict", "attribute", "subscript"))


@pytest.mark.parametrize(
    "ring",
    [
        [[0, 0], [1, "x"], [2, 0]],
        [[0, 0], [1], [2, 0]],
        [[0, 0], None, [2, 0]],
        [0, 1, 2, 3],
        "0 0, 1 1, 2 0",
        {"x": 1},
        [{"x": 0, "y": 0}, {"x": 1, "y": 1}, {"x": 2, "y": 0}],
        [[0, 0], [10**400, 1], [2, 0]],
        [[True, False], [True, True], [False, False]],
        [[[0, 0], [1, 1], [2, 0]]],
    ],
)
def test_a_coordinate_that_is_no_pair_of_numbers_names_its_region(tmp_path, ring):
    path = geojson(tmp_path / "a.geojson", feature({"type": "Polygon", "coordinates": [ring]}, name="x"))
    with pytest.raises(AnnotationError, match="region 'x' has a broken coordinate"):
        read_annotations(path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_coordinate_without_end_is_refused(tmp_path, number):
    path = geojson(tmp_path / "a.geojson", feature(polygon([(7, 1), (5, 5), (9, 1)]), name="x"))
    path.write_text(path.read_text().replace("[7, 1]", f"[{number}, 1]", 1))
    with pytest.raises(AnnotationError, match="region 'x' has a coordinate that is not a number"):
        read_annotations(path)


def test_a_coordinate_beyond_any_slide_is_refused(tmp_path):
    path = geojson(tmp_path / "a.geojson", feature(polygon([(7, 1), (5, 1e300), (9, 1)]), name="x"))
    with pytest.raises(AnnotationError, match="region 'x' has a coordinate that is beyond any slide"):
        read_annotations(path)


TYPES = ["Feature", "FeatureCollection", "Polygon", "MultiPolygon", "GeometryCollection", "annotation", "Tumor"]
KEYS = ["type", "features", "geometry", "properties", "coordinates", "geometries", "classification", "name", "names"]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "x", "\ud800", *TYPES]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=200)
@given(anything, st.sampled_from(["all", "feature", "geometry", "coordinates", "properties", "classification"]))
def test_whatever_a_file_holds_it_is_read_or_refused_in_words(tmp_path_factory, value, place):
    one = feature(polygon(T))
    content = {"type": "FeatureCollection", "features": [feature(polygon(SMALL)), value if place == "feature" else one]}
    if place in one:
        one[place] = value
    elif place != "feature":
        one["geometry" if place == "coordinates" else "properties"][place] = value
    path = tmp_path_factory.mktemp("a") / "a.geojson"
    path.write_text(json.dumps(value if place == "all" else content))
    try:
        annotations = read_annotations(path)
        assert annotations.area.is_valid
        message = " ".join(annotations.warnings)
    except AnnotationError as error:
        message = str(error)
    message.encode()  # halves of characters would stop a terminal
    assert "Error" not in message


def test_the_file_of_sentinode_says_which_coordinates_it_uses(tmp_path):
    def frame(**stated):
        annotations = read_annotations(geojson(tmp_path / "a.geojson", feature(polygon(T)), sentinode=stated))
        return annotations.cropped, annotations.bounds

    assert frame(coordinates="slide", bounds=[480, 288, 960, 768]) == (False, None)
    assert frame(coordinates="slide") == (False, None)
    assert frame(coordinates="bounds", bounds=[480, 288, 960, 768]) == (True, (480, 288, 960, 768))
    assert frame(coordinates="bounds", bounds=None) == (False, None)


@pytest.mark.parametrize(
    "frame",
    [{"coordinates": "microns", "bounds": None}, {}, "bounds", {"coordinates": "bounds", "bounds": [1, 2, 3]}],
)
def test_coordinates_that_this_version_does_not_know_are_refused(tmp_path, frame):
    with pytest.raises(AnnotationError, match=r"counts its coordinates|states bounds"):
        read_annotations(geojson(tmp_path / "a.geojson", feature(polygon(T)), sentinode=frame))
