"""What is asked of a run, and the refusal of what cannot work, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinode.augmentation.transforms import Augment
from sentinode.errors import DataError, OutputError, RecipeError
from sentinode.model.bundle import ModuleSource
from sentinode.patches import PatchData, Stated, open_data
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
        data: the path of the labelled patches.
        stated: what the user has stated of the patches.
        also: the paths of further training patches.
        slide_map: a CSV that names the slide of each patch, or None.
        assignment: the split of each patch by its id, where the data names no splits.
        rows: the patches that are left of splits that were limited.
        module: a network of one's own, or what makes it; None for the recipe's.
        parent: the bundle that the training goes on from, or None.
        resume: go on from the last checkpoint in ``out``.
        show: whether to show progress on standard error.
        after_epoch: asked after each epoch whether training goes on; None for always.
    """

    recipe: Recipe
    out: Path
    data: Path
    stated: Stated
    also: tuple[Path, ...] = ()
    slide_map: Path | None = None
    assignment: Mapping[str, str] | None = None
    rows: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    module: ModuleSource | None = None
    parent: Parent | None = None
    resume: bool = False
    show: bool = True
    after_epoch: AfterEpoch | None = None

    @classmethod
    def on(cls, data: PatchData, recipe: Recipe, out: Path, **more: Any) -> Job:
        """The job on open data, with all that another process needs to open it again; ``more`` is the other fields."""
        return cls(
            recipe=recipe,
            out=out,
            data=data.path,
            stated=data.stated,
            also=tuple(further.path for further in data.also),
            slide_map=data.slide_map,
            assignment=None if data.own_splits else data.assignment(),
            rows=data.rows,
            **more,
        )

    def open_data(self) -> PatchData:
        """The patches, opened again in another process."""
        data = open_data(
            self.data,
            slide_map=self.slide_map,
            assignment=self.assignment,
            expected=self.parent.card.expected if self.parent else None,
            also=self.also,
            **asdict(self.stated),
            show=False,
        )
        return data.limited(self.rows)


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
