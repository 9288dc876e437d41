"""How often a sweep's 95 % interval holds the truth, on made-up trainings: the table of docs/how-to/sweep.md.

python benchmarks/seeds.py [--sets 1000] [--seeds 1 2 3 5] [--resamples 200]

Two settings are equally good: the expected difference of their metrics over all trainings and all patches is 0. Each
training draws a sharpness, which moves its AUC up or down by a standard deviation of 0, 0.005 or 0.02, and a noise of
its own on each patch, as real trainings do. Both settings see the same 600 patches. Three layouts:

  patches    independent patches
  40 slides  patches of a slide are alike
  8 slides   likewise; Sentinode then uses a jackknife

Printed is the share of sweeps whose interval holds 0, for the AUC, and in brackets the mean width.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.special import expit

from sentinode.scoring import Predictions
from sentinode.scoring.seeds import compare_seeds

PATCHES = 600
LAYOUTS = {"patches": 0, "40 slides": 40, "8 slides": 8}
SHARPNESS = {0.0: 0.0, 0.005: 0.025, 0.02: 0.1}
"""Standard deviation of the sharpness that moves the AUC by that of the key; `--check` prints what it moves it by."""


def trained(labels: np.ndarray, easy: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """The probabilities of one training: easy (N,) is what all trainings see in a patch, with its slide's part."""
    sharpness = 1 + spread * rng.normal()
    return expit(sharpness * 1.4 * (2.0 * labels - 1) + easy + rng.normal(0, 0.7, len(labels)))


def sweep(slides: int, seeds: int, spread: float, rng: np.random.Generator) -> list[dict[int, Predictions]]:
    """Two equal settings with so many seeds."""
    slide = rng.permutation(np.arange(PATCHES) % slides) if slides else np.arange(PATCHES)
    labels = (rng.random(PATCHES) < 0.5).astype(np.uint8)
    easy = rng.normal(0, 1.2, PATCHES)
    if slides:
        easy = easy + rng.normal(0, 0.7, slides)[slide] + rng.normal(0, 0.5, (slides, 2))[slide, labels]
    ids = np.array([str(number) for number in range(PATCHES)])
    names = np.array([f"s{number}" for number in slide]) if slides else None

    # Each setting sees each slide in its own way with all seeds, so slides move differences, too.
    own = [rng.normal(0, 0.3, slides)[slide] if slides else 0.0 for _ in range(2)]

    def made(at: int, number: int) -> Predictions:
        values = trained(labels, easy + own[at], spread, rng)
        return Predictions(f"{at}-{number}", ids, labels, values, slides=names, threshold=0.5)

    return [{number: made(at, number) for number in range(seeds)} for at in range(2)]


def coverage(slides: int, seeds: int, spread: float, sets: int, resamples: int) -> str:
    """The share of sweeps whose interval holds 0, and the mean width."""
    rng = np.random.default_rng([slides, seeds, round(1000 * spread)])
    held, width = [], []
    for number in range(sets):
        (found,) = compare_seeds(
            sweep(slides, seeds, spread, rng), metrics=("auc",), resamples=resamples, seed=number
        ).differences
        held.append(found.low <= 0 <= found.high)
        width.append(found.high - found.low)
    return f"{100 * np.mean(held):.1f} % ({np.mean(width):.3f})"


def moved(spread: float) -> float:
    """By what standard deviation a sharpness moves the AUC of many patches."""
    from sentinode.scoring import auc

    rng = np.random.default_rng(0)
    labels = (rng.random(100_000) < 0.5).astype(np.uint8)
    easy = rng.normal(0, 1.2, len(labels))
    return float(np.std([auc(labels, trained(labels, easy, spread, rng)) for _ in range(100)], ddof=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=1000, help="sweeps in each cell")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 5])
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--check", action="store_true", help="print what each sharpness moves the AUC by, and stop")
    options = parser.parse_args()
    if options.check:
        for auc_moves, spread in SHARPNESS.items():
            print(f"{auc_moves}: {moved(spread):.4f}")
        return
    print("| layout | seeds |", " | ".join(f"AUC moves by {key}" for key in SHARPNESS), "|")
    print("|---|---|" + "---|" * len(SHARPNESS))
    for layout, slides in LAYOUTS.items():
        for seeds in options.seeds:
            cells = [coverage(slides, seeds, spread, options.sets, options.resamples) for spread in SHARPNESS.values()]
            print(f"| {layout} | {seeds} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
