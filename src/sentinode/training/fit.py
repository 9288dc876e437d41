"""The way into training: check what was asked, open the run's folder, and start as many processes as are wanted."""

from __future__ import annotations

import dataclasses
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric

from sentinode.augmentation.transforms import Augment
from sentinode.errors import DataError, DeviceError, OutputError, RecipeError, SentinodeError
from sentinode.model import bundle as bundles
from sentinode.model.bundle import Bundle, ModuleSource
from sentinode.model.classifier import pooling_for
from sentinode.model.hardware import choose_device, choose_precision, describe, keep_freed_memory
from sentinode.patches import PatchData, open_data
from sentinode.progress import console
from sentinode.recipes import Recipe
from sentinode.scoring import parse_rule
from sentinode.training.checkpoint import CHECKPOINT
from sentinode.training.run import Job, Run

# Importing it has set this to INFO; what the user must know of devices and precision, we say ourselves.
for _name in ("lightning.fabric", "lightning.pytorch"):
    logging.getLogger(_name).setLevel(logging.WARNING)


def fit(
    recipe: Recipe,
    data: PatchData,
    out: Path,
    *,
    module: ModuleSource | None = None,
    resume: bool = False,
    device: str = "auto",
    devices: int = 1,
    show: bool = True,
) -> Bundle:
    """Train a classifier and leave ``out/bundle``.

    The run's folder also holds ``recipe.toml`` (all of it, resolved), ``log.csv``, ``learning_curve.png``, TensorBoard
    events, and ``checkpoint.pt`` to go on from.

    Args:
        recipe: every hyperparameter.
        data: labelled patches with a train and a valid split.
        out: the run's folder.
        module: a network of one's own, or what makes it, in place of the recipe's: uint8 (B, S, S, 3) to logits
            (B, 2).
        resume: go on from the last checkpoint in ``out``; begin where there is none.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        devices: processes that train together (DDP), one for each GPU, or so many on the CPU.
        show: whether to show progress on standard error.

    Returns:
        The bundle, with temperature, offset and thresholds chosen on valid.

    Raises:
        DataError: a split is missing or holds one class only, or ``out`` holds a run on other data.
        RecipeError: the recipe does not suit the data or the devices, or is not the one of the run to resume.
        OutputError: ``out`` cannot be written, or holds a run already and ``resume`` is False.
        Interrupted: Ctrl-C; the work so far is saved.
    """
    out = Path(out)
    _check(recipe, data, devices)
    _refuse_to_overwrite(out, resume)
    target = choose_device(device)
    if target.type == "cuda" and devices > torch.cuda.device_count():
        raise DeviceError(f"there are {torch.cuda.device_count()} GPUs here, not {devices}.")
    precision = choose_precision(recipe.training.precision, target)
    fabric = Fabric(
        accelerator=target.type,
        devices=devices if devices > 1 or target.index is None else [target.index],
        strategy="ddp_spawn" if devices > 1 else "auto",
        precision="bf16-mixed" if precision == torch.bfloat16 else "32-true",
    )
    if show:
        for warning in data.warnings:
            console.print("Note:", style="yellow", end=" ")
            console.print(warning, markup=False)
        console.print(f"Training on {describe(target)} in {str(precision).removeprefix('torch.')}.", markup=False)
        if module is None and pooling_for(recipe.model.pooling, data.geometry) != recipe.model.pooling:
            console.print("Labels cover whole patches, which have no labelled centre: pooling is the average alone.")
        if module is not None and recipe.operating_point.calibration == "platt":
            console.print("Your network has no head that could keep an offset: a temperature alone calibrates it.")
    assignment = None if data.own_splits else data.assignment()
    job = Job(recipe, data.path, data.stated, data.slide_map, assignment, out, module, resume, show)
    with _patient_parent(devices > 1):
        failure = fabric.launch(partial(_take_part, job=job, data=data if devices == 1 else None))
    if failure is not None:
        raise failure
    return bundles.load(out / "bundle", module=module)


def _take_part(fabric: Fabric, job: Job, data: PatchData | None) -> SentinodeError | None:
    """One process's part. Hands a refusal back as a value, because processes cannot raise into each other."""
    keep_freed_memory()
    try:
        data = data or _open_again(job)
        Run(fabric, job, data).go()
    except SentinodeError as error:
        return error
    return None


def _open_again(job: Job) -> PatchData:
    return open_data(
        job.data, slide_map=job.slide_map, assignment=job.assignment, **dataclasses.asdict(job.stated), show=False
    )


def _check(recipe: Recipe, data: PatchData, devices: int) -> None:
    """Refuse what cannot work before anything is written."""
    for split in ("train", "valid"):
        labels = data[split].labels
        if len(np.unique(labels)) < 2:
            only = data.class_names[int(len(labels) > 0 and labels[0])]
            raise DataError(
                f"the {split} split holds {only} patches only; there is nothing to tell apart.",
                where=data.path,
                hint="Training and choosing the threshold need both classes in train and in valid.",
            )
    if len(data["train"]) < 2 * devices:
        raise DataError("there are fewer training patches than devices need.", where=data.path)
    if recipe.training.batch_size % devices:
        raise RecipeError(
            f"a batch of {recipe.training.batch_size} cannot be shared equally by {devices} processes.",
            where="training.batch_size",
            hint=f"For example --set training.batch_size={devices * max(recipe.training.batch_size // devices, 1)}",
        )
    if recipe.training.teacher and not recipe.training.ema:
        raise RecipeError(
            "the moving average is to teach, but there is none.",
            where="training.teacher",
            hint="Set training.ema, for example to 0.998, or training.teacher to 0.",
        )
    parse_rule(recipe.operating_point.rule)
    Augment(**recipe.augment.model_dump(), geometry=data.geometry)


def _refuse_to_overwrite(out: Path, resume: bool) -> None:
    if not resume and ((out / CHECKPOINT).exists() or (out / "bundle").exists()):
        raise OutputError(
            "this folder holds a run already.",
            where=out,
            hint="Go on with --resume, or choose another folder with --out.",
        )


@contextmanager
def _patient_parent(several: bool) -> Iterator[None]:
    """Let the workers answer Ctrl-C themselves: they save, and then the parent returns."""
    if not several or threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Callable[..., Any] | int | None = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
