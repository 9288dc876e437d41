"""The state of a run under way: how it begins, and how it goes on from a checkpoint.

What a step draws at random follows from the seed and the step's number, so that a run which was killed and resumed
arrives at the weights of one that was not.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import nn
from torch.optim.swa_utils import AveragedModel

from sentinode.atomic import make_folder, write_text
from sentinode.errors import DataError
from sentinode.geometry import PCAM
from sentinode.model.classifier import build_classifier
from sentinode.patches import PatchData, PatchSet
from sentinode.progress import console
from sentinode.recipes import Recipe, check_recipe
from sentinode.training.checkpoint import Checkpoint, Progress, load_checkpoint, save_checkpoint
from sentinode.training.job import Job
from sentinode.training.learner import Learner, Stage
from sentinode.training.logbook import Logbook
from sentinode.training.optimisation import moving_average
from sentinode.training.parent import write_parent

RECIPE = "recipe.toml"
IDENTITY = {
    "recipe": "hyperparameters",
    "train": "training patches",
    "valid": "validation patches",
    "processes": "numbers of processes",
    "geometry": "sizes, resolutions or labelled regions of patches",
}
"""What must be the same for a run to go on, and its name in the user's words."""


@dataclass
class Run:
    """A training run under way, as one process holds it.

    Attributes:
        fabric: the device, the precision and the other processes.
        job: what was asked.
        data: the labelled patches.
        network: uint8 (B, S, S, 3) to logits (B, 2).
        origin: where the initial weights came from.
        average: the moving average of the network's weights, or None.
        progress: how far it has come.
        optimizer_state: the checkpoint's, until the stage that it belongs to takes it.
        logbook: what the run leaves to read; the first process has it.
        stopping: set when the run is to save and stop.
        saved_at: when the last checkpoint was written, in seconds of the monotonic clock.
    """

    fabric: Fabric
    job: Job
    data: PatchData
    network: nn.Module
    origin: str
    average: AveragedModel | None
    progress: Progress
    optimizer_state: dict[str, Any] | None = None
    logbook: Logbook | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def recipe(self) -> Recipe:
        """Every hyperparameter."""
        return self.job.recipe

    @property
    def show(self) -> bool:
        """Whether this process shows progress."""
        return self.job.show and self.fabric.is_global_zero

    @cached_property
    def train(self) -> PatchSet:
        """The training patches."""
        return self.data["train"]

    @cached_property
    def valid(self) -> PatchSet:
        """The validation patches."""
        return self.data["valid"]

    @cached_property
    def batch(self) -> int:
        """Patches in a step of all processes together."""
        processes = self.fabric.world_size
        return min(self.recipe.training.batch_size, len(self.train) // processes * processes)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of the optimiser in one pass; a last, smaller batch is left out."""
        return len(self.train) // self.batch

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

    @property
    def scored(self) -> nn.Module:
        """The weights that are scored and kept: the moving average where there is one."""
        return self.network if self.average is None else self.average.module

    def learner(self, stage: Stage) -> Learner:
        """What takes the steps of a stage."""
        parts, geometry = self.progress.parts, self.data.geometry
        learner = Learner(self.fabric, self.recipe, stage, self.network, self.average, parts, geometry)
        if self.optimizer_state is not None:
            learner.optimizer.load_state_dict(self.optimizer_state)
            self.optimizer_state = None
        return learner

    def save(self, learner: Learner) -> None:
        """Write a checkpoint, from which the run can go on."""
        self.saved_at = time.monotonic()
        self.progress.parts = learner.parts
        if not self.fabric.is_global_zero:
            return
        checkpoint = Checkpoint(
            progress=self.progress,
            identity=self.identity,
            origin=self.origin,
            network=self.network.state_dict(),
            optimizer=learner.optimizer.state_dict(),
            average=None if self.average is None else self.average.state_dict(),
        )
        save_checkpoint(self.job.out, checkpoint)


def begin(fabric: Fabric, job: Job, data: PatchData) -> Run:
    """A run at its start, or where its checkpoint left it, and the run's folder.

    Raises:
        DataError: the checkpoint is damaged, or of a run with another recipe, other patches or other processes; or the
            processes do not all have the same patches and the same checkpoint.
        WeightsError: the initial weights cannot be had.
        OutputError: the folder cannot be written.
    """
    checkpoint = load_checkpoint(job.out) if job.resume else None
    torch.manual_seed(job.recipe.training.seed)
    network, origin = _network(job, data, checkpoint)
    network.to(fabric.device).to(memory_format=torch.channels_last)
    decay = job.recipe.training.ema
    run = Run(
        fabric=fabric,
        job=job,
        data=data,
        network=network,
        origin=origin,
        average=moving_average(network, decay) if decay else None,
        progress=Progress(parts=job.recipe.training.accumulate),
    )
    if checkpoint is not None:
        _restore(run, checkpoint)
    _require_same_everywhere(run)
    if fabric.is_global_zero:
        make_folder(job.out)
        write_text(job.out / RECIPE, job.recipe.to_toml())
        write_parent(job.out, job.parent)
        run.logbook = Logbook(job.out, run.progress.history)
    return run


def _require_same_everywhere(run: Run) -> None:
    """Refuse processes that would train on other patches, or from another step, than the first."""
    if run.fabric.world_size == 1:
        return
    told = json.dumps([run.identity, run.progress.stage, run.progress.step, len(run.progress.history)])
    here = torch.tensor(int.from_bytes(hashlib.sha256(told.encode()).digest()[:7]), device=run.fabric.device)
    if not torch.as_tensor(run.fabric.all_gather(here)).eq(here).all():
        raise DataError(
            "the processes that train together do not see the same patches, recipe and checkpoint.",
            where=run.job.out,
            hint="All nodes need the same data and the same --out, on a disk that they share.",
        )


def _network(job: Job, data: PatchData, checkpoint: Checkpoint | None) -> tuple[nn.Module, str]:
    """The network to train, and where its initial weights come from."""
    if job.module is not None:
        return (job.module if isinstance(job.module, nn.Module) else job.module()), "as in the given module"
    options = job.recipe.model.model_dump()
    if checkpoint is None and job.parent is not None:
        return job.parent.network(job.recipe, data.geometry), job.parent.origin
    if checkpoint is None:
        return build_classifier(**options, geometry=data.geometry)
    # A run that goes on needs no initial weights; the file, or the network to fetch it, may be gone.
    network, _ = build_classifier(**options | {"weights": "none"}, geometry=data.geometry)
    return network, checkpoint.origin


def _restore(run: Run, checkpoint: Checkpoint) -> None:
    """Put a run where its checkpoint left it."""
    # Checkpoints of older versions are of PatchCamelyon's geometry, and their recipes lack newer keys.
    begun = {"geometry": str(PCAM), **checkpoint.identity}
    begun["recipe"] = check_recipe(json.loads(begun["recipe"])).model_dump_json()
    for key, value in run.identity.items():
        if begun.get(key) != value:
            raise DataError(
                f"the run in this folder was started with other {IDENTITY[key]}; resuming it would mix the two.",
                where=run.job.out,
                hint="Resume with the same ones, or train into another folder.",
            )
    run.progress = checkpoint.progress
    run.optimizer_state = checkpoint.optimizer
    run.network.load_state_dict(checkpoint.network)
    if run.average is not None and checkpoint.average is not None:
        run.average.load_state_dict(checkpoint.average)
    if run.show:
        at = run.progress
        where = "at its end" if at.finished else f"at step {at.step:,} of stage {at.stage + 1}"
        console.print(f"Resuming from the checkpoint in {run.job.out}, {where}.", markup=False)
