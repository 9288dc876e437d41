"""What the tests of experiments share: generated patches with slides, and features of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_features import made_features

from sentinode.experiments.features_file import Embeddings
from sentinode.patches import PatchData, open_data
from sentinode.patches.synthetic import synthesise


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> PatchData:
    """A few generated patches of eight slides, opened."""
    folder = tmp_path_factory.mktemp("few")
    synthesise(folder, train=96, valid=48, test=48, slides=8, show=False)
    return open_data(folder, show=False)


@pytest.fixture
def features() -> Embeddings:
    return made_features()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "features.npz"
