"""What is asked of a run, and the refusal of what cannot work, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sentinode.augmentation.transforms import Augment
from sentinode.errors import DataError, OutputError, RecipeError
from sentinode.model.bundle import ModuleSource
from sentinode.patches import PatchData, Reopening
from sentinode.recipes import Recipe
from sentinode.scoring import parse_rule
from sentinode.training.checkpoint import CHECKPOINT
from sentinode.training.parent import Parent

BUNDLE = "bundle"
"""The folder of the bundle in that of the run."""


AfterEpoch = Callable[[Mapping[str, float]], bool]
"""Gets what the history has of an epoch, such as ``epoch`` and ``valid_auc``, and says whether training goes on."""


@dataclass(frozen=True)
class Job:
    """All that a process needs to take part in a run; it can be sent to another process.

    Attributes:
        recipe: every hyperparameter.
        out: the run's folder.
        data: the labelled patches.
        module: a network of one's own, or what makes it; None for the recipe's.
        parent: the bundle that the training goes on from, or None.
        resume: go on from the last checkpoint in ``out``.
        show: whether to show progress on standard error.
        after_epoch: asked after each epoch whether training goes on; None for always.
    """

    recipe: Recipe
    out: Path
    data: Reopening
    module: ModuleSource | None = None
    parent: Parent | None = None
    resume: bool = False
    show: bool = True
    after_epoch: AfterEpoch | None = None


def check(recipe: Recipe, data: PatchData, devices: int) -> None:
    """Refuse what cannot work.

    Raises:
        DataError: a split is missing, holds one class only, or has fewer patches than ``devices`` need.
        RecipeError: the recipe contradicts itself, or does not suit the data or the devices.
    """
    _check_data(data, devices)
    training = recipe.training
    if training.batch_size % devices:
        raise RecipeError(
            f"a batch of {training.batch_size} cannot be shared equally by {devices} processes.",
            where="training.batch_size",
            hint=f"For example --set training.batch_size={devices * max(training.batch_size // devices, 1)}",
        )
    if training.teacher and not training.ema:
        raise RecipeError(
            "the teacher is a moving average, and there is none.",
            where="training.teacher",
            hint="Set training.ema, for example to 0.998, or training.teacher to 0.",
        )
    parse_rule(recipe.operating_point.rule)
    Augment(**recipe.augment.model_dump(), geometry=data.geometry)


def _check_data(data: PatchData, devices: int) -> None:
    for split in ("train", "valid"):
        labels = data[split].labels
        if len(np.unique(labels)) < 2:
            only = data.class_names[int(len(labels) > 0 and labels[0])]
            raise DataError(
                f"all patches of the {split} split are {only}; two classes are needed.",
                where=data.path,
                hint="Training and choosing the threshold need both classes in train and in valid.",
            )
    if len(data["train"]) < 2 * devices:
        raise DataError("there are fewer training patches than devices need.", where=data.path)


def refuse_to_overwrite(out: Path, resume: bool) -> None:
    """Refuse a folder that holds a run, unless it is to go on.

    Raises:
        OutputError: there is one, and ``resume`` is False.
    """
    if not resume and ((out / CHECKPOINT).exists() or (out / BUNDLE).exists()):
        raise OutputError(
            "this folder already contains a run.",
            where=out,
            hint="Continue it with --resume, or choose another folder with --out.",
        )
