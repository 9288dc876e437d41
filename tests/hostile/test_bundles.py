"""Bundles of strangers: whatever is odd in one is refused in one sentence, and nothing outside of it is touched."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import sound
from harness import Case, Hostile, by_name
from odd_bundles import CARDS, FILES, NETWORKS, SPLITS, Change, card, odd_bundle


def shown(change: Change) -> Callable[[Path], list[str]]:
    """The command that opens a bundle and shows what its card says."""
    return lambda folder: ["bundle", str(odd_bundle(folder, change))]


def used(change: Change) -> Callable[[Path], list[str]]:
    """The command that builds the network of a bundle and uses it."""
    return lambda folder: ["predict", str(odd_bundle(folder, change)), str(sound.picture(folder / "patch.png"))]


def evaluated(change: Change) -> Callable[[Path], list[str]]:
    """The command that asks a bundle which patches it was trained on."""

    def make(folder: Path) -> list[str]:
        for name in ("normal", "tumour"):
            (folder / "data" / name).mkdir(parents=True)
            first = sound.picture(folder / "data" / name / "0.png")
            for number in range(1, 10):
                shutil.copyfile(first, first.with_stem(str(number)))
        return ["evaluate", str(odd_bundle(folder, change)), str(folder / "data"), "--out", str(folder / "out")]

    return make


def of_links(folder: Path) -> Path:
    """A bundle whose files lie elsewhere, as in a cache that keeps each once."""
    kept = odd_bundle(folder, lambda _: None)
    links = folder / "links"
    links.mkdir()
    for file in kept.iterdir():
        (links / file.name).symlink_to(file)
    return links


CASES = [
    Case(name, make(change), f"Refused: .*({says})")
    for kinds, make in ((CARDS, shown), (FILES, shown), (NETWORKS, used), (SPLITS, evaluated))
    for name, (change, says) in kinds.items()
]


ODD_NAMES = card(name="[/red] <b>model", class_names=["normal [bold]", "<i>tumour$^$"])

TAKEN = [
    Case("names with markup", shown(ODD_NAMES), "", code=0, says_out=r"\[/red\] <b>model takes"),
    Case("links to regular files", lambda folder: ["bundle", str(of_links(folder))], "", code=0),
]
"""What is odd and no fault. Names are shown as they are, and change neither the terminal nor a page."""


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_it_is_refused(case: Case, hostile: Hostile) -> None:
    hostile(case)


@pytest.mark.parametrize("case", TAKEN, ids=by_name)
def test_it_is_taken(case: Case, hostile: Hostile) -> None:
    hostile(case)
