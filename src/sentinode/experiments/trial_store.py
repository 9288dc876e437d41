"""The trials of a search in a folder, for several processes: Optuna's journal, and locks that end with their process.

A trial that runs holds a lock. The operating system drops it with the process, however that ends, so a trial that is
noted as running and holds no lock has died (or was stopped). It is handed out again under the same number, with its
folder, in which the training finds its checkpoint. What a trial tries follows from the seed, its place and the trials
that are finished, so a search that was killed goes on as one that was not, as long as one process works at a time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from sentinode.errors import OutputError
from sentinode.experiments.search_space import Dimension, Space
from sentinode.experiments.tuned_trial import State, TunedTrial
from sentinode.locks import is_locked, lock

JOURNAL = "journal.log"
GATE = ".gate"
"""The lock that one process holds while it takes a trial or writes results; no trial's lock begins with a dot."""

JOURNAL_LOCK = ".journal"
"""The lock of a process that writes to the journal."""

STARTUP = 6
"""Trials that are drawn at random, and trials that must be finished before one is pruned."""

TRIES = 3
"""Times that a trial is begun whose process dies; after that it counts as failed."""

MOST = 1_000_000
"""More trials than any search has, so that the random seeds of two searches differ."""

optuna.logging.set_verbosity(logging.WARNING)


@dataclass
class Claim:
    """A trial that this process works at. Whoever leaves it without telling its end gives it back.

    Attributes:
        trial: Optuna's.
        number: from 0; that of the first try, if it was begun before.
        settings: the value of each key.
    """

    trial: Trial
    number: int
    settings: Mapping[str, str]
    _held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, repr=False)

    def hold(self, lock_of_trial: contextlib.AbstractContextManager[object]) -> None:
        """Hold the trial's lock until the claim is left."""
        self._held.enter_context(lock_of_trial)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()


class TrialStore:
    """The trials of one search.

    Args:
        out: the folder of the search.
        space: what is searched.
        monitor: ``auc``, which is maximised, or ``nll``, which is minimised.
        seed: random seed of the search.
        first: the values of the base recipe, which the first trial takes, or None if they are outside the space.

    Raises:
        OutputError: the journal is damaged, or files cannot be locked there.
    """

    def __init__(self, out: Path, space: Space, monitor: str, seed: int, first: Mapping[str, Any] | None) -> None:
        self.out, self.space, self.seed = out, space, seed
        self.sign = 1 if monitor == "auc" else -1
        with self.gate():
            try:
                self._study = _open(out / JOURNAL, "maximize" if self.sign > 0 else "minimize")
            except (ValueError, KeyError) as error:
                raise OutputError(
                    f"this file is damaged ({error}).", where=out / JOURNAL, hint="Choose another folder with --out."
                ) from error
            if first is not None and not self._study.get_trials(deepcopy=False):
                self._study.enqueue_trial(dict(first), user_attrs={"base": True})

    def gate(self) -> contextlib.AbstractContextManager[object]:
        """Hold the folder for a moment, so that two processes neither take one trial nor write one result."""
        return lock(self.out, GATE)

    def claim(self, total: int) -> Claim | None:
        """A trial to work at, or None if ``total`` are finished or under way.

        Raises:
            OutputError: the folder cannot be written.
        """
        with self.gate():
            self._recover()
            while sum(map(_counts, trials := self._study.get_trials(deepcopy=False))) < total:
                claim = self._take(trials)
                if claim.trial.user_attrs.get("tries", 1) <= TRIES:
                    claim.hold(lock(self.out, _name(claim.trial.number), wait=False))
                    return claim
                self.pruned(claim, f"its process ended {TRIES} times, perhaps because memory ran out")
        return None

    def _take(self, trials: Sequence[FrozenTrial]) -> Claim:
        """The next trial: one that was begun before, or a new one."""
        self._study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=STARTUP, seed=(self.seed * MOST + len(trials)) % 2**32, constant_liar=True
        )
        trial = self._study.ask()
        settings = {one.key: one.text(_suggest(trial, one)) for one in self.space}
        following = 1 + max((int(one.user_attrs["number"]) for one in trials if "number" in one.user_attrs), default=-1)
        number = int(trial.user_attrs.get("number", following))
        trial.set_user_attr("number", number)
        for epoch, score in trial.user_attrs.get("scores", {}).items():
            trial.report(score, int(epoch))
        return Claim(trial, number, settings)

    def report(self, claim: Claim, epoch: int, score: float) -> bool:
        """Note the score after an epoch, and say whether the trial is worth going on."""
        claim.trial.report(score, epoch)
        return not claim.trial.should_prune()

    def finished(self, claim: Claim, value: float) -> None:
        """The trial has been trained to its end."""
        self._study.tell(claim.trial, value)

    def pruned(self, claim: Claim, why: str = "") -> None:
        """The trial was stopped early; or it failed, if ``why`` is given. A search learns from both."""
        if why:
            claim.trial.set_user_attr("why", why)
        self._study.tell(claim.trial, state=TrialState.PRUNED)

    def trials(self) -> list[TunedTrial]:
        """All trials by their number; a trial that was begun again is one."""
        with_number = [one for one in self._study.get_trials(deepcopy=False) if _counts(one)]
        return sorted((self._record(one) for one in with_number), key=lambda one: one.number)

    def best(self, trials: list[TunedTrial]) -> TunedTrial | None:
        """The finished trial with the best value; the first of equal ones."""
        finished = [one for one in trials if one.value is not None]
        return max(finished, key=lambda one: self.sign * (one.value or 0.0), default=None)

    def importance(self) -> dict[str, float]:
        """The share of each key in what separates the best tenth of the finished trials (PED-ANOVA); may be empty.

        Watanabe, Bansal and Hutter (2023): PED-ANOVA, IJCAI.
        """
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = optuna.importance.get_param_importances(self._study, evaluator=evaluator)
            except (RuntimeError, ValueError):  # all values are the same, or a key never varied
                return {}
        return {key: float(share) for key, share in found.items()}

    def _recover(self) -> None:
        """Hand out again what was under way in a process that is no more."""
        for dead in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if is_locked(self.out, _name(dead.number)) is not False:
                continue
            tries = int(dead.user_attrs.get("tries", 1)) + (not dead.user_attrs.get("stopped", False))
            scores = {str(epoch): score for epoch, score in dead.intermediate_values.items()}
            kept = {key: value for key, value in dead.user_attrs.items() if key in ("number", "base")}
            params = dead.params or dead.system_attrs.get("fixed_params", {})
            self._study.tell(dead.number, state=TrialState.FAIL)
            if params:
                self._study.enqueue_trial(params, user_attrs={**kept, "tries": tries, "scores": scores})

    def give_back(self, claim: Claim) -> None:
        """Note that the user stopped the trial, which is no fault of its own."""
        claim.trial.set_user_attr("stopped", True)

    def _record(self, one: FrozenTrial) -> TunedTrial:
        why = str(one.user_attrs.get("why", ""))
        states: dict[TrialState, State] = {TrialState.COMPLETE: "finished", TrialState.RUNNING: "running"}
        return TunedTrial(
            number=int(one.user_attrs["number"]),
            state="failed" if why else states.get(one.state, "pruned"),
            value=one.value if one.state == TrialState.COMPLETE else None,
            settings={each.key: each.text(one.params[each.key]) for each in self.space if each.key in one.params},
            scores=dict(sorted(one.intermediate_values.items())),
            seconds=None if one.duration is None else one.duration.total_seconds(),
            base=bool(one.user_attrs.get("base", False)),
            why=why,
        )


def _counts(one: FrozenTrial) -> bool:
    """Whether it is one of the trials that were asked for: not one that was begun again, or has not been taken."""
    return one.state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING) and "number" in one.user_attrs


def _name(number: int) -> str:
    return f"trial-{number}"


def _suggest(trial: Trial, dimension: Dimension) -> Any:
    key, low, high, log = dimension.key, dimension.low, dimension.high, dimension.log
    if dimension.values:
        return trial.suggest_categorical(key, dimension.values)
    if dimension.whole:
        return trial.suggest_int(key, int(low), int(high), log=log)
    return trial.suggest_float(key, low, high, log=log)


def _open(journal: Path, direction: Literal["maximize", "minimize"]) -> optuna.Study:
    """The journal, opened or begun."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = JournalStorage(JournalFileBackend(str(journal), lock_obj=JournalLock(journal)))
        return optuna.create_study(
            storage=storage,
            study_name="tuning",
            direction=direction,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP),
            load_if_exists=True,
        )


class JournalLock(JournalFileOpenLock):
    """Writes to the journal one process at a time; a lock that the system drops with its process.

    Optuna's own locks stay behind a process that was killed, and need symbolic links or half a minute of waiting.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal, self._held = journal, contextlib.ExitStack()

    def acquire(self) -> bool:
        with contextlib.ExitStack() as held:
            held.enter_context(lock(self._journal.parent, JOURNAL_LOCK))
            _mend(self._journal)
            self._held = held.pop_all()
        return True

    def release(self) -> None:
        self._held.close()


def _mend(journal: Path) -> None:
    """Cut off the last line if a killed process has left it incomplete; nothing could be added after it."""
    with journal.open("rb+") as stream:
        end = stream.seek(0, os.SEEK_END)
        if not end:
            return
        stream.seek(end - 1)
        if stream.read(1) != b"\n":
            stream.seek(0)
            stream.truncate(stream.read().rfind(b"\n") + 1)
