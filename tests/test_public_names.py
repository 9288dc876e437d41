"""``import sentinode`` gives every public name. docs/reference/api.md lists them, as tests/test_docs.py checks."""

from __future__ import annotations

import inspect
import pkgutil
import re
import subprocess
import sys

import pytest

import sentinode

NAMES = [name for name in sentinode.__all__ if name != "__version__"]
UNNAMED = {"Expected", "Lattice"}
"""What public properties return and no user needs by name."""


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_explained(name: str) -> None:
    assert (inspect.getdoc(getattr(sentinode, name)) or "").strip()


def given(name: str) -> set[type]:
    """Sentinode's classes that a public function returns, or a method or property of a public class."""
    thing = getattr(sentinode, name)
    members = (
        [one for key, one in vars(thing).items() if not key.startswith("_")] if isinstance(thing, type) else [thing]
    )
    functions = [one.fget if isinstance(one, property) else one for one in members]
    found: set[type] = set()
    for function in filter(inspect.isfunction, functions):
        names = re.findall(r"\w+", str(function.__annotations__.get("return", "")))
        module = vars(sys.modules[function.__module__])
        found |= {module[one] for one in names if isinstance(module.get(one), type)}
    return {one for one in found if one.__module__.startswith("sentinode.")}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_public_name_returns_is_public_itself(name: str) -> None:
    assert {one.__name__ for one in given(name)} <= set(NAMES) | UNNAMED


def test_the_types_that_users_receive_are_importable_from_the_top() -> None:
    assert {one.__name__ for name in NAMES for one in given(name)} >= {
        *("Bundle", "Engine", "Evaluation", "Lesions", "PatchData", "ProbabilityMap", "Recipe", "Scores")
    }


@pytest.mark.parametrize("name", [name for name in NAMES if name != "Engine"])  # a protocol is not called
def test_every_parameter_of_a_public_name_has_a_type(name: str) -> None:
    parameters = inspect.signature(getattr(sentinode, name)).parameters.values()
    assert not [parameter.name for parameter in parameters if parameter.annotation is parameter.empty]


def test_no_module_hides_a_public_name() -> None:
    """``import sentinode.x`` would put the module in the place of a function that is called x."""
    assert not {module.name for module in pkgutil.iter_modules(sentinode.__path__)} & set(NAMES)


def test_names_with_and_without_a_home_are_not_mixed_up() -> None:
    assert sorted(sentinode._HOME) == NAMES


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'sentinode' has no attribute 'scann'"):
        sentinode.scann  # noqa: B018


def test_names_are_imported_when_they_are_used() -> None:
    program = "import sys, sentinode; sentinode.PatchGeometry; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
