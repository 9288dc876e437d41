"""The demo: the main job from beginning to end, as a newcomer sees it first."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sentinode.cli import app
from sentinode.demo import EXAMPLES, run
from sentinode.errors import SentinodeError

PATCHES = 64


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo's folder, in a place whose name has a space."""
    return run(tmp_path_factory.mktemp("a demo"), patches=PATCHES, show=False).parents[1]


def test_it_leaves_all_that_the_main_job_makes(demo: Path) -> None:
    assert (demo / "run" / "bundle" / "card.json").is_file()
    assert (demo / "test" / "report.html").is_file()
    assert len(list((demo / "explained").glob("*.png"))) == 2 * EXAMPLES
    with (demo / "predictions.csv").open(newline="", encoding="utf-8") as lines:
        assert len(list(csv.DictReader(lines))) == 2 * EXAMPLES


def test_the_model_is_said_to_be_a_toy(demo: Path) -> None:
    assert json.loads((demo / "run" / "bundle" / "card.json").read_text("utf-8"))["toy"] is True
    assert "toy" in (demo / "test" / "report.html").read_text("utf-8")


def test_run_again_it_goes_on_says_each_command_and_prints_the_report_alone(
    demo: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = (demo / "run" / "bundle" / "weights.safetensors").read_bytes()
    with pytest.raises(SystemExit) as ended:
        app(["demo", "--out", str(demo), "--patches", str(PATCHES)])
    assert ended.value.code in (0, None)
    assert (demo / "run" / "bundle" / "weights.safetensors").read_bytes() == weights

    printed = capfd.readouterr()
    assert Path(printed.out.strip()) == demo / "test" / "report.html"
    assert "toy" in printed.err
    commands = [shlex.split(line)[1:] for line in re.findall(r"^\$ (sentinode .*)$", printed.err, re.MULTILINE)]
    assert [words[0] for words in commands] == ["data", "train", "evaluate", "predict", "explain"]

    before = (demo / "predictions.csv").read_bytes()
    for words in commands:
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"{shlex.join(words)}: {result.output}"
    assert (demo / "predictions.csv").read_bytes() == before


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(SentinodeError, match="holds other files"):
        run(tmp_path, patches=PATCHES, show=False)
    assert (tmp_path / "data" / "thesis.txt").read_text("utf-8") == "years of work"
