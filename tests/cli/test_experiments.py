"""``sentinode sweep``, ``curve`` and ``tune``: what they print, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_outcomes import made_outcomes
from typer.testing import CliRunner, Result

from sentinode.cli import app
from sentinode.errors import EXIT_PARTIAL, DataError, DeviceError, RecipeError
from sentinode.experiments import learning_curve, trials

TINY = (
    *("--recipe", "quick", "--sample", "64", "--sample-valid", "48", "--device", "cpu"),
    *("--set", "model.backbone=test_resnet", "--set", "model.weights=none", "--set", "training.epochs=1"),
)


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def sweep(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[str | Path, ...], Result]:
    out = tmp_path_factory.mktemp("swept") / "out"
    words = ("sweep", generated, "--out", out, *TINY, "--set", "optimizer.lr=3e-3,1e-3", "--seeds", "2")
    return words, run(*words)


def test_a_sweep_prints_a_row_for_each_setting_one_sentence_and_its_page(
    sweep: tuple[tuple[str | Path, ...], Result],
) -> None:
    words, result = sweep
    assert result.exit_code == 0, result.output
    assert "lr 0.003" in result.stdout and "lr 0.001" in result.stdout
    assert "Page:" in result.stderr and (Path(words[3]) / "sweep.html").exists()


def test_a_sweep_prints_its_record_as_json(sweep: tuple[tuple[str | Path, ...], Result]) -> None:
    words, _ = sweep
    result = run(*words, "--json")  # nothing is trained again
    assert json.loads(result.stdout) == json.loads((Path(words[3]) / "sweep.json").read_text("utf-8"))


def test_a_run_that_fails_is_named_and_the_exit_code_says_so(
    sweep: tuple[tuple[str | Path, ...], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RecipeError("the loss is no longer a number at step 1.")

    monkeypatch.setattr(trials, "train", broken)
    words, _ = sweep
    result = run(*words[:-1], "3")
    assert result.exit_code == EXIT_PARTIAL
    assert "seed 2: the loss is no longer a number" in result.stderr


def test_a_device_that_does_not_exist_stops_a_sweep(generated: Path, tmp_path: Path) -> None:
    result = run("sweep", generated, "--out", tmp_path / "out", *TINY, "--device", "cuda:77")
    assert isinstance(result.exception, DeviceError)


SMALL = [word for word in TINY if word not in ("--sample", "64")]


def test_a_curve_prints_a_row_for_each_size_one_sentence_and_its_page(
    generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning_curve, "run_trials", made_outcomes)
    out = tmp_path / "more"
    words = ("curve", generated, "--out", out, *SMALL, "--sizes", "32,64", "--test")
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert "from 32 to 64 patches" in " ".join(result.stdout.split())
    assert "Page:" in result.stderr and (out / "curve.html").exists()
    assert json.loads(run(*words, "--json").stdout) == json.loads((out / "curve.json").read_text("utf-8"))


def test_a_size_that_fails_is_named_and_the_exit_code_says_so(
    generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RecipeError("the loss is no longer a number at step 1.")

    monkeypatch.setattr(trials, "train", broken)
    result = run("curve", generated, "--out", tmp_path / "more", *SMALL, "--sizes", "32,64", "--seeds", "2")
    assert result.exit_code == EXIT_PARTIAL
    assert "64 patches, seed 1: the loss is no longer a number" in result.stderr


@pytest.mark.parametrize("sizes", ["", "32,", "32,many", "3e1,64", "32;64"])
def test_sizes_that_are_no_numbers_are_refused(generated: Path, tmp_path: Path, sizes: str) -> None:
    result = run("curve", generated, "--out", tmp_path / "more", *SMALL, "--sizes", sizes)
    assert isinstance(result.exception, DataError) and "is no size" in str(result.exception)


def test_a_search_prints_its_trials_and_says_what_to_train_next(generated: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="Optuna (sentinode[tune]) is not installed here")
    out = tmp_path / "search"
    words = ("tune", generated, "--out", out, *TINY, "--search", "optimizer.lr=1e-4..1e-2:log", "--trials", "2")
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert f"--recipe {out / 'best.toml'}" in " ".join(result.stderr.split())
    assert (out / "tune.html").exists()
    record = json.loads(run(*words, "--json").stdout)
    assert record["best"]["number"] in (0, 1)


@pytest.mark.parametrize("options", [("--search", "optimizer.lr=1..0"), ("--search", "model.nothing=1,2")])
def test_a_search_of_nonsense_is_refused_before_it_trains(
    generated: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    pytest.importorskip("optuna", reason="Optuna (sentinode[tune]) is not installed here")
    result = run("tune", generated, "--out", tmp_path / "out", *TINY, *options)
    assert result.exit_code != 0 and not (tmp_path / "out" / "tune.html").exists()
