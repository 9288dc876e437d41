"""What the tests of training share."""

from __future__ import annotations

import pytest

from sentinode.patches import PatchData, open_data
from sentinode.patches.synthetic import synthesise


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> PatchData:
    """A few generated patches, opened."""
    folder = tmp_path_factory.mktemp("few")
    synthesise(folder, train=80, valid=32, test=32, slides=4, show=False)
    return open_data(folder, show=False)
