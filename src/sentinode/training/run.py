"""One training run, from the recipe and the patches to the bundle. Read it from top to bottom.

A run is two stages of steps: the new head alone, then the whole network. What a step draws at random follows from the
seed and the step's number, so that a run which was killed and resumed arrives at the weights of one that was not.
"""

from __future__ import annotations

import datetime
import json
import logging
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from sentinode.atomic import make_folder, write_text
from sentinode.errors import DataError, Interrupted, RecipeError
from sentinode.geometry import PCAM
from sentinode.model import bundle as bundles
from sentinode.model.bundle import ModuleSource
from sentinode.model.classifier import Classifier, build, pooling_for
from sentinode.patches import PatchData, PatchSet, Stated
from sentinode.progress import bar, console
from sentinode.recipes import Recipe, check_recipe
from sentinode.scoring import RULES, auc, calibrated, choose_threshold, fit_platt, fit_temperature, measure
from sentinode.training.checkpoint import (
    Checkpoint,
    Progress,
    load_best,
    load_checkpoint,
    save_best,
    save_checkpoint,
)
from sentinode.training.feed import batches, epoch_order
from sentinode.training.learner import Learner, Stage
from sentinode.training.logbook import Logbook
from sentinode.training.optimisation import moving_average

log = logging.getLogger(__name__)

RECIPE = "recipe.toml"
SUBSTITUTE_RULE = "accuracy"
"""Chooses the threshold where none can keep what the recipe's rule asks for."""
VALID_BATCH = 128
IDENTITY = {
    "recipe": "hyperparameters",
    "train": "training patches",
    "valid": "validation patches",
    "processes": "numbers of processes",
    "geometry": "sizes, resolutions or labelled regions of patches",
}
"""What must be the same for a run to go on, and its name in the user's words."""


@dataclass(frozen=True)
class Job:
    """All that a process needs to take part in a run; it can be sent to another process."""

    recipe: Recipe
    data: Path
    stated: Stated
    slide_map: Path | None
    assignment: Mapping[str, str] | None
    out: Path
    module: ModuleSource | None
    resume: bool
    show: bool


class Run:
    """A training run under way."""

    def __init__(self, fabric: Fabric, job: Job, data: PatchData) -> None:
        self.fabric, self.job, self.data, self.recipe = fabric, job, data, job.recipe
        self.train, self.valid = data["train"], data["valid"]
        self.show = job.show and fabric.is_global_zero
        self.checkpoint = load_checkpoint(job.out) if job.resume else None
        torch.manual_seed(self.recipe.training.seed)
        self.network, self.origin = self._build()
        self.network.to(fabric.device).to(memory_format=torch.channels_last)
        decay = self.recipe.training.ema
        self.average = moving_average(self.network, decay) if decay else None
        self.batch = min(self.recipe.training.batch_size, len(self.train) // fabric.world_size * fabric.world_size)
        self.progress = Progress(parts=self.recipe.training.accumulate)
        self.saved_at = time.monotonic()

    def _build(self) -> tuple[nn.Module, str]:
        """The network to train, and where its initial weights come from."""
        if self.job.module is not None:
            module = self.job.module
            return (module if isinstance(module, nn.Module) else module()), "as the module came"
        # A run that goes on needs no initial weights; the file, or the network to fetch it, may be gone.
        other = {"weights": "none"} if self.checkpoint else {}
        network, origin = build(**self.recipe.model.model_dump() | other, geometry=self.data.geometry)
        return network, self.checkpoint.origin if self.checkpoint else origin

    def go(self) -> None:
        """Train, choose the operating point on valid, and write the bundle."""
        if self.checkpoint is not None:
            self._restore(self.checkpoint)
        if self.fabric.is_global_zero:
            make_folder(self.job.out)
            write_text(self.job.out / RECIPE, self.recipe.to_toml())
        self.logbook = Logbook(self.job.out, self.progress.history) if self.fabric.is_global_zero else None
        with _stop_signals() as stopping:
            self.stopping = stopping
            for stage in self._stages():
                if stage.steps and stage.index >= self.progress.stage and not self.progress.finished:
                    self._run_stage(stage)
        if self.logbook is not None:
            self.logbook.close()
        if self.fabric.is_global_zero:
            self._write_bundle()
        self.fabric.barrier()

    # The stages ---------------------------------------------------------------------------------------------------

    @property
    def steps_per_epoch(self) -> int:
        """Steps of the optimiser in one pass; a last, smaller batch is left out."""
        return len(self.train) // self.batch

    def _stages(self) -> list[Stage]:
        training, per_epoch = self.recipe.training, self.steps_per_epoch
        head_steps = round(training.head_epochs * per_epoch) if isinstance(self.network, Classifier) else 0
        head_epochs = -(-head_steps // per_epoch)
        return [
            Stage(0, "head", head_epochs, head_steps, head_only=True),
            Stage(1, "all layers", training.epochs, training.epochs * per_epoch, head_only=False),
        ]

    def _run_stage(self, stage: Stage) -> None:
        progress, per_epoch = self.progress, self.steps_per_epoch
        if stage.index > progress.stage:
            progress.stage, progress.step = stage.index, 0
        learner = Learner(
            self.fabric, self.recipe, stage, self.network, self.average, progress.parts, self.data.geometry
        )
        if self.checkpoint is not None:
            learner.optimizer.load_state_dict(self.checkpoint.optimizer)
            self.checkpoint = None
        # An epoch is over when it has been scored: a run killed between its last step and its score goes on there.
        begun = progress.step // per_epoch if stage.head_only else len(progress.history)
        for epoch in range(begun, stage.epochs):
            last = min((epoch + 1) * per_epoch, stage.steps)
            title = f"Epoch {epoch + 1}/{stage.epochs}" if not stage.head_only else "Head alone"
            learner.set_mode()
            with bar(title, (last - epoch * per_epoch) * self.batch, show=self.show) as shown:
                shown.advance((progress.step - epoch * per_epoch) * self.batch)
                for images, labels in self._feed(stage, epoch, last):
                    began = time.perf_counter()
                    loss = learner.step(images, labels, progress.step)
                    self._record(stage, loss, began, learner)
                    shown.advance(self.batch)
                    shown.note(self._note())
                    self._pause_if_asked(learner)
            if not stage.head_only:
                self._close_epoch(epoch + 1, learner)
                if progress.finished:
                    break
        self._forget_epoch()

    def _feed(self, stage: Stage, epoch: int, last: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of each batch that is left of the epoch."""
        per_epoch, world = self.steps_per_epoch, self.fabric.world_size
        order = epoch_order(len(self.train), self.recipe.training.seed, stage.index, epoch)
        steps = range(self.progress.step - epoch * per_epoch, last - epoch * per_epoch)
        mine = slice(self.fabric.global_rank, None, world)
        rows = [order[i * self.batch : (i + 1) * self.batch][mine] for i in steps]
        return batches(self.train, rows, self.fabric.device)

    def _record(self, stage: Stage, loss: Tensor, began: float, learner: Learner) -> None:
        progress = self.progress
        value = float(loss)
        if not np.isfinite(value):
            raise RecipeError(
                f"the loss is no longer a number at step {progress.step + 1} of stage '{stage.title}'.",
                where=self.job.out,
                hint="Lower optimizer.lr, or set training.precision=float32, and start again.",
            )
        progress.step += 1
        progress.loss_sum += value
        progress.loss_steps += 1
        progress.seconds += time.perf_counter() - began
        if self.logbook is not None and progress.step % 20 == 0:
            self.logbook.step(
                progress.step, {f"{stage.title}/loss": value, f"{stage.title}/learning_rate": learner.rate}
            )

    def _note(self) -> str:
        done = f"loss {self.progress.loss_sum / max(self.progress.loss_steps, 1):.3f}"
        if self.progress.history:
            done += f"  valid AUC {self.progress.history[-1]['valid_auc']:.4f}"
        return done

    def _forget_epoch(self) -> None:
        self.progress.loss_sum, self.progress.loss_steps, self.progress.seconds = 0.0, 0, 0.0

    # The end of an epoch ------------------------------------------------------------------------------------------

    def _close_epoch(self, epoch: int, learner: Learner) -> None:
        """Score valid, keep the best weights, write the log, and see whether patience has run out."""
        progress, recipe = self.progress, self.recipe.training
        learner.share_statistics()
        margins = self._margins(self._scored(), self.valid, f"Valid {epoch}/{recipe.epochs}")
        figures = _quick_figures(margins, self.valid.labels)
        progress.history.append(
            {
                "epoch": epoch,
                "step": progress.step,
                "train_loss": progress.loss_sum / max(progress.loss_steps, 1),
                **{f"valid_{name}": value for name, value in figures.items()},
                "learning_rate": learner.rate,
                "patches_per_second": progress.loss_steps * self.batch / max(progress.seconds, 1e-9),
            }
        )
        score = -figures["nll"] if recipe.monitor == "nll" else figures[recipe.monitor]
        if progress.best is None or score > progress.best:
            progress.best, progress.waited = score, 0
            if self.fabric.is_global_zero:
                save_best(self.job.out, self._scored().state_dict())
        else:
            progress.waited += 1
        progress.finished = epoch == recipe.epochs or 0 < recipe.patience <= progress.waited
        if self.logbook is not None:
            self.logbook.epoch()
        if self.show:
            self._say_epoch(epoch)
        self._forget_epoch()
        self._save(learner)

    def _say_epoch(self, epoch: int) -> None:
        last, recipe = self.progress.history[-1], self.recipe.training
        best = "  best so far" if not self.progress.waited else ""
        console.print(
            f"Epoch {epoch}/{recipe.epochs}  loss {last['train_loss']:.4f}  valid AUC {last['valid_auc']:.4f}  "
            f"accuracy {last['valid_accuracy']:.4f}  NLL {last['valid_nll']:.4f}  "
            f"{last['patches_per_second']:,.0f} patches/s{best}",
            markup=False,
        )
        if self.progress.finished and epoch < recipe.epochs:
            console.print(f"No better valid {recipe.monitor} for {recipe.patience} epochs: stopping here.")

    def _scored(self) -> nn.Module:
        """The weights that are scored and kept: the moving average where there is one."""
        return self.network if self.average is None else self.average.module

    def _margins(
        self, network: nn.Module, patches: PatchSet, title: str, *, alone: bool = False
    ) -> NDArray[np.float32]:
        """The logit margin of each patch, each process scoring its share; or ``alone``, and exactly, in float32."""
        world, rank = (1, 0) if alone else (self.fabric.world_size, self.fabric.global_rank)
        precision = nullcontext() if alone else self.fabric.autocast()
        share = np.arange(rank, rank + world * -(-len(patches) // world), world).clip(max=len(patches) - 1)
        rows = [share[i : i + VALID_BATCH] for i in range(0, len(share), VALID_BATCH)]
        network.eval()
        found = []
        with torch.inference_mode(), precision, bar(title, len(share) * world, show=self.show) as shown:
            for images, _ in batches(patches, rows, self.fabric.device):
                logits = network(images).float()
                found.append(logits[:, 1] - logits[:, 0])
                shown.advance(len(images) * world)
        mine = torch.cat(found)
        together = cast(Tensor, self.fabric.all_gather(mine)) if world > 1 else mine[None]
        return together.T.reshape(-1)[: len(patches)].cpu().numpy()

    # Checkpoints --------------------------------------------------------------------------------------------------

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on as if it had never stopped."""
        return {
            "recipe": self.recipe.model_dump_json(),
            "train": self.train.fingerprint(),
            "valid": self.valid.fingerprint(),
            "processes": self.fabric.world_size,
            "geometry": str(self.data.geometry),
        }

    def _save(self, learner: Learner) -> None:
        self.saved_at = time.monotonic()
        self.progress.parts = learner.parts
        if not self.fabric.is_global_zero:
            return
        average = None if self.average is None else self.average.state_dict()
        network, optimizer = self.network.state_dict(), learner.optimizer.state_dict()
        save_checkpoint(
            self.job.out, Checkpoint(self.progress, self.identity, self.origin, network, optimizer, average)
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        # Checkpoints of older versions are of PatchCamelyon's geometry, and their recipes lack newer keys.
        begun = {"geometry": str(PCAM), **checkpoint.identity}
        begun["recipe"] = check_recipe(json.loads(begun["recipe"])).model_dump_json()
        for key, value in self.identity.items():
            if begun.get(key) != value:
                raise DataError(
                    f"the run in this folder was begun with other {IDENTITY[key]}; going on would mix the two.",
                    where=self.job.out,
                    hint="Resume with what it was begun with, or train into another folder.",
                )
        self.progress = checkpoint.progress
        self.network.load_state_dict(checkpoint.network)
        if self.average is not None and checkpoint.average is not None:
            self.average.load_state_dict(checkpoint.average)
        if self.show:
            at = self.progress
            where = "at its end" if at.finished else f"at step {at.step:,} of stage {at.stage + 1}"
            console.print(f"Going on from the checkpoint in {self.job.out}, {where}.", markup=False)

    def _pause_if_asked(self, learner: Learner) -> None:
        """Save every few minutes, and stop where Ctrl-C or the system asks for it."""
        asked = self.stopping.is_set()
        if self.fabric.world_size > 1:  # all processes must stop at the same step
            asked = bool(self.fabric.all_reduce(torch.tensor(float(asked)), reduce_op="sum"))
        due = time.monotonic() - self.saved_at > 60 * self.recipe.training.checkpoint_minutes
        if asked or due:
            self._save(learner)
        if asked:
            raise Interrupted(
                "stopped; the work so far is saved.",
                where=self.job.out,
                hint="Run the same command with --resume to go on from here.",
            )

    # The bundle ---------------------------------------------------------------------------------------------------

    def _write_bundle(self) -> None:
        self.network.load_state_dict(load_best(self.job.out))
        margins = self._margins(self.network, self.valid, "Operating point", alone=True)
        labels, recipe = self.valid.labels, self.recipe
        temperature, prior = fit_temperature(margins, labels), float(self.train.labels.mean())
        if recipe.operating_point.calibration == "platt" and isinstance(self.network, Classifier):
            temperature, offset = fit_platt(margins, labels)
            self.network.lean(offset)
            margins = margins + np.float32(offset)
            prior = float(labels.mean())  # the offset is that of valid's balance
        probabilities = calibrated(margins, temperature)
        thresholds = _thresholds(labels, probabilities, recipe.operating_point.rule, self.data.class_names)
        rule = recipe.operating_point.rule if recipe.operating_point.rule in thresholds else SUBSTITUTE_RULE
        names = self.data.class_names
        scores = measure(labels, probabilities, thresholds[rule].value, groups=self.valid.slides, class_names=names)
        card = bundles.Card(
            name=self.job.out.resolve().name,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            versions=bundles.versions(),
            architecture=self._architecture(),
            patch_size=self.data.geometry.size,
            label_region=self.data.geometry.label_region,
            mpp=self.data.geometry.mpp,
            class_names=list(self.data.class_names),
            positive=list(self.data.stated.positive),
            temperature=temperature,
            thresholds=thresholds,
            threshold_rule=rule,
            prior=prior,
            metrics={"valid": bundles.plain(scores.as_dict())},
            data=self._describe_data(),
            recipe=recipe.model_dump(mode="json"),
            seed=recipe.training.seed,
            toy=self.train.toy,
            initial_weights=self.origin,
            history=bundles.plain(self.progress.history),
        )
        bundles.save(
            self.job.out / "bundle",
            self.network,
            card,
            assignment=None if self.data.own_splits else self.data.assignment(),
        )

    def _architecture(self) -> bundles.Architecture:
        count = sum(parameter.numel() for parameter in self.network.parameters())
        if self.job.module is not None:
            name, source = bundles.describe_custom(self.network)
            return bundles.Architecture(kind="custom", parameters=count, class_name=name, source=source)
        assert isinstance(self.network, Classifier)
        options = self.recipe.model.model_dump(exclude={"weights"})
        # As the network has them, not as a recipe for any geometry names them.
        options |= {"side": self.network.side, "pooling": pooling_for(options["pooling"], self.data.geometry)}
        return bundles.Architecture(parameters=count, **options)

    def _describe_data(self) -> dict[str, Any]:
        sets = {"train": self.train, "valid": self.valid}
        return {
            "kind": self.data.kind,
            "name": self.data.path.resolve().name,
            "own_splits": self.data.own_splits,
            "toy": self.train.toy,
            "warnings": list(self.data.warnings),
            "fingerprint": {split: self.identity[split] for split in sets},
            "counts": {
                split: {name: int((part.labels == label).sum()) for label, name in enumerate(self.data.class_names)}
                for split, part in sets.items()
            },
        }


def _thresholds(
    labels: NDArray[np.uint8], probabilities: NDArray[np.float32], rule: str, class_names: Sequence[str]
) -> dict[str, bundles.Threshold]:
    """The threshold by each rule that Sentinode has, and by ``rule``; one that no threshold can keep is left out."""
    found: dict[str, bundles.Threshold] = {}
    for name in dict.fromkeys((*RULES, rule)):
        try:
            value = choose_threshold(labels, probabilities, name, class_names)
        except DataError as error:  # of a run of hours the bundle must not be lost to it
            instead = f" The bundle's threshold is that of the rule {SUBSTITUTE_RULE}." if name == rule else ""
            log.warning("The bundle stores no threshold by %s: %s%s", name, error.what, instead)
            continue
        found[name] = bundles.Threshold(value=value, rule=name, chosen_on="valid", n=len(labels))
    return found


def _quick_figures(margins: NDArray[np.float32], labels: NDArray[np.uint8]) -> dict[str, float]:
    signed = np.where(labels == 1, margins, -margins).astype(np.float64)
    return {
        "auc": float(auc(labels, margins)),
        "accuracy": float((signed > 0).mean()),
        "nll": float(np.logaddexp(0, -signed).mean()),
    }


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and the system's wish to end the process set; a second one ends it at once."""
    asked = threading.Event()

    def ask(number: int, _: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        console.print("Finishing this step and saving; press Ctrl-C again to stop at once.")

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before: dict[signal.Signals, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
