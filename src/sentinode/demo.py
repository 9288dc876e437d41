"""The main steps from beginning to end on generated patches, without a download. ``make demo`` runs this.

Each step prints its command, so that a newcomer sees the commands first.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
from PIL import Image

from sentinode.atomic import make_folder, whole_file
from sentinode.evaluation import evaluate
from sentinode.explanation import explain
from sentinode.patches import CLASS_NAMES, PatchSet, open_data
from sentinode.patches.synthetic import synthesise
from sentinode.prediction import predict
from sentinode.progress import console
from sentinode.training import train

EXAMPLES = 4
"""Patches of each class that are predicted and explained one by one."""


def run(out: Path, *, patches: int = 2048, show: bool = True) -> Path:
    """Generate patches, train, evaluate, predict and explain.

    A second run on the same folder resumes where the first one stopped.

    Args:
        out: the folder for all results.
        patches: number of training patches to generate; valid and test get a quarter of it each.
        show: whether to show steps and progress on standard error.

    Returns:
        The report to open.

    Raises:
        OutputError: ``out`` cannot be written, or contains other files under these names.
    """
    out = make_folder(Path(out))
    data, job, test, examples = out / "data", out / "run", out / "test", out / "examples"
    predictions, explained = out / "predictions.csv", out / "explained"
    resume = job.exists()

    def say(title: str, *command: str | Path) -> None:
        if show:
            line = shlex.join(["sentinode", *map(str, command)])
            console.print(f"\n{title}", style="bold", markup=False)
            console.print(f"$ {line}", style="cyan", markup=False, soft_wrap=True)

    held = patches // 4
    counts = ("--train", str(patches), "--valid", str(held), "--test", str(held))
    say("1. Generate patches that look a little like H&E", "data", "synth", data, *counts)
    synthesise(data, train=patches, valid=held, test=held, show=show)

    again = ("--resume",) if resume else ()
    start = ("--recipe", "quick", "--weights", "none", *again)
    say("2. Train a small network from random weights", "train", data, "--out", job, *start)
    bundle = train(data, job, recipe="quick", weights="none", resume=resume, show=show)

    model = bundle.path
    say("3. Evaluate it on other slides", "evaluate", model, data, "--split", "test", "--out", test)
    evaluation = evaluate(bundle, data, "test", test, show=show)

    _save_examples(open_data(data, show=False)["test"], examples)
    say("4. Predict single images", "predict", model, examples, "--out", predictions)
    predict(bundle, [examples], out=predictions, show=show)

    say("5. Show the evidence in these images", "explain", model, examples, "--out", explained)
    explain(bundle, [examples], explained, show=show)

    if show:
        auc = evaluation.scores.auc.value
        toy = "This model is a toy: it has never seen tissue."
        console.print(f"\nAUC {auc:.3f} on generated patches. {toy}\nOpen the report in a browser:", markup=False)
    return evaluation.report


def _save_examples(patches: PatchSet, folder: Path) -> None:
    """A few patches of each class as PNG files, named by their class."""
    make_folder(folder)
    for label, name in enumerate(CLASS_NAMES):
        rows = np.flatnonzero(patches.labels == label)[:EXAMPLES]
        for number, image in enumerate(patches.images[rows], start=1):
            with whole_file(folder / f"{name}_{number}.png") as staged:
                Image.fromarray(image).save(staged)
