"""``sentinode view``."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sentinode.app import serving
from sentinode.cli import app
from sentinode.errors import SlideError


def test_the_options_reach_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = {}
    monkeypatch.setattr(serving, "serve", lambda maps, **options: asked.update(options, maps=maps))
    words = ["view", str(tmp_path), "--slides", "a", "--slides", "b", "--port", "9000", "--no-browser", "--icc"]
    assert CliRunner().invoke(app, [*words, "--reviewer", "Ada"]).exit_code == 0
    assert asked == {
        "maps": tmp_path, "slides": [Path("a"), Path("b")], "port": 9000, "browser": False, "icc": True,
        "reviewer": "Ada",
    }  # fmt: skip


def test_a_folder_without_a_scan_is_refused(tmp_path: Path) -> None:
    try:
        serving.require_viewer()
    except SlideError as lack:
        pytest.skip(str(lack))
    result = CliRunner().invoke(app, ["view", str(tmp_path), "--no-browser"])
    assert isinstance(result.exception, SlideError) and "no scanned slides" in str(result.exception)
