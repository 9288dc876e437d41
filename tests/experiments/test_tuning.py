"""A search of hyperparameters: trials once each, whatever stops it, and a best recipe that train takes."""

from __future__ import annotations

import csv
import errno
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from warm_processes import Warm

pytest.importorskip("optuna", reason="Optuna (sentinode[tune]) is not installed here")

from sentinode.errors import DataError, Interrupted, OutputError, RecipeError, SentinodeError
from sentinode.experiments import trial_store, tuning
from sentinode.experiments.tuning import Tuned, tune
from sentinode.patches import PatchData
from sentinode.recipes import load_recipe

FIXED = ("model.backbone=test_resnet", "model.weights=none", "training.epochs=1", "training.batch_size=32")
SEARCH = ("optimizer.lr=1e-4..1e-2:log",)


def tuned(data: PatchData | Path, out: Path, trials: int = 2, **options: object) -> Tuned:
    options = {"recipe": "quick", "settings": FIXED, "search": SEARCH, "show": False, **options}
    return tune(data, out, trials=trials, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def searched(few: PatchData, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return tuned(few, tmp_path_factory.mktemp("tuned") / "search", 3)


@pytest.fixture
def out(searched: Tuned, tmp_path: Path) -> Path:
    """A copy of the finished search."""
    return Path(shutil.copytree(searched.out, tmp_path / "search"))


def test_the_first_trial_is_the_recipe_and_the_best_one_is_the_best_on_valid(searched: Tuned) -> None:
    assert [one.number for one in searched.trials] == [0, 1, 2]
    assert searched.trials[0].base
    assert searched.trials[0].settings == {"optimizer.lr": str(load_recipe("quick").optimizer.lr)}
    finished = [one for one in searched.trials if one.value is not None]
    assert searched.best.value == max(one.value or 0 for one in finished)


def test_best_toml_is_a_whole_recipe_with_the_best_values(searched: Tuned) -> None:
    recipe = load_recipe(searched.out / "best.toml")
    assert recipe == searched.recipe
    assert recipe.optimizer.lr == float(searched.best.settings["optimizer.lr"])
    assert recipe.model.backbone == "test_resnet"


def test_it_leaves_a_page_a_table_and_only_the_best_bundle(searched: Tuned) -> None:
    assert (searched.out / "tune.html").read_text("utf-8").count("<h3>") >= 1
    assert json.loads((searched.out / "tune.json").read_text("utf-8"))["best"]["number"] == searched.best.number
    with (searched.out / "trials.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 3
    assert len(list(searched.out.rglob("card.json"))) == 1
    assert not list(searched.out.rglob("*.pt"))


def test_a_finished_search_trains_nothing_and_a_longer_one_only_what_is_new(
    few: PatchData, out: Path, searched: Tuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    real = tuning.train
    monkeypatch.setattr(tuning, "train", lambda *args, **kwargs: trained.append(args[1]) or real(*args, **kwargs))
    assert tuned(few, out, 3).trials == searched.trials
    assert not trained
    assert len(tuned(few, out, 4).trials) == 4
    assert len(trained) == 1


def test_a_loss_that_is_no_number_fails_its_trial_and_not_the_search(
    few: PatchData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tuning.train

    def broken(data: object, folder: Path, **options: object) -> object:
        if len(broken_trials) == 0:
            broken_trials.append(folder)
            raise RecipeError("the loss is no longer a number at step 1.")
        return real(data, folder, **options)  # type: ignore[arg-type]

    broken_trials: list[Path] = []
    monkeypatch.setattr(tuning, "train", broken)
    found = tuned(few, tmp_path / "search")
    assert [one.state for one in found.trials] == ["failed", "finished"]
    assert "no longer a number" in found.trials[0].why
    assert found.best.number == 1


def test_a_search_that_is_killed_goes_on_and_has_each_trial_once(few: PatchData, tmp_path: Path) -> None:
    out = tmp_path / "search"
    command = ["tune", str(few.path), "--recipe", "quick", "--trials", "2", "--search", *SEARCH, "--out", str(out)]
    process = Warm(tmp_path, *command, *(part for setting in FIXED for part in ("--set", setting)))
    deadline = time.monotonic() + 120
    while not list(out.glob("runs/*/recipe.toml")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    found = tuned(few, out)
    assert [(one.number, one.state) for one in found.trials] == [(0, "finished"), (1, "finished")]


def test_ctrl_c_saves_and_the_same_command_goes_on(
    few: PatchData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "train", stop)
        with pytest.raises(Interrupted, match="the work so far is saved"):
            tuned(few, tmp_path / "search", 1)
    assert [one.state for one in tuned(few, tmp_path / "search", 1).trials] == ["finished"]


def test_on_a_disk_without_locks_the_journal_is_written_under_a_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl", reason="locks of this system do not depend on the disk")

    def refused(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refused)
    (tmp_path / trial_store.JOURNAL).write_text("whole\nhalf")
    held = trial_store.JournalLock(tmp_path / trial_store.JOURNAL)
    for _ in range(2):
        assert held.acquire()
        assert list(tmp_path.rglob("*.lease"))
        held.release()
        assert not list(tmp_path.rglob("*.lease"))
    assert (tmp_path / trial_store.JOURNAL).read_text() == "whole\n"


def test_a_folder_of_another_search_is_refused_by_name(few: PatchData, out: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="other training patches"):
        tuned(few, out, sample=64)
    with pytest.raises(RecipeError, match="another base recipe"):
        tuned(few, out, settings=(*FIXED, "augment.stain=0.1"))
    with pytest.raises(OutputError, match="other options"):
        tuned(few, out, search=("augment.stain=0..0.2",))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="something else"):
        tuned(few, tmp_path / "other")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "--trials"),
        ({"confirm": -1}, "--confirm"),
        ({"seed": -1}, "--seed"),
        ({"sample": -1}, "--sample"),
        ({"monitor": "accuracy"}, "no score 'accuracy'"),
        ({"recipe": "quik"}, "quik"),
        ({"search": ("model.backbone=test_resnet,resnet5",)}, "resnet5"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_trained(
    few: PatchData, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(SentinodeError) as refused:
        tuned(few, tmp_path / "search", **options)  # type: ignore[arg-type]
    assert message in str(refused.value)
    assert not list(tmp_path.glob("search/runs/*"))


def test_without_optuna_the_extra_is_named(few: PatchData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "optuna" else real(name, *more)
    )
    with pytest.raises(SentinodeError, match=r"sentinode\[tune\]"):
        tuned(few, tmp_path / "search")


def test_every_public_name_is_there_without_optuna() -> None:
    code = "import sys; sys.modules['optuna'] = None; from sentinode import *; print(tune, TunedTrial)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
