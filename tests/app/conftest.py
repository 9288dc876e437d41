"""A folder of maps for the viewer's tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from scanned_batch import make_batch

from sentinode.slides.scanning.manifest import MANIFEST


@pytest.fixture(scope="session")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the maps, made once; leave it as it is."""
    return make_batch(tmp_path_factory.mktemp("scanned"))


@pytest.fixture
def maps(scanned: Path, tmp_path: Path) -> Path:
    """A folder of two scanned slides of the test's own, beside the slides."""
    shutil.copytree(scanned.parent, tmp_path, dirs_exist_ok=True)
    for manifest in (tmp_path / "maps").glob(f"*/{MANIFEST}"):
        state = json.loads(manifest.read_text("utf-8"))
        slide = tmp_path.resolve() / "slides" / Path(state["slide"]).name
        manifest.write_text(json.dumps(state | {"slide": str(slide)}), encoding="utf-8")
    return tmp_path / "maps"
