"""``curve``: the same training with more and more patches or slides. Would more data help?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np

from sentinode.errors import DataError, RecipeError
from sentinode.experiments.draws import Rows, draw_share, draw_slides
from sentinode.experiments.sweeping import (
    Setting,
    base_recipe,
    described,
    gathered,
    opened,
    other_runs,
    require_counts,
    sampled,
    seeded,
)
from sentinode.experiments.trials import Failure, Study, Trial, held, require_trainable, run_trials
from sentinode.patches import PatchData, PatchSet
from sentinode.recipes import Recipe, TrainingRecipe, check_recipe
from sentinode.scoring.comparison import Difference
from sentinode.scoring.power_law import Forecast, forecast
from sentinode.scoring.seeds import compare_seeds

By = Literal["patch", "slide"]

MANY: Final = {"patch": "patches", "slide": "slides"}

DOUBLINGS: Final = 5
"""Of the sizes that are tried where none are given: up to six, each twice the one before."""

LEAST: Final = {"patch": 50, "slide": 2}
"""The smallest size that is tried where none is given."""

FEWEST: Final = 2
"""Training patches of each class that a size needs."""


@dataclass(frozen=True)
class CurvePoint:
    """One size of the training data, with what its seeds reached.

    Attributes:
        size: patches or slides.
        patches: training patches, the mean over seeds.
        slides: their known slides, the mean over seeds; None where no slides are known.
        steps: of the optimiser, the mean over seeds.
        setting: what the seeds reached.
    """

    size: int
    patches: float
    slides: float | None
    steps: float
    setting: Setting

    def as_dict(self, splits: Sequence[str]) -> dict[str, Any]:
        """Ready for JSON."""
        figures = {"size": self.size, "patches": self.patches, "slides": self.slides, "steps": self.steps}
        return figures | self.setting.as_dict(splits)


@dataclass(frozen=True)
class LearningCurve:
    """What a curve found.

    Attributes:
        by: what the sizes count, ``patch`` or ``slide``.
        points: each size, the smallest first.
        splits: ``valid``, and ``test`` where it was asked for.
        gain: the AUC on valid at the largest finished size less that at the one before; None with fewer than two.
        forecast: what a power law says of more data, or why it says nothing.
        about: the data and the base recipe.
        notes: what the reader should know, as sentences.
        path: the folder.
    """

    by: By
    points: tuple[CurvePoint, ...]
    splits: tuple[str, ...]
    gain: Difference | None
    forecast: Forecast = field(repr=False)
    about: dict[str, Any] = field(repr=False)
    notes: tuple[str, ...]
    path: Path

    @property
    def finished(self) -> list[CurvePoint]:
        """The sizes of which a seed was finished."""
        return [point for point in self.points if point.setting.outcomes]

    @property
    def failures(self) -> list[Failure]:
        """All runs that failed."""
        return [failure for point in self.points for failure in point.setting.failures]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        gain, finished = None, self.finished
        if self.gain is not None:
            figures = {"difference": self.gain.value, "low": self.gain.low, "high": self.gain.high, "p": self.gain.p}
            gain = {
                "metric": "auc",
                "from": finished[-2].size,
                "to": finished[-1].size,
                **{name: number if math.isfinite(number) else None for name, number in figures.items()},
                "method": self.gain.method,
            }
        return {
            "by": self.by,
            "points": [point.as_dict(self.splits) for point in self.points],
            "last_gain_on_valid": gain,
            "forecast_of_error": asdict(self.forecast),
            "notes": list(self.notes),
            **self.about,
        }


def curve(
    data: str | Path | PatchData,
    out: str | Path,
    *,
    sizes: Sequence[int] = (),
    by: By = "patch",
    seeds: int = 3,
    recipe: str | Path | Recipe = "resnet50",
    settings: Sequence[str] = (),
    same_epochs: bool = False,
    sample_valid: int = 0,
    test: bool = False,
    slide_map: str | Path | None = None,
    mpp: float | None = None,
    label_region: int | None = None,
    positive: Sequence[str] = (),
    device: str = "auto",
    workers: int = 0,
    resamples: int = 2000,
    show: bool = True,
) -> LearningCurve:
    """Train the same recipe with more and more of the training data, and say what the last step gained on valid.

    Each seed draws its own patches, and a smaller draw is part of a larger one. Each run has a folder in ``out/runs``,
    as :func:`train` writes it. If the same curve is run again, it continues: finished runs are kept, interrupted ones
    are resumed, failed ones are tried again. The folder also gets ``curve.html``, ``.csv``, ``.json`` and ``.md``.

    Args:
        data: labelled patches with a train and a valid split, or what :func:`open_data` returned.
        out: the folder of the curve.
        sizes: numbers of training patches or slides; by default all, a half, a quarter, up to six sizes.
        by: what the sizes count: ``patch``, with the classes in their shares, or ``slide``, with all patches of each.
        seeds: runs of each size; their seeds begin with that of the recipe.
        recipe: a name, a TOML file or a :class:`Recipe`.
        settings: overrides of the recipe, the same for all sizes, such as ``training.epochs=2``.
        same_epochs: give each size the recipe's epochs. By default smaller sizes make more passes, so that all sizes
            have about as many steps of the optimiser as the largest.
        sample_valid: valid patches to use, drawn at random with the classes in their shares; 0 for all.
        test: also score the test split. Nothing is chosen by it.
        slide_map: a CSV that names the slide of each patch, if ``data`` is a path.
        mpp: microns per pixel of the patches, if ``data`` is a path that does not record them.
        label_region: side in pixels of the centre square that labels cover, in the same case.
        positive: names of the class folders of label 1, if their names do not tell it.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        workers: processes that train at a time; 0 for one on each GPU, and on a CPU for one.
        resamples: bootstrap resamples for the interval of the gain.
        show: whether to show progress on standard error.

    Raises:
        RecipeError: an unknown key or a bad value; a recipe that cannot have equal steps; another base recipe than
            that of the curve in ``out``.
        WeightsError: a file of weights is missing or of another network.
        DataError: a size is below 1, given twice, larger than the data or without both classes; fewer than two sizes;
            no slides are known for ``by="slide"``; the patches cannot be read, or the curve in ``out`` was begun with
            others.
        OutputError: ``out`` contains something else, is in use by another process, or cannot be written.
        DeviceError: no such device.
        Interrupted: Ctrl-C was pressed; the work so far is saved.
    """
    from sentinode.experiments.curve_page import write_curve

    base = base_recipe(recipe, settings)
    require_counts(seeds, 0, sample_valid, workers)
    if not same_epochs:
        _require_no_patience(base)
    data = opened(data, base, slide_map, mpp, label_region, positive, show)
    study = Study(Path(out), sampled(data, 0, sample_valid), test, device, workers, show)
    trials = _trials(base, study.data, sizes, by, seeds, same_epochs)
    flat = [trial for of_size in trials.values() for trial in of_size]
    require_trainable(study, flat)
    with held(study, "curve", base, {}):
        found = iter(run_trials(study, flat))
        points = [_point(study, size, by, of_size, [next(found) for _ in of_size]) for size, of_size in trials.items()]
        result = _result(study, base, by, points, flat, same_epochs, resamples)
        write_curve(result)
    return result


def _require_no_patience(base: Recipe) -> None:
    """
    Raises:
        RecipeError: training may stop early, so that steps cannot be equal.
    """
    if base.training.patience:
        raise RecipeError(
            f"with a patience of {base.training.patience} epochs, sizes stop after different numbers of steps.",
            where="training.patience",
            hint="Give --set training.patience=0, or --same-epochs for the recipe's epochs at each size.",
        )


def _trials(
    base: Recipe, data: PatchData, sizes: Sequence[int], by: By, seeds: int, same_epochs: bool
) -> dict[int, list[Trial]]:
    """The trials of each size, one of each seed.

    Raises:
        DataError: there is a size that the data does not have.
        RecipeError: a size would need more epochs than a recipe may have.
    """
    train = data["train"]
    chosen = _sizes(data, sizes, by)
    recipes = [seeded(base, number) for number in range(seeds)]
    draws = [_draws(data, chosen, by, recipe.training.seed) for recipe in recipes]
    most = max(len(rows) for of_seed in draws for rows in of_seed)
    trials: dict[int, list[Trial]] = {}
    for at, size in enumerate(chosen):
        for recipe, of_seed in zip(recipes, draws, strict=True):
            rows = of_seed[at]
            fitting = recipe if same_epochs else _with_steps_of(recipe, most, len(rows))
            trial = Trial(sized(size, by), fitting, None if len(rows) == len(train) else rows)
            trials.setdefault(size, []).append(trial)
    return trials


def sized(size: int, by: By) -> str:
    """A size in words."""
    return f"{size:,} {by if size == 1 else MANY[by]}"


def _sizes(data: PatchData, sizes: Sequence[int], by: By) -> list[int]:
    """The sizes in ascending order.

    Raises:
        DataError: no slides, fewer than two sizes, or one that is below 1, given twice or too large.
    """
    if by not in get_args(By):
        raise DataError(f"sizes do not count by '{by}'.", where="--by", hint="Choose patch or slide.")
    train = data["train"]
    known = 0 if train.slides is None else len(set(train.slides.tolist()) - {""})
    if by == "slide" and not known:
        raise DataError(
            "the slides of the training patches are not known.",
            where=data.path,
            hint="Name them with --slides MAP.csv, or leave out --by slide.",
        )
    most = len(train) if by == "patch" else known
    if not sizes:
        sizes = [size for size in (most >> times for times in range(DOUBLINGS + 1)) if size >= LEAST[by]]
        if len(sizes) < 2:
            raise DataError(
                f"{sized(most, by)} for training are too few for a curve.",
                where=data.path,
                hint="Give the sizes with --sizes, or more data.",
            )
    for size, count in Counter(sizes).items():
        if size < 1:
            raise DataError(f"a size of {size} is below 1.", where="--sizes")
        if count > 1:
            raise DataError(f"{size:,} is given {count} times.", where="--sizes", hint="Give each size once.")
        if size > most:
            raise DataError(
                f"the train split has {sized(most, by)}, not {size:,}.",
                where=data.path,
                hint=f"Give sizes of at most {most} with --sizes.",
            )
    if len(sizes) < 2:
        raise DataError(
            "a curve needs two sizes or more.", where="--sizes", hint=f"For example --sizes {most // 2},{most}"
        )
    return sorted(sizes)


def _draws(data: PatchData, sizes: Sequence[int], by: By, seed: int) -> list[Rows]:
    """The training patches of each size by one seed; a smaller draw is part of a larger one.

    Raises:
        DataError: a class has too few patches.
    """
    train = data["train"]
    if by == "patch":
        draws = [draw_share(train.labels, size, seed) for size in sizes]
    else:
        assert train.slides is not None
        draws = draw_slides(train.slides, train.labels, sizes, seed)
    for size, rows in zip(sizes, draws, strict=True):
        counts = np.bincount(train.labels[rows], minlength=2)
        if counts.min() < FEWEST:
            fewer = int(counts.argmin())
            raise DataError(
                f"{sized(size, by)} have {counts[fewer]} of {data.class_names[fewer]}; "
                f"each size needs {FEWEST} patches or more of each class.",
                where="--sizes",
                hint="Begin with a larger size.",
            )
    return draws


def _with_steps_of(recipe: Recipe, most: int, patches: int) -> Recipe:
    """The recipe with as many passes over ``patches`` as make about the steps that it has with ``most`` of them.

    Raises:
        RecipeError: a recipe may not have so many.
    """
    training = recipe.training
    ratio = training.steps_per_epoch(most) / training.steps_per_epoch(patches)
    tables = recipe.model_dump(mode="json")
    tables["training"]["epochs"] = max(1, round(training.epochs * ratio))
    tables["training"]["head_epochs"] = training.head_epochs * ratio
    try:
        return check_recipe(tables)
    except RecipeError as error:
        raise RecipeError(
            f"{patches:,} patches cannot have the steps of {most:,}: {error.what}",
            where="--sizes",
            hint="Begin with a larger size, or give --same-epochs.",
        ) from None


def _point(study: Study, size: int, by: By, trials: Sequence[Trial], found: Sequence[Any]) -> CurvePoint:
    """What the seeds of one size reached, with the means of what they were given."""
    train = study.data["train"]
    patches = [len(train) if trial.rows is None else len(trial.rows) for trial in trials]
    steps = [_steps(trial.recipe.training, count) for trial, count in zip(trials, patches, strict=True)]
    slides = [_known_slides(train, trial) for trial in trials]
    counted = [count for count in slides if count]
    return CurvePoint(
        size,
        float(np.mean(patches)),
        float(np.mean(counted)) if counted else None,
        float(np.mean(steps)),
        gathered(sized(size, by), found),
    )


def _steps(training: TrainingRecipe, patches: int) -> int:
    """The steps of the optimiser, those of the head alone included, if training does not stop early."""
    each = training.steps_per_epoch(patches)
    return training.epochs * each + round(training.head_epochs * each)


def _known_slides(train: PatchSet, trial: Trial) -> int:
    """The slides of a trial's patches, as far as they are known."""
    if train.slides is None:
        return 0
    names = train.slides if trial.rows is None else train.slides[trial.rows]
    return len(set(names.tolist()) - {""})


def _result(
    study: Study,
    base: Recipe,
    by: By,
    points: Sequence[CurvePoint],
    trials: Sequence[Trial],
    same_epochs: bool,
    resamples: int,
) -> LearningCurve:
    finished = [point for point in points if point.setting.outcomes]
    last = [point.setting.predictions("valid") for point in reversed(finished[-2:])]
    compared = compare_seeds(last, metrics=("auc",), resamples=resamples)
    errors = [1 - point.setting.spread("valid", "auc").mean for point in finished]
    notes = [
        *_fairness(base, points, same_epochs),
        "Of each run, valid has chosen the epoch, the calibration and the threshold, so its figures are a little too "
        "good. Nothing was chosen by test.",
        "The recipe is the same for each size. One that suits few patches better, or many, would bend the curve.",
        *compared.notes,
    ]
    if by == "slide":
        notes += _of_slides(study.data["train"])
    elif study.data["train"].slides is None:
        notes.append(
            "The slides of the training patches are not known. A new patch of a slide that is there already teaches "
            "less than one of a new slide, so more slides may help where more patches do not."
        )
    if others := other_runs(study, trials):
        notes.append(f"Runs with other sizes or other steps in this folder, not in this table: {others}.")
    notes += study.data.warnings
    about = described(study, base) | {"same_epochs": same_epochs, "seeds": len(trials) // len(points)}
    return LearningCurve(
        by,
        tuple(points),
        study.splits,
        compared.differences[0] if compared.differences else None,
        forecast([point.size for point in finished], errors),
        about,
        tuple(notes),
        study.out,
    )


def _fairness(base: Recipe, points: Sequence[CurvePoint], same_epochs: bool) -> list[str]:
    """What the sizes have in common, and whom that favours."""
    steps = [point.steps for point in points]
    if same_epochs:
        notes = [
            f"Each size has the recipe's {base.training.epochs} epochs, so the smallest has {min(steps):,.0f} steps of "
            f"the optimiser and the largest {max(steps):,.0f}. A part of the gain is that of longer training."
        ]
    else:
        notes = [
            f"Each size has about as many steps of the optimiser as the largest ({min(steps):,.0f} to "
            f"{max(steps):,.0f}); smaller ones make more passes. Valid is scored after each pass, so it has more "
            "epochs of small sizes to choose from, which favours them a little."
        ]
    small = [point for point in points if point.patches < base.training.batch_size]
    if small:
        notes.append(
            f"{small[-1].setting.name} and fewer are less than the batch of {base.training.batch_size}; their batches "
            "are smaller."
        )
    return notes


def _of_slides(train: PatchSet) -> list[str]:
    """What to bear in mind of sizes in slides."""
    assert train.slides is not None
    notes = ["Slides are whole: all patches of a slide are used, or none. Seeds draw other slides."]
    if unknown := int((train.slides == "").sum()):
        notes.append(f"{unknown:,} training patches whose slide is not known are not used.")
    return notes
