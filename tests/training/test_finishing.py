"""The end of a run: calibration, thresholds and what the bundle keeps."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from own_network import Own
from PIL import Image

from sentinode.errors import OutputError
from sentinode.model.bundle import load
from sentinode.patches import PatchData, open_data
from sentinode.patches.synthetic import synthesise
from sentinode.recipes import Recipe, load_recipe
from sentinode.scoring import RULES, calibrated, choose_threshold
from sentinode.training import finishing, train
from sentinode.training.finishing import SUBSTITUTE_RULE, choose_thresholds

SETTINGS = ("model.backbone=test_resnet", "model.weights=none", "training.epochs=1", "training.batch_size=16")
NAMES = ("normal", "tumour")


def recipe(*settings: str) -> Recipe:
    return load_recipe("quick", [*SETTINGS, *settings])


def test_each_rule_has_its_threshold_and_so_has_the_one_that_is_asked_for() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(200) < 0.5).astype(np.uint8)
    probabilities = np.clip(0.3 * labels + 0.7 * rng.random(200), 0, 1).astype(np.float32)
    thresholds = choose_thresholds(labels, probabilities, "sensitivity@0.8", NAMES)
    assert set(thresholds) == {*RULES, "sensitivity@0.8"}
    for rule, threshold in thresholds.items():
        assert threshold.value == choose_threshold(labels, probabilities, rule)
        assert (threshold.rule, threshold.chosen_on, threshold.n) == (rule, "valid", 200)


def test_a_rule_that_no_threshold_keeps_is_left_out_and_a_warning_names_what_stands_in(
    capsys: pytest.CaptureFixture[str],
) -> None:
    labels, certain = np.array([0, 1] * 20, np.uint8), np.ones(40, np.float32)
    thresholds = choose_thresholds(labels, certain, "specificity@0.9", NAMES)
    assert set(RULES) - set(thresholds) == {"specificity@0.95"}
    printed = capsys.readouterr().err.replace("\n", " ")
    assert "no threshold for the rule specificity@0.9:" in printed
    assert f"uses the threshold of the rule {SUBSTITUTE_RULE}" in printed


def test_an_offset_is_kept_in_the_head_and_makes_the_probabilities_right_on_average(tmp_path: Path) -> None:
    data = unbalanced(tmp_path / "patches")
    by_temperature, by_platt = (
        train(data, tmp_path / kind, recipe=recipe(f"operating_point.calibration={kind}"), show=False)
        for kind in ("temperature", "platt")
    )
    valid = data["valid"]
    images = torch.from_numpy(np.asarray(valid.images[:]))
    assert valid.labels.mean() != data["train"].labels.mean()
    with torch.inference_mode():
        logits = [bundle.classifier()(images) for bundle in (by_temperature, by_platt)]
    before, after = ((each[:, 1] - each[:, 0]).numpy() for each in logits)
    offset = (after - before)[0]
    assert abs(offset) > 0.01
    assert after - before == pytest.approx(np.full(len(valid), offset), abs=1e-4)
    probabilities = calibrated(after, by_platt.card.temperature)
    assert probabilities.mean() == pytest.approx(valid.labels.mean(), abs=0.01)
    assert by_platt.card.prior == valid.labels.mean()


def unbalanced(folder: Path) -> PatchData:
    """Generated patches of whose valid split a quarter of the tumour labels are called normal."""
    synthesise(folder, train=80, valid=32, test=2, slides=4, show=False)
    with h5py.File(folder / "camelyonpatch_level_2_split_valid_y.h5", "r+") as file:
        labels = file["y"][:]
        labels[np.flatnonzero(labels)[::4]] = 0
        file["y"][...] = labels
    return open_data(folder, show=False)


def test_a_network_of_ones_own_is_calibrated_by_a_temperature_alone_and_told_so(
    data: PatchData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = train(data, tmp_path / "run", recipe=recipe("operating_point.calibration=platt"), module=Own)
    assert "only a temperature" in " ".join(capsys.readouterr().err.split())
    assert bundle.card.prior == data["train"].labels.mean()


def test_splits_that_were_drawn_are_kept_for_ever(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("normal", "tumour"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{i}.png")
    data = open_data(tmp_path / "data", seed=5, show=False)
    bundle = train(data, tmp_path / "run", recipe=recipe("training.batch_size=8"), show=False)
    again = open_data(tmp_path / "data", seed=99, assignment=bundle.assignment(), show=False)
    assert again["test"].ids.tolist() == data["test"].ids.tolist()


def test_a_full_disk_is_said_in_words_and_the_run_can_go_on(
    data: PatchData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutputError("the disk is full.", where=tmp_path)

    monkeypatch.setattr(finishing, "save", full)
    with pytest.raises(OutputError, match="disk is full"):
        train(data, tmp_path / "run", recipe=recipe(), show=False)
    monkeypatch.undo()
    assert train(data, tmp_path / "run", recipe=recipe(), resume=True, show=False).path.is_dir()


def test_a_rule_that_saturated_probabilities_cannot_keep_costs_its_threshold_and_not_the_run(
    data: PatchData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(finishing, "calibrated", lambda margins, _: np.ones(len(margins), np.float32))
    settings = ('operating_point.rule="specificity@0.9"', "training.epochs=1", "training.head_epochs=0")
    card = train(data, tmp_path / "run", recipe=recipe(*settings), show=False).card
    assert card.thresholds.keys() == {"accuracy", "balanced_accuracy", "f1", "sensitivity@0.95", "half"}
    assert all(0 <= threshold.value <= 1 for threshold in card.thresholds.values())
    assert card.threshold_rule == "accuracy"
    printed = capsys.readouterr().err.replace("\n", " ")
    assert "no threshold for the rule specificity@0.9" in printed
    assert "uses the threshold of the rule accuracy" in printed


def test_a_bundle_knows_how_well_it_reads_densely(data: PatchData, tmp_path: Path) -> None:
    bundle = train(data, tmp_path / "run", recipe=recipe("training.surroundings=0.5"), show=False)
    patch, dense = bundle.card.readings["patch"], bundle.card.readings["dense"]
    assert patch.n == dense.n == len(data["valid"]) and dense.halo > 0
    assert bundle.card == load(tmp_path / "run" / "bundle").card


def test_a_network_of_ones_own_is_a_bundle_without_dense_reading(data: PatchData, tmp_path: Path) -> None:
    bundle = train(data, tmp_path / "run", recipe=recipe(), module=Own, show=False)
    assert not bundle.card.readings
