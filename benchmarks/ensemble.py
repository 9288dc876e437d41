"""What several trained classifiers reach together: an upper bound for what one of them could.

python benchmarks/ensemble.py --data pcam --runs runs/benchmark/resnet50-0 runs/benchmark/resnet50-1 runs/small

Averages the calibrated logit margins of the runs' bundles, fits a temperature and an offset to the average on valid,
chooses the threshold there by accuracy, and prints a Markdown table of valid (test, 95 % interval): each run alone, and
all together, without and with the eight symmetries averaged. Evaluations that are missing are made, beside each bundle.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
from numpy.typing import NDArray
from patch_classifier import FIGURES, evaluate, row

from sentinode.scoring import Scores, calibrated, choose_threshold, fit_platt, measure

Floats = NDArray[np.float64]


def margins(run: Path, data: Path, split: str, tta: bool) -> tuple[list[str], NDArray[np.uint8], Floats]:
    """Id, label and calibrated logit margin of each patch of a split, by one run's bundle."""
    evaluate(run, data, split, tta)
    table = parquet.read_table(run / f"{split}{'-tta' if tta else ''}" / "predictions.parquet")
    probability = table["probability"].to_numpy().clip(1e-6, 1 - 1e-6)
    return table["id"].to_pylist(), table["label"].to_numpy(), np.log(probability / (1 - probability))


def together(runs: list[Path], data: Path, split: str, tta: bool) -> tuple[NDArray[np.uint8], Floats]:
    """Label and mean margin of each patch of a split."""
    found = [margins(run, data, split, tta) for run in runs]
    ids, labels, _ = found[0]
    if any(other != ids for other, _, _ in found):
        raise SystemExit(f"the evaluations of {split} are not of the same patches")
    return labels, np.mean([margin for _, _, margin in found], axis=0)


def scores(runs: list[Path], data: Path, tta: bool) -> tuple[Scores, Scores]:
    """Valid and test, at the operating point that valid gives."""
    labels, margin = together(runs, data, "valid", tta)
    temperature, offset = fit_platt(margin, labels)
    probability = calibrated(margin + offset, temperature)
    threshold = choose_threshold(labels, probability, "accuracy")
    unseen, far = together(runs, data, "test", tta)
    return measure(labels, probability, threshold), measure(unseen, calibrated(far + offset, temperature), threshold)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    options = parser.parse_args()
    print(f"| valid (test) | {' | '.join(FIGURES)} |\n|---|{'---|' * len(FIGURES)}")
    for runs in [*([run] for run in options.runs), options.runs]:
        for tta in (False, True):
            valid, test = (each.as_dict() for each in scores(runs, options.data, tta))
            name = runs[0].name if len(runs) == 1 else f"all {len(runs)}"
            print(row(f"{name}{', eight symmetries' if tta else ''}", valid, test))


if __name__ == "__main__":
    main()
