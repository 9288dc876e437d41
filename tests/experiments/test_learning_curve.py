"""A curve: nested draws, the same steps for each size, and no more said than the figures show."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_outcomes import made_outcomes

from sentinode.errors import DataError, Interrupted, OutputError, RecipeError
from sentinode.experiments import learning_curve, trials
from sentinode.experiments.curve_page import markdown, numbers, picture, sentence, table
from sentinode.experiments.learning_curve import LearningCurve, curve
from sentinode.experiments.trials import Trial
from sentinode.patches import PatchData
from sentinode.scoring.comparison import Difference
from sentinode.scoring.power_law import forecast

TINY = ("model.backbone=test_resnet", "model.weights=none", "training.epochs=1", "training.batch_size=32")


def curved(data: PatchData, out: Path, sizes: tuple[int, ...] = (48, 96), **options: Any) -> LearningCurve:
    options = {"seeds": 2, "recipe": "quick", "settings": TINY, "resamples": 50, "show": False, **options}
    return curve(data, out, sizes=sizes, **options)


@pytest.fixture(scope="module")
def whole(few: PatchData, tmp_path_factory: pytest.TempPathFactory) -> LearningCurve:
    """A curve whose trainings are made up."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(learning_curve, "run_trials", made_outcomes)
        return curved(few, tmp_path_factory.mktemp("curved") / "curve", (96, 24, 48), test=True)


@pytest.fixture
def out(whole: LearningCurve, tmp_path: Path) -> Path:
    """A copy of its folder."""
    return Path(shutil.copytree(whole.path, tmp_path / "curve"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """The trials that would be run, none of which is."""
    kept: list[Trial] = []

    def fail(_: object, wanted: list[Trial]) -> list[trials.Failure]:
        kept.extend(wanted)
        return [trials.Failure(one.name, one.seed, "not run") for one in wanted]

    monkeypatch.setattr(learning_curve, "run_trials", fail)
    return kept


def test_each_size_is_trained_with_each_seed_in_ascending_order(whole: LearningCurve) -> None:
    assert [point.size for point in whole.points] == [24, 48, 96]
    assert [point.setting.name for point in whole.points] == ["24 patches", "48 patches", "96 patches"]
    for point in whole.points:
        assert [one.seed for one in point.setting.outcomes] == [0, 1]
        assert {one.patches for one in point.setting.outcomes} == {point.size}


def test_smaller_sizes_make_more_passes_so_that_all_have_the_steps_of_the_largest(whole: LearningCurve) -> None:
    assert [point.steps for point in whole.points] == [3, 3, 3]
    assert [point.setting.outcomes[0].epochs for point in whole.points] == [3, 3, 1]
    assert "about as many steps of the optimiser as the largest (3 to 3)" in whole.notes[0]


def test_with_the_same_epochs_the_page_says_that_longer_training_is_a_part_of_the_gain(
    few: PatchData, tmp_path: Path, asked: list[Trial]
) -> None:
    found = curved(few, tmp_path / "curve", same_epochs=True)
    assert {trial.recipe.training.epochs for trial in asked} == {1}
    assert [point.steps for point in found.points] == [1, 3]
    assert "the smallest has 1 steps of the optimiser and the largest 3" in found.notes[0]


def test_passes_over_the_head_alone_grow_with_the_others(few: PatchData, tmp_path: Path, asked: list[Trial]) -> None:
    found = curved(few, tmp_path / "curve", settings=(*TINY, "training.head_epochs=2"))
    assert [point.steps for point in found.points] == [9, 9]


def test_draws_are_nested_and_another_seed_draws_others(few: PatchData, tmp_path: Path, asked: list[Trial]) -> None:
    curved(few, tmp_path / "curve", (24, 48, 96))
    rows = {(len(trial.rows), trial.seed): set(trial.rows.tolist()) for trial in asked if trial.rows is not None}
    assert rows[24, 0] < rows[48, 0] and rows[24, 1] < rows[48, 1]
    assert rows[48, 0] != rows[48, 1]
    assert [trial.rows is None for trial in asked] == [False] * 4 + [True] * 2  # all patches need no draw
    assert [trial.seed for trial in asked] == [0, 1] * 3


def test_by_slide_all_patches_of_a_slide_are_used_or_none(few: PatchData, tmp_path: Path, asked: list[Trial]) -> None:
    found = curved(few, tmp_path / "curve", (2, 4, 8), by="slide")
    slides = few["train"].slides
    assert slides is not None
    for trial in asked:
        rows = np.arange(len(slides)) if trial.rows is None else trial.rows
        assert set(rows.tolist()) == set(np.flatnonzero(np.isin(slides, np.unique(slides[rows]))).tolist())
    assert [point.slides for point in found.points] == [2, 4, 8]
    assert [point.setting.name for point in found.points] == ["2 slides", "4 slides", "8 slides"]
    assert "Slides are whole" in " ".join(found.notes)


def test_without_sizes_each_is_twice_the_one_before(few: PatchData, tmp_path: Path, asked: list[Trial]) -> None:
    big = few.limited({"train": np.tile(np.arange(96), 20)})
    found = curve(big, tmp_path / "patches", recipe="quick", settings=TINY, seeds=1, show=False)
    assert [point.size for point in found.points] == [60, 120, 240, 480, 960, 1920]
    found = curve(few, tmp_path / "slides", by="slide", recipe="quick", settings=TINY, seeds=1, show=False)
    assert [point.size for point in found.points] == [2, 4, 8]
    with pytest.raises(DataError, match="96 patches for training are too few for a curve"):
        curve(few, tmp_path / "few", recipe="quick", settings=TINY, show=False)


def test_it_leaves_a_page_a_table_and_a_record(whole: LearningCurve) -> None:
    record = json.loads((whole.path / "curve.json").read_text("utf-8"))
    assert record == json.loads(json.dumps(whole.as_dict()))
    assert record["last_gain_on_valid"]["from"] == 48 and record["last_gain_on_valid"]["to"] == 96
    with (whole.path / "curve.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["size"]) for row in rows] == [24, 48, 96]
    assert [float(row["valid_auc"]) for row in rows] == pytest.approx(
        [point["valid"]["auc"]["mean"] for point in record["points"]]
    )
    assert (whole.path / "curve.md").read_text("utf-8") == markdown(whole)
    page = (whole.path / "curve.html").read_text("utf-8")
    assert "Would more data help?" in page and "Nothing was chosen by test" in page
    assert "(" in table(whole)[1][2]  # valid (test)


def test_the_gain_is_that_of_the_last_step_on_the_same_patches(whole: LearningCurve) -> None:
    before, last = (point.setting.spread("valid", "auc").mean for point in whole.points[-2:])
    assert whole.gain is not None and whole.gain.value == pytest.approx(last - before)
    assert f"The last doubling, from 48 to 96 patches, changed it by {last - before:+.4f}" in sentence(whole)


def gained(low: float, high: float, method: str = "Student's t over 2 seeds") -> Difference:
    return Difference("auc", 0, 1, (low + high) / 2, low, high, 0.01, method)


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (gained(0.01, 0.03), "more data still helped."),
        (gained(-0.01, 0.03), "whether more data still helped is not shown."),
        (gained(-0.03, -0.01), "it harmed."),
        (gained(np.nan, np.nan), "cannot be told."),
        (gained(0.01, 0.03, "paired bootstrap by patch, one seed"), "with one seed it may be the luck"),
    ],
)
def test_the_sentence_says_no_more_than_the_interval(whole: LearningCurve, gain: Difference, said: str) -> None:
    assert said in sentence(replace(whole, gain=gain))


def test_a_forecast_is_told_with_what_it_is_worth_and_drawn(whole: LearningCurve) -> None:
    assert "No forecast is made: it needs 4 sizes" in sentence(whole)
    assert "power law" not in picture(whole).svg
    earned = forecast([12, 24, 48, 96], [0.4 + 0.1, 0.2 + 0.1, 0.1 + 0.1, 0.05 + 0.1])
    told = replace(whole, forecast=earned)
    assert "A power law forecasts 0.875 (0.875 to 0.875) with 192 patches and 0.888" in sentence(told)
    assert "without the largest size it predicted 0.8500 there, and it was 0.8500" in sentence(told)
    assert "It is no interval" in markdown(told)
    assert "power law" in picture(told).svg and ">384<" in picture(told).svg and "nan" not in picture(told).svg


def broken(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError("out of memory")


def test_a_curve_that_is_stopped_goes_on_and_what_is_finished_is_not_trained_again(
    few: PatchData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, trained = trials.train, []

    def stop(*args: Any, **options: Any) -> Any:
        trained.append(args[1])
        if len(trained) == 2:
            raise Interrupted("stopped; the work so far is saved.")
        return real(*args, **options)

    out = tmp_path / "curve"
    monkeypatch.setattr(trials, "train", stop)
    with pytest.raises(Interrupted, match="stopped"):
        curved(few, out, seeds=1)
    found = curved(few, out, seeds=1)
    assert len(trained) == 3  # one, the one that was stopped, and that again
    assert [(one.patches, one.epochs) for point in found.points for one in point.setting.outcomes] == [(48, 3), (96, 1)]

    monkeypatch.setattr(trials, "train", broken)
    assert markdown(curved(few, out, seeds=1)) == markdown(found)
    more = curved(few, out, (24, 96), seeds=1)
    assert [(one.name, one.seed, one.error) for one in more.failures] == [
        ("24 patches", 0, "OutOfMemoryError: out of memory")
    ]
    assert "With 96 patches" in sentence(more) and "1 of 2 runs failed" in sentence(more) and more.gain is None
    assert table(more)[1][2] == "failed" and len(set(map(len, numbers(more)))) == 1
    assert "out of memory" in (out / "curve.html").read_text("utf-8")
    assert "24 patches and fewer are less than the batch of 32" in " ".join(more.notes)
    assert "Runs with other sizes or other steps in this folder, not in this table: 1." in more.notes


def test_where_no_run_is_finished_the_page_says_so(few: PatchData, tmp_path: Path, asked: list[Trial]) -> None:
    assert sentence(curved(few, tmp_path / "curve")) == "No run was finished."


@pytest.mark.parametrize(
    ("sizes", "options", "error", "message"),
    [
        ((24, 97), {}, DataError, "has 96 patches, not 97"),
        ((2, 9), {"by": "slide"}, DataError, "has 8 slides, not 9"),
        ((48,), {}, DataError, "two sizes or more"),
        ((24, 24, 48), {}, DataError, "24 is given 2 times"),
        ((0, 48), {}, DataError, "a size of 0 is below 1"),
        ((-5, 48), {}, DataError, "a size of -5 is below 1"),
        ((3, 48), {}, DataError, "3 patches have 1 of"),
        ((24, 48), {"by": "colour"}, DataError, "do not count by 'colour'"),
        ((24, 48), {"seeds": 0}, RecipeError, "--seeds"),
        ((24, 48), {"sample_valid": -1}, RecipeError, "--sample-valid"),
        ((24, 48), {"settings": (*TINY, "training.patience=2")}, RecipeError, "patience of 2 epochs"),
        ((24, 96), {"settings": (*TINY, "training.epochs=9000")}, RecipeError, "24 patches cannot have the steps"),
        ((24, 96), {"settings": (*TINY, "training.head_epochs=90")}, RecipeError, "24 patches cannot have the steps"),
        ((24, 48), {"settings": ("optimizer.speed=1",)}, RecipeError, "no key 'optimizer.speed'"),
        ((24, 48), {"settings": ("model.backbone=resnet5",)}, RecipeError, "resnet5"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_trained(
    few: PatchData,
    tmp_path: Path,
    sizes: tuple[int, ...],
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        curved(few, tmp_path / "curve", sizes, **options)
    assert not (tmp_path / "curve").exists()


def test_slides_that_are_not_known_are_no_sizes(
    few: PatchData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = replace(few["train"], slides=None)
    monkeypatch.setattr(PatchData, "__getitem__", lambda *_: train)
    with pytest.raises(DataError, match="slides of the training patches are not known"):
        curved(few, tmp_path / "curve", (2, 4), by="slide")


def test_a_folder_of_a_sweep_is_refused(few: PatchData, out: Path) -> None:
    study = json.loads((out / "study.json").read_text("utf-8"))
    (out / "study.json").write_text(json.dumps(study | {"kind": "sweep"}), "utf-8")
    with pytest.raises(OutputError, match="contains a sweep"):
        curved(few, out)
    (out / "study.json").write_text(json.dumps(study), "utf-8")
    with pytest.raises(RecipeError, match="another base recipe"):
        curved(few, out, settings=(*TINY, "optimizer.lr=0.5"))
