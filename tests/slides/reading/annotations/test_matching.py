"""Each slide's file is found by its name in every usual spelling, and a slide is never silently without one."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinode.errors import AnnotationError
from sentinode.slides.reading.annotations import match_annotations, require_truth


def named(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("[]")
    return folder


def slides(*files, **named_files):
    """Slides as the scan names them: by their stems, unless named here."""
    return {file.rpartition(".")[0]: file for file in files} | named_files


@pytest.mark.parametrize(
    ("file", "slide"),
    [
        ("tumor_001.xml", "tumor_001.tif"),
        ("Tumor_001.xml", "tumor_001.tif"),
        ("tumor_001.XML", "tumor_001.tif"),
        ("TUMOR_001.GeoJSON", "tumor_001.tif"),
        ("s.svs.geojson", "s.svs"),
        ("s.SVS.json", "s.svs"),
        ("s.svs.geojson", "s.tif"),  # converted since
        ("x.xml", "x.ome.tif"),
        ("x.ome.xml", "x.ome.tif"),
        ("x.ome.tif.geojson", "x.ome.tif"),
        ("x.ome.tiff.geojson", "x.ome.tif"),
        ("s .xml", "s.tif"),
        (" s.xml", "s.tif"),
        ("s.xml", "s .tif"),
        ("a  b.xml", "a b.tif"),
        (unicodedata.normalize("NFD", "Präparat.xml"), unicodedata.normalize("NFC", "Präparat.tif")),
        (unicodedata.normalize("NFC", "Präparat.xml"), unicodedata.normalize("NFD", "Präparat.tif")),
        ("a.b.c.xml", "a.b.c.ndpi"),
        ("picture.png.json", "picture.png"),
    ],
)
def test_a_file_is_found_in_every_usual_spelling(tmp_path, file, slide):
    folder = named(tmp_path / "truth", file)
    matches = match_annotations(folder, slides(slide))
    assert list(matches.files.values()) == [folder / file]
    assert matches.others == ()
    assert matches.message is None


def test_a_file_of_another_slide_is_none_of_these(tmp_path):
    folder = named(tmp_path / "truth", "tumor_001.xml", "._tumor_00.xml", "tumor_00.txt")
    matches = match_annotations(folder, slides("tumor_00.tif"))
    assert matches.absent == ["tumor_00"]
    assert matches.others == (folder / "tumor_001.xml",)
    assert matches.message == "1 annotation file matches no slide: 'tumor_001.xml'."


@pytest.mark.parametrize(
    "files", [("s.xml", "s.geojson"), ("s.xml", "S.xml"), ("s.xml", "s.svs.xml"), ("s.svs.xml", "s.tif.xml")]
)
def test_two_files_of_one_slide_are_refused(tmp_path, files):
    with pytest.raises(AnnotationError, match="slide 's' is annotated twice: "):
        match_annotations(named(tmp_path / "truth", *files), slides("s.svs"))


def test_one_file_for_two_slides_is_refused_unless_its_name_tells_them_apart(tmp_path):
    both = {"rgb-72feb443": "rgb.png", "rgb-99802ff8": "rgb.jpg"}
    with pytest.raises(AnnotationError, match=r"'rgb\.xml' fits 2 slides: 'rgb-72feb443', 'rgb-99802ff8'"):
        match_annotations(named(tmp_path / "one", "rgb.xml"), both)
    folder = named(tmp_path / "two", "rgb.png.xml", "rgb-99802ff8.json")
    assert match_annotations(folder, both).files == {
        "rgb-72feb443": folder / "rgb.png.xml",
        "rgb-99802ff8": folder / "rgb-99802ff8.json",
    }


def test_slides_that_differ_by_case_alone_keep_their_own_files(tmp_path):
    folder = named(tmp_path / "truth", "a.xml", "A.json")
    assert match_annotations(folder, slides("a.tif", "A.tif")).files == {"a": folder / "a.xml", "A": folder / "A.json"}


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_text("")])
def test_a_folder_that_is_none_is_refused(tmp_path, make):
    make(tmp_path / "truth")
    with pytest.raises(AnnotationError, match=r"does not exist|is not a folder"):
        require_truth(tmp_path / "truth", slides("s.svs"), absent_is_normal=True)


def test_a_missing_file_is_refused_unless_it_means_normal(tmp_path):
    folder = named(tmp_path / "truth", "tumor_001.xml")
    both = slides("tumor_001.tif", "normal_001.tif")
    with pytest.raises(AnnotationError, match=r"no annotations for 1 of 2 slides: normal_001(.|\n)*--absent-is-normal"):
        require_truth(folder, both, absent_is_normal=False)
    assert require_truth(folder, both, absent_is_normal=True).absent == ["normal_001"]


def test_slides_that_need_no_truth_do_not_count(tmp_path):
    folder = named(tmp_path / "truth", "a.xml")
    assert require_truth(folder, slides("a.tif", "test_114.tif"), absent_is_normal=False, optional=["test_114"])


@pytest.mark.parametrize(
    ("file", "slide"),
    [
        ("tumor_1.xml", "tumor_001"),
        ("tumour_001.xml", "tumor_001"),
        ("Tumor-001.geojson", "tumor_001"),
        ("tmuor_001.xml", "tumor_001"),
        ("tumor_001_annotations.geojson", "tumor_001"),
        ("tumor_001 (1).xml", "tumor_001"),
        ("tumor_001.tif - Series 0.geojson", "tumor_001"),
        ("TCGA-EJ-5518-01Z-00-DX1.xml", "TCGA-EJ-5518-01Z-00-DX1.e2682f94-a3d6"),
        ("TCGA-EJ-5518-01Z-00-DX1.abc.xml", "TCGA-EJ-5518-01Z-00-DX1"),
        ("tumor_001.annotations", "tumor_001"),
        ("tumor_001.ndpi.ndpa", "tumor_001"),
        ("tumor_001.geojson.gz", "tumor_001"),
        ("tumor_001.txt", "tumor_001"),
        ("tumor/tumor_001.xml", "tumor_001"),
        ("tumor_001/annotations.geojson", "tumor_001"),
        ("sentinel-node-left.xml", "sentinel_node_left"),
    ],
)
def test_a_similar_file_is_never_passed_over_for_a_slide_that_has_none(tmp_path, file, slide):
    folder = named(tmp_path / "truth", file, "other_7.xml")
    both = {slide: f"{slide}.tif", "other_7": "other_7.tif"}
    with pytest.raises(AnnotationError, match=f"looks like that of '{slide}'"):
        require_truth(folder, both, absent_is_normal=True)


@pytest.mark.parametrize(
    ("file", "slide"),
    [
        ("test_001.xml", "test_003"),
        ("tumor_010.xml", "normal_010"),
        ("patient_004_node_4.xml", "patient_004_node_1"),
        ("slide_a.xml", "slide_b"),
        ("a1.xml", "b1"),
        ("ill.xml", "well"),
        ("tumor_001.png", "tumor_001"),
        ("notes.txt", "tumor_001"),
    ],
)
def test_the_files_of_other_slides_are_no_reason_to_refuse(tmp_path, file, slide):
    """The truth of 400 slides beside maps of ten."""
    folder = named(tmp_path / "truth", file, "other_7.xml")
    both = {slide: f"{slide}.tif", "other_7": "other_7.tif"}
    assert require_truth(folder, both, absent_is_normal=True).absent == [slide]


def test_a_folder_without_any_file_of_these_slides_is_refused(tmp_path):
    folder = named(tmp_path / "truth", "patient_1.xml")
    with pytest.raises(AnnotationError, match="no file in it is named like one of the 2 slides, such as 'test_001'"):
        require_truth(folder, slides("test_001.tif", "test_002.tif"), absent_is_normal=True)


names = st.text("abAB01_. ", min_size=1, max_size=6).filter(lambda name: name.strip(" .") == name)


@given(st.lists(names, min_size=1, max_size=5, unique_by=str.casefold), st.sampled_from([str.upper, str.lower, str]))
def test_whatever_slides_are_called_their_files_are_found(tmp_path_factory, stems, spelt):
    folder = named(tmp_path_factory.mktemp("a") / "truth", *(f"{spelt(stem)}.xml" for stem in stems))
    matches = match_annotations(folder, {stem: f"{stem}.tif" for stem in stems})
    assert {stem: file.name for stem, file in matches.files.items()} == {stem: f"{spelt(stem)}.xml" for stem in stems}
