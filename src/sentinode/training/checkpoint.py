"""The state of a run on disk: what it takes to go on after a crash as if nothing had happened."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sentinode.atomic import whole_file
from sentinode.errors import DataError, OutputError

CHECKPOINT, BEST = "checkpoint.pt", "best.safetensors"


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        stage: index of the stage: 0 the head alone, 1 the whole network.
        step: steps done in that stage.
        parts: portions in which a batch is computed; grows when memory runs out.
        loss_sum: sum of the losses of this epoch's steps.
        loss_steps: how many steps that sum holds.
        seconds: spent training in this epoch.
        best: the best valid score so far, higher being better, or None.
        waited: epochs since the best.
        finished: True once the last epoch is done or patience has run out.
        history: one entry for each epoch.
    """

    stage: int = 0
    step: int = 0
    parts: int = 1
    loss_sum: float = 0.0
    loss_steps: int = 0
    seconds: float = 0.0
    best: float | None = None
    waited: int = 0
    finished: bool = False
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def mean_loss(self) -> float:
        """Of this epoch's steps so far."""
        return self.loss_sum / max(self.loss_steps, 1)

    def count_step(self, loss: float, seconds: float) -> None:
        """One more step is done."""
        self.step += 1
        self.loss_sum += loss
        self.loss_steps += 1
        self.seconds += seconds

    def count_score(self, score: float) -> bool:
        """An epoch has been scored, higher being better. Returns whether it is the best so far."""
        if self.best is not None and score <= self.best:
            self.waited += 1
            return False
        self.best, self.waited = score, 0
        return True

    def forget_epoch(self) -> None:
        """Begin the sums of another epoch."""
        self.loss_sum, self.loss_steps, self.seconds = 0.0, 0, 0.0


@dataclass
class Checkpoint:
    """A run's progress with the tensors that belong to it.

    Attributes:
        progress: how far it has come.
        identity: what it must be resumed with.
        origin: where its initial weights came from.
        network: the weights.
        optimizer: the optimiser's state.
        average: the moving average's state, where there is one.
    """

    progress: Progress
    identity: dict[str, Any]
    origin: str
    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    average: dict[str, Tensor] | None


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint, whole or not at all.

    Raises:
        OutputError: the place cannot be written or the disk is full.
    """
    state = vars(checkpoint) | {"progress": asdict(checkpoint.progress)}
    with whole_file(folder / CHECKPOINT) as staged:
        try:
            torch.save(state, staged)
        except RuntimeError as error:  # how PyTorch's writer reports a full disk
            raise OutputError(
                "the checkpoint could not be written; is the disk full? The previous one is intact.",
                where=folder,
                hint="Free some space and continue with --resume.",
            ) from error


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The last checkpoint of a run, or None if it has none. Holds tensors and plain values alone.

    Raises:
        DataError: it is damaged.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return Checkpoint(**state | {"progress": Progress(**state["progress"])})
    except (pickle.UnpicklingError, RuntimeError, EOFError, TypeError, KeyError) as error:
        raise DataError(
            "this checkpoint is damaged or of another version.",
            where=path,
            hint="Start again in another folder.",
        ) from error


def save_best(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Keep the best weights so far."""
    with whole_file(folder / BEST) as staged:
        save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, staged)


def load_best(folder: Path) -> dict[str, Tensor]:
    """The best weights of a run."""
    return load_file(folder / BEST)
