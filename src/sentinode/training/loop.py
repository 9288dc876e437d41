"""The training loop. Read it from top to bottom.

A run is two stages of steps: the new head alone, then the whole network. Valid is scored after each epoch of the second
stage, and the best weights are kept.
"""

from __future__ import annotations

import math
import time

import torch

from sentinode.errors import Interrupted, RecipeError, StoppedEarly
from sentinode.model.classifier import Classifier
from sentinode.progress import bar, console
from sentinode.training.batches import epoch_order, epoch_rows, read_batches
from sentinode.training.checkpoint import save_best
from sentinode.training.interruption import StopSignals
from sentinode.training.learner import Learner, Stage
from sentinode.training.run import Run
from sentinode.training.validation import logit_margins, quick_metrics

LOGGED_EVERY = 20
"""Steps between two entries in TensorBoard."""


def train_and_evaluate(run: Run) -> None:
    """Train each stage from where the run stands, and leave the best weights in the run's folder.

    Raises:
        RecipeError: the loss is no longer a number.
        StoppedEarly: the job's ``after_epoch`` has said so; a checkpoint is saved.
        Interrupted: Ctrl-C, or the system asked the process to end; a checkpoint is saved.
    """
    with StopSignals(run.stopping):
        for stage in stages(run):
            if stage.steps and stage.index >= run.progress.stage and not run.progress.finished:
                train_stage(run, stage)
    if run.logbook is not None:
        run.logbook.close()


def stages(run: Run) -> list[Stage]:
    """The head alone, then all layers. A network of one's own has no head, and its first stage no steps."""
    training, per_epoch = run.recipe.training, run.steps_per_epoch
    head_steps = round(training.head_epochs * per_epoch) if isinstance(run.network, Classifier) else 0
    head_epochs = -(-head_steps // per_epoch)
    return [
        Stage(0, "head", head_epochs, head_steps, head_only=True),
        Stage(1, "all layers", training.epochs, training.epochs * per_epoch, head_only=False),
    ]


def train_stage(run: Run, stage: Stage) -> None:
    """Train a stage epoch by epoch until its end, or until valid no longer gains."""
    progress = run.progress
    if stage.index > progress.stage:
        progress.stage, progress.step = stage.index, 0
    learner = run.learner(stage)
    # An epoch is over when it has been scored: a run killed between its last step and its score goes on there.
    begun = progress.step // run.steps_per_epoch if stage.head_only else len(progress.history)
    for epoch in range(begun, stage.epochs):
        train_epoch(run, learner, epoch)
        if not stage.head_only:
            evaluate_epoch(run, learner, epoch)
            if progress.finished:
                break
    progress.forget_epoch()


def train_epoch(run: Run, learner: Learner, epoch: int) -> None:
    """Take the steps that are left of an epoch, counted from 0."""
    progress, stage, fabric = run.progress, learner.stage, run.fabric
    first = epoch * run.steps_per_epoch
    last = min(first + run.steps_per_epoch, stage.steps)
    order = epoch_order(len(run.train), run.recipe.training.seed, stage.index, epoch)
    left = range(progress.step - first, last - first)
    rows = epoch_rows(order, run.batch, left, fabric.global_rank, fabric.world_size)
    title = "Head only" if stage.head_only else f"Epoch {epoch + 1}/{stage.epochs}"
    learner.set_mode()
    with bar(title, (last - first) * run.batch, show=run.show) as shown:
        shown.advance(left.start * run.batch)
        for images, labels in read_batches(run.train, rows, fabric.device):
            began = time.perf_counter()
            loss = float(learner.train_step(images, labels, progress.step))
            record_step(run, learner, loss, time.perf_counter() - began)
            shown.advance(run.batch)
            shown.note(_note(run))
            save_or_stop(run, learner)


def record_step(run: Run, learner: Learner, loss: float, seconds: float) -> None:
    """Count a step, and now and then log it."""
    title = learner.stage.title
    if not math.isfinite(loss):
        raise RecipeError(
            f"the loss is no longer a number at step {run.progress.step + 1} of stage '{title}'.",
            where=run.job.out,
            hint="Lower optimizer.lr, or set training.precision=float32, and start again.",
        )
    run.progress.count_step(loss, seconds)
    if run.logbook is not None and run.progress.step % LOGGED_EVERY == 0:
        run.logbook.step(run.progress.step, {f"{title}/loss": loss, f"{title}/learning_rate": learner.rate})


def save_or_stop(run: Run, learner: Learner) -> None:
    """Save every few minutes, and stop where Ctrl-C or the system asks for it."""
    asked = run.stopping.is_set()
    if run.fabric.world_size > 1:  # all processes must stop at the same step
        asked = bool(run.fabric.all_reduce(torch.tensor(float(asked)), reduce_op="sum"))
    due = time.monotonic() - run.saved_at > 60 * run.recipe.training.checkpoint_minutes
    if asked or due:
        run.save(learner)
    if asked:
        raise Interrupted(
            "stopped; the work so far is saved.",
            where=run.job.out,
            hint="Run the same command with --resume"
            f"{'' if run.job.parent is None else ' in place of --from, and without --recipe,'} to continue.",
        )


def evaluate_epoch(run: Run, learner: Learner, epoch: int) -> None:
    """Score valid after an epoch, keep the best weights, log, and see whether patience has run out."""
    progress, training = run.progress, run.recipe.training
    learner.share_statistics()
    done = epoch + 1
    margins = logit_margins(run.fabric, run.scored, run.valid, f"Valid {done}/{training.epochs}", show=run.show)
    metrics = quick_metrics(margins, run.valid.labels)
    progress.history.append(
        {
            "epoch": done,
            "step": progress.step,
            "train_loss": progress.mean_loss,
            **{f"valid_{name}": value for name, value in metrics.items()},
            "learning_rate": learner.rate,
            "patches_per_second": progress.loss_steps * run.batch / max(progress.seconds, 1e-9),
        }
    )
    score = -metrics["nll"] if training.monitor == "nll" else metrics[training.monitor]
    if progress.count_score(score) and run.fabric.is_global_zero:
        save_best(run.job.out, run.scored.state_dict())
    progress.finished = done == training.epochs or 0 < training.patience <= progress.waited
    if run.logbook is not None:
        run.logbook.epoch()
    if run.show:
        _print_epoch(run)
    progress.forget_epoch()
    run.save(learner)
    after_epoch = run.job.after_epoch
    if after_epoch is not None and not after_epoch(progress.history[-1]):
        raise StoppedEarly(f"stopped after epoch {done} of {training.epochs}.", where=run.job.out)


def _note(run: Run) -> str:
    """What stands beside the bar."""
    history = run.progress.history
    auc = f"  valid AUC {history[-1]['valid_auc']:.4f}" if history else ""
    return f"loss {run.progress.mean_loss:.3f}{auc}"


def _print_epoch(run: Run) -> None:
    """Print what the last epoch reached."""
    last, training = run.progress.history[-1], run.recipe.training
    epoch, best = int(last["epoch"]), "" if run.progress.waited else "  best so far"
    console.print(
        f"Epoch {epoch}/{training.epochs}  loss {last['train_loss']:.4f}  valid AUC {last['valid_auc']:.4f}  "
        f"accuracy {last['valid_accuracy']:.4f}  NLL {last['valid_nll']:.4f}  "
        f"{last['patches_per_second']:,.0f} patches/s{best}",
        markup=False,
    )
    if run.progress.finished and epoch < training.epochs:
        console.print(f"No better valid {training.monitor} for {training.patience} epochs: stopping here.")
