"""The notebook tells the whole story, from its first cell, and runs from top to bottom."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "train_and_test.ipynb"
SMALLER = {
    "SAMPLE = 2048": "SAMPLE = 128",
    '"resnet10t"': '"test_resnet"',
    "2 if REAL else 3": "2 if REAL else 1",
}
"""What the test changes in the first cell, to be done in seconds."""


def read() -> NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def changed(source: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert source.count(old) == 1, f"the first cell no longer says {old}"
        source = source.replace(old, new)
    return source


def settings(changes: dict[str, str]) -> dict[str, Any]:
    """What the first cell defines after some changes."""
    defined: dict[str, Any] = {}
    exec(changed(code(read())[0].source, changes), defined)
    return defined


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the whole notebook ran, on a small sample."""
    path = tmp_path_factory.mktemp("notebook")
    notebook = read()
    first = code(notebook)[0]
    first.source = changed(first.source, SMALLER)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(path)}}).execute()
    nbformat.write(notebook, path / "ran.ipynb")
    return path


def test_it_runs_from_top_to_bottom_on_a_small_sample(folder: Path) -> None:
    (run,) = (folder / "runs").glob("test_resnet_*")
    assert (run / "bundle" / "card.json").is_file()
    assert (run / "test" / "report.html").is_file()


def test_it_shows_patches_the_learning_curve_the_roc_and_the_errors(folder: Path) -> None:
    outputs = [output for cell in code(nbformat.read(folder / "ran.ipynb", as_version=4)) for output in cell.outputs]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert sum(kind.startswith("image/") for kind in kinds) >= 5
    assert not [output for output in outputs if output.output_type == "error"]


def test_one_line_of_the_first_cell_makes_it_a_resnet_50_on_full_pcam() -> None:
    assert settings({})["ARCHITECTURE"]["weights"] == "none"
    real = settings({'DATA = "generated"': 'DATA = "pcam"'})
    assert real["ARCHITECTURE"]["backbone"] == "resnet50"
    assert real["ARCHITECTURE"]["weights"] == "imagenet"


def test_every_hyperparameter_that_it_offers_is_a_key_of_the_recipe() -> None:
    from sentinode.recipes import check_recipe

    defined = settings({})
    tables: dict[str, dict[str, Any]] = {"model": defined["ARCHITECTURE"]}
    for key, value in defined["HYPERPARAMETERS"].items():
        section, _, name = key.partition(".")
        tables.setdefault(section, {})[name] = value
    check_recipe(tables)


def installed_by_the_second_cell(monkeypatch: pytest.MonkeyPatch, *, colab: bool, found: bool) -> list[list[str]]:
    """The commands that the cell runs, with and without Colab, and with and without Sentinode."""
    commands: list[list[str]] = []
    if colab:
        monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    monkeypatch.setattr(subprocess, "run", lambda command, **options: commands.append(command))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if found else None)
    exec(code(read())[1].source, {})
    return commands


def test_on_colab_the_second_cell_installs_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = installed_by_the_second_cell(monkeypatch, colab=True, found=False)
    assert command[1:4] == ["-m", "pip", "install"] and command[-1] == "sentinode[train]"


@pytest.mark.parametrize(("colab", "found"), [(True, True), (False, False), (False, True)])
def test_elsewhere_and_where_it_is_installed_the_second_cell_does_nothing(
    monkeypatch: pytest.MonkeyPatch, colab: bool, found: bool
) -> None:
    assert not installed_by_the_second_cell(monkeypatch, colab=colab, found=found)


def test_it_is_committed_with_what_it_shows_and_small() -> None:
    cells = code(read())
    assert all(cell.execution_count for cell in cells), "run it again before committing it: make notebook"
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(output.get("data", {}).get("image/svg+xml") for cell in cells for output in cell.outputs)
    assert NOTEBOOK.stat().st_size < 1_000_000
