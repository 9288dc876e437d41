"""``tune``: search the hyperparameters of a recipe with Optuna, on valid alone.

Each trial is a training with other values. Optuna's sampler (TPE) chooses the values by what the trials before reached,
and its median pruner stops a trial that does worse after an epoch than the median of the others did.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from sentinode.atomic import make_folder
from sentinode.errors import Interrupted, RecipeError, SentinodeError, StoppedEarly
from sentinode.experiments.search_space import Dimension, Space, parse_space
from sentinode.experiments.sweeping import (
    Setting,
    base_recipe,
    described,
    gathered,
    opened,
    require_counts,
    sampled,
    seeded,
)
from sentinode.experiments.trials import AGAIN, RUNS, Study, Trial, held, require_trainable, run_trials
from sentinode.locks import lock
from sentinode.model.hardware import choose_device
from sentinode.patches import PatchData, Reopening
from sentinode.progress import console
from sentinode.recipes import Recipe, load_recipe
from sentinode.scoring.comparison import Difference
from sentinode.scoring.seeds import compare_seeds
from sentinode.training import train
from sentinode.training.checkpoint import BEST, CHECKPOINT
from sentinode.training.interruption import left_to_workers
from sentinode.training.job import BUNDLE

if TYPE_CHECKING:
    from sentinode.experiments.trial_store import Claim, TrialStore
    from sentinode.experiments.tuned_trial import TunedTrial

Monitor = Literal["auc", "nll"]
CONFIRMED = "confirm"
"""The folder of the trainings with other seeds."""

POLL_S = 1.0
"""Seconds between two looks at trials that other processes work at."""

ENOUGH = 10
"""Finished trials below which nothing is said of what mattered."""


@dataclass(frozen=True)
class Confirmed:
    """The best recipe and the base recipe, trained again with seeds that chose nothing.

    Attributes:
        best: the runs of the best recipe.
        base: those of the base recipe.
        difference: best less base on valid, with an interval over seeds and patches; None if they have no seed in
            common that was trained to its end.
    """

    best: Setting
    base: Setting
    difference: Difference | None


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        best: the trial with the best valid score.
        recipe: its whole recipe, as ``best.toml`` has it.
        monitor: the valid score that was searched by: ``auc`` or ``nll``.
        trials: all trials.
        space: what was searched, as ``--search`` takes it.
        importance: the share of each key in what separates the best trials; empty with few trials.
        confirmed: best and base with other seeds, where that was asked for.
        notes: what to bear in mind, as sentences.
        about: the data, the base recipe and the options.
        out: the folder.
    """

    best: TunedTrial
    recipe: Recipe = field(repr=False)
    monitor: str
    trials: tuple[TunedTrial, ...] = field(repr=False)
    space: tuple[str, ...]
    importance: Mapping[str, float]
    confirmed: Confirmed | None
    notes: tuple[str, ...] = field(repr=False)
    about: Mapping[str, Any] = field(repr=False)
    out: Path

    @property
    def base(self) -> TunedTrial | None:
        """The trial of the base recipe, or None if its values lie outside the search space or it is not finished."""
        return next((one for one in self.trials if one.base and one.value is not None), None)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        confirmed = None
        if self.confirmed is not None:
            difference = self.confirmed.difference
            figures = asdict(difference) if difference is not None else {}
            confirmed = {
                "best": self.confirmed.best.as_dict(("valid",)),
                "base": self.confirmed.base.as_dict(("valid",)),
                "difference": {
                    key: value if not isinstance(value, float) or math.isfinite(value) else None
                    for key, value in figures.items()
                    if key not in ("one", "other")
                }
                or None,
            }
        return {
            "best": asdict(self.best),
            "monitor": self.monitor,
            "search": list(self.space),
            "importance": dict(self.importance),
            "confirmed": confirmed,
            "trials": [asdict(one) for one in self.trials],
            "notes": list(self.notes),
            **self.about,
        }


@dataclass(frozen=True)
class _Search:
    """All that a process needs to take part in a search."""

    study: Study
    base: Recipe
    space: Space
    monitor: str
    total: int
    seed: int

    @property
    def sign(self) -> int:
        """1 where more is better."""
        return 1 if self.monitor == "auc" else -1

    def store(self) -> TrialStore:
        """The trials of the folder."""
        from sentinode.experiments.trial_store import TrialStore

        first = {one.key: one.value_in(self.base) for one in self.space}
        known = None if None in first.values() else first
        return TrialStore(self.study.out, self.space, self.monitor, self.seed, known)

    def recipe(self, settings: Mapping[str, str]) -> Recipe:
        """The base recipe with a trial's values."""
        texts = [f"{key}={value}" for key, value in settings.items()]
        return load_recipe(self.base.model_dump(mode="json"), texts)


def tune(
    data: str | Path | PatchData,
    out: str | Path,
    *,
    recipe: str | Path | Recipe = "resnet50",
    settings: Sequence[str] = (),
    search: Sequence[str] = (),
    trials: int = 20,
    monitor: Monitor = "auc",
    confirm: int = 0,
    sample: int = 0,
    sample_valid: int = 0,
    slide_map: str | Path | None = None,
    mpp: float | None = None,
    label_region: int | None = None,
    positive: Sequence[str] = (),
    device: str = "auto",
    workers: int = 1,
    seed: int = 0,
    show: bool = True,
) -> Tuned:
    """Search the hyperparameters of a recipe: the first trial is the recipe itself, and each next one learns from them.

    The folder gets ``best.toml`` (the best recipe in full), ``tune.html``, ``tune.json`` and ``trials.csv``. If the
    same search is run again, it continues until there are ``trials`` in all; a training whose process died goes on
    where its checkpoint left it. Several processes, also on several machines, can work in one folder at a time. Of the
    trainings, only the best one's bundle is kept, and no checkpoint. The test split is never used.

    Args:
        data: labelled patches with a train and a valid split, or what :func:`open_data` returned.
        out: the folder of the search.
        recipe: the recipe that is changed: a name, a TOML file or a :class:`Recipe`.
        settings: overrides of the recipe, the same for all trials, such as ``training.epochs=2``.
        search: ``KEY=LOW..HIGH``, ``KEY=LOW..HIGH:log`` or ``KEY=VALUE,VALUE`` of each key; by default the learning
            rate, weight decay, stain, brightness, label smoothing, dropout and, for pretrained weights, layer decay.
        trials: trials in all, with those that are finished, pruned or failed.
        monitor: the valid score to search by: ``auc``, or ``nll`` before calibration.
        confirm: seeds with which the best and the base recipe are trained again in the end; 0 for none.
        sample: training patches to use, drawn at random with the classes in their shares; 0 for all.
        sample_valid: valid patches to use, likewise.
        slide_map: a CSV that names the slide of each patch, if ``data`` is a path.
        mpp: microns per pixel of the patches, if ``data`` is a path that does not record them.
        label_region: side in pixels of the centre square that labels cover, in the same case.
        positive: names of the class folders of label 1, if their names do not tell it.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        workers: processes that train at a time; 0 for one on each GPU.
        seed: random seed of the search. The trainings have the recipe's.
        show: whether to show progress on standard error.

    Raises:
        RecipeError: an unknown key, an empty range or a value that its key does not take; another base recipe than
            that of the search in ``out``; or no trial was finished.
        DataError: the patches cannot be read or lack a split or a class, or the search in ``out`` was begun with
            others.
        OutputError: ``out`` contains something else, or a search with other options, or cannot be written.
        WeightsError: the initial weights cannot be had.
        SentinodeError: Optuna is not installed.
        Interrupted: Ctrl-C was pressed; the work so far is saved.
    """
    _require_optuna()
    base = _base(recipe, settings, monitor)
    require_counts(1, sample, sample_valid, workers)
    _require_more(trials, confirm, seed)
    space = parse_space(base, search)
    data = opened(data, base, slide_map, mpp, label_region, positive, show)
    study = Study(Path(out), sampled(data, sample, sample_valid), False, device, workers, show)
    job = _Search(study, base, space, monitor, trials, seed)
    ends = [{one.key: text} for one in space for text in one.ends]
    require_trainable(study, [Trial("recipe", job.recipe(changed)) for changed in [{}, *ends]])
    _begin(job)
    try:
        _run_all(job)
        confirmed = _confirm(job, confirm) if confirm else None
    except (Interrupted, KeyboardInterrupt) as error:
        raise Interrupted("stopped; the work so far is saved.", where=study.out, hint=AGAIN) from error
    return _write(job, job.store(), confirmed)


def _require_optuna() -> None:
    if importlib.util.find_spec("optuna") is None:
        raise SentinodeError(
            "the search needs Optuna, which is not installed.", hint='Run pip install "sentinode[tune]".'
        )


def _require_more(trials: int, confirm: int, seed: int) -> None:
    for option, number, least in (("--trials", trials, 1), ("--confirm", confirm, 0), ("--seed", seed, 0)):
        if number < least:
            raise RecipeError(f"{number} is below {least}.", where=option)


def _base(recipe: str | Path | Recipe, settings: Sequence[str], monitor: str) -> Recipe:
    """The recipe of the first trial, whose epoch is chosen by what the search goes by."""
    if monitor not in get_args(Monitor):
        raise RecipeError(f"there is no score '{monitor}'.", where="--monitor", hint="Choose auc or nll.")
    return base_recipe(recipe, [*settings, f"training.monitor={monitor}"])


def _begin(job: _Search) -> None:
    """Write down what is searched, or refuse a folder that is another's.

    Raises:
        DataError, RecipeError, OutputError: it was begun with other patches, another recipe or other options.
    """
    from sentinode.experiments.trial_store import GATE

    make_folder(job.study.out)
    about = {"search": [str(one) for one in job.space], "monitor": job.monitor, "seed": job.seed}
    # Several processes may begin at once, and `held` is for one.
    with lock(job.study.out, GATE), held(job.study, "search", job.base, about):
        pass


def _run_all(job: _Search) -> None:
    """Run the trials in this process and, where there are to be several, in others beside it."""
    devices = _devices(job.study)
    context = get_context("spawn")
    helpers = [context.Process(target=_help, args=(_Helper.of(job, one, len(devices)),)) for one in devices[1:]]
    for helper in helpers:
        helper.start()
    before = torch.get_num_threads()
    if helpers and devices[0] == "cpu":
        torch.set_num_threads(max(1, before // len(devices)))
    try:
        _work(replace(job, study=replace(job.study, device=devices[0])))
    except BaseException:
        _end(helpers)
        raise
    finally:
        torch.set_num_threads(before)
    for helper in helpers:
        helper.join()


def _end(helpers: Sequence[BaseProcess]) -> None:
    """Ask other processes to save and stop."""
    with left_to_workers(True):
        for helper in helpers:
            helper.terminate()
        for helper in helpers:
            helper.join()


def _devices(study: Study) -> list[str]:
    """The device of each process."""
    target = choose_device(study.device)
    several = target.type == "cuda" and target.index is None
    workers = study.workers or (torch.cuda.device_count() if several else 1)
    if several and workers > 1:
        return [f"cuda:{number % torch.cuda.device_count()}" for number in range(workers)]
    return [str(target)] * workers


@dataclass(frozen=True)
class _Helper:
    """A search as it is sent to another process, which opens the data again."""

    data: Reopening
    out: Path
    base: Recipe
    space: tuple[Dimension, ...]
    monitor: str
    total: int
    seed: int
    device: str
    threads: int

    @classmethod
    def of(cls, job: _Search, device: str, workers: int) -> _Helper:
        study, data = job.study, Reopening.of(job.study.data)
        threads = max(1, torch.get_num_threads() // workers) if device == "cpu" else 0
        return cls(data, study.out, job.base, job.space, job.monitor, job.total, job.seed, device, threads)


def _help(helper: _Helper) -> None:
    """Take part in a search until there is nothing left; what goes wrong, the first process meets as well."""
    if helper.threads:
        torch.set_num_threads(helper.threads)
    study = Study(helper.out, helper.data.open(), False, helper.device, show=False)
    try:
        _work(_Search(study, helper.base, helper.space, helper.monitor, helper.total, helper.seed))
    except (SentinodeError, KeyboardInterrupt):
        return


def _work(job: _Search) -> None:
    """Run trials until all are over, also those of other processes: one that dies leaves its trial to us."""
    store = job.store()
    while True:
        claim = store.claim(job.total)
        if claim is not None:
            with claim:
                _run(job, store, claim)
            with store.gate():
                _clear(job, store)
        elif any(one.state == "running" for one in store.trials()):
            time.sleep(POLL_S)
        else:
            return


def _run(job: _Search, store: TrialStore, claim: Claim) -> None:
    """Train one trial and note what it reached.

    Raises:
        Interrupted: it is saved and will go on.
    """
    folder = job.study.out / RUNS / f"{claim.number:04d}"
    title = f"Trial {claim.number + 1} of {job.total}"
    _say(job, f"{title}: {', '.join(f'{key}={value}' for key, value in claim.settings.items())}")
    same = next((one for one in store.trials() if one.value is not None and one.settings == claim.settings), None)
    if same is not None and same.value is not None:
        store.finished(claim, same.value)
        _say(job, f"{title}: the same as trial {same.number + 1}, {_score(job, same.value)}.")
        return
    recipe = job.recipe(claim.settings)

    def after_epoch(entry: Mapping[str, float]) -> bool:
        epoch, score = int(entry["epoch"]), entry[f"valid_{job.monitor}"]
        going_on = store.report(claim, epoch, score) if math.isfinite(score) else True
        _say(job, f"{title}: epoch {epoch} of {recipe.training.epochs}, {_score(job, score)}")
        return going_on or epoch == recipe.training.epochs

    try:
        make_folder(folder)
        bundle = train(
            job.study.data,
            folder,
            recipe=recipe,
            resume=True,
            device=job.study.device,
            show=False,
            after_epoch=after_epoch,
        )
    except StoppedEarly:
        store.pruned(claim)
        _say(job, f"{title}: stopped, worse than the median of the others.")
    except RecipeError as error:  # the loss is no longer a number, which other values may avoid
        store.pruned(claim, error.what)
        _say(job, f"{title}: failed, {error.what}")
    except Interrupted:
        store.give_back(claim)
        raise
    else:
        scores = [entry[f"valid_{job.monitor}"] for entry in bundle.card.history]
        store.finished(claim, max(scores, key=lambda score: job.sign * score))


def _say(job: _Search, line: str) -> None:
    if job.study.show:
        console.print(line, markup=False)


def _score(job: _Search, value: float) -> str:
    return f"valid {job.monitor.upper()} {value:.4f}"


def _clear(job: _Search, store: TrialStore) -> None:
    """Remove what nobody needs of trials that are over: checkpoints, events, and all bundles but the best one's."""
    trials = store.trials()
    best = store.best(trials)
    for one in trials:
        if one.state == "running":
            continue
        folder = job.study.out / RUNS / f"{one.number:04d}"
        for file in (CHECKPOINT, BEST):
            (folder / file).unlink(missing_ok=True)
        for inside in ("tensorboard", *(() if one is best else (BUNDLE,))):
            shutil.rmtree(folder / inside, ignore_errors=True)


def _best(job: _Search, store: TrialStore) -> TunedTrial:
    """The best trial.

    Raises:
        RecipeError: none was finished.
    """
    trials = store.trials()
    best = store.best(trials)
    if best is None:
        why = next((one.why for one in trials if one.why), "all were stopped early")
        raise RecipeError(
            f"none of the {len(trials)} trials was finished; the first: {why}",
            where=job.study.out,
            hint="Search in lower learning rates, in another folder.",
        )
    return best


def _confirm(job: _Search, seeds: int) -> Confirmed | None:
    """Train the best and the base recipe with seeds that chose nothing; None if they are the same recipe."""
    recipes = {"best": job.recipe(_best(job, job.store()).settings), "base": job.base}
    if recipes["best"] == job.base:
        return None
    asked = [Trial(name, seeded(one, number)) for name, one in recipes.items() for number in range(1, seeds + 1)]
    found = run_trials(replace(job.study, out=job.study.out / CONFIRMED), asked)
    best, base = (gathered(name, found[at * seeds : (at + 1) * seeds]) for at, name in enumerate(recipes))
    compared = compare_seeds([best.predictions("valid"), base.predictions("valid")], metrics=(job.monitor,))
    return Confirmed(best, base, next(iter(compared.differences), None))


def _write(job: _Search, store: TrialStore, confirmed: Confirmed | None) -> Tuned:
    """The result, and its files."""
    from sentinode.experiments.tuning_page import write_tuned

    best, trials = _best(job, store), tuple(store.trials())
    finished = sum(one.state == "finished" for one in trials)
    enough = finished >= max(ENOUGH, 2 * len(job.space))
    tuned = Tuned(
        best=best,
        recipe=job.recipe(best.settings),
        monitor=job.monitor,
        trials=trials,
        space=tuple(str(one) for one in job.space),
        importance=store.importance() if enough else {},
        confirmed=confirmed,
        notes=_notes(job, finished, enough, confirmed),
        about={
            **described(job.study, job.base),
            "seed": job.seed,
        },
        out=job.study.out,
    )
    with store.gate():
        _clear(job, store)
        write_tuned(tuned, job.space)
    return tuned


def _notes(job: _Search, finished: int, enough: bool, confirmed: Confirmed | None) -> tuple[str, ...]:
    notes = [
        f"The best of {job.total} trials on valid is too good on valid: the search keeps what luck has raised. "
        + (
            "The trainings with other seeds are free of the luck of the seed, and not of that of the valid patches."
            if confirmed is not None
            else "How much, --confirm 3 tells: it trains the best and the base recipe with three other seeds."
        ),
        "Test was not used. Evaluate the recipe that you choose on it once.",
        f"All trials have the seed {job.base.training.seed}. With another seed their order may change.",
        "Checkpoints are removed, and all bundles but the best trial's. Logs and recipes of all trials are kept.",
    ]
    if not enough:
        needed = max(ENOUGH, 2 * len(job.space))
        notes.append(f"{finished} trials were finished. What mattered is said from {needed} on.")
    else:
        notes.append(
            "Importance is that of finished trials within the ranges that were searched. It is a hint: a search "
            "looks where it is good, and few trials leave much to chance."
        )
    return (*notes, *job.study.data.warnings)
