"""ASAP's XML: groups within groups, points that are no areas, and numbers as other languages write them."""

import pytest
from annotation_files import asap_file
from made_maps import asap, square

from sentinode.errors import AnnotationError
from sentinode.slides.reading.annotations import read_annotations

POINTS = [(120, 120), (500, 130), (480, 420), (150, 460), (300, 300)]


def test_camelyon16s_groups_are_tumour_and_exclusions_are_cut_out(tmp_path):
    path = asap_file(
        tmp_path / "a.xml",
        ("a", "Polygon", "Tumor", square(0, 0, 100)),
        ("b", "Polygon", "_0", square(200, 0, 50)),
        ("c", "Polygon", "_2", square(20, 20, 10)),
    )
    annotations = read_annotations(path)
    assert (len(annotations.tumour), len(annotations.excluded)) == (2, 1)
    assert annotations.area.area == 100**2 + 50**2 - 10**2
    assert annotations.warnings == ()


@pytest.mark.parametrize("kind", ["Polygon", "Rectangle", "Spline", "polygon", "None", ""])
def test_areas_count_whatever_tool_drew_them(tmp_path, kind):
    assert read_annotations(asap_file(tmp_path / "a.xml", ("a", kind, "Tumor", square(0, 0, 10)))).area.area == 100


@pytest.mark.parametrize("kind", ["Dot", "PointSet", "Measurement", "pointset"])
def test_points_and_rulers_have_no_area_however_many_points_they_have(tmp_path, kind):
    path = asap_file(
        tmp_path / "a.xml", ("nuclei", kind, "Tumor", POINTS), ("real", "Polygon", "Tumor", square(0, 0, 200))
    )
    annotations = read_annotations(path)
    assert annotations.area.area == 40_000
    assert annotations.warnings == ("region 'nuclei' has no area and was left out.",)


def test_a_type_that_is_not_known_is_left_out_by_name(tmp_path):
    path = asap_file(
        tmp_path / "a.xml", ("x", "Ellipse", "Tumor", POINTS), ("real", "Polygon", "Tumor", square(0, 0, 200))
    )
    annotations = read_annotations(path)
    assert annotations.area.area == 40_000
    assert annotations.warnings == ("region 'x' is of the unknown type 'Ellipse' and was left out.",)


def test_an_annotation_counts_as_the_nearest_group_around_it_that_is_known(tmp_path):
    path = asap_file(
        tmp_path / "a.xml",
        ("a", "Polygon", "ITC", square(0, 0, 200)),
        ("b", "Polygon", "deep", square(300, 0, 100)),
        ("c", "Polygon", "Exclusion", square(0, 0, 10)),
        ("d", "Polygon", "Necrosis", square(500, 0, 100)),
        groups={"Tumor": "None", "ITC": "Tumor", "deep": "ITC", "Exclusion": "Tumor", "Necrosis": "None"},
    )
    annotations = read_annotations(path)
    assert annotations.area.area == 200**2 + 100**2 - 10**2
    assert annotations.warnings == (
        "regions of other classes were ignored: 'Necrosis' (1).",
        "the group 'ITC' (1) lies in 'Tumor' and counted as part of it.",
        "the group 'deep' (1) lies in 'Tumor' and counted as part of it.",
    )
    assert len(read_annotations(path, ignored_classes=["itc", "necrosis"]).tumour) == 0


def test_groups_that_lie_in_each_other_end(tmp_path):
    path = asap_file(tmp_path / "a.xml", ("a", "Polygon", "x", square(0, 0, 9)), groups={"x": "y", "y": "x"})
    with pytest.raises(AnnotationError, match="'x' \\(1\\)"):
        read_annotations(path)


def test_a_group_that_lies_in_two_others_is_refused(tmp_path):
    path = asap_file(tmp_path / "a.xml", ("a", "Polygon", "x", square(0, 0, 9)), groups={"x": "Tumor"})
    path.write_text(
        path.read_text().replace("</AnnotationGroups>", '<Group Name="x" PartOfGroup="_2"/></AnnotationGroups>')
    )
    with pytest.raises(AnnotationError, match="puts the group 'x' into both 'Tumor' and '_2'"):
        read_annotations(path)


@pytest.mark.parametrize("group", ["Tumor ", " TUMOR", "tumor"])
def test_spaces_and_case_of_a_group_make_no_difference(tmp_path, group):
    assert read_annotations(asap_file(tmp_path / "a.xml", ("a", "Polygon", group, square(0, 0, 9)))).area.area == 81


@pytest.mark.parametrize("group", ["None", ""])
def test_the_group_none_is_unclassified_and_can_be_named(tmp_path, group):
    path = asap_file(tmp_path / "a.xml", ("a", "Polygon", group, square(0, 0, 9)))
    with pytest.raises(AnnotationError, match="'unclassified' \\(1\\)") as refused:
        read_annotations(path)
    assert '--tumour-class "unclassified"' in refused.value.hint
    for name in ("unclassified", "Unclassified", "none", ""):
        assert read_annotations(path, tumour_classes=[name]).area.area == 81


def test_coordinates_count_in_their_order_not_in_the_files(tmp_path):
    path = asap(tmp_path / "a.xml", square(0, 0, 10))
    first = '<Coordinate Order="0" X="0" Y="0"/>'
    moved = path.read_text().replace(first, "").replace("</Coordinates>", first + "</Coordinates>")
    path.write_text(moved.replace('Order="1"', 'Order="1.0"'))
    assert read_annotations(path).area.area == 100


def test_without_any_order_the_files_counts(tmp_path):
    path = asap(tmp_path / "a.xml", [(10, 10), (0, 10), (0, 0), (10, 0)])
    for order in range(4):
        path.write_text(path.read_text().replace(f'Order="{order}" ', ""))
    assert read_annotations(path).area.area == 100


@pytest.mark.parametrize("wrong", ["", 'Order="two" ', 'Order="inf" '])
def test_an_order_that_is_missing_or_no_number_is_refused(tmp_path, wrong):
    path = asap(tmp_path / "a.xml", square(0, 0, 10))
    path.write_text(path.read_text().replace('Order="2" ', wrong))
    with pytest.raises(AnnotationError, match=r"'Annotation 0' has a broken coordinate \((some points|its order)"):
        read_annotations(path)


def test_decimal_commas_are_read_where_they_can_mean_nothing_else(tmp_path):
    points = [(f"{x},5", f"{y},25") for x, y in square(100, 100, 200)]
    annotations = read_annotations(asap_file(tmp_path / "a.xml", ("a", "Polygon", "Tumor", points)))
    assert annotations.area.area == 40_000
    assert annotations.area.bounds == (100.5, 100.25, 300.5, 300.25)
    assert "decimal comma" in annotations.warnings[0]


@pytest.mark.parametrize(
    "points",
    [
        [("12,711", "0"), ("13,711", "0"), ("13,711", "9")],  # thirteen, or thirteen thousand?
        [("1,5", "0"), ("9.5", "0"), ("9,5", "9")],
        [("1,000,5", "0"), ("9,5", "0"), ("9,5", "9")],
    ],
)
def test_commas_that_could_mean_thousands_are_refused(tmp_path, points):
    with pytest.raises(AnnotationError, match="broken coordinate"):
        read_annotations(asap_file(tmp_path / "a.xml", ("a", "Polygon", "Tumor", points)))


@pytest.mark.parametrize("wrong", ['X="four"', 'X=""', ""])
def test_a_broken_coordinate_names_its_region_and_speaks_no_python(tmp_path, wrong):
    path = asap(tmp_path / "a.xml", square(0, 0, 4))
    path.write_text(path.read_text().replace('X="4"', wrong, 1))
    with pytest.raises(AnnotationError, match="'Annotation 0' has a broken coordinate") as refused:
        read_annotations(path)
    assert "float" not in str(refused.value)


@pytest.mark.parametrize("body", ["<annotations><annotation/></annotations>", "<Annotations><Region/></Annotations>"])
def test_elements_that_asap_does_not_write_are_no_slide_without_tumour(tmp_path, body):
    (tmp_path / "a.xml").write_text(f"<ASAP_Annotations>{body}</ASAP_Annotations>")
    with pytest.raises(AnnotationError, match="has no <Annotation>, but a <"):
        read_annotations(tmp_path / "a.xml")


def test_names_that_a_terminal_would_obey_are_shown_plainly(tmp_path):
    path = asap_file(
        tmp_path / "a.xml", ("x&#10;y " * 30, "Dot", "Tumor", []), ("b", "Polygon", "Tumor", square(0, 0, 9))
    )
    (warning,) = read_annotations(path).warnings
    assert warning.startswith("region 'x y x y ")
    assert len(warning) < 120
