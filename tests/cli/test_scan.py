"""``sentinode scan`` as a user meets it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from rich.cells import cell_len
from slide_files import tissue_picture, write_tiff
from typer.testing import CliRunner, Result

from sentinode.cli import app
from sentinode.errors import BundleError, SlideError
from sentinode.model.bundle import Bundle
from sentinode.slides.scanning.probability_map import open_map


def sentinode(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    write_tiff(folder / "node.tif", tissue_picture(400, 300), levels=2)
    return folder


def test_a_scan_leaves_a_map_and_prints_a_table(bundle: Bundle, slides: Path, tmp_path: Path) -> None:
    result = sentinode("scan", bundle.path, slides, "--out", tmp_path, "--stride", "96")
    assert result.exit_code == 0, result.output
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [["slide", "state"], ["node", "done"]]
    assert "5.0%" in result.stderr and "--prior" in result.stderr
    probability_map = open_map(tmp_path / "node")
    assert probability_map.stride == pytest.approx(96) and probability_map.prior == 0.05


def test_a_run_stands_for_its_bundle_and_json_is_json(bundle: Bundle, run: Path, slides: Path, tmp_path: Path) -> None:
    result = sentinode("scan", run, slides / "node.tif", "-o", tmp_path, "--stride", "96", "--json")
    (state,) = json.loads(result.stdout)
    assert state["name"] == "node" and state["state"] == "done"


def test_long_names_are_cut_in_the_table_and_whole_in_json(
    bundle: Bundle, slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    folder = tmp_path / "slides"
    folder.mkdir()
    name = "TCGA-" + "x" * 180 + "-2a5f"
    for file in (f"{name}.tif", "スライド" * 15 + ".tif"):
        shutil.copy(slides / "node.tif", folder / file)
    words = ("scan", bundle.path, folder, "--out", tmp_path / "out", "--stride", "96")
    result = sentinode(*words)
    assert result.exit_code == 0, result.output
    assert max(cell_len(line) for line in result.stdout.splitlines()) <= 70
    assert re.search(r"^TCGA-x+…x+-2a5f +done", result.stdout, re.MULTILINE)
    assert name in {state["name"] for state in json.loads(sentinode(*words, "--json").stdout)}
    listed = sentinode("lesions", tmp_path / "out")
    assert max(cell_len(line) for line in listed.stdout.splitlines()) <= 70


def test_a_replaced_slide_is_scanned_again_and_lesions_draws_over_no_other(
    bundle: Bundle, slides: Path, tmp_path: Path
) -> None:
    for name in ("one.tif", "two.tif"):
        shutil.copy(slides / "node.tif", tmp_path / name)
    words = ("scan", bundle.path, tmp_path / "one.tif", tmp_path / "two.tif", "--out", tmp_path / "out")
    words = (*words, "--stride", "96")
    assert sentinode(*words).exit_code == 0
    write_tiff(tmp_path / "one.tif", tissue_picture(400, 300, seed=1), levels=2)
    refused = sentinode("lesions", tmp_path / "out", "--json")
    assert refused.exit_code == 3
    assert "not the file that was scanned" in json.loads(refused.stdout)["failed"]["one"]
    write_tiff(tmp_path / "two.tif", tissue_picture(400, 300, seed=1), levels=2)
    assert sentinode("lesions", tmp_path / "out").exit_code == 2
    again = sentinode(*words)
    assert again.exit_code == 0
    assert again.stderr.count("not the file that was scanned before") == 2
    assert sentinode("lesions", tmp_path / "out").exit_code == 0


def test_slides_of_other_kinds_are_named(bundle: Bundle, slides: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(slides, tmp_path / "slides"))
    (folder / "b.czi").touch()
    (folder / "._node.tif").touch()
    result = sentinode("scan", bundle.path, folder, "--out", tmp_path / "out", "--stride", "96")
    assert result.exit_code == 0
    assert "1 file of a kind that Sentinode does not read: b.czi." in " ".join(result.stderr.split())
    assert "1 of 1 slides done" in result.stderr
    (folder / "node.tif").unlink()
    refused = sentinode("scan", bundle.path, folder, "--out", tmp_path / "out", "--stride", "96")
    assert isinstance(refused.exception, SlideError) and "b.czi" in str(refused.exception)


def test_some_failed_is_exit_3_and_all_failed_is_exit_2(bundle: Bundle, slides: Path, tmp_path: Path) -> None:
    letter = tmp_path / "letter.svs"
    letter.write_text("Dear colleague")
    some = sentinode("scan", bundle.path, slides, letter, "--out", tmp_path / "some", "--stride", "96")
    assert some.exit_code == 3
    assert "not a slide" in some.stdout
    alone = sentinode("scan", bundle.path, letter, "--out", tmp_path / "alone")
    assert alone.exit_code == 2


def test_without_a_bundle_the_error_says_how_to_make_one(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentinode.model.bundle.PACKAGED", tmp_path / "nothing")
    result = sentinode("scan", slides / "node.tif", "--out", tmp_path)
    assert isinstance(result.exception, BundleError)
    assert "sentinode train" in str(result.exception)
