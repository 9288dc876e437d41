"""Patches scored on a cluster: the same bits as in one process, and a machine that would score otherwise is left out.

A stand-in for Ray runs the workers in this process; tests/test_cluster.py says what the pool does with them.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_in_ray import StandInRay, install

from sentinode.errors import DeviceError
from sentinode.evaluation import margins
from sentinode.evaluation.margins import PATCHES, Scored, open_scorer
from sentinode.model.bundle import Bundle, load, save
from sentinode.model.classifier import build_classifier
from sentinode.model.engines import Engine, open_engine
from sentinode.model.engines.contract import BATCH, GPU_BATCH
from sentinode.patches import PatchData, Reopening, open_data
from sentinode.patches.synthetic import synthesise


@pytest.fixture
def two_machines(monkeypatch: pytest.MonkeyPatch) -> StandInRay:
    """A cluster of two workers, which score a batch at a time."""
    monkeypatch.setattr(margins, "PATCHES", BATCH)
    return install(StandInRay([{"CPU": 1.0}, {"CPU": 1.0}]), monkeypatch)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated patches: a batch and two patches of test."""
    folder = tmp_path_factory.mktemp("few")
    synthesise(folder, train=2, valid=2, test=BATCH + 2, slides=2, show=False)
    return folder


@pytest.fixture
def patches(few: Path, tmp_path: Path) -> Path:
    """A folder of the same patches that a test may change."""
    return shutil.copytree(few, tmp_path / "patches")


def scorer(
    bundle: Bundle, data: PatchData, cluster: str | None = "auto", **options: Any
) -> Callable[[str, bool], Scored]:
    options = {"device": "cpu", "precision": "float32", "tta": False, **options}
    return open_scorer(bundle, data, data["test"], cluster=cluster, **options)


def test_workers_score_whole_batches_of_every_engine() -> None:
    assert PATCHES % BATCH == 0 and PATCHES % GPU_BATCH == 0


@pytest.mark.parametrize("count", [0, BATCH + 1, 2 * BATCH])
def test_the_scores_are_the_same_bits_as_in_one_process(
    bundle: Bundle, generated: Path, two_machines: StandInRay, count: int
) -> None:
    data = open_data(generated, show=False).limited({"test": np.arange(count)})
    alone, shared = (scorer(bundle, data, cluster)("Scoring", False) for cluster in (None, "auto"))
    assert alone.engine == shared.engine == "torch cpu float32"
    assert shared.margins.dtype == np.float32
    np.testing.assert_array_equal(alone.margins, shared.margins)
    assert len(two_machines.actors) == max(1, -(-count // BATCH))


def test_workers_find_what_was_named_by_a_relative_path(
    bundle: Bundle, patches: Path, two_machines: StandInRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(bundle.path, tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    score = scorer(load("bundle"), open_data(patches.name, show=False))
    monkeypatch.chdir("/")
    assert len(score("Scoring", False).margins) == BATCH + 2


def test_a_worker_has_the_gpu_that_is_asked_for_and_knows_no_other(
    bundle: Bundle, generated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def on_cpu(bundle: Bundle, *, device: str, precision: str, tta: bool) -> Engine:
        asked.append(device)
        return open_engine(bundle, device="cpu", precision=precision, tta=tta)

    monkeypatch.setattr(margins, "open_engine", on_cpu)
    ray = install(StandInRay([{"CPU": 8.0, "GPU": 2.0}]), monkeypatch)
    data = open_data(generated, show=False).limited({"test": np.arange(1)})
    for device in ("cuda:1", "auto", "cpu"):
        scorer(bundle, data, device=device)("Scoring", False)
    assert asked == ["cuda", "auto", "cpu"]
    assert [actor.resources["num_gpus"] for actor in ray.actors] == [1, 1, 0]


def test_a_machine_with_other_patches_at_the_path_is_left_out_by_name(
    bundle: Bundle,
    patches: Path,
    two_machines: StandInRay,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = open_data(patches, show=False)
    alone = scorer(bundle, data, None)("Scoring", False)
    score = scorer(bundle, data)
    opened: list[PatchData] = []
    real = Reopening.open

    def of_another_machine(self: Reopening) -> PatchData:
        opened.append(real(self).limited({"test": np.arange(BATCH)}) if not opened else real(self))
        return opened[-1]

    monkeypatch.setattr(Reopening, "open", of_another_machine)
    np.testing.assert_array_equal(score("Scoring", False).margins, alone.margins)
    told = " ".join(capsys.readouterr().err.split())
    assert f"A worker is left out: {socket.gethostname()}: {patches}: these are other patches" in told
    assert len(opened) == 2


def test_patches_that_were_replaced_or_removed_are_not_scored(
    bundle: Bundle, patches: Path, generated: Path, two_machines: StandInRay
) -> None:
    score = scorer(bundle, open_data(patches, show=False))
    shutil.copytree(generated, patches, dirs_exist_ok=True)
    with pytest.raises(DeviceError, match="these are other patches") as refused:
        score("Scoring", False)
    assert str(refused.value.where) == f"{socket.gethostname()}: {patches}"
    assert "the same paths" in str(refused.value.hint)
    shutil.rmtree(patches)
    with pytest.raises(DeviceError, match="there is nothing here"):
        score("Scoring", False)


def test_another_bundle_at_the_path_does_not_score(
    bundle: Bundle, few: Path, two_machines: StandInRay, tmp_path: Path
) -> None:
    shutil.copytree(bundle.path, tmp_path / "bundle")
    score = scorer(load(tmp_path / "bundle"), open_data(few, show=False))
    options = bundle.card.architecture.model_dump(exclude={"kind", "parameters", "class_name", "source"})
    save(tmp_path / "bundle", build_classifier(**options, geometry=bundle.card.geometry)[0], bundle.card)
    with pytest.raises(DeviceError, match="this is another bundle"):
        score("Scoring", False)
    shutil.rmtree(tmp_path / "bundle")
    with pytest.raises(DeviceError, match="no bundle here"):
        score("Scoring", False)


def test_two_engines_make_no_metrics(
    bundle: Bundle, few: Path, two_machines: StandInRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Engine] = []

    def other_each_time(*arguments: Any, **options: Any) -> Engine:
        opened.append(open_engine(*arguments, **options))
        opened[-1].name += f" {len(opened)}"
        return opened[-1]

    monkeypatch.setattr(margins, "open_engine", other_each_time)
    monkeypatch.setattr(margins, "PATCHES", 22)  # more items than the first worker takes
    with pytest.raises(DeviceError, match=r"'torch cpu float32 \d', others with 'torch cpu float32 \d'") as refused:
        scorer(bundle, open_data(few, show=False))("Scoring", False)
    assert "--precision" in str(refused.value.hint)
    assert not any(actor.alive for actor in two_machines.actors)


def test_what_ends_its_workers_is_named(
    bundle: Bundle, few: Path, two_machines: StandInRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentinode.cluster.TRIES", 1)
    two_machines.dies = lambda number: number == 3
    with pytest.raises(DeviceError, match="workers ended at this item") as lost:
        scorer(bundle, open_data(few, show=False))("Scoring", False)
    assert lost.value.where in ("patches 0 to 63", "patches 64 to 65")
