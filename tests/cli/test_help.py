"""``--help``: commands in groups, choices that the shell can complete, and help texts in plain words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from sentinode.cli import EVALUATION, EXPERIMENTS, MACHINE, PATCHES, SLIDES, app


def commands(group: Any = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each command's name, with its group's before it, and the command."""
    for name, command in (group or get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


COMMANDS = dict(commands())


def test_every_command_stands_in_a_group() -> None:
    found = {name: command.rich_help_panel for name, command in get_command(app).commands.items()}
    assert set(found.values()) == {PATCHES, EVALUATION, EXPERIMENTS, SLIDES, MACHINE}
    assert (found["train"], found["froc"], found["scan"], found["data"]) == (PATCHES, EVALUATION, SLIDES, MACHINE)


@pytest.mark.parametrize(
    ("command", "option", "choices"),
    [
        ("data preview", "split", ["train", "valid", "test"]),
        ("evaluate", "split", ["train", "valid", "test", "all"]),
        ("evaluate", "precision", ["auto", "float32", "bfloat16", "int8"]),
        ("predict", "format", ["csv", "kaggle", "parquet", "jsonl"]),
        ("predict", "precision", ["auto", "float32", "bfloat16", "int8"]),
        ("stress", "split", ["train", "valid", "test", "all"]),
        ("scan", "precision", ["auto", "float32", "bfloat16", "int8"]),
    ],
)
def test_the_shell_completes_a_choice(command: str, option: str, choices: list[str]) -> None:
    words = f"sentinode {command} --{option} "
    asked = {"_SENTINODE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()))}
    answer = CliRunner().invoke(app, [], prog_name="sentinode", env=asked)
    assert answer.output.split() == choices


@pytest.mark.parametrize("name", COMMANDS)
def test_a_help_text_is_no_fragment(name: str) -> None:
    for parameter in COMMANDS[name].params:
        if text := getattr(parameter, "help", None):
            assert text[0].isupper(), f"{name} --{parameter.name}: {text}"
            assert text.endswith((".", ")")), f"{name} --{parameter.name}: {text}"
            assert not re.match(r"(Of|In place of|Whose|What) ", text), f"{name} --{parameter.name}: {text}"
