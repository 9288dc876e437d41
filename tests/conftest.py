"""What many tests need: generated patches, a small trained bundle, and the real data where it lies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

# The networks of the tests are so small that threads cost more than they give. Commands run by a test inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import sentinode
from sentinode.model.bundle import Bundle
from sentinode.patches.synthetic import synthesise

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"

TINY = (
    "model.backbone=test_resnet",
    "training.epochs=2",
    "training.batch_size=32",
    "optimizer.lr=3e-3",
    "augment.stain=0",
)
"""Overrides of the recipe ``quick`` that train in seconds."""


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Unpack patches into a folder of the tests', never into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SENTINODE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def few_probes() -> Iterator[None]:
    """Look for the halo of dense reading on one patch: each training of a test ends with this, and it takes longer than
    the training. ``model/test_readings.py`` measures with all."""
    from sentinode.model import readings

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readings, "PROBED", 1)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The real patches, slides and weights beside the checkout."""
    if not REAL.is_dir():
        pytest.skip("the real data is not beside this checkout (../shared/data)")
    return REAL


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of generated patches in the official format, with slides."""
    folder = tmp_path_factory.mktemp("generated")
    synthesise(folder, train=256, valid=128, test=128, show=False)
    return folder


@pytest.fixture(scope="session")
def run(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on the generated patches."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    sentinode.train(generated, out, recipe="quick", weights="none", settings=TINY, show=False)
    return out


@pytest.fixture(scope="session")
def bundle(run: Path) -> Bundle:
    """A small bundle, better than chance on the generated patches."""
    return sentinode.load(run / "bundle")


@pytest.fixture(scope="session")
def int8_bundle(bundle: Bundle, generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small bundle with an int8 network. On so few patches chance moves the AUC by more than int8 may cost."""
    pytest.importorskip("nncf", reason="NNCF (sentinode[quantise]) is not installed here")
    from sentinode.model import quantising
    from sentinode.model.bundle import INT8_LOSS

    data = sentinode.open_data(generated, show=False)
    training = data["train"].subset(np.arange(32))
    out = tmp_path_factory.mktemp("int8") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        for metric in INT8_LOSS:
            patch.setitem(INT8_LOSS, metric, 0.05)
        for name, few in (("ROUNDS", 1), ("TIMED", 4)):
            patch.setattr(quantising, name, few)
        return quantising.quantise(bundle, training, data["valid"], out=out, show=False)


@pytest.fixture(scope="session")
def int8_graph_of_noise(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of another network of the same shape, whose weights are random, not quantised."""
    from sentinode.model.bundle import save
    from sentinode.model.classifier import build_classifier
    from sentinode.model.quantising import _convert, _write

    folder = tmp_path_factory.mktemp("noise")
    architecture = bundle.card.architecture
    options = architecture.model_dump(exclude={"kind", "parameters", "class_name", "source"})
    network = build_classifier(**options, geometry=bundle.card.geometry)[0]
    _write(_convert(save(folder / "bundle", network, bundle.card)), folder)
    return folder
