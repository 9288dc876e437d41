"""Training: what a run leaves, how it goes on after a crash, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from own_network import Own
from safetensors.torch import load_file
from warm_processes import Warm

import sentinode
from sentinode.errors import DataError, DeviceError, OutputError, RecipeError, StoppedEarly, WeightsError
from sentinode.locks import lock
from sentinode.model.classifier import build_classifier
from sentinode.patches import PatchData, open_data
from sentinode.patches.synthetic import synthesise
from sentinode.recipes import Recipe, load_recipe
from sentinode.training import learner, loop, train
from sentinode.training.checkpoint import load_best

SETTINGS = [
    "model.backbone=test_resnet",
    "model.weights=none",
    "training.epochs=2",
    "training.batch_size=16",
    "training.head_epochs=0.5",
    "model.dropout=0.2",
    "optimizer.lr=2e-3",
]

EXACT = ("training.precision=float32", "optimizer.name=sgd", "optimizer.lr=0.02")
"""For runs that must arrive at the same weights by sums in another order."""


def recipe(*settings: str) -> Recipe:
    return load_recipe("quick", [*SETTINGS, *settings])


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "bundle" / "weights.safetensors")


def assert_same(first: Path, second: Path, tolerance: float = 0.0) -> None:
    ours, theirs = weights(first), weights(second)
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], atol=tolerance, rtol=tolerance, msg=name)


@pytest.fixture(scope="module")
def trained(data: PatchData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run by ``recipe()``; leave it as it is."""
    out = tmp_path_factory.mktemp("trained") / "run"
    train(data, out, recipe=recipe(), show=False)
    return out


@pytest.fixture(scope="module")
def short(data: PatchData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one epoch; leave it as it is."""
    out = tmp_path_factory.mktemp("short") / "run"
    train(data, out, recipe=recipe("training.epochs=1"), show=False)
    return out


def test_a_run_leaves_all_that_one_needs_to_read_it(trained: Path) -> None:
    bundle = sentinode.load(trained)
    left = {path.name for path in trained.iterdir()}
    assert left >= {"bundle", "recipe.toml", "log.csv", "learning_curve.png", "tensorboard", "checkpoint.pt"}
    assert load_recipe(trained / "recipe.toml") == recipe()
    with (trained / "log.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert bundle.card.history[1]["valid_auc"] == pytest.approx(float(rows[1]["valid_auc"]))
    assert bundle.card.data["counts"]["train"] == {"normal": 40, "tumour": 40}
    assert bundle.card.prior == 0.5


def test_it_learns(bundle: sentinode.model.bundle.Bundle) -> None:
    assert bundle.card.metrics["valid"]["auc"]["value"] > 0.75


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    data: PatchData, trained: Path, tmp_path: Path
) -> None:
    train(data, tmp_path / "again", recipe=recipe(), show=False)
    assert_same(trained, tmp_path / "again")
    train(data, tmp_path / "other", recipe=recipe("training.seed=1"), show=False)
    with pytest.raises(AssertionError):
        assert_same(trained, tmp_path / "other")


def test_a_run_killed_at_any_moment_arrives_at_the_same_weights(data: PatchData, tmp_path: Path) -> None:
    settings = ("training.checkpoint_minutes=0", "training.ema=0.9", "training.teacher=0.5", "augment.mixup=0.2")
    train(data, tmp_path / "whole", recipe=recipe(*settings), show=False)
    command = ["train", str(data.path), "--out", str(tmp_path / "cut"), "--recipe", "quick", "--resume"]
    command += [word for text in (*SETTINGS, *settings) for word in ("--set", text)]
    for kill_after in (1, 9):  # in the head's stage, and in the second epoch
        process = Warm(tmp_path, *command)
        wait_for_checkpoints(tmp_path / "cut" / "checkpoint.pt", kill_after, process)
        process.kill()
    assert not (tmp_path / "cut" / "bundle").exists()
    finished = Warm(tmp_path, *command)
    assert finished.wait() == 0, finished.stderr
    assert "Resuming from the checkpoint" in finished.stderr
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_a_run_killed_before_an_epoch_was_scored_scores_it(
    data: PatchData, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each_step = recipe("training.checkpoint_minutes=0")

    def killed(*_: object) -> None:
        raise OutputError("the power is gone.")

    monkeypatch.setattr(loop, "evaluate_epoch", killed)
    with pytest.raises(OutputError, match="power"):
        train(data, tmp_path / "cut", recipe=each_step, show=False)
    monkeypatch.undo()
    bundle = train(data, tmp_path / "cut", recipe=each_step, resume=True, show=False)
    assert [entry["epoch"] for entry in bundle.card.history] == [1, 2]
    assert_same(trained, tmp_path / "cut")


def wait_for_checkpoints(path: Path, step: int, process: Warm) -> None:
    """Until the run has written a checkpoint at or after its ``step``-th step of all."""
    head_steps, ends = 2, time.monotonic() + 120
    while time.monotonic() < ends and process.poll() is None:
        if path.exists():
            try:
                progress = torch.load(path, weights_only=True)["progress"]
            except (RuntimeError, EOFError, OSError):
                continue
            if progress["step"] + head_steps * progress["stage"] >= step:
                return
        time.sleep(0.02)
    raise AssertionError(f"no checkpoint at step {step}; exit code {process.poll()}")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_ctrl_c_saves_and_says_how_to_go_on(data: PatchData, tmp_path: Path) -> None:
    settings = [word for text in (*SETTINGS, "training.epochs=500") for word in ("--set", text)]
    process = Warm(tmp_path, "train", data.path, "--out", tmp_path / "run", "--recipe", "quick", *settings)
    wait_for_checkpoints(tmp_path / "run" / "checkpoint.pt", 5, process)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    assert "--resume" in process.stderr
    assert "Traceback" not in process.stderr


def test_two_processes_arrive_where_one_does(data: PatchData, tmp_path: Path) -> None:
    # Batch norm sees one process's share alone, and each process draws its own augmentation: leave both out.
    alone = recipe(
        "model.backbone=test_convnext", "augment.symmetries=false", "augment.stain=0", "augment.brightness=0",
        "augment.contrast=0", "augment.saturation=0", "augment.hue=0", "model.dropout=0", "training.ema=0",
        *EXACT,
    )  # fmt: skip
    one = train(data, tmp_path / "one", recipe=alone, show=False)
    two = train(data, tmp_path / "two", recipe=alone, device="cpu", devices=2, show=False)
    assert_same(tmp_path / "one", tmp_path / "two", tolerance=2e-4)
    # The loss in the log is that of the whole batch, not that of one process's share.
    losses = [[entry["train_loss"] for entry in bundle.card.history] for bundle in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.usefixtures("warm_workers")
@pytest.mark.parametrize("ema", [0, 0.9])
def test_processes_score_the_network_that_is_kept(data: PatchData, tmp_path: Path, ema: float) -> None:
    # Each process's batch norms see its own share of the patches, and learn statistics of their own.
    settings = (f"training.ema={ema}", "training.epochs=3", *EXACT)
    bundle = train(data, tmp_path / "run", recipe=recipe(*settings), device="cpu", devices=2, show=False)
    network = build_classifier("test_resnet", pooling=bundle.card.architecture.pooling)[0].eval()
    network.load_state_dict(load_best(tmp_path / "run"))
    valid = data["valid"]
    with torch.inference_mode():
        logits = network(torch.from_numpy(np.asarray(valid.images[:])))
    scored = max(bundle.card.history, key=lambda entry: entry["valid_auc"])
    nll = torch.nn.functional.cross_entropy(logits, torch.from_numpy(valid.labels.astype(np.int64)))
    assert scored["valid_nll"] == pytest.approx(float(nll), rel=1e-5)


@pytest.mark.usefixtures("warm_workers")
def test_processes_know_the_slides_that_a_map_names(tmp_path: Path) -> None:
    synthesise(tmp_path / "data", train=40, valid=20, test=20, slides=4, show=False)
    for meta in (tmp_path / "data").glob("*_meta.csv"):
        meta.unlink()
    sizes = {"train": 40, "valid": 20, "test": 20}
    rows = [f"{split}/{row:06},{split}-{row % 5}" for split, size in sizes.items() for row in range(size)]
    (tmp_path / "slides.csv").write_text("\n".join(["id,slide", *rows]), "utf-8")
    data = open_data(tmp_path / "data", slide_map=tmp_path / "slides.csv", show=False)
    bundle = train(data, tmp_path / "run", recipe=recipe("training.epochs=1"), device="cpu", devices=2, show=False)
    assert bundle.card.metrics["valid"]["resampled"] == "slide"


def test_accumulated_parts_of_a_batch_give_its_gradient(data: PatchData, tmp_path: Path) -> None:
    # The order of a sum shows in bfloat16, and in Adam where a gradient is nearly nothing.
    exact = ("model.backbone=test_convnext", "model.dropout=0", "training.ema=0", *EXACT)
    train(data, tmp_path / "whole", recipe=recipe(*exact), show=False)
    train(data, tmp_path / "parts", recipe=recipe(*exact, "training.accumulate=4"), show=False)
    assert_same(tmp_path / "whole", tmp_path / "parts", tolerance=2e-4)


def test_it_stops_when_valid_no_longer_gains(
    data: PatchData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stuck = recipe("optimizer.lr=1e-9", "training.epochs=50", "training.patience=2", "training.ema=0.999999")
    bundle = train(data, tmp_path / "run", recipe=stuck)
    assert len(bundle.card.history) < 50
    assert "stopping here" in capsys.readouterr().err


def test_out_of_memory_halves_what_is_computed_at_once(
    data: PatchData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compute = learner.Learner._gradients

    def small_memory(self: learner.Learner, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if len(images) // self.parts > 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
        return compute(self, images, targets)

    monkeypatch.setattr(learner.Learner, "_gradients", small_memory)
    train(data, tmp_path / "run", recipe=recipe("training.epochs=1"), show=False)
    assert "computing each batch of 16 in 4 parts" in capsys.readouterr().err
    teach = learner.Learner._targets

    def small_memory_for_the_teacher(
        self: learner.Learner, images: torch.Tensor, labels: torch.Tensor, step: int
    ) -> torch.Tensor:
        if len(images) // self.parts > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
        return teach(self, images, labels, step)

    monkeypatch.setattr(learner.Learner, "_targets", small_memory_for_the_teacher)
    taught = recipe("training.teacher=0.5", "training.ema=0.9", "training.epochs=1")
    train(data, tmp_path / "taught", recipe=taught, show=False)
    assert "computing each batch of 16 in 8 parts" in capsys.readouterr().err
    monkeypatch.setattr(learner.Learner, "_gradients", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
    with pytest.raises(DeviceError, match="not enough memory, even for a batch in 16 parts"):
        train(data, tmp_path / "none", recipe=recipe(), show=False)


def test_a_network_of_ones_own_is_trained_as_it_is(data: PatchData, tmp_path: Path) -> None:
    bundle = train(data, tmp_path / "run", recipe=recipe("training.head_epochs=0"), module=Own, show=False)
    assert bundle.card.architecture.kind == "custom"
    assert (bundle.card.architecture.class_name or "").endswith("own_network.Own")
    assert "class Own" in (bundle.card.architecture.source or "")
    assert sentinode.load(tmp_path / "run", module=Own).classifier()(torch.zeros(1, 96, 96, 3)).shape == (1, 2)


def test_a_loss_that_is_no_number_stops_the_run(
    data: PatchData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner.Learner, "_gradients", lambda *_: torch.tensor(float("nan")))
    with pytest.raises(RecipeError, match="no longer a number") as caught:
        train(data, tmp_path / "run", recipe=recipe(), show=False)
    assert "optimizer.lr" in (caught.value.hint or "")
    assert not (tmp_path / "run" / "bundle").exists()


def test_a_folder_that_holds_a_run_is_not_overwritten(run: Path, data: PatchData) -> None:
    with pytest.raises(OutputError, match="already contains a run") as caught:
        train(data, run, recipe=recipe(), show=False)
    assert "--resume" in (caught.value.hint or "")


def test_a_path_and_open_data_give_the_same_run(data: PatchData, short: Path, tmp_path: Path) -> None:
    settings = [*SETTINGS, "training.epochs=1"]
    train(str(data.path), str(tmp_path / "path"), recipe="quick", settings=settings, show=False)
    assert_same(short, tmp_path / "path")


@pytest.mark.parametrize(
    "stated", [{"slide_map": "slides.csv"}, {"also": ["more"]}, {"mpp": 0.5}, {"label_region": 32}, {"positive": "a"}]
)
def test_what_is_stated_of_open_data_is_refused(data: PatchData, tmp_path: Path, stated: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="not for data that is open") as caught:
        train(data, tmp_path / "run", recipe=recipe(), show=False, **stated)
    assert "open_data" in (caught.value.hint or "")
    assert not (tmp_path / "run").exists()


def test_settings_beside_a_whole_recipe_are_refused(data: PatchData, tmp_path: Path) -> None:
    for more in ({"settings": ["training.epochs=1"]}, {"weights": "none"}):
        with pytest.raises(RecipeError, match="not for a Recipe"):
            train(data, tmp_path / "run", recipe=recipe(), show=False, **more)


def test_the_name_of_a_weights_file_may_hold_quotes(data: PatchData, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        train(data, tmp_path / "run", recipe="quick", weights=tmp_path / 'the "best" one\'s.pth', show=False)
    assert 'the "best" one\'s.pth' in str(caught.value)


def test_a_resumed_run_takes_its_own_recipe_where_none_is_named(data: PatchData, short: Path, tmp_path: Path) -> None:
    shutil.copytree(short, tmp_path / "run")
    bundle = train(data, tmp_path / "run", resume=True, show=False)
    assert bundle.card.recipe == recipe("training.epochs=1").model_dump(mode="json")


def test_resuming_with_something_else_is_refused(
    data: PatchData, trained: Path, generated: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    with pytest.raises(DataError, match="other hyperparameters"):
        train(data, tmp_path / "run", recipe=recipe("optimizer.lr=1e-3"), resume=True, show=False)
    with pytest.raises(DataError, match="other training patches"):
        train(open_data(generated, show=False), tmp_path / "run", recipe=recipe(), resume=True, show=False)


def test_weights_that_cannot_be_had_leave_nothing_behind(data: PatchData, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such weights file"):
        train(data, tmp_path / "run", recipe=recipe("model.weights=gone.pth"), show=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux has a place that even root cannot write")
def test_a_place_that_cannot_be_written_is_refused(data: PatchData) -> None:
    with pytest.raises(OutputError):
        train(data, Path("/proc/sentinode/run"), recipe=recipe(), show=False)


def test_one_class_alone_cannot_be_trained_on(data: PatchData, tmp_path: Path) -> None:
    synthesise(tmp_path / "data", train=40, valid=20, test=20, slides=4, show=False)
    with h5py.File(tmp_path / "data" / "camelyonpatch_level_2_split_train_y.h5", "r+") as file:
        file["y"][:] = 0
    with pytest.raises(DataError, match="split are normal;"):
        train(open_data(tmp_path / "data", show=False), tmp_path / "run", recipe=recipe(), show=False)
    assert not (tmp_path / "run").exists()


def test_an_unknown_rule_is_refused_before_anything_is_written(data: PatchData, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="acuracy"):
        train(data, tmp_path / "run", recipe=recipe("operating_point.rule=acuracy"), show=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("rule", ["sensitivity@2", "specificity", "sensitivity@"])
def test_a_rule_that_is_half_right_is_refused_too(data: PatchData, tmp_path: Path, rule: str) -> None:
    with pytest.raises(RecipeError):
        train(data, tmp_path / "run", recipe=recipe(f'operating_point.rule="{rule}"'), show=False)
    assert not (tmp_path / "run").exists()


def test_a_teacher_without_a_moving_average_is_refused(data: PatchData, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="there is none"):
        train(data, tmp_path / "run", recipe=recipe("training.teacher=0.5", "training.ema=0"), show=False)
    assert not (tmp_path / "run").exists()


def test_a_batch_that_processes_cannot_share_is_refused(data: PatchData, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be shared equally"):
        train(data, tmp_path / "run", recipe=recipe("training.batch_size=15"), devices=2, show=False)


def test_the_command_prints_the_bundle_and_refuses_with_two(data: PatchData, tmp_path: Path) -> None:
    command = ["train", str(data.path), "--out", str(tmp_path / "run"), "--recipe", "quick", "--json"]
    command += [word for text in SETTINGS for word in ("--set", text)]
    done = Warm(tmp_path, *command)
    assert done.wait() == 0, done.stderr
    assert json.loads(done.stdout)["toy"] is True
    again = Warm(tmp_path, *command)
    assert (again.wait(), again.stdout) == (2, "")
    assert "already contains a run" in again.stderr
    assert "Traceback" not in again.stderr


@pytest.mark.usefixtures("warm_workers")
def test_further_patches_join_the_training_split(data: PatchData, tmp_path: Path) -> None:
    synthesise(tmp_path / "more", train=40, valid=20, test=20, slides=4, seed=3, show=False)
    short = [*SETTINGS, "training.epochs=1"]
    for devices in (1, 2):
        bundle = train(
            data.path, tmp_path / f"run{devices}", recipe="quick", settings=short, also=[tmp_path / "more"],
            device="cpu", devices=devices, show=False,
        )  # fmt: skip
        assert sum(bundle.card.data["counts"]["train"].values()) == 120
        assert sum(bundle.card.data["counts"]["valid"].values()) == 32
        (further,) = bundle.card.data["also"]
        assert further["name"] == "more"
        assert sum(further["counts"].values()) == 40
    again = {"recipe": "quick", "settings": short, "resume": True, "show": False}
    with pytest.raises(DataError, match="other training patches"):
        train(data.path, tmp_path / "run1", **again)
    train(data.path, tmp_path / "run1", also=[tmp_path / "more"], **again)


def test_two_trainings_at_once_in_one_folder_are_refused(generated: Path, tmp_path: Path) -> None:
    """Both would say that they are done, one of them with the other's bundle."""
    out = tmp_path / "run"
    out.mkdir()
    with lock(out, "run"), pytest.raises(OutputError, match="another process is training"):
        sentinode.train(
            generated, out, recipe="quick", weights="none", settings=("model.backbone=test_resnet",), show=False
        )
    assert [path.name for path in out.iterdir()] == [".locks"]


def test_a_training_that_is_refused_leaves_no_folder(generated: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        sentinode.train(generated, tmp_path / "run", recipe="quick", weights=tmp_path / "absent.pth", show=False)
    assert not list(tmp_path.iterdir())


def test_a_function_after_each_epoch_may_stop_the_training(data: PatchData, trained: Path, tmp_path: Path) -> None:
    seen: list[float] = []

    def once(entry: Mapping[str, float]) -> bool:
        seen.append(entry["epoch"])
        return False

    with pytest.raises(StoppedEarly, match="after epoch 1 of 2"):
        train(data, tmp_path / "cut", recipe=recipe(), show=False, after_epoch=once)
    assert seen == [1]
    assert not (tmp_path / "cut" / "bundle").exists()
    train(data, tmp_path / "cut", recipe=recipe(), resume=True, show=False, after_epoch=lambda _: True)
    assert_same(trained, tmp_path / "cut")
    with pytest.raises(DeviceError, match="one device"):
        train(data, tmp_path / "two", recipe=recipe(), devices=2, show=False, after_epoch=once)


def test_a_caller_may_stop_a_training_after_an_epoch_and_resume_it(data: PatchData, tmp_path: Path) -> None:
    seen = []

    def after_epoch(entry: Any) -> bool:
        seen.append(int(entry["epoch"]))
        return False

    options: dict[str, Any] = {
        "recipe": "quick",
        "weights": "none",
        "settings": [*SETTINGS, "training.epochs=2"],
        "show": False,
    }
    with pytest.raises(StoppedEarly, match="stopped after epoch 1 of 2"):
        sentinode.train(data.path, tmp_path / "run", after_epoch=after_epoch, **options)
    assert seen == [1]
    assert not (tmp_path / "run" / "bundle").exists()
    sentinode.train(data.path, tmp_path / "run", resume=True, **options)
    assert (tmp_path / "run" / "bundle" / "card.json").exists()
    with pytest.raises(DeviceError, match="for one device"):
        sentinode.train(data.path, tmp_path / "two", after_epoch=after_epoch, devices=2, **options)
