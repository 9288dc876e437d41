"""A sweep: every combination with every seed once, whatever stops it, and differences that count both errors."""

from __future__ import annotations

import csv
import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from stand_in_ray import StandInRay, install
from warm_processes import Warm

from sentinode.errors import DataError, DeviceError, OutputError, RecipeError
from sentinode.experiments import trials
from sentinode.experiments.sweep_page import markdown, table
from sentinode.experiments.sweeping import Sweep, sweep
from sentinode.patches import PatchData

FIXED = ("model.backbone=test_resnet", "model.weights=none", "training.epochs=1", "training.batch_size=32")
GRID = (*FIXED, "optimizer.lr=3e-3,1e-3")


def swept(data: PatchData, out: Path, settings: tuple[str, ...] = GRID, **options: object) -> Sweep:
    options = {"seeds": 2, "recipe": "quick", "resamples": 50, "show": False, **options}
    return sweep(data, out, settings=settings, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole(few: PatchData, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return swept(few, tmp_path_factory.mktemp("swept") / "sweep", test=True)


@pytest.fixture
def out(whole: Sweep, tmp_path: Path) -> Path:
    """A copy of the finished sweep."""
    return Path(shutil.copytree(whole.path, tmp_path / "sweep"))


def test_each_combination_is_trained_with_each_seed(whole: Sweep) -> None:
    assert [setting.name for setting in whole.settings] == ["lr 0.003", "lr 0.001"]
    for setting in whole.settings:
        assert [one.seed for one in setting.outcomes] == [0, 1]
        assert all((one.folder / "bundle" / "card.json").exists() for one in setting.outcomes)
    assert len({one.folder for setting in whole.settings for one in setting.outcomes}) == 4


def test_it_leaves_one_table_as_a_page_csv_json_and_markdown(whole: Sweep) -> None:
    record = json.loads((whole.path / "sweep.json").read_text("utf-8"))
    assert record["best_on_valid"] in ("lr 0.003", "lr 0.001")
    assert len(record["differences_on_valid"]) == 4  # one pair, four metrics
    with (whole.path / "sweep.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["valid_auc"]) for row in rows] == pytest.approx(
        [one["valid"]["auc"]["mean"] for one in record["settings"]]
    )
    assert (whole.path / "sweep.md").read_text("utf-8") == markdown(whole)
    assert "choose by test is not honest" in (whole.path / "sweep.html").read_text("utf-8")
    assert "(" in table(whole)[1][1]  # valid (test)


def test_finished_runs_are_not_trained_again(few: PatchData, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = markdown(swept(few, out, test=True))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(trials, "train", refuse)
    assert markdown(swept(few, out, test=True)) == before


def test_a_larger_grid_adds_only_what_is_new_and_a_smaller_one_says_what_else_is_there(
    few: PatchData, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    real = trials.train
    monkeypatch.setattr(trials, "train", lambda *args, **kwargs: trained.append(args[1]) or real(*args, **kwargs))
    more = swept(few, out, (*FIXED, "optimizer.lr=3e-3,1e-3,2e-3"), seeds=1)
    assert len(trained) == 1
    assert len(more.compared.differences) == 12  # three pairs, four metrics
    assert "With one seed the variance of training is not seen." in " ".join(more.notes)
    assert "2 runs of earlier grids" in " ".join(more.notes)


def test_a_run_that_fails_is_named_and_the_others_go_on(
    few: PatchData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trials.train

    def fail(data: object, folder: Path, **options: object) -> object:
        if options["recipe"].optimizer.lr == 1e-3:  # type: ignore[attr-defined]
            raise torch.OutOfMemoryError("out of memory")
        return real(data, folder, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(trials, "train", fail)
    found = swept(few, tmp_path / "sweep", seeds=1)
    assert [setting.name for setting in found.finished] == ["lr 0.003"]
    assert [(one.name, one.seed) for one in found.failures] == [("lr 0.001", 0)]
    assert "out of memory" in (tmp_path / "sweep" / "sweep.html").read_text("utf-8")
    monkeypatch.setattr(trials, "train", real)
    assert not swept(few, tmp_path / "sweep", seeds=1).failures


def test_a_cluster_trains_what_is_not_finished_and_names_the_run_that_ends_its_workers(
    few: PatchData, whole: Sweep, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("lr 0.003", "lr 0.001"):
        setting = next(one for one in whole.settings if one.name == name)
        shutil.rmtree(out / "runs" / setting.outcomes[0].folder.name)
    monkeypatch.setattr("sentinode.cluster.TRIES", 1)
    ray = install(StandInRay([{"CPU": 2.0}], dies=lambda number: number == 3), monkeypatch)
    monkeypatch.chdir(out.parent)
    found = swept(few, Path(out.name), test=True, cluster="auto")
    assert ray.number == 3  # a worker is opened, finishes one run, and ends with the other
    assert [(one.name, one.seed, one.error) for one in found.failures] == [
        ("lr 0.001", 0, "its process was ended 1 times, perhaps because memory ran out.")
    ]
    assert found.settings[0].values("valid", "auc") == pytest.approx(whole.settings[0].values("valid", "auc"))
    install(StandInRay([{"CPU": 2.0}]), monkeypatch)
    again = swept(few, Path(out.name), test=True, cluster="auto")
    assert not again.failures
    for ours, theirs in zip(again.settings, whole.settings, strict=True):
        assert ours.values("test", "auc") == pytest.approx(theirs.values("test", "auc"))


def test_a_sweep_that_is_killed_goes_on_to_the_same_table(few: PatchData, whole: Sweep, tmp_path: Path) -> None:
    command = ["sweep", str(few.path), "--recipe", "quick", "--seeds", "1", "--out", str(tmp_path / "sweep")]
    command += [part for setting in (*FIXED, "optimizer.lr=3e-3,1e-3") for part in ("--set", setting)]
    process = Warm(tmp_path, *command)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("sweep/runs/*/checkpoint.pt")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    assert not list(tmp_path.glob("sweep/sweep.*"))
    again = swept(few, tmp_path / "sweep", seeds=1)
    for one, other in zip(again.settings, whole.settings, strict=True):
        assert one.values("valid", "nll") == other.values("valid", "nll")[:1]


@pytest.mark.parametrize(
    ("settings", "options", "error", "message"),
    [
        ((*FIXED, "optimizer.lr=3e-3,much"), {}, RecipeError, "optimizer.lr"),
        ((*FIXED[1:], "model.backbone=test_resnet,resnet5"), {}, RecipeError, "resnet5"),
        (GRID, {"seeds": 0}, RecipeError, "--seeds"),
        (GRID, {"sample": -1}, RecipeError, "--sample"),
        (GRID, {"sample": 10**6}, DataError, "has 96 patches, not 1,000,000"),
        (GRID, {"device": "cuda:99"}, DeviceError, "."),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_trained(
    few: PatchData,
    tmp_path: Path,
    settings: tuple[str, ...],
    options: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        swept(few, tmp_path / "sweep", settings, **options)
    assert not list(tmp_path.glob("sweep/runs/*/log.csv"))


def test_a_folder_of_another_sweep_is_refused_by_name(few: PatchData, out: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="other training patches"):
        swept(few, out, sample=64)
    with pytest.raises(RecipeError, match="another base recipe"):
        swept(few, out, recipe="small")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="something else"):
        swept(few, tmp_path / "other")
    (out / "study.json").write_text("{")
    with pytest.raises(OutputError, match="damaged"):
        swept(few, out)


def test_two_sweeps_at_once_in_one_folder_are_refused(few: PatchData, out: Path) -> None:
    held = next(iter((out / ".locks").glob("*study*")))
    with FileLock(held), pytest.raises(OutputError, match="another process is at work"):
        swept(few, out)
