"""``sentinode compare``, and ``evaluate`` on tables of predictions, from the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from sentinode.cli import main
from sentinode.cli.compare import Metric
from sentinode.errors import EXIT_REFUSED
from sentinode.model.bundle import Bundle
from sentinode.scoring import METRICS

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sentinode(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sentinode", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, " ".join(printed.err.split())

    return run


@pytest.fixture
def tables(tmp_path: Path) -> list[Path]:
    """Three models' predictions for the same 200 patches; the last are logits with words as labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=200)
    paths = []
    for name, noise in (("good", 0.3), ("fair", 1.5), ("logits", 1.0)):
        margins = 2.0 * labels - 1 + rng.normal(0, noise, 200)
        rows = [f"p{row},{labels[row]},{1 / (1 + np.exp(-margins[row])):.6f}" for row in range(200)]
        if name == "logits":
            words = np.where(labels == 1, "cancer", "healthy")
            rows = [f"p{row},{words[row]},{margins[row]:.5f}" for row in range(200)]
        paths.append(tmp_path / f"{name}.csv")
        paths[-1].write_text("id,label,score\n" + "\n".join(rows) + "\n")
    return paths


def test_tables_are_compared(sentinode: Run, tables: list[Path], tmp_path: Path) -> None:
    code, out, told = sentinode("compare", *tables[:2], "--out", tmp_path / "out", "--resamples", "50")
    assert code == 0
    assert "good has a higher AUC than fair" in out
    assert "Columns of good.csv: probability from 'score'." in told
    assert (tmp_path / "out" / "report.html").exists()


def test_json_is_the_file(sentinode: Run, tables: list[Path], tmp_path: Path) -> None:
    words = ("--names", "A,B", "--non-inferior", "0.05", "--metric", "brier", "--resamples", "50", "--json")
    _, out, _ = sentinode("compare", *tables[:2], "--out", tmp_path / "out", *words)
    record = json.loads(out)
    assert record == json.loads((tmp_path / "out" / "comparison.json").read_text("utf-8"))
    assert [one["name"] for one in record["models"]] == ["A", "B"]
    assert record["non_inferiority"][0]["metric"] == "brier"


def test_a_table_is_evaluated(sentinode: Run, tables: list[Path], tmp_path: Path) -> None:
    words = ("--scale", "logit", "--positive", "cancer", "--interval", "bca", "--resamples", "50")
    code, out, _ = sentinode("evaluate", tables[2], "--out", tmp_path / "out", *words)
    assert code == 0
    assert "BCa of 50 bootstrap resamples" in " ".join(out.split())
    code, out, _ = sentinode("compare", tmp_path / "out", tmp_path / "out", "--names", "a,b", "--out", tmp_path / "two")
    assert code == 0
    assert "No difference in AUC" in out


def test_a_bundle_and_its_evaluation_differ_in_nothing(
    sentinode: Run, bundle: Bundle, generated: Path, tmp_path: Path
) -> None:
    evaluated = tmp_path / "evaluated"
    assert sentinode("evaluate", bundle.path, generated, "--out", evaluated, "--resamples", "20")[0] == 0
    words = ("--data", generated, "--names", "bundle,file", "--resamples", "20", "--out", tmp_path / "out")
    code, out, _ = sentinode("compare", bundle.path, evaluated, *words)
    assert code == 0
    assert "cannot be said from 4 slides. On these, the first less the second is +0.0000" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("compare", "A", "--out", "OUT"), "two models or more"),
        (("compare", "A", "C", "--out", "OUT"), "They look like logits"),
        (("compare", "A", "A", "--out", "OUT"), "two models are called 'good'"),
        (("compare", "A", "B", "--names", "a", "--out", "OUT"), "--names has 1 names"),
        (("compare", "A", "B", "--non-inferior", "little", "--out", "OUT"), "is not a margin"),
        (("compare", "A", "B", "--non-inferior", "auc=-1", "--out", "OUT"), "cannot be tested"),
        (("compare", "A", "B", "--columns", "score", "--out", "OUT"), "is not ROLE=COLUMN"),
        (("compare", "A", "B", "--valid", "A", "--valid", "B", "--out", "OUT"), "also among those that are scored"),
        (("compare", "A", "B", "--valid", "A", "--out", "OUT"), "2 models and 1 sets"),
        (("compare", "A", "/nowhere", "--out", "OUT"), "no bundle here"),
        (("evaluate", "A", "A", "--out", "OUT"), "DATA is for a bundle"),
        (("evaluate", "A", "--tta", "--out", "OUT"), "--tta is for a bundle"),
        (("evaluate", "A", "--cluster", "auto", "--out", "OUT"), "--cluster is for a bundle"),
        (("evaluate", "A", "--rule", "f1", "--out", "OUT"), "--rule chooses the threshold on other patches"),
        (("evaluate", "A", "--valid", "A", "--out", "OUT"), "also among those that are scored"),
        (("evaluate", "/nowhere", "--out", "OUT"), "no labelled patches are named"),
        (("evaluate", "/nowhere", "A", "--scale", "logit", "--out", "OUT"), "--scale is for a table of predictions"),
    ],
)
def test_each_refusal_is_a_sentence(
    sentinode: Run, tables: list[Path], tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    meant = {"A": tables[0], "B": tables[1], "C": tables[2], "OUT": tmp_path / "out"}
    code, _, message = sentinode(*(meant.get(word, word) for word in words))
    assert code == EXIT_REFUSED
    assert told in message
    assert not (tmp_path / "out").exists()


def test_the_metrics_to_choose_from_are_those_that_are_measured() -> None:
    assert get_args(Metric) == METRICS
