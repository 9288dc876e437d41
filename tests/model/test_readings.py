"""What the card says of dense reading: measured, calibrated, and taken only where it is as good."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from sentinode.errors import BundleError, DataError
from sentinode.model import readings
from sentinode.model.bundle import DENSE, PATCH, Architecture, Bundle, Card, Reading, load, save
from sentinode.model.classifier import build_classifier
from sentinode.model.engines import TorchEngine
from sentinode.model.readings import MEASURED, SAME_MARGIN, check_readings, choose_reading, find_halo, mirrored_margins
from sentinode.patches import PatchSet, open_data

NOISE = np.random.default_rng(0).integers(256, size=(2, 96, 96, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def valid(generated: Path) -> PatchSet:
    return open_data(generated, show=False)["valid"]


@pytest.fixture(scope="module")
def checked(bundle: Bundle, valid: PatchSet, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("checked") / "bundle"
    shutil.copytree(bundle.path, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readings, "PROBED", 6)
        check_readings(load(folder), valid, device="cpu", show=False)
    return load(folder)


def card(bundle: Bundle, patch: float | None, dense: float | None) -> Card:
    readings = {
        name: Reading(temperature=1, threshold=0.5, auc=auc)
        for name, auc in ((PATCH, patch), (DENSE, dense))
        if auc is not None
    }
    return bundle.card.model_copy(update={"readings": readings})


def test_both_readings_are_written_into_the_card_and_the_weights_stay(
    bundle: Bundle, checked: Bundle, valid: PatchSet
) -> None:
    assert checked.fingerprint == bundle.fingerprint
    patch, dense = checked.card.readings[PATCH], checked.card.readings[DENSE]
    assert patch.n == dense.n == min(len(valid), MEASURED)
    assert (patch.temperature, patch.threshold) == (checked.card.temperature, checked.card.threshold)
    assert patch.auc == pytest.approx(checked.card.metrics["valid"]["auc"]["value"], abs=1e-6)
    assert dense.auc is not None and dense.auc > 0.6
    assert dense.halo > 0 and dense.halo % 32 == 0


def test_dense_probabilities_are_calibrated_on_what_was_measured(checked: Bundle, valid: PatchSet) -> None:
    dense = checked.card.reading(DENSE)
    engine = TorchEngine(checked, device="cpu", precision="float32")
    margins = mirrored_margins(engine, valid, np.arange(len(valid)), dense.halo, show=False)
    probabilities = 1 / (1 + np.exp(-(margins + dense.offset) / dense.temperature))
    assert probabilities.mean() == pytest.approx(valid.labels.mean(), abs=0.02)
    assert dense.nll == pytest.approx(
        -np.log(np.where(valid.labels == 1, probabilities, 1 - probabilities)).mean(), abs=1e-3
    )


def test_each_patch_gets_its_own_answer_wherever_it_lies_among_the_others(bundle: Bundle, valid: PatchSet) -> None:
    engine = TorchEngine(bundle, device="cpu", precision="float32")
    rows = np.arange(7)
    together = mirrored_margins(engine, valid, rows, 64, show=False)
    engine.block = 1
    alone = mirrored_margins(engine, valid, rows, 64, show=False)
    assert np.corrcoef(together, alone)[0, 1] > 0.9


@pytest.mark.parametrize("backbone", ["test_resnet", "p4m_resnet"])
def test_the_halo_is_what_a_windows_answer_depends_on(bundle: Bundle, tmp_path: Path, backbone: str) -> None:
    engine = engine_of(bundle, tmp_path, backbone)
    halo = find_halo(engine, NOISE)
    region = np.pad(NOISE[0], ((halo, halo), (halo, halo), (0, 0)), mode="symmetric")
    far = np.pad(NOISE[0], ((192, 192), (192, 192), (0, 0)), mode="symmetric")
    near, further = engine.dense(region, [halo], [halo]), engine.dense(far, [192], [192])
    assert abs((near - further).item()) <= SAME_MARGIN


def engine_of(bundle: Bundle, folder: Path, backbone: str) -> TorchEngine:
    network = build_classifier(backbone, pooling="avgcentre")[0]
    card = bundle.card.model_copy(update={"architecture": Architecture(backbone=backbone, pooling="avgcentre")})
    return TorchEngine(save(folder / backbone, network, card), device="cpu", precision="float32")


class LooksEverywhere:
    """An engine whose windows depend on the mean of the whole region, as squeeze-and-excitation does."""

    def __init__(self, engine: TorchEngine) -> None:
        self.lattice, self.geometry, self.block = engine.lattice, engine.geometry, engine.block

    def dense(self, region: np.ndarray, tops: list[int], lefts: list[int]) -> np.ndarray:
        return np.full((len(tops), len(lefts)), region.mean() / 10, np.float32)


def test_a_network_that_looks_at_the_whole_picture_is_refused(bundle: Bundle) -> None:
    engine = LooksEverywhere(TorchEngine(bundle, device="cpu", precision="float32"))
    with pytest.raises(BundleError, match=r"pixels \d+ away from a window change its answer"):
        find_halo(engine, NOISE)  # type: ignore[arg-type]


def test_patches_of_one_class_are_refused(bundle: Bundle, valid: PatchSet) -> None:
    with pytest.raises(DataError, match="one class only"):
        check_readings(bundle, valid.subset(np.flatnonzero(valid.labels == 1)), show=False)


def test_auto_reads_densely_where_the_card_says_that_it_is_as_good_and_windows_overlap(bundle: Bundle) -> None:
    as_good, worse = card(bundle, 0.95, 0.948), card(bundle, 0.95, 0.946)
    assert choose_reading(as_good, "auto", 32) == DENSE
    assert choose_reading(as_good, "auto", 96) == PATCH
    assert choose_reading(as_good, "dense", 96) == DENSE
    assert choose_reading(worse, "auto", 32) == PATCH
    assert choose_reading(as_good, "patch", 32) == PATCH
    assert choose_reading(bundle.card.model_copy(update={"readings": {}}), "auto", 32) == PATCH


def test_dense_reading_that_costs_accuracy_is_announced(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert choose_reading(card(bundle, 0.95, 0.94), "dense", 32) == DENSE
    assert "costs this bundle 0.0100 of its AUC" in capsys.readouterr().err


def test_dense_reading_that_was_not_measured_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="has not been measured"):
        choose_reading(bundle.card.model_copy(update={"readings": {}}), "dense", 32)
    with pytest.raises(BundleError, match="no reading"):
        choose_reading(bundle.card, "fast", 32)
