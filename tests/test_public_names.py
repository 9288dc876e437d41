"""``import sentinode`` gives every public name. docs/reference/api.md lists them, as tests/test_docs.py checks."""

from __future__ import annotations

import inspect
import pkgutil
import subprocess
import sys

import pytest

import sentinode

NAMES = [name for name in sentinode.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_explained(name: str) -> None:
    assert (inspect.getdoc(getattr(sentinode, name)) or "").strip()


@pytest.mark.parametrize("name", NAMES)
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
