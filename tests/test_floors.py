"""The house: a module imports only from the floors below its own, as docs/architecture.md draws it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parents[1]


def floors() -> list[set[str]]:
    """The contract's floors from the roof down, each with its modules."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    return [set(re.findall(r"\w+", layer)) for layer in layers]


def test_a_module_imports_only_from_the_floors_below_its_own() -> None:
    assert lint_imports(str(ROOT / "pyproject.toml"), no_cache=True) == EXIT_STATUS_SUCCESS, (
        "run `make floors` to see which import goes up"
    )


def test_the_architecture_page_draws_the_same_floors() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    drawing = page.partition("```text\n")[2].partition("\n```")[0]
    sketched = [set(re.findall(r"\w+", line.partition("  ")[0])) for line in drawing.splitlines() if line[:1].strip()]
    assert sketched == floors()


@pytest.mark.parametrize("module", ["sentinode", "sentinode.cli", "sentinode.patches", "sentinode.scoring"])
def test_what_needs_no_network_does_not_load_pytorch(module: str) -> None:
    """So that `--help` answers at once, and scores and readers serve where there is no PyTorch."""
    subprocess.run([sys.executable, "-c", f"import sys, {module}; assert 'torch' not in sys.modules"], check=True)


def test_only_the_commands_come_in_by_the_front_door() -> None:
    """``import sentinode`` reaches every floor and the contract does not follow it, so that an import could go up."""
    door = re.compile(r"^\s*(?:import sentinode\b(?!\.)|from sentinode import )", re.MULTILINE)
    package = ROOT / "src" / "sentinode"
    through = {
        path.relative_to(package).parts[0] for path in package.rglob("*.py") if door.search(path.read_text("utf-8"))
    }
    assert through == {"cli"}
