"""Trials: training runs that belong together, each in its folder, and what each of them reached.

The folder of a trial is a run by ``train``, with the predictions for valid (and test) and ``outcome.json`` beside the
bundle. Its name ends with a digest of the recipe and of the training patches, so that a trial which is asked for again
is found again, whatever else is asked for with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import Timeout
from numpy.typing import NDArray

import sentinode.cluster as ray_cluster
from sentinode.atomic import make_folder, write_text
from sentinode.errors import DataError, DeviceError, Interrupted, OutputError, RecipeError, SentinodeError
from sentinode.evaluation.evaluating import predict_labelled
from sentinode.evaluation.prediction_files import read_predictions, write_predictions
from sentinode.locks import lock
from sentinode.model.bundle import Bundle, load
from sentinode.model.classifier import build_classifier
from sentinode.model.hardware import choose_device
from sentinode.names import folder_name
from sentinode.patches import PatchData, Reopening
from sentinode.progress import console
from sentinode.recipes import Recipe, check_recipe
from sentinode.scoring import Predictions, auc
from sentinode.training import train
from sentinode.training.checkpoint import BEST, CHECKPOINT
from sentinode.training.interruption import left_to_workers
from sentinode.training.job import BUNDLE, check

RUNS, STUDY, OUTCOME, FAILURE = "runs", "study.json", "outcome.json", "failure.json"
WHOLE = ".study"
"""The lock of the whole folder; no trial's name begins with a dot."""

AGAIN = "Run the same command again to continue."


@dataclass(frozen=True)
class Trial:
    """One setting with one seed.

    Attributes:
        name: of the setting, as tables show it.
        recipe: the whole recipe, its seed included.
        rows: int (n,), the training patches to use, as numbers within the training split; None for all.
    """

    name: str
    recipe: Recipe
    rows: NDArray[np.int64] | None = field(default=None, repr=False)

    @property
    def seed(self) -> int:
        """The training's random seed."""
        return self.recipe.training.seed

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.name}, seed {self.seed}"

    @property
    def folder(self) -> str:
        """Its folder's name, which does not depend on what else is in the grid."""
        # Keys with their default value are left out, so that a later version with more keys finds it.
        told = json.dumps(self.recipe.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
        digest = hashlib.sha256(told.encode())
        if self.rows is not None:
            digest.update(self.rows.tobytes())
        patches = "" if self.rows is None else f"-{len(self.rows)}"
        return folder_name(f"{self.recipe.model.backbone}{patches}-seed{self.seed}-{digest.hexdigest()[:8]}")


@dataclass(frozen=True)
class Outcome:
    """What a trial reached.

    Attributes:
        name: of the setting.
        seed: of the training.
        folder: of the run.
        patches: training patches.
        parameters: of the network.
        seconds: of the training steps, without reading, scoring and finishing.
        patches_per_second: training patches in these seconds.
        epochs: passes that were made.
        initial_weights: where the training started from.
        predictions: for valid, and for test where it was asked for.
    """

    name: str
    seed: int
    folder: Path
    patches: int
    parameters: int
    seconds: float
    patches_per_second: float
    epochs: int
    initial_weights: str
    predictions: Mapping[str, Predictions] = field(repr=False)


@dataclass(frozen=True)
class Failure:
    """A trial that could not be finished, and why.

    Attributes:
        name: of the setting.
        seed: of the training.
        error: in one paragraph.
    """

    name: str
    seed: int
    error: str


@dataclass(frozen=True)
class Study:
    """Where trials lie, and what they have in common.

    Attributes:
        out: the folder.
        data: the patches; its training split is what trials take their patches from.
        test: whether the test split is predicted, too.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        workers: processes at a time; 0 for one on each GPU, and on a CPU for one.
        show: whether to show progress on standard error.
        cluster: the address of a Ray cluster whose workers train, one trial at a time each; None for this machine.
    """

    out: Path
    data: PatchData
    test: bool = False
    device: str = "auto"
    workers: int = 0
    show: bool = True
    cluster: str | None = None

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are predicted."""
        return ("valid", "test") if self.test else ("valid",)


@contextlib.contextmanager
def held(study: Study, kind: str, base: Recipe, about: Mapping[str, Any]) -> Iterator[None]:
    """Hold the folder of a study while its trials run.

    Args:
        study: its folder and data.
        kind: ``sweep`` or ``curve``.
        base: the recipe that all trials change.
        about: what else must be the same for the folder to go on, by its name.

    Raises:
        OutputError: the folder contains something else, or another process is at work there.
        DataError: it was begun with other patches.
        RecipeError: it was begun with another base recipe.
    """
    make_folder(study.out)
    try:
        with lock(study.out, WHOLE, wait=False):
            _begin(study, kind, base, about)
            yield
    except Timeout as error:
        raise OutputError(
            "another process is at work in this folder.",
            where=study.out,
            hint="Wait until it is done, or choose another folder with --out.",
        ) from error


def _begin(study: Study, kind: str, base: Recipe, about: Mapping[str, Any]) -> None:
    """Write down what the study is, or refuse a folder that is another's."""
    out = study.out
    data = {split: study.data[split].fingerprint() for split in ("train", "valid")}
    now: dict[str, Any] = {
        "kind": kind,
        "recipe": base.model_dump(mode="json"),
        "data": {"name": study.data.path.resolve().name, "geometry": str(study.data.geometry), **data},
        "about": dict(about),
    }
    path = out / STUDY
    if not path.exists():
        if any(one.name != ".locks" for one in out.iterdir()):
            raise OutputError(
                f"this folder contains something else than a {kind}.",
                where=out,
                hint="Choose a new folder with --out.",
            )
        write_text(path, json.dumps(now, indent=2, ensure_ascii=False) + "\n")
        return
    try:
        begun = json.loads(path.read_text("utf-8"))
        recipe = check_recipe(begun["recipe"])
        if begun["kind"] != kind:
            raise OutputError(
                f"this folder contains a {begun['kind']}.", where=out, hint="Choose another folder with --out."
            )
        differ = [name for name, value in begun["data"].items() if now["data"].get(name) != value and name != "name"]
        other = [name for name, value in now["about"].items() if begun["about"].get(name) != value]
    except (ValueError, KeyError, AttributeError, TypeError, RecipeError) as error:
        raise OutputError("this file is damaged.", where=path, hint="Choose another folder with --out.") from error
    if differ:
        names = {"train": "training patches", "valid": "validation patches", "geometry": "patch geometry"}
        raise DataError(
            f"the {kind} in this folder was begun with other {' and '.join(names[name] for name in differ)}.",
            where=out,
            hint="Give the same data and the same --sample and --sample-valid, or choose another folder with --out.",
        )
    if changed := _changed(recipe, base):
        raise RecipeError(
            f"the {kind} in this folder was begun with another base recipe: {changed}.",
            where=out,
            hint="Give the same --recipe, or choose another folder with --out.",
        )
    if other:
        told = ", ".join(f"{name} was {begun['about'].get(name)} and is {now['about'][name]}" for name in other)
        raise OutputError(
            f"the {kind} in this folder was begun with other options: {told}.",
            where=out,
            hint="Give the same options, or choose another folder with --out.",
        )


def _changed(begun: Recipe, now: Recipe) -> str:
    """The keys that differ, with both values."""
    pairs = [
        (f"{section}.{key}", getattr(old, key), getattr(getattr(now, section), key))
        for section, old in begun
        for key in type(old).model_fields
    ]
    told = [f"{key} was {old} and is {new}" for key, old, new in pairs if old != new]
    return ", ".join(told[:3]) + (f", and {len(told) - 3} more" if len(told) > 3 else "")


def require_trainable(study: Study, trials: Sequence[Trial]) -> None:
    """Refuse what cannot be trained, before anything is.

    Whether the weights of ImageNet can be fetched shows only when a trial asks for them.

    Raises:
        RecipeError: a recipe contradicts itself, does not suit the data, or names a network that does not exist.
        WeightsError: a file of weights is missing or of another network.
        DataError: a split is missing or has one class only, or the training patches of a trial have.
    """
    if study.test and "test" not in study.data.splits:
        raise DataError(
            "there is no test split here.", where=study.data.path, hint="Leave out --test, or give data that has one."
        )
    seen: set[str] = set()
    for trial in trials:
        check(trial.recipe, part_of(study.data, trial), 1)
        options = trial.recipe.model.model_dump()
        if options["weights"] == "imagenet":
            options["weights"] = "none"
        told = json.dumps(options, sort_keys=True)
        if told not in seen:
            seen.add(told)
            build_classifier(**options, geometry=study.data.geometry)


def part_of(data: PatchData, trial: Trial) -> PatchData:
    """The data with the trial's training patches alone."""
    return data if trial.rows is None else data.limited({"train": trial.rows})


def run_trials(study: Study, trials: Sequence[Trial]) -> list[Outcome | Failure]:
    """Run what is not finished, and return what each trial reached, in their order.

    A trial that fails does not stop the others. It is tried again when the study is run again.

    Raises:
        Interrupted: Ctrl-C, or the system asked the process to end; finished trials and checkpoints are kept.
        OutputError: the folder cannot be written.
        DeviceError: no such device, or no such cluster.
    """
    if study.cluster is not None:
        return _run_on_cluster(study, study.cluster, trials)
    target = choose_device(study.device)
    several = target.type == "cuda" and target.index is None
    workers = study.workers or (torch.cuda.device_count() if several else 1)
    waiting = sum(not _finished(study, trial) for trial in trials)
    workers = max(1, min(workers, waiting))
    _say_finished(study, waiting, len(trials))
    if workers == 1:
        return [_one(study, trial, number, len(trials)) for number, trial in enumerate(trials, 1)]
    devices = [str(target)] * workers
    if several:
        devices = [f"cuda:{worker % torch.cuda.device_count()}" for worker in range(workers)]
    return _Parallel(study, trials, devices).run()


def _say_finished(study: Study, waiting: int, of: int) -> None:
    if study.show and waiting < of:
        console.print(f"{of - waiting} of {of} runs are finished already.")


def _run_on_cluster(study: Study, address: str, trials: Sequence[Trial]) -> list[Outcome | Failure]:
    """Run what is not finished on a cluster; what is finished is read here."""
    waiting = [number for number, trial in enumerate(trials) if not _finished(study, trial)]
    _say_finished(study, len(waiting), len(trials))
    device = study.device.partition(":")[0]  # a worker sees its own GPU only
    tasks = [(number, _Task.of(study, trials[number], device, 0).anywhere()) for number in waiting]
    lost: dict[int, Failure] = {}
    gpu = None if device == "auto" else device == "cuda"
    with contextlib.closing(ray_cluster.run(address, _worker, tasks, gpu=gpu)) as results:
        for (number, task), result in results:
            trial = task.trial
            if isinstance(result, ray_cluster.Lost):
                why = f"its process was ended {result.tries} times, perhaps because memory ran out."
                result = Failure(trial.name, trial.seed, why)
            if isinstance(result, SentinodeError):
                raise result
            if isinstance(result, Failure):
                lost[number] = result
            if study.show:
                console.print(f"Run {number + 1} of {len(trials)}: {trial.title}: {_told(result)}", markup=False)
    return [lost.get(number) or run_trial(study, trial, show=False) for number, trial in enumerate(trials)]


def _worker() -> Callable[[tuple[int, _Task]], Outcome | Failure | SentinodeError]:
    """What runs a trial in a worker of a cluster."""
    return lambda numbered: numbered[1].run()


def _finished(study: Study, trial: Trial) -> bool:
    return (study.out / RUNS / trial.folder / OUTCOME).exists()


def _one(study: Study, trial: Trial, number: int, of: int) -> Outcome | Failure:
    """Run one trial in this process, and say so."""
    title = f"Run {number} of {of}: {trial.title}"
    if study.show and not _finished(study, trial):
        console.print(title, markup=False)
    try:
        found = run_trial(study, trial)
    except Interrupted as error:
        raise Interrupted("stopped; the work so far is saved.", where=study.out, hint=AGAIN) from error
    if study.show:
        console.print(f"{title}: {_told(found)}", markup=False)
    return found


def _told(found: Outcome | Failure) -> str:
    if isinstance(found, Failure):
        return f"failed. {found.error}"
    valid = found.predictions["valid"]
    return f"valid AUC {auc(valid.labels, valid.probabilities):.4f}, {found.seconds:,.0f} s of training."


def run_trial(study: Study, trial: Trial, device: str | None = None, show: bool | None = None) -> Outcome | Failure:
    """Train, predict and write down one trial, or go on where it stopped, or read what is there.

    Raises:
        Interrupted, OutputError, DeviceError: what stops all trials.
    """
    folder = study.out / RUNS / trial.folder
    device, show = device or study.device, study.show if show is None else show
    make_folder(folder.parent)
    with lock(study.out, trial.folder):
        try:
            data = part_of(study.data, trial)
            if not (folder / OUTCOME).exists():
                bundle = train(data, folder, recipe=trial.recipe, resume=True, device=device, show=show)
                _predict(study, trial, bundle, data, "valid", device, show)
                _write_outcome(folder, trial, bundle)
            outcome = _read_outcome(study, trial, folder, device, show)
        except (Interrupted, OutputError, DeviceError):
            raise
        except Exception as error:  # a trial out of memory, or without weights, must not cost the others
            told = error.what if isinstance(error, SentinodeError) else f"{type(error).__name__}: {error}"
            failure = Failure(trial.name, trial.seed, told.strip().split("\n")[0])
            make_folder(folder)
            write_text(folder / FAILURE, json.dumps(asdict(failure), indent=2, ensure_ascii=False) + "\n")
            return failure
        (folder / FAILURE).unlink(missing_ok=True)
        for file in (CHECKPOINT, BEST):  # as large as the bundle and larger, and of no more use
            (folder / file).unlink(missing_ok=True)
        return outcome


def _predict(
    study: Study, trial: Trial, bundle: Bundle, data: PatchData, split: str, device: str, show: bool
) -> Predictions:
    """A bundle's predictions for a split, kept beside it; in the precision of the training."""
    precision = trial.recipe.training.precision
    found = predict_labelled(bundle, data, split, name=trial.title, device=device, precision=precision, show=show)
    write_predictions(study.out / RUNS / trial.folder / f"{split}.parquet", found)
    return found


def _write_outcome(folder: Path, trial: Trial, bundle: Bundle) -> None:
    """What the run reached, from its card; this file says that the trial is finished."""
    card = bundle.card
    patches = sum(card.data["counts"]["train"].values())
    training = trial.recipe.training
    each = training.steps_per_epoch(patches) * min(training.batch_size, patches)
    seconds = sum(each / max(entry["patches_per_second"], 1e-9) for entry in card.history)
    record = {
        "name": trial.name,
        "seed": trial.seed,
        "patches": patches,
        "parameters": card.architecture.parameters,
        "seconds": seconds,
        "patches_per_second": each * len(card.history) / max(seconds, 1e-9),
        "epochs": len(card.history),
        "initial_weights": card.initial_weights,
    }
    write_text(folder / OUTCOME, json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def _read_outcome(study: Study, trial: Trial, folder: Path, device: str, show: bool) -> Outcome:
    """What a finished trial reached, with predictions for the splits that are asked for."""
    record = json.loads((folder / OUTCOME).read_text("utf-8"))
    data = part_of(study.data, trial)
    predictions = {}
    for split in study.splits:
        file = folder / f"{split}.parquet"
        kept = read_predictions(file, name=trial.title) if file.exists() else None
        if kept is None or not np.array_equal(kept.ids, data[split].ids):
            kept = _predict(study, trial, load(folder / BUNDLE), data, split, device, show)
        predictions[split] = kept
    return Outcome(**{**record, "name": trial.name}, folder=folder, predictions=predictions)


@dataclass
class _Parallel:
    """Trials in several processes, one at a time on each device."""

    study: Study
    trials: Sequence[Trial]
    devices: Sequence[str]
    found: dict[int, Outcome | Failure] = field(default_factory=dict)
    stopped: list[SentinodeError] = field(default_factory=list)

    def run(self) -> list[Outcome | Failure]:
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(len(self.trials)):
            waiting.put(number)
        threads = [threading.Thread(target=self._serve, args=(device, waiting)) for device in self.devices]
        with left_to_workers(True):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if self.stopped:
            error = self.stopped[0]
            if isinstance(error, Interrupted):
                raise Interrupted("stopped; the work so far is saved.", where=self.study.out, hint=AGAIN)
            raise error
        return [self.found[number] for number in range(len(self.trials))]

    def _serve(self, device: str, waiting: queue.SimpleQueue[int]) -> None:
        """Run trials on one device until none is left, in a process of its own."""
        threads = max(1, torch.get_num_threads() // len(self.devices)) if device == "cpu" else 0
        while not self.stopped:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                while not self.stopped:
                    try:
                        number = waiting.get_nowait()
                    except queue.Empty:
                        return
                    trial = self.trials[number]
                    title = f"Run {number + 1} of {len(self.trials)}: {trial.title}"
                    if self.study.show:
                        console.print(f"{title}, on {device}", markup=False)
                    task = _Task.of(self.study, trial, device, threads)
                    try:
                        result = process.submit(task.run).result()
                    except BrokenProcessPool:
                        why = "its process was ended by the system, which may have been out of memory."
                        self.found[number] = Failure(trial.name, trial.seed, why)
                        break
                    if isinstance(result, SentinodeError):
                        self.stopped.append(result)
                        return
                    self.found[number] = result
                    if self.study.show:
                        console.print(f"{title}: {_told(result)}", markup=False)


@dataclass(frozen=True)
class _Task:
    """A trial as it is sent to another process, which opens the data again."""

    data: Reopening
    trial: Trial
    out: Path
    test: bool
    device: str
    threads: int

    @classmethod
    def of(cls, study: Study, trial: Trial, device: str, threads: int) -> _Task:
        return cls(Reopening.of(study.data), trial, study.out, study.test, device, threads)

    def anywhere(self) -> _Task:
        """The same for a process with another working folder."""
        return replace(self, data=self.data.anywhere(), out=self.out.absolute())

    def run(self) -> Outcome | Failure | SentinodeError:
        """The outcome, or as a value what stops all trials."""
        if self.threads:
            torch.set_num_threads(self.threads)
        try:
            study = Study(self.out, self.data.open(), self.test, self.device, show=False)
            return run_trial(study, self.trial)
        except SentinodeError as error:
            return error
