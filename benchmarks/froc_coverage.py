"""How often 95 % intervals of FROC hold the truth, on made-up cohorts of slides: the table of docs/how-to/froc.md.

python benchmarks/froc_coverage.py [--sets 200] [--slides 10 20 40 100] [--resamples 200] [--seed 0]

45 % of the slides have tumours. The detections of a slide are more or less probable together, as a stain makes them,
and some slides have many false ones. The truth is the figure of 6,000 such slides. Printed is the share of cohorts
whose interval holds it, and in brackets the mean width: for the percentiles of a bootstrap of slides, and for what
`sentinode froc` does (sentinode.scoring.cluster_interval). Cohorts in which an interval does not exist are left out.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict

import numpy as np
from scipy.special import expit

from sentinode.evaluation.froc import SlideResult, froc_curve, sensitivities, summarise
from sentinode.scoring import auc

FIGURES = ("froc", "slide_auc")


def cohort(slides: int, rng: np.random.Generator) -> list[SlideResult]:
    """What so many made-up slides add to the curve."""
    made = []
    for i in range(slides):
        has_tumour = rng.random() < 0.45
        moved = rng.normal(0, 0.8)
        false = expit(rng.normal(moved - 0.2, 1, rng.poisson(np.exp(rng.normal(0.3, 0.9))))).astype(np.float32)
        found = np.zeros(0, np.float32)
        if has_tumour:
            count = 1 + rng.poisson(np.exp(rng.normal(0.3, 0.8)))
            seen = rng.random(count) < rng.beta(3, 1)
            found = np.where(seen, expit(rng.normal(moved + 1.2, 1, count)), 0).astype(np.float32)
        made.append(SlideResult(str(i), false, found, 0, float(max([*false, *found], default=0))))
    return made


def values(slides: list[SlideResult]) -> dict[str, float]:
    """The figures of a cohort, without intervals."""
    area = auc([len(slide.found) > 0 for slide in slides], [slide.score for slide in slides])
    return {"froc": float(sensitivities(froc_curve(slides)).mean()), "slide_auc": area}


def coverage(slides: int, sets: int, resamples: int, seed: int, truth: dict[str, float]) -> dict[tuple[str, str], str]:
    """The share of cohorts whose interval holds the truth, and its mean width, by method and figure."""
    rng = np.random.default_rng([seed, slides])
    held, width = defaultdict(list), defaultdict(list)
    for _ in range(sets):
        sample = cohort(slides, rng)
        ours = summarise(sample)
        resampled = [values([sample[i] for i in rng.integers(slides, size=slides)]) for _ in range(resamples)]
        for figure in FIGURES:
            spread = np.array([one[figure] for one in resampled])
            if math.isnan(getattr(ours, figure).low) or not np.isfinite(spread).any():
                continue
            low, high = np.nanpercentile(spread, [2.5, 97.5])
            limits = {"percentile": (low, high), "jackknife t": (getattr(ours, figure).low, getattr(ours, figure).high)}
            for method, (low, high) in limits.items():
                held[method, figure].append(low <= truth[figure] <= high)
                width[method, figure].append(high - low)
    return {at: f"{100 * np.mean(held[at]):.0f} % ({np.mean(width[at]):.2f})" for at in held}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=200, help="cohorts of each number of slides")
    parser.add_argument("--slides", type=int, nargs="+", default=[10, 20, 40, 100])
    parser.add_argument("--resamples", type=int, default=200, help="of the bootstrap")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    truth = values(cohort(6000, np.random.default_rng(1)))
    print("| slides | interval |", " | ".join(FIGURES), "|")
    print("|---|---|" + "---|" * len(FIGURES))
    for slides in options.slides:
        found = coverage(slides, options.sets, options.resamples, options.seed, truth)
        for method in ("percentile", "jackknife t"):
            print(f"| {slides} | {method} |", " | ".join(found[method, figure] for figure in FIGURES), "|", flush=True)


if __name__ == "__main__":
    main()
