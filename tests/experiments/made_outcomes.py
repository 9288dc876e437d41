"""What trainings might have reached, without training: the more patches, the better."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sentinode.experiments.trials import RUNS, Outcome, Study, Trial
from sentinode.patches import PatchSet
from sentinode.scoring import Predictions


def made_outcomes(study: Study, trials: Sequence[Trial]) -> list[Outcome]:
    """In the place of ``run_trials``: nothing is written."""
    return [_made(study, trial) for trial in trials]


def _made(study: Study, trial: Trial) -> Outcome:
    patches = len(study.data["train"]) if trial.rows is None else len(trial.rows)
    rng = np.random.default_rng([patches, trial.seed])
    predictions = {split: _predicted(study.data[split], np.log2(patches) / 4, rng) for split in study.splits}
    epochs = trial.recipe.training.epochs
    folder = study.out / RUNS / trial.folder
    return Outcome(trial.name, trial.seed, folder, patches, 1000, 2.0, 50.0, epochs, "none", predictions)


def _predicted(patches: PatchSet, signal: float, rng: np.random.Generator) -> Predictions:
    margins = signal * np.where(patches.labels == 1, 0.5, -0.5) + rng.normal(size=len(patches))
    probabilities = 1 / (1 + np.exp(-margins))
    return Predictions(name="made", ids=patches.ids, labels=patches.labels, probabilities=probabilities, threshold=0.5)
