"""The documentation builds, its generated pages are fresh, and the commands that it shows exist."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import sentinode

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """docs/generate_reference.py, which no package holds."""
    spec = importlib.util.spec_from_file_location("generate_reference", ROOT / "docs" / "generate_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_pages_say_what_the_code_does(reference: ModuleType) -> None:
    assert not reference.stale(), "run `python docs/generate_reference.py`"


def test_every_command_and_option_is_explained_with_an_example(reference: ModuleType) -> None:
    for path, text in reference.pages().items():
        if path.name == "commands.md":
            for section in text.split("\n## ")[1:]:
                name = section.partition("\n")[0]
                assert f"```bash\n{name} " in section, f"{name} shows no example of itself"
            assert not re.findall(r"^\| .* \|  \|$", text, re.MULTILINE), "an option has no help text"


def test_a_page_that_the_code_has_left_behind_is_called_stale(
    reference: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "REFERENCE", tmp_path)
    for path, text in reference.pages().items():
        path.write_text(text, encoding="utf-8")
    assert reference.stale() == []
    recipe = tmp_path / "recipe.md"
    recipe.write_text(recipe.read_text("utf-8").replace("epochs", "rounds"), encoding="utf-8")
    assert reference.stale() == [recipe]


def examples() -> list[tuple[str, str]]:
    """Each `sentinode ...` line of each page's code blocks."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```(?:bash|sh|console|powershell)\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if command := re.search(r"(?:^|\s)(sentinode .*)", line.partition(" # ")[0]):
                    found.append((page.name, command.group(1).strip()))
    return found


@pytest.fixture(scope="module")
def options(reference: ModuleType) -> dict[tuple[str, ...], set[str]]:
    """The options of each command, as in ``("sentinode", "data", "audit"): {"--json"}``."""
    return {
        tuple(name.split()): {
            flag for label, *_ in reference.parameters(command) for flag in re.findall(r"--?[\w-]+", label)
        }
        for name, command in reference.commands()
    }


def parsed(command: Any, *words: str) -> list[tuple[str, str]]:
    """What a command reads from these words, as names with values; the words that it does not expect stand last."""
    parser = command.make_parser(command.context_class(command))
    values, rest, _ = parser.parse_args(list(words))
    return [*((name, str(value)) for name, value in values.items()), *(("", word) for word in rest)]


def test_every_option_of_the_reference_is_taken_by_its_command(reference: ModuleType) -> None:
    """As it stands on the page: an option of two words has a hyphen there, and in Python an underscore."""
    commands = dict(reference.commands())
    sections = (ROOT / "docs" / "reference" / "commands.md").read_text("utf-8").split("\n## ")[1:]
    assert len(sections) == len(commands)
    for section in sections:
        name = section.partition("\n")[0]
        command = commands[name]
        for label in re.findall(r"^\| `(-[^`]+)`", section, re.MULTILINE):
            flags = re.findall(r"--?[\w-]+", label)
            value = [] if label.endswith(flags[-1]) else ["1"]
            for flag in flags:
                read = set(parsed(command, flag, *value)) - set(parsed(command))
                assert len(read) == 1, f"{name} does not take {flag} {' '.join(value)}"


@pytest.mark.parametrize(("page", "line"), examples())
def test_every_command_that_the_pages_show_exists(
    options: dict[tuple[str, ...], set[str]], page: str, line: str
) -> None:
    words = shlex.split(re.split(r"[|>;&]", line)[0])
    flags = {word.partition("=")[0] for word in words if word.startswith("--")}
    if words[1].startswith("-"):
        assert flags <= {"--help", "--version", "--install-completion", "--show-completion"}
        return
    command = next((tuple(words[:size]) for size in (3, 2) if tuple(words[:size]) in options), None)
    assert command is not None, f"{page}: there is no such command: {line}"
    assert flags <= options[command] | {"--help"}, f"{page}: unknown option in: {line}"


def snippets() -> list[tuple[str, str]]:
    """Each Python block of each page, and each cell of code of each notebook, without the lines that IPython reads."""
    found = [
        (page.name, textwrap.dedent(block))
        for page in PAGES
        if page.name != "api.md"  # signatures
        for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    ]
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        found += [(notebook.name, re.sub(r"^%.*$", "", cell, flags=re.MULTILINE)) for cell in code]
    return found


@pytest.mark.parametrize(("page", "snippet"), snippets())
def test_the_python_of_the_pages_uses_public_names_alone(page: str, snippet: str) -> None:
    for node in ast.walk(ast.parse(snippet)):
        if isinstance(node, ast.Import):
            assert not [alias.name for alias in node.names if alias.name.startswith("sentinode.")], page
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "sentinode":
            assert node.module == "sentinode", f"{page} imports from {node.module}"
            assert {alias.name for alias in node.names} <= set(sentinode.__all__), page
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sentinode":
            assert node.attr in sentinode.__all__, f"{page} uses sentinode.{node.attr}"


def test_the_python_page_lists_every_public_name(reference: ModuleType) -> None:
    listed = [name for topics in (reference.TOPICS, reference.RESULTS) for names in topics.values() for name in names]
    assert list(reference.TOPICS) == list(reference.RESULTS)
    assert sorted([*listed, "__version__"]) == sorted(sentinode.__all__)


def test_the_site_builds_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/sentinode")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path)))
    page = (tmp_path / "index.html").read_text("utf-8")
    assert not re.findall(r'<(?:script|link)[^>]+(?:src|href)="https?://(?!.*canonical)', page), (
        "it must need no network"
    )
    notebook = "https://colab.research.google.com/github/someone/sentinode/blob/main/notebooks/train_and_test.ipynb"
    assert f'href="{notebook}"' in (tmp_path / "for-learners.html").read_text("utf-8")
