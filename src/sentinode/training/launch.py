"""The entry point of training: read and check the arguments, and start the processes."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from filelock import Timeout
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from torch.multiprocessing.spawn import ProcessExitedException

from sentinode.atomic import make_folder
from sentinode.errors import DataError, DeviceError, Interrupted, OutputError, RecipeError, SentinodeError
from sentinode.locks import LOCKS, lock
from sentinode.model.bundle import Bundle, ModuleSource, load
from sentinode.model.classifier import pooling_for
from sentinode.model.hardware import choose_device, choose_precision, describe, keep_freed_memory
from sentinode.patches import PatchData, Reopening, Stated, open_data
from sentinode.progress import console
from sentinode.recipes import Recipe, load_recipe
from sentinode.training.checkpoint import CHECKPOINT
from sentinode.training.finishing import finish
from sentinode.training.interruption import left_to_workers
from sentinode.training.job import BUNDLE, AfterEpoch, Job, check, refuse_to_overwrite
from sentinode.training.loop import train_and_evaluate
from sentinode.training.nodes import environment
from sentinode.training.parent import (
    FROM_BUNDLE,
    Parent,
    open_parent,
    read_parent,
    recipe_from,
    refuse_beside_parent,
    require_same_patches,
)
from sentinode.training.run import RECIPE, begin

RUN = "run"
"""The lock of a run's folder."""

# Importing it has set this to INFO; what the user must know of devices and precision, we say ourselves.
for _name in ("lightning.fabric", "lightning.pytorch"):
    logging.getLogger(_name).setLevel(logging.WARNING)


def train(
    data: str | Path | PatchData,
    out: str | Path,
    *,
    recipe: str | Path | Recipe | None = None,
    weights: str | Path | None = None,
    settings: Iterable[str] = (),
    start_from: str | Path | Bundle | None = None,
    module: ModuleSource | None = None,
    also: Sequence[str | Path] = (),
    slide_map: str | Path | None = None,
    mpp: float | None = None,
    label_region: int | None = None,
    positive: Sequence[str] = (),
    resume: bool = False,
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    show: bool = True,
    after_epoch: AfterEpoch | None = None,
) -> Bundle:
    """Train a patch classifier, write it to ``out/bundle``, and return this bundle.

    The run's folder also contains ``recipe.toml`` (with all keys), ``log.csv``, ``learning_curve.png``, TensorBoard
    events, and ``checkpoint.pt`` for resuming.

    Args:
        data: labelled patches with a train and a valid split, of any kind that :func:`sentinode.patches.open_data`
            reads, or what it returned.
        out: the run's folder.
        recipe: the name of a shipped recipe, a TOML file, or a :class:`Recipe`; by default ``resnet50``, or
            the run's own recipe if it resumes. With ``start_from``: the bundle's, with one pass at a tenth of its
            learning rate.
        weights: ``imagenet``, ``none`` or a file; overrides the recipe's.
        settings: overrides such as ``optimizer.lr=3e-4``.
        start_from: a bundle whose training continues: its weights, network, geometry and class names; ``packaged`` is
            the bundled model.
        module: your own network, or a function that makes it, instead of the recipe's: from uint8 (B, S, S, 3) to
            logits (B, 2).
        also: further labelled patches, with the same geometry and classes, that join the training split: their train
            split, or all of them if they have no splits.
        slide_map: a CSV that names the slide of each patch, if the data does not.
        mpp: microns per pixel of the patches, if the data does not record them.
        label_region: side in pixels of the centre square that labels cover, in the same case.
        positive: names of the class folders of label 1, if their names do not tell it.
        resume: resume from the last checkpoint in ``out``; start anew if there is none.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        devices: number of processes of each node that train together (DDP), one for each GPU, or all on the CPU.
        nodes: number of nodes that train together. If there are several, torchrun or Slurm has started this process
            on each of them, once for each device, and all see ``data`` and ``out`` at the same paths.
        show: whether to show progress on standard error.
        after_epoch: a function that gets the log's entry of each epoch and returns whether training goes on; for one
            device.

    Returns:
        The bundle, with temperature, offset and thresholds chosen on valid.

    Raises:
        DataError: a split is missing or has one class only, ``out`` contains a run on other data, or the patches are
            not such as the bundle to continue takes.
        RecipeError: the recipe does not suit the data or the devices, is not the one of the run to resume, or
            contradicts the bundle to continue.
        BundleError: that bundle cannot be loaded, or its network is a class of its author's.
        DeviceError: there are fewer devices, or the processes that were started are not those of the nodes.
        OutputError: ``out`` cannot be written, another process trains into it, or it contains a run and ``resume`` is
            False.
        StoppedEarly: ``after_epoch`` returned False; the work so far is saved, and there is no bundle.
        Interrupted: Ctrl-C was pressed; the work so far is saved.
    """
    if after_epoch is not None and devices * nodes > 1:
        raise DeviceError("after_epoch is for one device.", hint="Leave out after_epoch, or train on one device.")
    out, settings = Path(out), list(settings)
    started_by = environment(nodes, devices)
    first = started_by is None or started_by.global_rank() == 0
    show = show and first
    if start_from is not None:
        refuse_beside_parent(weights, module, resume, settings)
    parent = read_parent(out) if resume else None if start_from is None else open_parent(start_from)
    recipe = _resolve(recipe, weights, settings, out, resume, parent)
    stated = Stated(mpp, label_region, tuple(positive))
    if isinstance(data, PatchData):
        _refuse_stated(data, slide_map, stated, also)
    else:
        slides = None if slide_map is None else Path(slide_map)
        expected = parent.card.expected if parent else None
        data = open_data(
            data, slide_map=slides, seed=recipe.split.seed, expected=expected, also=also, **asdict(stated), show=show
        )
    if parent is not None:
        require_same_patches(parent, data)
    check(recipe, data, devices * nodes)
    if first:
        refuse_to_overwrite(out, resume)
    job = Job(recipe, out, Reopening.of(data), module, parent, resume, show, after_epoch)
    target = choose_device(device)
    fabric = _open_devices(recipe, target, devices, nodes, started_by)
    if show:
        _announce(job, data, target)
    spawns = nodes == 1 and devices > 1
    with _alone(out) if first else contextlib.nullcontext(), left_to_workers(spawns):
        if first:
            refuse_to_overwrite(out, resume)  # another process may have begun and ended since
        try:
            failure = fabric.launch(partial(_take_part, job=job, data=None if spawns else data))
        except ProcessExitedException as error:  # it could not save any more, or had not begun
            raise Interrupted(
                f"a training process was ended from outside ({error.signal_name or error.exit_code}).",
                where=out,
                hint="Run the same command with --resume to go on from the last checkpoint, if there is one.",
            ) from error
    if failure is not None:
        raise failure
    return load(out / BUNDLE, module=module)


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the run's folder, so that two trainings do not mix their files.

    Raises:
        OutputError: another process trains into it, or it cannot be written.
    """
    is_new = not out.exists()
    make_folder(out)
    try:
        with lock(out, RUN, wait=False):
            try:
                yield
            finally:
                if is_new and all(one.name == LOCKS for one in out.iterdir()):  # refused before anything was written
                    shutil.rmtree(out, ignore_errors=True)
    except Timeout as error:
        raise OutputError(
            "another process is training into this folder.",
            where=out,
            hint="Wait until it is done, or choose another folder with --out.",
        ) from error


def _take_part(fabric: Fabric, job: Job, data: PatchData | None) -> SentinodeError | None:
    """One process's part. Returns a refusal as a value, because processes cannot raise into each other."""
    keep_freed_memory()
    try:
        run = begin(fabric, job, data or job.data.open())
        train_and_evaluate(run)
        if fabric.is_global_zero:
            finish(run)
        fabric.barrier()
    except SentinodeError as error:
        return error
    return None


def _resolve(
    recipe: str | Path | Recipe | None,
    weights: str | Path | None,
    settings: list[str],
    out: Path,
    resume: bool,
    parent: Parent | None,
) -> Recipe:
    """The recipe with all that overrides it."""
    if parent is not None and not resume:
        chosen = recipe_from(parent, recipe, settings)
    else:
        chosen = _resolve_alone(recipe, weights, settings, out, resume)
    going_on = (out / CHECKPOINT).exists() if resume else True
    if chosen.model.weights == FROM_BUNDLE and not (parent and going_on):
        raise RecipeError(
            "this recipe is of a run that went on from a bundle, and there is neither a bundle nor a checkpoint to go "
            "on from.",
            where="model.weights",
            hint="Name the bundle with --from, without --resume.",
        )
    return chosen


def _resolve_alone(
    recipe: str | Path | Recipe | None, weights: str | Path | None, settings: list[str], out: Path, resume: bool
) -> Recipe:
    """The recipe of a run that begins by itself, or goes on from its checkpoint."""
    if weights is not None:
        quoted = json.dumps(str(weights), ensure_ascii=False)  # a TOML string, whatever the path looks like
        settings = [*settings, f"model.weights={quoted}"]
    if recipe is None:
        recipe = out / RECIPE if resume and (out / RECIPE).exists() else "resnet50"
    if not isinstance(recipe, Recipe):
        return load_recipe(recipe, settings)
    if settings:
        raise RecipeError("settings are for a recipe's name or file, not for a Recipe.")
    return recipe


def _refuse_stated(data: PatchData, slide_map: str | Path | None, stated: Stated, also: Sequence[str | Path]) -> None:
    """Open data has been told already what there is to state."""
    if slide_map is not None or also or stated != Stated():
        raise DataError(
            "slide_map, also, mpp, label_region and positive are for a path of data, not for data that is open.",
            where=data.path,
            hint="Give them to open_data.",
        )


def _open_devices(
    recipe: Recipe, target: torch.device, devices: int, nodes: int, started_by: ClusterEnvironment | None
) -> Fabric:
    """The devices and the precision to train with."""
    if target.type == "cuda" and devices > torch.cuda.device_count():
        raise DeviceError(f"there are {torch.cuda.device_count()} GPUs here, not {devices}.")
    several = "ddp" if started_by is not None else "ddp_spawn"
    bfloat16 = choose_precision(recipe.training.precision, target) == torch.bfloat16
    return Fabric(
        accelerator=target.type,
        devices=devices if devices > 1 or target.index is None else [target.index],
        num_nodes=nodes,
        strategy=several if devices * nodes > 1 else "auto",
        plugins=None if started_by is None else [started_by],
        precision="bf16-mixed" if bfloat16 else "32-true",
    )


def _announce(job: Job, data: PatchData, target: torch.device) -> None:
    """Print the data's warnings, the device, and what of the recipe does not apply here."""
    recipe = job.recipe
    for warning in data.warnings:
        console.print("Note:", style="yellow", end=" ")
        console.print(warning, markup=False)
    precision = str(choose_precision(recipe.training.precision, target)).removeprefix("torch.")
    console.print(f"Training on {describe(target)} in {precision}.", markup=False)
    if job.parent is not None and not job.resume:
        console.print(
            f"Going on from the bundle {job.parent.card.name} ({job.parent.fingerprint[:12]}): passes "
            f"{recipe.training.epochs}, learning rate {recipe.optimizer.lr:g}.",
            markup=False,
        )
    if job.module is None and pooling_for(recipe.model.pooling, data.geometry) != recipe.model.pooling:
        console.print("Labels cover whole patches, not a centre: pooling uses only the average.")
    if job.module is not None and recipe.operating_point.calibration == "platt":
        console.print("Your network has no head for an offset: calibration fits only a temperature.")
