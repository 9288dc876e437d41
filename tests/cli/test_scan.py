"""``sentinode scan`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from slide_files import tissue_picture, write_tiff
from typer.testing import CliRunner, Result

from sentinode.cli import app
from sentinode.errors import BundleError
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
    map = open_map(tmp_path / "node")
    assert map.stride == pytest.approx(96) and map.prior == 0.05


def test_a_run_stands_for_its_bundle_and_json_is_json(bundle: Bundle, run: Path, slides: Path, tmp_path: Path) -> None:
    result = sentinode("scan", run, slides / "node.tif", "-o", tmp_path, "--stride", "96", "--json")
    (state,) = json.loads(result.stdout)
    assert state["name"] == "node" and state["state"] == "done"


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
