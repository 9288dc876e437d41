"""Recipes, settings, backbones and weights that are no such thing are refused before a training starts."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Case, Hostile, by_name

from sentinode.patches.synthetic import synthesise


def file(content: str | bytes, name: str = "mine.toml") -> Callable[[Path], list[str]]:
    """The command that prints a recipe's file with all its keys."""

    def make(folder: Path) -> list[str]:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return ["recipe", name]

    return make


def pipe(folder: Path) -> list[str]:
    os.mkfifo(folder / "mine.toml")
    return ["recipe", "mine.toml"]


def sparse(folder: Path) -> list[str]:
    with (folder / "mine.toml").open("wb") as stream:
        stream.truncate(1 << 40)
    return ["recipe", "mine.toml"]


def named(name: str) -> Callable[[Path], list[str]]:
    return lambda _: ["recipe", name]


def changed(setting: str) -> Callable[[Path], list[str]]:
    """The command that prints a recipe with one change."""
    return lambda _: ["recipe", "quick", "--set", setting]


def trained(*settings: str, weights: Callable[[Path], object] | None = None) -> Callable[[Path], list[str]]:
    """The command that trains with these settings on a few generated patches."""

    def make(folder: Path) -> list[str]:
        synthesise(folder / "data", train=8, valid=8, test=8, show=False)
        if weights is not None:
            weights(folder / "given.pth")
        words = [word for setting in settings for word in ("--set", setting)]
        start = "none" if weights is None else "given.pth"
        return ["train", "data", "--out", "run", "--recipe", "quick", "--device", "cpu", "--weights", start, *words]

    return make


class Runs:
    """An object whose unpickling makes a file."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("it ran"),)


def a_program(path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": Runs()}))


def a_giant_header(path: Path) -> None:
    """A file whose name promises weights, and whose first bytes promise a header of an exabyte."""
    path.write_bytes((1 << 60).to_bytes(8, "little") + b"{}")


NINES = "9" * 5000
DEEP = "[" * 100_000

CASES = [
    Case("a number of 5,000 digits", file(f"[training]\nepochs = {NINES}"), r"mine\.toml: .*too many digits"),
    Case("a setting of 5,000 digits", changed(f"training.epochs={NINES}"), r"--set: .*too many digits"),
    Case("a number of 4,000 digits", changed(f"training.epochs={NINES[:4000]}"), "'training.epochs' = 99.*…"),
    Case("arrays in arrays", file(f"[model]\nhidden = {DEEP}"), "nested too deeply"),
    Case("a setting of arrays in arrays", changed(f"model.hidden={DEEP}"), "nested too deeply"),
    Case("tables in tables", file("x = " + "{a = " * 5000 + "1" + "}" * 5000), "nested too deeply"),
    Case("five thousand dotted keys", file("model." + "a." * 5000 + "b = 1"), "cannot contain"),
    Case("a dotted key", changed("model.backbone.x=1"), "no key 'model.backbone.x'"),
    Case("a second line in a setting", changed("optimizer.lr=1\ntraining = 2"), "more than one value"),
    Case("a date", changed("training.epochs=2024-01-01"), "cannot contain"),
    Case("infinity", changed("optimizer.lr=1e999"), "finite"),
    Case("no number", changed("optimizer.lr=nan"), "finite"),
    Case("a JPEG quality of 0", changed("augment.jpeg_quality=[0, 90]"), "jpeg_quality"),
    Case("a JPEG quality of 101", changed("augment.jpeg_quality=[50, 101]"), "jpeg_quality"),
    Case("JPEG qualities the wrong way round", changed("augment.jpeg_quality=[90, 50]"), "lowest quality comes first"),
    Case("a hidden layer of a billion", changed("model.hidden=[1000000000]"), "model.hidden"),
    Case("a name of a megabyte", changed("model.backbone=" + "a" * 100_000), "at most 200 characters"),
    Case("text that is no Unicode", changed("model.backbone=\udcff"), "not valid Unicode"),
    Case("Latin-1", file("[model]\nbackbone = 'é'".encode("latin-1")), "not valid TOML"),
    Case("a mark of the byte order", file(b"\xef\xbb\xbf[model]\nbackbone = 'resnet18'"), "", code=0),
    Case("a terabyte of nothing", sparse, "larger than 1,000,000 bytes"),
    Case("a pipe", pipe, "is no file"),
    Case("a folder", lambda folder: [(folder / "x.toml").mkdir(), "recipe", "x.toml"][1:], "is no file"),
    Case("no name", named(""), "an argument is empty"),
    Case("a name of 5,000 letters", named("a" * 5000), "no recipe 'aa.*…"),
    Case("a name with colours", named("[red]"), r"no recipe '\[red\]'"),
    Case("a rule that is no share", trained("operating_point.rule=sensitivity@nan"), "not a share"),
    Case("a rule above one", trained("operating_point.rule=sensitivity@2"), "not a share"),
    Case("another rule", trained("operating_point.rule=__import__"), "not a rule"),
    Case("a backbone of a hub", trained("model.backbone=hf-hub:someone/network"), "no backbone 'hf-hub"),
    Case("a backbone with a hub's tag", trained("model.backbone=resnet18.hf-hub"), "backbone"),
    Case("a backbone with an unknown tag", trained("model.backbone=resnet18.nothing"), "backbone"),
    Case("a backbone in a folder", trained("model.backbone=local-dir:/etc"), "no backbone"),
    Case("a network without a feature map", trained("model.backbone=coat_tiny"), "'coat_tiny' cannot take 96 x 96"),
    Case("a network that must pool", trained("model.backbone=efficientvit_b0"), "cannot take 96 x 96"),
    Case("a network with many outputs", trained("model.backbone=efficientvim_m1"), "cannot take 96 x 96"),
    Case("weights that are a program", trained(weights=a_program), "contains more than tensors"),
    Case("weights with a giant header", trained(weights=a_giant_header), "given.pth: "),
    Case("weights that are a pipe", trained(weights=os.mkfifo), "no such weights file"),
    Case("weights that are a folder", trained(weights=os.mkdir), "no such weights file"),
]


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_it_is_refused_before_anything_is_trained(case: Case, hostile: Hostile) -> None:
    hostile(case)
