"""Without its extra, a command or a name of Python says which extra it needs, and shows no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from sentinode.errors import SentinodeError
from sentinode.extras import EXTRAS, naming_extras
from sentinode.model.bundle import PACKAGED

ROOT = Path(__file__).parents[1]
MODULES = {"openslide-bin": None, "openslide-python": "openslide", "scikit-learn": "sklearn"}
"""What a package is imported as, where its name differs; None where nothing imports it."""

Answers = Callable[[Iterable[tuple[str, ...]], Iterable[str]], dict[tuple[str, ...], tuple[int, str]]]

HIDING = """\
import contextlib, importlib.machinery, io, json, sys

class Hiding(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else super().find_spec(name, path, target)

HIDDEN, commands = json.loads(sys.argv[1])
sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Hiding
from sentinode.cli import main

results = []
for command in commands:
    sys.argv, code = ["sentinode", *command], 0
    with contextlib.redirect_stderr(io.StringIO()) as messages, contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as end:
            code = end.code
    results.append((code, messages.getvalue()))
print(json.dumps(results))
"""
"""Runs commands one after another where some modules cannot be imported."""

COMMANDS = {
    ("scan", "slide.svs", "--out", "maps"): "slides",
    ("lesions", "maps"): "slides",
    ("froc", "maps", "annotations", "--out", "froc"): "slides",
    ("operate", "maps", "annotations", "packaged", "--out", "lab", "--false-lesions", "1"): "slides",
    ("learn", "maps", "--from", "packaged", "--data", "data", "--out", "taught"): "slides",
    ("extract", "slide.svs", "--annotations", "annotations", "--out", "data"): "slides",
    ("annotations", "one.xml", "--slide", "slide.svs"): "slides",
    ("view", "maps"): "app",
    ("quantise", "packaged", "generated", "--out", "int8"): "quantise",
    ("export", "packaged", "--to", "onnx", "--out", "exported"): "export",
    ("export", "packaged", "--to", "openvino", "--out", "exported"): "fast",
    ("probe", "features.npz", "--out", "probes"): "probe",
    ("tune", "generated", "--recipe", "quick", "--out", "search"): "tune",
}
"""Commands, and the extra that they need beside ``train``."""

TRAINING = (
    ("train", "generated", "--recipe", "quick", "--out", "run"),
    ("evaluate", "packaged", "generated", "--out", "test"),
    ("compare", "a.csv", "b.csv", "--out", "compared"),
    ("data", "audit", "generated"),
    ("predict", "packaged", "patches.parquet", "--device", "cpu"),
    ("froc", "maps", "annotations", "--out", "froc"),
)
"""Commands that the smallest installation does without."""


def packages() -> dict[str, set[str]]:
    """The modules of each extra for users, from pyproject.toml."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    names = {key: [Requirement(text).name for text in extras[key]] for key in EXTRAS}
    imported = {key: {MODULES.get(name, name) for name in names[key]} - {None, "sentinode"} for key in names}
    return {key: {str(name) for name in modules} for key, modules in imported.items()}


def test_it_knows_the_packages_of_every_extra() -> None:
    assert {extra: set(modules) for extra, modules in EXTRAS.items()} == packages()


@pytest.fixture(scope="module")
def answers(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Runs commands where the packages of some extras are not installed: exit code and messages of each."""
    folder = tmp_path_factory.mktemp("bare")
    for name in ("maps", "annotations", "data"):
        (folder / name).mkdir()
    for name in ("slide.svs", "one.xml", "features.npz", "patches.parquet"):
        (folder / name).write_bytes(b"nothing")
    places = {"generated": str(generated), "packaged": str(PACKAGED)}

    def run(commands: Iterable[tuple[str, ...]], extras: Iterable[str]) -> dict[tuple[str, ...], tuple[int, str]]:
        words = [[places.get(word, word) for word in command] for command in commands]
        given = json.dumps([[module for extra in extras for module in EXTRAS[extra]], words])
        done = subprocess.run([sys.executable, "-c", HIDING, given], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return dict(zip(commands, map(tuple, json.loads(done.stdout)), strict=True))

    return run


def names(answer: tuple[int, str], extra: str) -> bool:
    """Whether a command was refused for the lack of an extra."""
    code, messages = answer
    return code == 2 and f"sentinode[{extra}]" in " ".join(messages.split())


def test_each_command_names_the_extra_that_it_needs(answers: Answers) -> None:
    results = answers(COMMANDS, EXTRAS.keys() - {"train"})
    assert not {command: answer for command, answer in results.items() if not names(answer, COMMANDS[command])}


def test_in_the_smallest_installation_each_command_of_training_and_testing_names_its_extra(answers: Answers) -> None:
    results = answers(TRAINING, ["train"])
    assert not {command: answer for command, answer in results.items() if not names(answer, "train")}


def test_another_module_that_is_missing_is_a_bug_and_no_extra() -> None:
    with pytest.raises(ModuleNotFoundError, match="sentinode_of_tomorrow"), naming_extras():
        import sentinode_of_tomorrow  # noqa: F401


def test_a_part_of_a_package_counts_as_the_package() -> None:
    with pytest.raises(SentinodeError, match=r"sentinode\[app\]"), naming_extras():
        raise ModuleNotFoundError("No module named 'starlette.routing'", name="starlette.routing")
