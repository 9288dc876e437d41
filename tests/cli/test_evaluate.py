import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.table import Table

from sentinode.cli import main
from sentinode.cli.evaluate import _print_table
from sentinode.errors import EXIT_PARTIAL, EXIT_REFUSED
from sentinode.model.bundle import Bundle
from sentinode.patches import open_data


class Sentinode:
    """The command line, in this process."""

    def __init__(self, patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]) -> None:
        self._patch, self._captured = patch, captured

    def __call__(self, *words: str | Path) -> tuple[int, str, str]:
        """Exit code, standard output, and standard error on one line."""
        self._patch.setattr(sys, "argv", ["sentinode", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = self._captured.readouterr()
        return int(ended.value.code or 0), printed.out, " ".join(printed.err.split())


@pytest.fixture
def sentinode(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sentinode:
    return Sentinode(monkeypatch, capsys)


@pytest.fixture
def image(generated: Path, tmp_path: Path) -> Path:
    path = tmp_path / "patch.png"
    Image.fromarray(open_data(generated, show=False)["test"].images[:1][0]).save(path)
    return path


@pytest.mark.parametrize("command", ["evaluate", "predict", "explain"])
def test_help_has_an_example(sentinode: Sentinode, command: str) -> None:
    code, out, _ = sentinode(command, "--help")
    assert code == 0
    assert f"Example: sentinode {command}" in " ".join(out.split())


def test_evaluate_prints_a_table_and_names_the_report(
    sentinode: Sentinode, bundle: Bundle, generated: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, table, told = sentinode("evaluate", bundle.path, generated, "--out", out, "--resamples", "20")
    assert code == 0
    assert "auc" in table
    assert "valid (test)" in table
    assert f"Report: {out / 'report.html'}" in told
    assert (out / "metrics.json").exists()


def test_evaluate_prints_metrics_json_on_request(
    sentinode: Sentinode, bundle: Bundle, generated: Path, tmp_path: Path
) -> None:
    words = ("--split", "valid", "--out", tmp_path, "--resamples", "20", "--json")
    code, out, _ = sentinode("evaluate", bundle.path, generated, *words)
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "metrics.json").read_text("utf-8"))


def test_predict_writes_csv_to_standard_output(sentinode: Sentinode, bundle: Bundle, image: Path) -> None:
    code, out, _ = sentinode("predict", bundle.path, image)
    (row,) = csv.DictReader(out.splitlines())
    assert code == 0
    assert row["id"] == image.as_posix()
    assert 0 <= float(row["probability"]) <= 1


def test_predict_writes_kaggles_columns_on_request(
    sentinode: Sentinode, bundle: Bundle, image: Path, tmp_path: Path
) -> None:
    file = tmp_path / "submission.csv"
    code, out, _ = sentinode("predict", bundle.path, image, "--format", "kaggle", "--out", file)
    assert (code, out) == (0, "")
    assert file.read_text("utf-8").startswith("id,label\npatch,0.")


def test_predict_prints_json_lines_on_request(sentinode: Sentinode, bundle: Bundle, image: Path) -> None:
    _, out, _ = sentinode("predict", bundle.path, image, "--json")
    assert json.loads(out)["error"] is None


def test_a_broken_file_among_good_ones_ends_with_three(
    sentinode: Sentinode, bundle: Bundle, image: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "text.tif"
    broken.write_text("this is text")
    code, out, told = sentinode("predict", bundle.path, image, broken)
    assert code == EXIT_PARTIAL
    assert len(out.splitlines()) == 3
    assert "text.tif: this is not an image" in told
    assert "1 patch predicted, 1 failed" in told
    code, out, told = sentinode("explain", bundle.path, image, broken, "--out", tmp_path / "out", "--json")
    assert code == EXIT_PARTIAL
    explained = json.loads(out)
    assert explained["failed"][0]["id"] == broken.as_posix()
    assert explained["method"] == "exact contributions"


def test_explain_prints_the_pictures_it_made(sentinode: Sentinode, bundle: Bundle, image: Path, tmp_path: Path) -> None:
    code, out, _ = sentinode("explain", bundle.path, image, "--out", tmp_path / "out")
    assert code == 0
    assert Path(out.strip()) == tmp_path / "out" / "patch.png"
    assert np.asarray(Image.open(out.strip())).ndim == 3


def test_explain_names_the_nearest_training_patches(
    sentinode: Sentinode, bundle: Bundle, generated: Path, tmp_path: Path
) -> None:
    train = open_data(generated, show=False)["train"]
    Image.fromarray(train.images[5:6][0]).save(tmp_path / "copy.png")
    words = ("explain", bundle.path, tmp_path / "copy.png", "--out", tmp_path / "out", "--neighbours", "2")
    code, out, told = sentinode(*words, "--data", generated, "--json")
    assert code == 0, told
    (near,) = json.loads(out)["neighbours"]
    assert near[0]["id"] == train.ids[5] and near[0]["copy"]
    code, _, told = sentinode(*words)
    assert code == EXIT_REFUSED and "neighbours need" in told


@pytest.mark.parametrize("command", ["evaluate", "predict", "explain"])
def test_what_is_refused_ends_with_two_and_leaves_nothing(
    sentinode: Sentinode, bundle: Bundle, generated: Path, image: Path, tmp_path: Path, command: str
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(bundle.path, changed)
    weights = changed / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    data = generated if command == "evaluate" else image
    out = tmp_path / "out" / "result.csv"
    code, printed, told = sentinode(command, changed, data, "--out", out)
    assert code == EXIT_REFUSED
    assert "has changed since the bundle was written" in told
    assert printed == ""
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("evaluate", "BUNDLE", "/nowhere", "--out", "OUT"), "there is nothing here"),
        (("evaluate", "BUNDLE", "DATA", "--split", "exam", "--out", "OUT"), "'exam' is not one of"),
        (("evaluate", "BUNDLE", "DATA", "--split", "all", "--out", "OUT"), "no split 'all'"),
        (("evaluate", "BUNDLE", "DATA", "--rule", "f2", "--out", "OUT"), "no threshold for the rule 'f2'"),
        (("evaluate", "BUNDLE", "DATA", "--device", "tpu9", "--out", "OUT"), "tpu9"),
        (("evaluate", "BUNDLE", "DATA", "--cluster", "nowhere", "--out", "OUT"), "no address of a Ray cluster"),
        (("predict", "BUNDLE", "/nowhere.png"), "no such file"),
        (("predict", "BUNDLE", "DATA", "--format", "xls", "--out", "OUT"), "'xls' is not one of"),
        (("explain", "BUNDLE", "/nowhere.png", "--out", "OUT"), "no such file"),
        (("predict", "/nowhere", "DATA"), "no bundle here"),
    ],
)
def test_each_refusal_is_a_sentence(
    sentinode: Sentinode, bundle: Bundle, generated: Path, tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    meant = {"BUNDLE": bundle.path, "DATA": generated, "OUT": tmp_path / "out"}
    code, _, message = sentinode(*(meant.get(word, word) for word in words))
    assert code == EXIT_REFUSED
    assert told in message
    assert "Traceback" not in message


def test_a_table_shows_the_name_of_a_bundle_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    _print_table(Table("metric", title="[/red]", caption="[bold]"))
    printed = capsys.readouterr().out
    assert "[/red]" in printed and "[bold]" in printed
