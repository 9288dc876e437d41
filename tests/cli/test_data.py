from __future__ import annotations

import json

import h5py
import pytest
from typer.testing import CliRunner

from sentinode.cli.data import app
from sentinode.errors import DownloadError


@pytest.fixture
def command():
    return CliRunner()


@pytest.mark.parametrize("name", ["download", "audit", "synth"])
def test_every_help_has_an_example(command, name):
    done = command.invoke(app, [name, "--help"])
    assert done.exit_code == 0
    assert f"Example: sentinode data {name}" in done.stdout


def test_synth_writes_what_was_asked_for_and_prints_where(command, tmp_path):
    out = tmp_path / "toy"
    done = command.invoke(app, ["synth", str(out), "--train", "6", "--valid", "4", "--test", "4"])
    assert done.exit_code == 0
    assert done.stdout == f"{out}\n"
    with h5py.File(out / "camelyonpatch_level_2_split_train_x.h5") as file:
        assert file["x"].shape == (6, 96, 96, 3)


def test_audit_prints_a_table(command, generated):
    done = command.invoke(app, ["audit", str(generated)])
    assert done.exit_code == 0
    assert "generated: a toy" in done.stdout
    assert "train and valid" in done.stdout
    assert "No problems were found." in done.stdout


def test_audit_prints_json_and_nothing_else_on_request(command, generated):
    done = command.invoke(app, ["audit", str(generated), "--json"])
    found = json.loads(done.stdout)
    assert [split["patches"] for split in found["splits"]] == [256, 128, 128]
    assert found["swapped"] is None
    assert found["across"][0] == {"splits": ["train", "valid"], "exact": 0, "near": 0}
    assert found["findings"] == []


def test_download_passes_its_options_on(command, tmp_path, monkeypatch):
    called = {}

    def fake(out, **options):
        called.update(options, out=out)
        return [out / "a.h5"]

    monkeypatch.setattr("sentinode.patches.download.download", fake)
    done = command.invoke(app, ["download", str(tmp_path), "--splits", "valid, test", "--keep-gz"])
    assert done.stdout == f"{tmp_path / 'a.h5'}\n"
    assert called["splits"] == ["valid", "test"]
    assert called["keep_gz"] is True
    assert called["url"] == "https://zenodo.org/records/2546921/files"


def test_a_mirror_that_is_not_there_is_refused_in_words(command, tmp_path):
    done = command.invoke(app, ["download", str(tmp_path), "--url", "ftp://mirror"])
    assert isinstance(done.exception, DownloadError)
