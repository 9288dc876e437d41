"""``[BUNDLE] PATH...``: a bundle of one's own first, or the one that comes with Sentinode."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from sentinode.cli import app
from sentinode.errors import BundleError, DataError
from sentinode.model import bundle as bundles
from sentinode.model.bundle import Bundle
from sentinode.patches import open_data


def sentinode(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def image(generated: Path, tmp_path: Path) -> Path:
    path = tmp_path / "patch.png"
    Image.fromarray(open_data(generated, show=False)["test"].images[0]).save(path)
    return path


@pytest.fixture
def packaged(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """The tests' bundle in the place of the one that comes with Sentinode."""
    monkeypatch.setattr(bundles, "PACKAGED", bundle.path)
    return bundle


def test_where_no_bundle_is_named_the_packaged_one_predicts_and_says_so(packaged: Bundle, image: Path) -> None:
    alone, named = sentinode("predict", image), sentinode("predict", packaged.path, image)
    assert alone.exit_code == 0, alone.output
    assert alone.stdout == named.stdout and str(image) in alone.stdout
    assert packaged.card.name in alone.stderr and "No bundle is named" not in named.stderr


def test_where_no_bundle_is_named_the_packaged_one_explains(packaged: Bundle, image: Path, tmp_path: Path) -> None:
    result = sentinode("explain", image, "--out", tmp_path / "explained")
    assert result.exit_code == 0, result.output
    assert Path(result.stdout.strip()).is_file()


@pytest.mark.usefixtures("packaged")
def test_a_misspelt_bundle_is_refused_and_not_replaced_by_the_packaged_one(image: Path) -> None:
    result = sentinode("predict", "runs/frist/bundle", image)
    assert isinstance(result.exception, BundleError) and "frist" in str(result.exception)


def test_a_bundle_with_nothing_to_look_at_is_refused(bundle: Bundle) -> None:
    assert isinstance(sentinode("predict", bundle.path).exception, DataError)


def test_where_none_comes_with_this_version_the_error_says_how_to_make_one(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "PACKAGED", tmp_path / "nothing")
    result = sentinode("predict", image)
    assert isinstance(result.exception, BundleError)
    assert "sentinode train" in str(result.exception)


def test_check_measures_dense_reading_and_a_scan_then_knows_it(bundle: Bundle, generated: Path, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    shutil.copytree(bundle.path, path)
    result = sentinode("check", path, generated, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "patch" in result.stdout and "dense" in result.stdout
    assert bundles.load(path).card.readings["dense"].halo > 0
    assert (path / "reference.safetensors").is_file()  # what check-site compares with
    as_json = json.loads(sentinode("check", path, generated, "--device", "cpu", "--json").stdout)
    assert as_json["dense"]["n"] == as_json["patch"]["n"]
