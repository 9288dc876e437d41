"""What was drawn on a slide is read, checked, repaired in words, and rasterised in seconds."""

import json
import time

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from made_maps import asap, square

from sentinode.errors import AnnotationError
from sentinode.slides.reading.annotations import find_annotations, rasterise, read_annotations


def qupath(path, *features):
    """A GeoJSON file as QuPath exports it: (class, name, geometry) for each annotation."""
    collection = [
        {
            "type": "Feature",
            "geometry": geometry,
            "properties": {"objectType": "annotation", "name": name}
            | ({"classification": {"name": kind, "color": [200, 0, 0]}} if kind else {}),
        }
        for kind, name, geometry in features
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": collection}))
    return path


def polygon(*rings):
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]] for ring in rings]}


def test_camelyon16s_groups_are_tumour_and_exclusions_are_cut_out(tmp_path):
    text = asap(tmp_path / "a.xml", square(0, 0, 100), square(200, 0, 50), group="_0").read_text()
    hole = asap(tmp_path / "b.xml", square(20, 20, 10), group="_2").read_text()
    inner = hole[hole.index("<Annotation ") : hole.index("</Annotations>")]
    path = tmp_path / "both.xml"
    path.write_text(text.replace("</Annotations>", inner + "</Annotations>"))
    drawn = read_annotations(path)
    assert (len(drawn.tumour), len(drawn.excluded)) == (2, 1)
    assert drawn.area.area == 100**2 + 50**2 - 10**2
    assert drawn.warnings == ()


def test_asap_coordinates_count_in_their_order_not_in_the_files(tmp_path):
    path = asap(tmp_path / "a.xml", square(0, 0, 10))
    first = '<Coordinate Order="0" X="0" Y="0"/>'
    moved = path.read_text().replace(first, "").replace("</Coordinates>", first + "</Coordinates>")
    path.write_text(moved.replace('Order="1"', 'Order="1.0"'))
    assert read_annotations(path).area.area == 100


def test_qupaths_holes_and_multipolygons_are_respected(tmp_path):
    many = {"type": "MultiPolygon", "coordinates": [polygon(square(200, 0, 10))["coordinates"]]}
    path = qupath(
        tmp_path / "a.geojson",
        ("Tumor", "ring", polygon(square(0, 0, 100), square(40, 40, 20))),
        ("Tumor: Positive", "island", many),
        ("Ignore*", "fold", polygon(square(0, 0, 10))),
    )
    assert read_annotations(path).area.area == 100**2 - 20**2 + 10**2 - 10**2


def test_ncrfs_negatives_are_cut_out(tmp_path):
    path = tmp_path / "a.json"
    regions = {
        "positive": [{"name": "_0", "vertices": square(0, 0, 100)}],
        "negative": [{"name": "_2", "vertices": square(10, 10, 10)}],
    }
    path.write_text(json.dumps(regions))
    assert read_annotations(path).area.area == 100**2 - 10**2


def test_a_scale_takes_level_0_to_another_level(tmp_path):
    path = asap(tmp_path / "a.xml", square(64, 32, 320))
    assert read_annotations(path, scale=1 / 32).area.bounds == (2, 1, 12, 11)


def test_a_file_without_regions_is_a_slide_without_tumour(tmp_path):
    drawn = read_annotations(asap(tmp_path / "a.xml"))
    assert drawn.area.is_empty
    assert not drawn.mask(100, 80, 8).any()
    assert drawn.mask(100, 80, 8).shape == (10, 12)


def test_a_polygon_that_crosses_itself_is_repaired_and_said(tmp_path):
    bow = [(0, 0), (10, 10), (10, 0), (0, 10)]
    drawn = read_annotations(asap(tmp_path / "a.xml", bow))
    assert drawn.area.is_valid
    assert drawn.area.area == 50
    assert drawn.warnings == ("region 'Annotation 0' is not a simple polygon (self-intersection) and was repaired.",)


def test_a_loop_of_the_pen_stays_filled(tmp_path):
    loop = [(0, 0), (10, 0), (10, 10), (4, 10), (4, 4), (6, 4), (6, 12), (0, 12)]
    assert read_annotations(asap(tmp_path / "a.xml", loop)).area.contains(shapely.Point(5, 7))


@pytest.mark.parametrize("points", [[], [(1, 1)], [(1, 1), (2, 2)], [(1, 1), (2, 2), (3, 3)]])
def test_a_region_without_area_is_left_out_and_said(tmp_path, points):
    drawn = read_annotations(asap(tmp_path / "a.xml", points, square(0, 0, 4)))
    assert len(drawn.tumour) == 1
    assert drawn.warnings == ("region 'Annotation 0' has no area and was left out.",)


def test_points_and_lines_of_qupath_are_left_out_and_said(tmp_path):
    path = qupath(
        tmp_path / "a.geojson",
        ("Tumor", "dot", {"type": "Point", "coordinates": [3, 4]}),
        ("Tumor", "real", polygon(square(0, 0, 4))),
    )
    drawn = read_annotations(path)
    assert drawn.area.area == 16
    assert drawn.warnings == ("region 'dot' has no area and was left out.",)


def test_other_classes_are_ignored_and_said(tmp_path):
    path = qupath(
        tmp_path / "a.geojson",
        ("Tumor", "t", polygon(square(0, 0, 4))),
        ("Necrosis", "n", polygon(square(9, 9, 4))),
        (None, "u", polygon(square(9, 9, 4))),
    )
    drawn = read_annotations(path)
    assert drawn.area.area == 16
    assert drawn.warnings == ("regions of other classes were ignored: 'Necrosis' (1), 'none' (1).",)


def test_no_known_class_at_all_is_refused_and_the_class_can_be_named(tmp_path):
    path = qupath(tmp_path / "a.geojson", ("Carcinoma", "c", polygon(square(0, 0, 4))))
    with pytest.raises(AnnotationError, match="none of the 1 regions has a class"):
        read_annotations(path)
    assert read_annotations(path, tumour_classes=["carcinoma"]).area.area == 16


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.xml", "<ASAP_Annotations><Annot", "not well-formed XML"),
        ("a.xml", "", "not well-formed XML"),
        ("a.xml", "<Annotations/>", "XML of another kind"),
        ("a.json", '{"positive": [', "not well-formed JSON"),
        ("a.json", "3", "neither QuPath's GeoJSON nor NCRF's"),
        ("a.json", '{"positive": [{"name": "_0"}]}', "neither QuPath's GeoJSON nor NCRF's"),
        ("a.json", '{"positive": [{"vertices": [[0, 0], [1, NaN], [2, 0]]}]}', "not a number"),
        (
            "a.geojson",
            '{"type": "FeatureCollection", "features": [{}]}',
            "neither QuPath's GeoJSON nor NCRF's",
        ),
        ("a.geojson", '{"hello": 1}', "neither QuPath's GeoJSON nor NCRF's"),
        ("a.xml", b"\xff\xfe\x00\x01", "cannot be read as text"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(AnnotationError, match=said):
        read_annotations(path)


def test_a_broken_coordinate_names_its_region(tmp_path):
    path = asap(tmp_path / "a.xml", square(0, 0, 4))
    path.write_text(path.read_text().replace('X="4"', 'X="four"', 1))
    with pytest.raises(AnnotationError, match="'Annotation 0' has a broken coordinate"):
        read_annotations(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match="does not exist"):
        read_annotations(tmp_path / "none.xml")


def test_regions_outside_the_slide_are_refused(tmp_path):
    drawn = read_annotations(asap(tmp_path / "a.xml", square(0, 0, 10), square(5000, 0, 10)))
    with pytest.raises(AnnotationError, match="region 'Annotation 1' lies outside the slide of 1000 x 800"):
        drawn.on(1000, 800)
    assert drawn.on(6000, 800) is drawn


def test_a_region_across_the_border_is_clipped_and_said(tmp_path):
    drawn = read_annotations(asap(tmp_path / "a.xml", square(-50, 0, 100))).on(100, 100)
    assert drawn.warnings == (
        "region 'Annotation 0' lies across the slide's border; what is beyond it does not count.",
    )
    assert drawn.mask(100, 100).sum() == 50 * 100


def test_the_annotations_of_a_slide_are_found_by_its_name(tmp_path):
    path = asap(tmp_path / "tumor_001.xml")
    assert find_annotations(tmp_path, "tumor_001") == path
    assert find_annotations(tmp_path, "tumor_00") is None
    (tmp_path / "tumor_001.geojson").write_text("[]")
    with pytest.raises(AnnotationError, match="annotated twice"):
        find_annotations(tmp_path, "tumor_001")


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 25), st.floats(-5, 25)), min_size=3, max_size=9), st.floats(0.5, 3))
def test_a_pixel_is_tumour_where_its_centre_is(points, downsample):
    region = shapely.make_valid(shapely.Polygon(points), method="structure", keep_collapsed=False)
    parts = [p for p in shapely.get_parts(shapely.get_parts([region])) if isinstance(p, shapely.Polygon)]
    region = shapely.MultiPolygon(parts)
    drawn = rasterise(region, (20, 20), downsample)
    y, x = (np.mgrid[:20, :20] + 0.5) * downsample
    clear = shapely.distance(region.boundary, shapely.points(x, y)) > 1e-6
    np.testing.assert_array_equal(drawn[clear] == 1, shapely.contains_xy(region, x, y)[clear])


def test_bands_are_the_mask(tmp_path):
    drawn = read_annotations(asap(tmp_path / "a.xml", square(100, 900, 700), square(300, 1000, 33.3)))
    bands = list(drawn.bands(2000, 3000))
    assert max(map(len, bands)) <= 1024
    np.testing.assert_array_equal(np.concatenate(bands), drawn.mask(2000, 3000))


@pytest.mark.real
def test_the_real_slide_rasterises_in_seconds_at_full_width(shared):
    path = shared / "slides" / "camelyon16_tumor_001.json"
    drawn = read_annotations(path, scale=1 / 4)
    began = time.perf_counter()
    mask = drawn.mask(24_576, 57_344, downsample=8)
    assert time.perf_counter() - began < 5
    assert mask.shape == (7168, 3072)
    assert mask.sum() * 64 == pytest.approx(drawn.area.area, rel=0.005)


@pytest.mark.real
def test_the_real_lesions_fit_the_level_5_slide_only_when_scaled(shared):
    path = shared / "slides" / "camelyon16_tumor_001.json"
    assert len(read_annotations(path, scale=1 / 32).on(3072, 7168).tumour) == 2
    with pytest.raises(AnnotationError, match="--scale"):
        read_annotations(path).on(3072, 7168)
