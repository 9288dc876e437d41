"""Which files of a folder are slides, what is said of the others, and what each slide's folder is called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sentinode.errors import SlideError
from sentinode.slides.reading import folder as folders
from sentinode.slides.reading.folder import RESERVED, find_slides, name_slides
from sentinode.slides.results.findings import STAGES
from sentinode.slides.results.summary import PAGE
from sentinode.slides.scanning.manifest import MANIFEST


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def found(folder: Path, **options: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_slides([folder], **options)]


def test_slides_are_found_in_folders_and_the_output_is_not_searched(tmp_path: Path) -> None:
    touched(tmp_path, "b.svs", "patient/a.TIF", "notes.txt", "photo.png", "out/lesions.tif", "probability.ome.tif")
    assert found(tmp_path, exclude=tmp_path / "out") == ["b.svs", "patient/a.TIF"]
    # A flat picture counts when it is named.
    assert find_slides([tmp_path / "photo.png"]) == [tmp_path / "photo.png"]


def test_what_begins_with_a_dot_is_no_slide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    touched(tmp_path, "a.tif", "._a.tif", ".hidden.svs", ".Trashes/b.svs", "below/._c.svs", ".cache/x/d.czi")
    assert found(tmp_path) == ["a.tif"]
    assert capsys.readouterr().err == ""
    # Below a folder that was named, only what is further down counts.
    assert found(tmp_path / ".Trashes") == ["b.svs"]


def test_files_of_kinds_that_are_not_read_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    touched(tmp_path, "a.svs", "b.CZI", "below/c.isyntax", "d.vsi", "notes.txt", "photo.png")
    assert found(tmp_path) == ["a.svs"]
    printed = capsys.readouterr().err
    assert "3 files of kinds that Sentinode does not read: b.CZI, c.isyntax, d.vsi." in printed
    assert "Export them as OME-TIFF" in printed
    assert "photo" not in printed and "notes" not in printed


def test_where_there_is_nothing_else_the_refusal_names_them(tmp_path: Path) -> None:
    touched(tmp_path, "a.zvi", "photo.png")
    with pytest.raises(SlideError, match=r"no slide was found, but 1 file of a kind .* does not read: a\.zvi") as error:
        find_slides([tmp_path])
    assert "Export" in str(error.value.hint)
    (tmp_path / "a.zvi").unlink()
    with pytest.raises(SlideError, match=r"but 1 flat picture: photo\.png") as error:
        find_slides([tmp_path])
    assert "Give its path" in str(error.value.hint)


def test_a_folder_that_is_a_slide_is_not_searched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    touched(tmp_path, "a.svs", "b.zarr/0/0/1.tif", "c.ome.zarr/.zattrs")
    assert found(tmp_path) == ["a.svs"]
    assert "2 files of kinds that Sentinode does not read: b.zarr, c.ome.zarr." in capsys.readouterr().err


def test_many_are_counted_and_a_few_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    touched(tmp_path, "a.svs", *(f"{i}.czi" for i in range(9)), "0[red].vsi")
    find_slides([tmp_path])
    printed = capsys.readouterr().err
    assert "10 files" in printed and ", ..." in printed
    assert "0[red].vsi" in printed


def test_results_may_go_to_where_the_slides_are(tmp_path: Path) -> None:
    touched(tmp_path, "a.svs", "a/probability.ome.tif", "a/probability.dcm")
    assert found(tmp_path, exclude=tmp_path) == ["a.svs"]
    assert found(tmp_path / ".", exclude=tmp_path / "a") == ["a.svs"]


def test_a_file_under_two_spellings_is_one_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched(tmp_path, "in/a.svs")
    monkeypatch.chdir(tmp_path)
    spellings = ["in", "in/a.svs", "./in/../in/a.svs", tmp_path / "in" / "a.svs"]
    assert find_slides(spellings) == [Path("in/a.svs")]
    assert name_slides(find_slides(spellings)).keys() == {"a"}


@pytest.mark.parametrize("name", ["gone.svs", "x" * 300 + ".svs", "gone/below.svs"])
def test_what_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SlideError, match="no such slide or folder"):
        find_slides([tmp_path / name])


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="no slide was found") as error:
        find_slides([tmp_path])
    assert ".mrxs" in str(error.value.hint)


def test_a_folder_that_may_not_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    touched(tmp_path, "a.svs", "closed/b.svs")
    walk = folders.os.walk

    def closed(top: Path, onerror: object) -> object:
        for at, below, names in walk(top):
            if Path(at).name == "closed":
                onerror(PermissionError(13, "Permission denied", at))  # type: ignore[operator]
            else:
                yield at, below, names

    monkeypatch.setattr(folders.os, "walk", closed)
    assert found(tmp_path) == ["a.svs"]
    assert "closed, a folder that cannot be read (Permission denied)" in capsys.readouterr().err


# What each is called


def test_slides_of_one_stem_are_told_apart_by_their_endings(tmp_path: Path) -> None:
    touched(tmp_path, "rgb.png", "rgb.jpg", "other.tif")
    names = name_slides([tmp_path / name for name in ("rgb.png", "rgb.jpg", "other.tif")])
    assert {name: path.name for name, path in names.items()} == {
        "rgb-png": "rgb.png",
        "rgb-jpg": "rgb.jpg",
        "other": "other.tif",
    }


def test_slides_of_one_name_are_told_apart_by_their_content(tmp_path: Path) -> None:
    touched(tmp_path, "one/x.svs", "two/X.SVS", "three/x.tif", "y.svs")
    paths = [tmp_path / name for name in ("one/x.svs", "two/X.SVS", "three/x.tif", "y.svs")]
    names = {path: name for name, path in name_slides(paths).items()}
    assert names[paths[2]] == "x-tif" and names[paths[3]] == "y"
    assert [len(names[path]) for path in paths[:2]] == [len("x-72feb443")] * 2
    assert names == {path: name for name, path in name_slides(paths[::-1]).items()}


def test_a_copy_of_a_slide_is_that_slide(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one/x.svs", "two/x.tif", "xtra/X.svs")]
    for path in paths:
        path.parent.mkdir()
        path.write_text("the same")
    assert name_slides(paths) == {"x": paths[0]}
    touched(tmp_path, "four/x.svs")
    names = name_slides([*paths, tmp_path / "four" / "x.svs"])
    assert len(names) == 2 and all(name.startswith("x-") for name in names)


@pytest.mark.skipif(os.name == "nt", reason="Windows takes no such names")
def test_copies_under_other_names_are_slides_of_their_own(tmp_path: Path) -> None:
    """Even where one name for a folder is made of all of them."""
    paths = [tmp_path / name for name in ("a?b.svs", "a*b.svs", "a|b.svs", "a_b.svs", "other.svs")]
    for path in paths:
        path.write_text("the same")
    names = name_slides(paths)
    assert sorted(names.values()) == sorted(paths)
    assert len({name.casefold() for name in names}) == len(paths)


def test_no_two_names_differ_in_case_alone_or_meet_one_that_was_made(tmp_path: Path) -> None:
    touched(tmp_path, "Node.svs", "node.tif", "rgb.png", "rgb.jpg", "rgb-png.svs", "nu\u0308.svs", "below/n\u00fc.svs")
    names = name_slides(sorted(path for path in tmp_path.rglob("*") if path.is_file()))
    assert len(names) == 7
    assert len({name.casefold() for name in names}) == 7
    assert names["rgb-png"].name == "rgb-png.svs"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("CON.svs", "_CON"),
        ("...tif", "_"),
        (".hidden.svs", "_hidden"),
        ("a..svs", "a"),
        ("a\nb.svs", "a_b"),
        ("[red]a$^$b.svs", "[red]a$^$b"),
        ("index.html.svs", "_index.html"),
        ("Manifest.JSON.tif", "_Manifest.JSON"),
        (".locks.svs", "_locks"),
    ],
)
def test_a_folder_can_be_made_of_any_name(file: str, name: str) -> None:
    assert list(name_slides([Path(file)])) == [name]


def test_the_longest_names_are_shortened_and_stay_two() -> None:
    one, two = name_slides([Path("x" * 247 + "1.svs"), Path("x" * 247 + "2.svs")])
    assert one != two
    assert one[:150] == two[:150] == "x" * 150
    assert max(len(one), len(two)) <= 200


def test_the_files_of_a_batch_are_no_slides_folder() -> None:
    assert {PAGE, MANIFEST, STAGES} == set(RESERVED)


def test_slides_that_cannot_be_read_have_names_too(tmp_path: Path) -> None:
    names = name_slides([tmp_path / "one" / "gone.svs", tmp_path / "two" / "gone.svs"])
    assert len(names) == 2
