"""A file's text is decoded as it declares, its format is known by its content, and other programs by their names."""

import gzip
import json
import time

import pytest
from annotation_files import asap_file, feature, geojson, polygon
from made_maps import square

from sentinode.errors import AnnotationError
from sentinode.slides.reading.annotations import drawing, opening, read_annotations

T = square(100, 100, 200)


def xml(tmp_path, name, encoding, declared=None, bom=b""):
    text = asap_file(tmp_path / "a.xml", (name, "Polygon", "Tumor", T)).read_text(encoding="utf-8")
    declaration = f' encoding="{declared}"' if declared else ""
    (tmp_path / "a.xml").write_bytes(bom + text.replace("?>", f"{declaration}?>", 1).encode(encoding))
    return tmp_path / "a.xml"


@pytest.mark.parametrize(
    ("name", "encoding", "declared", "bom"),
    [
        ("métastase", "latin-1", "ISO-8859-1", b""),
        ("Metastasis – left", "cp1252", "windows-1252", b""),
        ("métastase", "utf-16", "UTF-16", b""),
        ("métastase", "utf-16", None, b""),
        ("métastase", "utf-16-le", "UTF-16", b""),
        ("métastase", "utf-16-be", "UTF-16", b""),
        ("métastase", "utf-8", "utf-8", b"\xef\xbb\xbf"),
        ("métastase", "utf-8", "ISO-8859-1", b"\xef\xbb\xbf"),  # the mark at the start is stronger
        ("métastase", "utf-8", "UTF-16", b""),  # as some programs of Windows write
        ("转移", "gb2312", "GB2312", b""),
        ("転移", "shift_jis", "Shift_JIS", b""),
        ("métastase", "utf-8", None, b""),
    ],
)
def test_xml_is_read_in_the_encoding_that_it_declares(tmp_path, name, encoding, declared, bom):
    annotations = read_annotations(xml(tmp_path, name, encoding, declared, bom))
    assert annotations.area.area == 40_000
    assert annotations.tumour[0].name == name


@pytest.mark.parametrize(
    ("encoding", "declared", "message"),
    [
        ("latin-1", "utf-8", "not UTF-8, the encoding that it declares"),
        ("latin-1", None, "not UTF-8"),
        ("utf-8", "klingon", "unknown encoding 'klingon'"),
        ("utf-8", "zlib", "unknown encoding 'zlib'"),
    ],
)
def test_xml_that_declares_another_encoding_than_its_own_is_refused(tmp_path, encoding, declared, message):
    with pytest.raises(AnnotationError, match=f"cannot be read as text.*{message}") as refused:
        read_annotations(xml(tmp_path, "métastase", encoding, declared))
    assert "codec" not in str(refused.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_is_read_in_any_encoding_of_unicode(tmp_path, encoding):
    path = geojson(tmp_path / "a.geojson", feature(polygon(T), name="Läsion"))
    path.write_bytes(json.dumps(json.loads(path.read_text()), ensure_ascii=False).encode(encoding))
    assert read_annotations(path).tumour[0].name == "Läsion"


def test_json_of_an_older_encoding_is_refused(tmp_path):
    path = geojson(tmp_path / "a.geojson", feature(polygon(T), name="Läsion"))
    path.write_bytes(json.dumps(json.loads(path.read_text()), ensure_ascii=False).encode("latin-1"))
    with pytest.raises(AnnotationError, match=r"cannot be read as text: its byte \d+ is not UTF-8\."):
        read_annotations(path)


def test_the_content_decides_and_not_the_ending(tmp_path):
    geojson(tmp_path / "a.xml", feature(polygon(T)))
    asap_file(tmp_path / "a.json", ("a", "Polygon", "Tumor", T))
    with pytest.raises(AnnotationError, match="XML begins with '<'"):
        read_annotations(tmp_path / "a.xml")
    assert read_annotations(tmp_path / "a.json").area.area == 40_000


def test_entities_without_end_are_refused_at_once(tmp_path):
    entities = '<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)
    )
    (tmp_path / "a.xml").write_text(
        f'<?xml version="1.0"?><!DOCTYPE l [{entities}]><ASAP_Annotations><Annotations>'
        '<Annotation Name="&j;" Type="Polygon" PartOfGroup="Tumor"/></Annotations></ASAP_Annotations>'
    )
    began = time.process_time()
    with pytest.raises(AnnotationError, match="declares a document type"):
        read_annotations(tmp_path / "a.xml")
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "external",
    ['<!DOCTYPE a SYSTEM "file:///etc/hostname">', '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>'],
)
def test_other_files_are_not_fetched(tmp_path, external):
    (tmp_path / "a.xml").write_bytes(
        f'<?xml version="1.0" encoding="UTF-16"?>{external}<ASAP_Annotations/>'.encode("utf-16")
    )
    with pytest.raises(AnnotationError, match="declares a document type"):
        read_annotations(tmp_path / "a.xml")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xml", "<ASAP_Annotations><Annot", "not well-formed XML"),
        ("a.xml", "", "not well-formed XML"),
        ("a.xml", "<Annotations/>", "XML of another kind"),
        ("a.xml", b"\xff\xfe\x00\x01", "cannot be read as text"),
        ("a.json", '{"positive": [', "not well-formed JSON"),
        ("a.json", "", "not well-formed JSON .it is empty"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", "9" * 5000, "thousands of digits"),
        ("a.json", gzip.compress(b"[]", mtime=0), "is compressed .gzip"),
        ("a.json", b"PK\x03\x04rest", "is compressed .zip"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(AnnotationError, match=message):
        read_annotations(path)


def test_a_file_that_is_missing_or_a_folder_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match="does not exist"):
        read_annotations(tmp_path / "none.xml")
    with pytest.raises(AnnotationError, match=r"cannot be read \(it is a folder"):
        read_annotations(tmp_path)


VERTICES = '<Vertices><{0} X="1" Y="2"/><{0} X="9" Y="2"/><{0} X="9" Y="8"/></Vertices>'


@pytest.mark.parametrize(
    ("content", "program"),
    [
        (
            f"<Annotations><Annotation><Regions><Region>{VERTICES.format('V')}</Region></Regions></Annotation></Annotations>",
            "HALO's",
        ),
        (
            f"<Annotations><Annotation><Regions><Region>{VERTICES.format('Vertex')}</Region></Regions></Annotation></Annotations>",
            "Aperio ImageScope's",
        ),
        ('<Annotations MicronsPerPixel="0.25"/>', "Aperio ImageScope's"),
        ("<annotations><ndpviewstate/></annotations>", "Hamamatsu NDP.view's.*nanometres from the slide's centre"),
        ('{"annotation": {"location": "POLYGON ((1 2, 3 4, 5 6, 1 2))"}, "callback": {}}', "Cytomine's.*lower edge"),
        ('[{"type": "Area", "content": [{"x": 0.5, "y": 0.5}], "slideId": "1"}]', "PathologyCore's.*fractions"),
        ('{"version": "2.0", "schema_ref": "darwin", "item": {}, "annotations": []}', "V7 Darwin's"),
        ('{"annotation": {"elements": []}}', "Digital Slide Archive's"),
        ('{"images": [], "annotations": [], "categories": []}', "COCO's"),
        ('{"shapes": [], "imagePath": "a.png"}', "LabelMe's"),
    ],
)
def test_another_programs_file_is_refused_by_its_name(tmp_path, content, program):
    (tmp_path / "a.annotations").write_text(content)
    with pytest.raises(AnnotationError, match=program):
        read_annotations(tmp_path / "a.annotations")


@pytest.mark.parametrize(
    ("limit", "most", "says"),
    [
        ("MOST_BYTES", 150, "has more than 150 bytes"),
        ("MOST_VALUES", 20, "has more than 20 numbers, names and lists"),
    ],
)
def test_a_file_that_holds_more_than_can_be_parsed_is_refused_before(tmp_path, monkeypatch, limit, most, says):
    path = geojson(tmp_path / "a.geojson", feature(polygon(T)))
    assert read_annotations(path).tumour
    monkeypatch.setattr(opening, limit, most)
    with pytest.raises(AnnotationError, match=says) as refused:
        read_annotations(path)
    assert "Export the annotations alone" in str(refused.value)


def test_xml_of_more_elements_than_can_be_parsed_is_refused_before(tmp_path, monkeypatch):
    path = xml(tmp_path, "a", "utf-16")
    monkeypatch.setattr(opening, "MOST_PARTS", 20)
    with pytest.raises(AnnotationError, match="has more than 20 elements and attributes"):
        read_annotations(path)


@pytest.mark.parametrize("kind", ["asap", "geojson", "ncrf"])
def test_more_regions_than_can_be_read_are_refused_in_each_format(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(drawing, "MOST_REGIONS", 2)

    def path(regions):
        if kind == "asap":
            return asap_file(tmp_path / "a.xml", *[("a", "Polygon", "Tumor", T)] * regions)
        if kind == "geojson":
            cells = [feature(polygon(T), objectType="cell")] * 5
            return geojson(tmp_path / "a.geojson", *cells, *[feature(polygon(T))] * regions)
        (tmp_path / "a.json").write_text(json.dumps({"positive": [{"vertices": T}] * regions, "negative": []}))
        return tmp_path / "a.json"

    assert len(read_annotations(path(2)).tumour) == 2
    with pytest.raises(AnnotationError, match="has more than 2 regions"):
        read_annotations(path(3))


@pytest.mark.real
def test_the_real_files_of_other_programs_are_read_or_refused_for_the_right_reason(shared):
    formats = shared / "annotations" / "formats"
    expected = {
        "dlup/*.json": "V7 Darwin",
        "dlup/*.annotations": "HALO",
        "dlup/*.geojson": "'unclassified'",
        "hamamatsu_ndpa/annotations_mixed.ndpa": "Hamamatsu",
        "hamamatsu_ndpa/annotations_malformed.ndpa": "not well-formed XML",
        "histoqc/*.xml": "Aperio ImageScope",
        "histoqc/holed.geojson": "'unclassified'",
        "large_image/*": "'unclassified'",
        "wsidicom/asap-*": "'unclassified'",
        "wsidicom/cytomine-*": "Cytomine",
        "wsidicom/pathologycore-*": "PathologyCore",
        "wsidicom/*qupath-*": "'unclassified'|'Nucleus'",
    }
    refused = set()
    for pattern, why in expected.items():
        for path in formats.glob(pattern):
            with pytest.raises(AnnotationError, match=why):
                read_annotations(path)
            refused.add(path)
    read = {path for path in formats.rglob("*") if path.is_file()} - refused
    areas = {path.name: read_annotations(path).area.area for path in read}
    assert areas == {
        "patient_004_node_4.xml": pytest.approx(252_947, abs=1),
        "geojson_example.json": pytest.approx(2_265_677_914, abs=1),
        "fdb85ad_geojson_example.json": pytest.approx(2_265_677_914, abs=1),
    }


@pytest.mark.real
def test_the_real_annotations_without_a_class_are_read_once_that_is_named(shared):
    formats = shared / "annotations" / "formats"
    areas = {
        path.name: round(read_annotations(path, tumour_classes=["unclassified"]).area.area)
        for path in (
            *formats.glob("wsidicom/qupath-rect*"),
            formats / "wsidicom/asap-polygon.xml",
            formats / "histoqc/holed.geojson",
        )
    }
    assert areas["qupath-rectangle.json"] == 210 * 176
    assert areas["holed.geojson"] < 3271 * 2728
    for name in (
        "qupath-line.json",
        "qupath-point.json",
        "qupath-multipoint.json",
        "asap-dot.xml",
        "asap-pointset.xml",
    ):
        with pytest.raises(AnnotationError, match="nothing with an area was left"):
            read_annotations(formats / "wsidicom" / name, tumour_classes=["unclassified"])
