"""What holds for the repository as a whole."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import sentinode

ROOT = Path(__file__).parents[1]
LARGEST = 5_000_000


@cache
def tracked() -> list[Path]:
    """Every file under version control."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout, so nothing says which files belong to the repository")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]


def prose() -> list[Path]:
    """The pages that people read."""
    return [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def test_no_file_is_larger_than_5_mb() -> None:
    assert not [path for path in tracked() if path.stat().st_size > LARGEST]


def test_no_file_names_a_path_of_the_machine_that_it_was_written_on() -> None:
    machine = (str(ROOT), str(Path.home()) + "/")
    assert not [path for path in tracked() for place in machine if place.encode() in path.read_bytes()]


def test_every_module_has_a_name_of_its_own() -> None:
    assert not [path for path in tracked() if path.stem in ("utils", "util", "helpers", "helper", "common", "misc")]


def test_every_benchmark_that_the_pages_name_exists() -> None:
    for page in prose():
        for name in re.findall(r"benchmarks/[\w/]+\.py", page.read_text("utf-8")):
            assert (ROOT / name).is_file(), f"{page.name} names {name}"


WITHOUT_DATA = (
    "cluster_simulation.py",
    "efficientnet_lite_weights.py",
    "forecast.py",
    "froc_coverage.py",
    "install_size.py",
    "interval_coverage.py",
    "outline.py",
    "seeds.py",
    "training_memory.py",
)
"""Scripts that look at a network alone, or at made-up data whose truth is known."""


def test_every_benchmark_takes_its_data_and_says_what_it_measures() -> None:
    for script in (ROOT / "benchmarks").glob("*.py"):
        text = script.read_text("utf-8")
        assert text.lstrip().startswith('"""'), f"{script.name} does not say what it measures"
        if "__main__" in text and script.name not in WITHOUT_DATA:  # the others are what the scripts share
            assert "--data" in text, f"{script.name} takes no --data"


def test_every_link_of_the_first_pages_leads_somewhere() -> None:
    """Those in docs/ are checked where the site is built."""
    for page in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            if "://" not in target and not target.startswith(("#", "mailto:")):
                assert (page.parent / target.partition("#")[0]).exists(), f"{page.name} links to {target}"


def test_the_citation_names_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {sentinode.__version__}\n" in citation
    assert metadata.version("sentinode") == sentinode.__version__


def test_no_dependency_has_a_licence_that_binds_our_users() -> None:
    """Permissive, or LGPL that we only link; no GPL, AGPL or non-commercial terms."""
    for name in dependencies("sentinode", frozenset({"", "train", "slides", "app"})):
        about = metadata.metadata(name)
        classifiers = [each for each in about.get_all("Classifier") or [] if each.startswith("License ::")]
        terms = about.get("License-Expression") or "; ".join(classifiers) or (about.get("License") or "")[:80]
        terms = re.sub(r"\bOR A?GPL[\w.+-]*|\bA?GPL[\w.+-]* OR\b", "", terms)  # where there is a choice, it is ours
        binding = re.search(r"\bA?GPL|Affero|(?<!Lesser )General Public|non-?commercial", terms, re.IGNORECASE)
        assert not binding, f"{name}: {terms}"


def dependencies(name: str, extras: frozenset[str], seen: set[str] | None = None) -> set[str]:
    """The installed distributions that ``name`` needs, and what they need."""
    seen = set() if seen is None else seen
    for text in metadata.requires(name) or []:
        requirement = Requirement(text)
        key = requirement.name.lower().replace("_", "-")
        wanted = requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)
        if wanted and key not in seen:
            seen.add(key)
            dependencies(key, frozenset({"", *requirement.extras}), seen)
    return seen
