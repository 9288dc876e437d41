"""``sweep``: all combinations of some settings, each trained with several seeds, side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from sentinode.errors import DataError, RecipeError
from sentinode.experiments.draws import draw_share
from sentinode.experiments.grid import combinations
from sentinode.experiments.spread import Spread
from sentinode.experiments.trials import (
    RUNS,
    Failure,
    Outcome,
    Study,
    Trial,
    held,
    require_trainable,
    run_trials,
)
from sentinode.patches import PatchData, open_data
from sentinode.recipes import Recipe, load_recipe
from sentinode.scoring import Predictions, measure
from sentinode.scoring.comparison import Difference
from sentinode.scoring.seeds import SeedsCompared, compare_seeds

SHOWN: Final = ("auc", "accuracy", "nll", "ece")
"""The metrics of the table."""

UNBOUNDED: Final = frozenset({"nll"})

SAMPLE_SEED = 0
"""Of the sample of a split; the same for all trials."""


@dataclass(frozen=True)
class Setting:
    """One setting with what its seeds reached.

    Attributes:
        name: of the setting.
        settings: what it changes in the base recipe, as ``KEY=VALUE``.
        outcomes: of the seeds that were finished.
        failures: of the others.
    """

    name: str
    settings: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    failures: tuple[Failure, ...] = ()

    def values(self, split: str, metric: str) -> list[float]:
        """A metric of each seed, at the threshold that was chosen on valid."""
        found = []
        for outcome in self.outcomes:
            one = outcome.predictions[split]
            scores = measure(one.labels, one.probabilities, one.threshold or 0.0, resamples=0)
            found.append(float(getattr(scores, metric).value))
        return found

    def spread(self, split: str, metric: str) -> Spread:
        """The mean of a metric over the seeds, and Student's interval of it.

        Raises:
            DataError: no seed was finished.
        """
        if not self.outcomes:
            raise DataError(f"no run of {self.name} was finished.")
        return Spread.of(self.values(split, metric), math.inf if metric in UNBOUNDED else 1.0)

    def predictions(self, split: str) -> Mapping[int, Predictions]:
        """The predictions of each seed for a split."""
        return {outcome.seed: outcome.predictions[split] for outcome in self.outcomes}

    def as_dict(self, splits: Sequence[str]) -> dict[str, Any]:
        """Ready for JSON."""
        record: dict[str, Any] = {"name": self.name, "settings": list(self.settings)}
        for split in splits if self.outcomes else ():
            record[split] = {metric: self.spread(split, metric).as_dict() for metric in SHOWN}
        values = {split: {metric: self.values(split, metric) for metric in SHOWN} for split in splits}
        record["runs"] = [
            {
                "seed": one.seed,
                "folder": f"{RUNS}/{one.folder.name}",
                "patches": one.patches,
                "parameters": one.parameters,
                "training_seconds": one.seconds,
                "patches_per_second": one.patches_per_second,
                "epochs": one.epochs,
                "initial_weights": one.initial_weights,
                **{split: {metric: values[split][metric][at] for metric in SHOWN} for split in splits},
            }
            for at, one in enumerate(self.outcomes)
        ]
        record["failures"] = [asdict(failure) for failure in self.failures]
        return record


@dataclass(frozen=True)
class Sweep:
    """What a sweep found.

    Attributes:
        settings: each combination, in the order of the grid.
        splits: ``valid``, and ``test`` where it was asked for.
        compared: the differences on valid between the settings that have a finished seed, by their places in
            ``finished``.
        about: the data, the base recipe and the grid.
        notes: what the reader should know, as sentences.
        path: the folder.
    """

    settings: tuple[Setting, ...]
    splits: tuple[str, ...]
    compared: SeedsCompared = field(repr=False)
    about: dict[str, Any] = field(repr=False)
    notes: tuple[str, ...]
    path: Path

    @property
    def finished(self) -> list[Setting]:
        """The settings of which a seed was finished; differences name their places in this list."""
        return [setting for setting in self.settings if setting.outcomes]

    @property
    def failures(self) -> list[Failure]:
        """All runs that failed."""
        return [failure for setting in self.settings for failure in setting.failures]

    @property
    def best(self) -> int | None:
        """The place in ``finished`` of the setting with the highest mean AUC on valid; None where none is finished."""
        means = [setting.spread("valid", "auc").mean for setting in self.finished]
        return int(np.argmax(means)) if means else None

    def against_best(self) -> list[Difference]:
        """The best setting's AUC less that of each other, on valid."""
        turned = []
        for one in self.compared.of("auc"):
            if one.one == self.best:
                turned.append(one)
            elif one.other == self.best:
                turned.append(
                    replace(one, one=one.other, other=one.one, value=-one.value, low=-one.high, high=-one.low)
                )
        return turned

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        finished = self.finished
        return {
            "best_on_valid": None if self.best is None else finished[self.best].name,
            "settings": [setting.as_dict(self.splits) for setting in self.settings],
            "differences_on_valid": [
                {
                    "metric": one.metric,
                    "one": finished[one.one].name,
                    "other": finished[one.other].name,
                    **{
                        name: number if math.isfinite(number) else None
                        for name, number in (
                            ("difference", one.value),
                            ("low", one.low),
                            ("high", one.high),
                            ("p", one.p),
                            ("p_holm", one.corrected),
                        )
                    },
                    "method": one.method,
                }
                for one in self.compared.differences
            ],
            "notes": list(self.notes),
            **self.about,
        }


def sweep(
    data: str | Path | PatchData,
    out: str | Path,
    *,
    settings: Sequence[str] = (),
    seeds: int = 3,
    recipe: str | Path | Recipe = "resnet50",
    sample: int = 0,
    sample_valid: int = 0,
    test: bool = False,
    slide_map: str | Path | None = None,
    mpp: float | None = None,
    label_region: int | None = None,
    positive: Sequence[str] = (),
    device: str = "auto",
    workers: int = 0,
    cluster: str | None = None,
    resamples: int = 2000,
    show: bool = True,
) -> Sweep:
    """Train all combinations of some settings, each with several seeds, and compare them on valid.

    Each run has a folder in ``out/runs``, as :func:`train` writes it. If the same sweep is run again, it continues:
    finished runs are kept, interrupted ones are resumed, failed ones are tried again. A changed grid adds only the
    runs that are new. The folder also gets ``sweep.html``, ``.csv``, ``.json`` and ``.md``.

    Args:
        data: labelled patches with a train and a valid split, or what :func:`open_data` returned.
        out: the folder of the sweep.
        settings: ``KEY=VALUE,VALUE`` for each key of the recipe that has several values, or one value that
            overrides the recipe, such as ``model.backbone=resnet18,resnet50``.
        seeds: runs of each combination; their seeds begin with that of the recipe.
        recipe: the recipe that all combinations change: a name, a TOML file or a :class:`Recipe`.
        sample: training patches to use, drawn at random with the classes in their shares; 0 for all.
        sample_valid: valid patches to use, likewise.
        test: also score the test split. Nothing is chosen by it.
        slide_map: a CSV that names the slide of each patch, if ``data`` is a path.
        mpp: microns per pixel of the patches, if ``data`` is a path that does not record them.
        label_region: side in pixels of the centre square that labels cover, in the same case.
        positive: names of the class folders of label 1, if their names do not tell it.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        workers: processes that train at a time; 0 for one on each GPU, and on a CPU for one.
        cluster: the address of a Ray cluster whose workers train instead, with ``data`` and ``out`` at the same places
            on all of its machines.
        resamples: bootstrap resamples for the differences.
        show: whether to show progress on standard error.

    Raises:
        RecipeError: an unknown key, a bad value or a value given twice; a network that does not exist or does not
            suit the patches; or the sweep in ``out`` was begun with another base recipe.
        WeightsError: a file of weights is missing or of another network.
        DataError: the patches cannot be read or lack a split or a class, or the sweep in ``out`` was begun with others.
        OutputError: ``out`` contains something else, is in use by another process, or cannot be written.
        DeviceError: no such device, or no such cluster.
        Interrupted: Ctrl-C was pressed; the work so far is saved.
    """
    from sentinode.experiments.sweep_page import write_sweep

    base = base_recipe(recipe)
    require_counts(seeds, sample, sample_valid, workers)
    grid = combinations(base, settings)
    data = opened(data, base, slide_map, mpp, label_region, positive, show)
    study = Study(Path(out), sampled(data, sample, sample_valid), test, device, workers, show, cluster)
    trials = [Trial(one.name, seeded(one.recipe, number), None) for one in grid for number in range(seeds)]
    require_trainable(study, trials)
    with held(study, "sweep", base, {}):
        found = run_trials(study, trials)
        each = [found[place * seeds : (place + 1) * seeds] for place in range(len(grid))]
        groups = tuple(gathered(one.name, results, one.settings) for one, results in zip(grid, each, strict=True))
        result = _result(study, base, groups, trials, settings, resamples)
        write_sweep(result)
    return result


def base_recipe(recipe: str | Path | Recipe, settings: Sequence[str] = ()) -> Recipe:
    """The recipe that all trials change, with what ``settings`` override in it.

    Raises:
        RecipeError: no such recipe, or a setting that it does not take.
    """
    tables = recipe.model_dump(mode="json") if isinstance(recipe, Recipe) else recipe
    return load_recipe(tables, settings)


def require_counts(seeds: int, sample: int, sample_valid: int, workers: int) -> None:
    """
    Raises:
        RecipeError: a number is out of range.
    """
    for option, number, least in (
        ("--seeds", seeds, 1),
        ("--sample", sample, 0),
        ("--sample-valid", sample_valid, 0),
        ("--workers", workers, 0),
    ):
        if number < least:
            raise RecipeError(f"{number} is below {least}.", where=option)


def opened(
    data: str | Path | PatchData,
    base: Recipe,
    slide_map: str | Path | None,
    mpp: float | None,
    label_region: int | None,
    positive: Sequence[str],
    show: bool,
) -> PatchData:
    """The patches, opened once for all trials."""
    if isinstance(data, PatchData):
        return data
    return open_data(
        data,
        slide_map=None if slide_map is None else Path(slide_map),
        seed=base.split.seed,
        mpp=mpp,
        label_region=label_region,
        positive=positive,
        show=show,
    )


def sampled(data: PatchData, train: int, valid: int) -> PatchData:
    """The data with a sample of its training and its valid patches; 0 for all.

    Raises:
        DataError: there are fewer.
    """
    rows = {}
    for split, count, option in (("train", train, "--sample"), ("valid", valid, "--sample-valid")):
        if not count:
            continue
        labels = data[split].labels
        if count > len(labels):
            raise DataError(
                f"the {split} split has {len(labels):,} patches, not {count:,}.",
                where=data.path,
                hint=f"Give {option} at most {len(labels)}, or leave it out for all.",
            )
        rows[split] = draw_share(labels, count, SAMPLE_SEED)
    return data.limited(rows)


def seeded(recipe: Recipe, number: int) -> Recipe:
    """The recipe with the seed of its ``number``-th run, from 0."""
    training = recipe.training
    return recipe.model_copy(update={"training": training.model_copy(update={"seed": training.seed + number})})


def gathered(name: str, results: Sequence[Outcome | Failure], settings: Sequence[str] = ()) -> Setting:
    """A setting with what its seeds reached."""
    outcomes = tuple(one for one in results if isinstance(one, Outcome))
    return Setting(name, tuple(settings), outcomes, tuple(one for one in results if isinstance(one, Failure)))


def described(study: Study, base: Recipe) -> dict[str, Any]:
    """The data and the base recipe, for the record."""
    data = study.data
    return {
        "data": {
            "name": data.path.resolve().name,
            "toy": data.toy,
            "train": len(data["train"]),
            **{split: len(data[split]) for split in study.splits},
        },
        "recipe": base.model_dump(mode="json"),
    }


def other_runs(study: Study, trials: Sequence[Trial]) -> int:
    """The runs in the folder that are none of these trials."""
    asked, runs = {trial.folder for trial in trials}, study.out / RUNS
    return sum(one.name not in asked for one in runs.iterdir()) if runs.exists() else 0


def _result(
    study: Study,
    base: Recipe,
    groups: tuple[Setting, ...],
    trials: Sequence[Trial],
    settings: Sequence[str],
    resamples: int,
) -> Sweep:
    finished = [group.predictions("valid") for group in groups if group.outcomes]
    compared = compare_seeds(finished, resamples=resamples)
    others = other_runs(study, trials)
    notes = [
        "The choice is by valid. To choose by test is not honest: the figure of the best on test is then too good, "
        "and there is no test left that would show it.",
        "Of each run, valid has chosen the epoch, the calibration and the threshold. Its figures are a little too "
        "good, and so is the best of many settings.",
        *compared.notes,
    ]
    if others:
        notes.append(
            f"{others} runs of earlier grids are in this folder and not in this table. What was tried then counts in a "
            "choice, too; the correction is for this table alone."
        )
    notes += study.data.warnings
    about = described(study, base) | {"grid": list(settings), "seeds": len(trials) // max(len(groups), 1)}
    return Sweep(groups, study.splits, compared, about, tuple(notes), study.out)
