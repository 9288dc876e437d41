"""Which class folders are of label 1: their names say it, or the user does; nobody guesses."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinode.errors import DataError
from sentinode.patches.class_folders import CLASS_FOLDERS, same_meaning, tell_apart

HERE = Path("data")
names = st.lists(st.text("abcdefgh_", min_size=1, max_size=6), min_size=2, max_size=6, unique=True)


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (["normal", "tumour"], ("normal", "tumour")),
        (["normal", "tumor"], ("normal", "tumor")),
        (["0", "1"], ("normal", "tumour")),
        (["Benign", "Malignant"], ("Benign", "Malignant")),
        (["benign", "normal", "metastases"], ("benign+normal", "metastases")),
        (["tumor"], ("normal", "tumor")),
    ],
)
def test_names_that_are_known_decide_and_are_kept(folders: list[str], classes: tuple[str, str]) -> None:
    assert tell_apart(folders, (), HERE).names == classes


@pytest.mark.parametrize("folders", [["lung_aca", "lung_n"], ["lung_aca", "lung_n", "lung_scc"], ["a", "b"]])
def test_other_names_are_refused_with_the_option(folders: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        tell_apart(folders, (), HERE)
    assert all(folder in caught.value.what for folder in folders)
    assert caught.value.hint is not None
    assert f"--positive {folders[0]}" in caught.value.hint


def test_a_folder_of_an_unknown_name_beside_known_ones_is_refused() -> None:
    with pytest.raises(DataError, match="beside normal, tumour, but its name is not a known class"):
        tell_apart(["normal", "tumour", "stroma"], (), HERE)


@pytest.mark.parametrize("name", ["tu\nmour", "tumour\udcff", "\x1b[2Jtumour"])
def test_a_folder_that_could_not_name_a_class_of_a_bundle_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="cannot be shown"):
        tell_apart(["normal", name], (name,), HERE)


def test_two_classes_of_one_name_are_refused() -> None:
    with pytest.raises(DataError, match="both classes would be called normal"):
        tell_apart(["0", "normal"], ("normal",), HERE)


def test_several_folders_are_grouped_as_stated() -> None:
    classes = tell_apart(["lung_aca", "lung_n", "lung_scc"], ("lung_scc", "lung_aca"), HERE)
    assert classes.labels == {"lung_aca": 1, "lung_n": 0, "lung_scc": 1}
    assert classes.names == ("lung_n", "lung_aca+lung_scc")


def test_what_is_stated_goes_before_what_names_say() -> None:
    assert tell_apart(["normal", "tumour"], ("normal",), HERE).labels == {"normal": 1, "tumour": 0}


def test_the_name_of_a_class_of_many_folders_stays_short() -> None:
    folders = [f"class_{letter}" for letter in "abcdefg"]
    assert tell_apart(folders, ("class_a",), HERE).names == ("class_b+class_c+class_d+3 more", "class_a")


@pytest.mark.parametrize(
    ("positive", "says"),
    [
        (("lung_zzz",), "no class folder lung_zzz here; there are a and b"),
        (("A",), "no class folder A here"),
        (("a", "b"), "there is no negative class"),
    ],
)
def test_a_statement_that_does_not_fit_is_refused(positive: tuple[str, ...], says: str) -> None:
    with pytest.raises(DataError, match=says):
        tell_apart(["a", "b"], positive, HERE)


@given(names, st.data())
def test_every_folder_gets_the_label_that_was_stated(folders: list[str], data: st.DataObject) -> None:
    positive = data.draw(st.sets(st.sampled_from(folders), min_size=1, max_size=len(folders) - 1))
    classes = tell_apart(folders, tuple(positive), HERE)
    assert classes.labels == {name: int(name in positive) for name in folders}
    assert classes.names[0] != classes.names[1]


def test_words_for_normal_and_for_tumour_mean_the_same_in_their_order_alone() -> None:
    known = [[name for name, label in CLASS_FOLDERS.items() if label == wanted] for wanted in (0, 1)]
    assert all(same_meaning(("normal", "tumour"), pair) for pair in zip(*known, strict=False))
    assert not same_meaning(("normal", "tumour"), ("tumour", "normal"))
    assert not same_meaning(("normal", "tumour"), ("lung_n", "lung_aca"))
    assert same_meaning(("lung_n", "lung_aca"), ("lung_n", "lung_aca"))
