"""What the tests of training share."""

from __future__ import annotations

from typing import Any

import pytest
import warm_processes
from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy

from sentinode.patches import PatchData, open_data
from sentinode.patches.synthetic import synthesise
from sentinode.training import launch


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> PatchData:
    """A few generated patches, opened."""
    folder = tmp_path_factory.mktemp("few")
    synthesise(folder, train=80, valid=32, test=32, slides=4, show=False)
    return open_data(folder, show=False)


@pytest.fixture
def warm_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that train together have everything imported when they start."""

    def open_fabric(*, strategy: str, **options: Any) -> Fabric:
        several = DDPStrategy(start_method=warm_processes.METHOD)
        return Fabric(strategy=several if strategy == "ddp_spawn" else strategy, **options)

    monkeypatch.setattr(launch, "Fabric", open_fabric)
