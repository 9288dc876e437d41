"""Names of files, and places that a command reads or writes: pipes, full devices, what may not be read, no text."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import sound
from harness import Case, Hostile, by_name

Make = Callable[[Path], list[str]]

ASCII = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
NO_TEXT = os.fsdecode(b"a\xff.png")
PIPE = "a pipe or a device, not a regular file"
TORCH = "no_openvino"


def with_patch(name: str, *arguments: str) -> Make:
    """A sound patch under this name, and these arguments."""

    def make(folder: Path) -> list[str]:
        sound.picture(folder / "sound.png").rename(folder / name)
        return list(arguments)

    return make


def with_pipe(name: str, *arguments: str) -> Make:
    """A pipe under this name, which nobody writes to."""

    def make(folder: Path) -> list[str]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(folder / name)
        return list(arguments)

    return make


def with_link(name: str, *arguments: str) -> Make:
    """A link under this name to what is not there."""

    def make(folder: Path) -> list[str]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to("nowhere")
        return list(arguments)

    return make


def locked(name: str, *arguments: str) -> Make:
    """A bundle, a patch and a slide, of which ``name`` may not be read."""

    def make(folder: Path) -> list[str]:
        sound.bundle(folder)
        sound.picture(folder / "patch.png")
        sound.slide(folder / "slide.tif")
        (folder / name).chmod(0)
        return list(arguments)

    return make


def slide_called(name: str) -> Make:
    def make(folder: Path) -> list[str]:
        sound.slide(folder / name)
        return ["scan", name, "--out", "maps", "--device", "cpu"]

    return make


def given(*arguments: str) -> Make:
    return lambda folder: list(arguments)


EMPTY = [
    Case(f"{command[0]} {number}", given(*command), f"an argument is empty after {after}")
    for number, (command, after) in enumerate(
        [
            (("predict", ""), "predict"),
            (("scan", "", "--out", "maps"), "scan"),
            (("scan", ".", "--out", ""), "--out"),
            (("train", ".", "--out", ""), "--out"),
            (("lesions", ""), "lesions"),
            (("data", "download", ""), "download"),
        ]
    )
]

PIPES = [
    Case("a pipe as patch", with_pipe("pipe.png", "explain", "pipe.png", "--out", "e"), PIPE),
    Case("a pipe among patches", with_pipe("in/pipe.png", "explain", "in", "--out", "e"), PIPE),
    Case("a pipe as HDF5", with_pipe("p.h5", "explain", "p.h5", "--out", "e"), PIPE),
    Case("a pipe as Parquet", with_pipe("p.parquet", "explain", "p.parquet", "--out", "e"), PIPE),
    Case("a pipe as slide", with_pipe("p.tif", "scan", "p.tif", "--out", "maps"), PIPE),
    Case("a pipe among slides", with_pipe("in/p.svs", "scan", "in", "--out", "maps"), "no slide was found"),
    Case("a pipe that may be DICOM", with_pipe("in/1", "scan", "in", "--out", "maps"), "no slide was found"),
    Case("a pipe as data", with_pipe("p.h5", "train", "p.h5", "--out", "run"), PIPE),
    Case("a pipe in class folders", with_pipe("in/train/tumor/p.png", "train", "in", "--out", "run"), PIPE),
    Case("a pipe as predictions", with_pipe("p.csv", "evaluate", "p.csv", "--out", "e"), PIPE),
    Case("a pipe as recipe", with_pipe("p.toml", "recipe", "p.toml"), "is no file"),
]

PLACES = [
    Case("into its own input", with_patch("a.png", "explain", "a.png", "--out", "."), "would lie among the images"),
    Case(
        "to a full device",
        with_patch("a.png", "predict", "a.png", "--out", "/dev/full", "--format", "csv"),
        "/dev/full: this is no regular file",
        fault=TORCH,
    ),
    Case(
        "standard output is full",
        with_patch("a.png", "predict", "a.png"),
        "No space left",
        stdout="/dev/full",
        fault=TORCH,
    ),
    Case("standard output is full at once", given("recipe", "quick"), "No space left", stdout="/dev/full"),
    Case("a link to no patch", with_link("in/a.png", "explain", "in", "--out", "e"), "there is no such file"),
    Case("a link to no slide", with_link("a.tif", "scan", "a.tif", "--out", "maps"), "there is no bundle here"),
    Case("a link to no data", with_link("data", "train", "data", "--out", "run"), "there is nothing here"),
    Case("a link to no bundle", with_link("bundle", "bundle", "bundle"), "there is no bundle here"),
]

LOCKED = [
    Case(
        "a closed bundle", locked("bundle", "predict", "bundle", "patch.png"), "bundle.*Permission denied", nobody=True
    ),
    Case(
        "a closed card",
        locked("bundle/card.json", "predict", "bundle", "patch.png"),
        "card.json.*Permission denied",
        nobody=True,
    ),
    Case(
        "closed weights",
        locked("bundle/weights.safetensors", "predict", "bundle", "patch.png"),
        "weights.safetensors.*Permission denied",
        nobody=True,
    ),
    Case(
        "a closed slide",
        locked("slide.tif", "scan", "slide.tif", "--out", "maps"),
        r"cannot be read \(Permission denied\)",
        leaves=("maps*",),
        nobody=True,
    ),
    Case("closed data", locked("bundle", "train", "bundle", "--out", "run"), "not readable", nobody=True),
    Case("a patch in a closed folder", locked("bundle", "predict", "bundle/x.png"), "Permission denied", nobody=True),
]

NAMES = [
    *(
        Case(
            f"no text to {format}",
            with_patch(NO_TEXT, "predict", NO_TEXT, "--out", "o", "--format", format),
            "1 patch predicted",
            code=0,
            leaves=("o",),
            fault=TORCH,
        )
        for format in ("csv", "kaggle", "jsonl", "parquet")
    ),
    Case(
        "no text printed",
        with_patch(NO_TEXT, "predict", NO_TEXT),
        "",
        code=0,
        says_out=r"a\\udcff\.png,0\.",
        fault=TORCH,
    ),
    Case("no text that is not there", given("predict", NO_TEXT), "there is no bundle here"),
    Case("no text explained", with_patch(NO_TEXT, "explain", NO_TEXT, "-o", "e"), "", code=0, leaves=("e", "e/*.png")),
    Case(
        "into no text",
        with_patch("a.png", "explain", "a.png", "-o", NO_TEXT),
        "",
        code=0,
        leaves=(NO_TEXT, f"{NO_TEXT}/a.png"),
    ),
    Case("ASCII", with_patch("Ü.png", "predict", "Ü.png"), "", code=0, env=ASCII, says_out=r"\\xdc\.png", fault=TORCH),
    Case("ASCII and JSON", with_patch("Ü.png", "predict", "Ü.png", "--json"), "", code=0, env=ASCII, fault=TORCH),
    Case("ASCII explained", with_patch("Ü.png", "explain", "Ü.png", "-o", "e"), "", 0, ("e", "e/*"), env=ASCII),
    Case("ASCII help", given("scan", "--help"), "", code=0, env=ASCII),
    Case("ASCII recipe", given("recipe", "quick"), "", code=0, env=ASCII),
]

SLIDES = [
    Case(f"a slide called {name[:20]}", slide_called(name), "1 of 1 slides done", 0, ("maps", "maps/*"), fault=TORCH)
    for name in (
        "...tif",
        "manifest.json.tif",
        "index.html.tif",
        ".locks.tif",
        "s" * 250 + ".tif",
        NO_TEXT[:2] + ".tif",
    )
]

CASES = [*EMPTY, *PIPES, *PLACES, *LOCKED, *NAMES, *SLIDES]


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_names_and_places(case: Case, hostile: Hostile) -> None:
    hostile(case)
