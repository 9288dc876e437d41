"""The pN stage as Camelyon17 defines it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinode.errors import DataError
from sentinode.slides.results.lesions import CATEGORIES, ITC, MACRO, MICRO, NEGATIVE
from sentinode.slides.results.staging import pn_stage, stage_patients, write_stages


@pytest.mark.parametrize(
    ("nodes", "stage"),
    [
        ([NEGATIVE] * 5, "pN0"),
        ([NEGATIVE] * 4 + [ITC], "pN0(i+)"),
        ([ITC] * 5, "pN0(i+)"),
        ([NEGATIVE] * 4 + [MICRO], "pN1mi"),
        ([MICRO] * 5, "pN1mi"),
        ([MACRO] + [NEGATIVE] * 4, "pN1"),
        ([MACRO, MICRO, MICRO, ITC, ITC], "pN1"),
        ([MACRO, MICRO, MICRO, MICRO, ITC], "pN2"),
        ([MACRO] * 9, "pN2"),
        ([MACRO] * 10, "pN3"),
    ],
)
def test_the_stage_follows_from_the_nodes(nodes, stage):
    assert pn_stage(nodes) == stage


@given(st.lists(st.sampled_from(CATEGORIES), min_size=1, max_size=9))
def test_isolated_tumour_cells_never_count_as_a_positive_node(nodes):
    without = [NEGATIVE if node == ITC else node for node in nodes]
    assert pn_stage(nodes).replace("(i+)", "") == pn_stage(without)


def test_the_worst_slide_of_a_node_counts(tmp_path):
    table = tmp_path / "nodes.csv"
    table.write_text("patient,slide,node,centre\np1,a.tif,1,0\np1,b.tif,1,0\np1,c,2,0\np2,d.svs,1,1\n")
    categories = {"a": NEGATIVE, "b": MACRO, "c": MICRO, "d": ITC}
    first, second = stage_patients(table, categories)
    assert (first.name, first.stage, first.nodes) == ("p1", "pN1", {"1": MACRO, "2": MICRO})
    assert (second.name, second.stage) == ("p2", "pN0(i+)")
    write_stages(tmp_path / "stages.csv", (first, second))
    assert (tmp_path / "stages.csv").read_text().splitlines() == [
        "patient,stage,nodes,negative,isolated tumour cells,micrometastasis,macrometastasis",
        "p1,pN1,2,0,0,1,1",
        "p2,pN0(i+),1,0,1,0,0",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("slide,node\na,1\n", "lacks the column patient"),
        ("", "this table is empty"),
        ("slide,node,patient\na,1,p\na.tif,2,p\n", "line 3 names slide 'a.tif' again"),
        ("slide,node,patient\nz,1,p\n", "line 2 names slide 'z', which has not been read"),
        ("slide,node,patient\na,,p\n", "line 2 leaves a column empty"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, content, message):
    table = tmp_path / "nodes.csv"
    table.write_text(content)
    with pytest.raises(DataError, match=message):
        stage_patients(table, {"a": NEGATIVE})


def test_a_missing_table_and_an_unknown_category_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        stage_patients(tmp_path / "none.csv", {})
    with pytest.raises(DataError, match="no stage follows"):
        pn_stage(["large"])
    with pytest.raises(DataError, match="no stage follows"):
        pn_stage([])


FILES = {"rgb-png": "rgb.png", "rgb-jpg": "rgb.jpg", "_CON": "CON.svs", "plain": "plain.tif"}
"""Slides by their folders, whose names are not always the files'."""


def staged(tmp_path, *slides):
    table = tmp_path / "nodes.csv"
    table.write_text("slide,node,patient\n" + "".join(f"{slide},{i},p\n" for i, slide in enumerate(slides)))
    categories = dict.fromkeys(FILES, NEGATIVE) | {"rgb-jpg": MACRO}
    return stage_patients(table, categories, files=FILES)


def test_a_slide_is_known_by_its_folder_its_file_and_the_files_stem(tmp_path):
    (patient,) = staged(tmp_path, "rgb.png", "rgb-jpg", "CON", "plain")
    assert patient.nodes == {"0": NEGATIVE, "1": MACRO, "2": NEGATIVE, "3": NEGATIVE}


def test_a_name_that_two_slides_share_is_refused(tmp_path):
    with pytest.raises(DataError, match="names slide 'rgb', which could be rgb-png or rgb-jpg"):
        staged(tmp_path, "rgb")


def test_a_slide_under_two_of_its_names_is_there_twice(tmp_path):
    with pytest.raises(DataError, match="line 3 names slide '_CON' again"):
        staged(tmp_path, "CON.svs", "_CON")
