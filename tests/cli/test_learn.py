"""``sentinode learn``: its options reach the verb, and a refusal is a refusal."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import sentinode
from sentinode.cli import app
from sentinode.errors import SlideError
from sentinode.learning.comparison import Change
from sentinode.learning.verdict import decide

CHANGE = Change("AUC on valid patches", 0.9, 0.95, 0.01, 0.09, 0.5, 100, "patches", "better")


def test_options_go_in_and_the_verdict_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def learn(maps: Path, out: Path, **options: Any) -> Any:
        given.update(options, maps=maps, out=out)
        verdict, changes = decide([CHANGE]), (CHANGE,)
        bundle = SimpleNamespace(path=out / "bundle")
        record = {"verdict": verdict.name}
        return SimpleNamespace(
            verdict=verdict, changes=changes, bundle=bundle, page=out / "learned.html", as_dict=lambda: record
        )

    monkeypatch.setattr(sentinode, "learn", learn, raising=False)
    words = ["learn", "maps", "--from", "packaged", "--out", str(tmp_path), "--without", "s1", "--hold-out", "3"]
    result = CliRunner().invoke(app, [*words, "--data", "pcam", "--resume", "--set", "training.epochs=2"])
    assert result.exit_code == 0, result.output
    assert (given["start_from"], given["without"], given["hold_out"]) == ("packaged", ["s1"], 3)
    assert (given["data"], given["resume"], given["settings"]) == (Path("pcam"), True, ["training.epochs=2"])
    assert "Teaching helped: AUC on valid patches 0.9000 before, 0.9500 after" in result.output
    assert '"verdict": "helped"' in CliRunner().invoke(app, [*words, "--json"]).output


def test_a_folder_without_maps_is_refused(tmp_path: Path) -> None:
    words = ["learn", str(tmp_path), "--from", "packaged", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, SlideError) and "no maps here" in str(result.exception)
    assert not (tmp_path / "run").exists()
