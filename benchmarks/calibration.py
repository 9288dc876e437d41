"""Calibrate bundles in several ways on valid, and see what is left of the error on test.

python benchmarks/calibration.py --data sample --weights BUNDLE [BUNDLE]... [--tta] [--test] [--cache FOLDER]

DATA has the splits valid and test. Prints for each bundle, on valid, the ECE, the Brier score and the NLL by each way
to calibrate: as the bundle is; with a map that was fitted to all of valid; and held out, each patch by a map that was
fitted without its fold. Folds are of single patches, and of clusters of near-duplicates where the table has a column
``cluster``. In brackets: the ECE that chance alone gives a perfectly calibrated model (95 %).

With --test also the same maps on test, the operating points with their drop, the guaranteed recall, and where the
error of test comes from: its shift, Cox's slope, and what a map that was fitted to test itself, held out by folds,
would leave. Choose on valid first, and give --test once. --tta averages the eight symmetries. --cache keeps the outputs
of the networks.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import expit

from sentinode.evaluation.examining import examine
from sentinode.model.bundle import Bundle, load
from sentinode.model.engines import open_engine
from sentinode.patches import PatchSet, open_data
from sentinode.scoring import Predictions, ece_floor
from sentinode.scoring.calibration_errors import calibration_errors
from sentinode.scoring.calibrators import METHODS, cross_fit, fit_calibrator, names_of

Floats = NDArray[np.float64]


def predictions(bundle: Bundle, patches: PatchSet, tta: bool, cache: Path | None) -> Predictions:
    """The bundle's probabilities as it gives them, computed or from the cache."""
    name = f"{bundle.card.name}{'-tta' if tta else ''}"
    kept = None if cache is None else cache / f"{name}-{patches.split}.npz"
    if kept is not None and kept.exists():
        margins = np.load(kept)["margins"]
    else:
        engine = open_engine(bundle, device="auto", precision="float32", tta=tta)
        starts = range(0, len(patches), engine.batch)
        margins = np.concatenate([engine.margins(patches.images[at : at + engine.batch]) for at in starts])
        if kept is not None:
            np.savez(kept, margins=margins)
    probabilities = expit(margins.astype(np.float64) / bundle.card.temperature)
    return Predictions(name, patches.ids, patches.labels, probabilities)


def clusters(data: Path, split: str) -> NDArray[np.int64] | None:
    """The cluster of near-duplicates of each patch, where the table names it."""
    table = data / f"{split}.parquet"
    if not table.exists() or "cluster" not in pq.read_schema(table).names:
        return None
    return np.asarray(pq.read_table(table, columns=["cluster"])["cluster"], dtype=np.int64)


def cells(labels: NDArray[np.uint8], probabilities: Floats) -> str:
    errors = calibration_errors(labels, np.clip(probabilities, 0, 1))
    return f"{errors.equal_mass:.4f} | {errors.brier.score:.4f} | {errors.nll:.4f}"


def chance(probabilities: Floats) -> str:
    floor = ece_floor(probabilities)
    return f"{floor.value:.3f} ({floor.low:.3f} to {floor.high:.3f})"


def show_valid(valid: Predictions, groups: NDArray[np.int64] | None) -> None:
    print(f"\n{valid.name}, valid, {len(valid):,} patches; ECE by chance {chance(valid.probabilities)}")
    print("| valid | ECE | Brier | NLL | ECE, held out | Brier | NLL | ECE, held out by cluster | Brier | NLL |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for method, title in zip(METHODS, names_of(), strict=True):
        own = fit_calibrator(method, valid.labels, valid.probabilities)(valid.probabilities)
        shown = [cells(valid.labels, own)]
        for parts in (None, groups):
            fitted = cross_fit(method, valid.labels, valid.probabilities, parts)
            shown.append(cells(valid.labels, fitted.held_out))
        print(f"| {title} | {' | '.join(shown)} |", flush=True)


def show_test(valid: Predictions, test: Predictions, groups: NDArray[np.int64] | None) -> None:
    print(f"\n{test.name}, test, {len(test):,} patches; ECE by chance {chance(test.probabilities)}")
    heads = [f"ECE{how} | Brier | NLL" for how in ("", ", cross-fitted by cluster", ", fitted to test itself")]
    print(f"| test | {' | '.join(heads)} |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for method, title in zip(METHODS, names_of(), strict=True):
        fitted = fit_calibrator(method, valid.labels, valid.probabilities)
        crossed = cross_fit(method, valid.labels, valid.probabilities, groups)
        itself = cross_fit(method, test.labels, test.probabilities)
        mapped = (fitted(test.probabilities), crossed.calibrator(test.probabilities), itself.held_out)
        print(f"| {title} | {' | '.join(cells(test.labels, one) for one in mapped)} |")
    found = examine(test, 0.5, valid)
    print("\n" + "\n".join(found.diagnosis))
    if found.calibration.line is not None:
        print(f"Cox: intercept {found.calibration.line.intercept}, slope {found.calibration.line.slope}")
    print("\n| chosen for | threshold | sensitivity, valid | test | specificity, valid | test | drop |")
    print("|---|---|---|---|---|---|---|")
    for point in found.points:
        if point.valid is None or point.test is None:
            continue
        here, there = point.valid, point.test
        print(f"| {point.rule} | {point.threshold:.3f} | {here.sensitivity.value:.3f} | {there.sensitivity} ", end="")
        print(f"| {here.specificity.value:.3f} | {there.specificity} | {point.drop:.3f} |")
    if found.kept is not None:
        print(f"Guaranteed, threshold {found.kept.guarantee.threshold:.3f}: {found.kept.sentence}")
        print(f"Specificity: valid {found.kept.valid_specificity}, test {found.kept.specificity}")
    print(f"Useful at thresholds {found.decisions.useful}; AURC {found.risk.aurc:.4f}")
    print("Judged: " + "; ".join(f"{one.reached.value:.3f}, accuracy {one.accuracy}" for one in found.selected))
    for rule, one in found.conformal:
        kind = "each class" if rule.by_class else "all"
        shares = f"{one.covered}, normal {one.negative}, tumour {one.positive}, open {one.both:.3f}"
        print(f"Sets {rule.level:g}, {kind}: {shares}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="labelled patches with valid and test")
    parser.add_argument("--weights", type=Path, nargs="+", required=True, help="bundles, or the runs that made them")
    parser.add_argument("--tta", action="store_true", help="average the logits over the eight symmetries")
    parser.add_argument("--test", action="store_true", help="also show test")
    parser.add_argument("--cache", type=Path, help="folder that keeps the outputs of the networks")
    options = parser.parse_args()
    if options.cache is not None:
        options.cache.mkdir(parents=True, exist_ok=True)
    for weights in options.weights:
        bundle = load(weights)
        data = open_data(options.data, assignment=bundle.assignment(), expected=bundle.card.expected, show=False)
        valid = predictions(bundle, data["valid"], options.tta, options.cache)
        groups = clusters(options.data, "valid")
        show_valid(valid, groups)
        if options.test:
            show_test(valid, predictions(bundle, data["test"], options.tta, options.cache), groups)


if __name__ == "__main__":
    main()
