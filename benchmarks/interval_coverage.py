"""How often 95 % intervals hold the truth, on made-up data sets: the table of docs/how-to/evaluate.md.

python benchmarks/interval_coverage.py [--sets 1000] [--slides 5 10 20 40 100] [--resamples 400] [--seed 0]

Each slide of a data set moves the margins of its patches up or down, as a stain does, and those of its tumour and of
its normal patches again by themselves, so that patches of one slide are alike. Four kinds:

  even    30 patches a slide, half of them tumour
  uneven  10 to 100 patches a slide (log-normal), the share of tumour anything from 0 to 1
  scarce  the same sizes; half of the slides are without tumour
  independent  30 patches a "slide", but none is like another; the intervals are by patch

The truth is the figure of 20,000 slides of that kind. Printed is the share of data sets whose interval holds it, and in
brackets the mean width: for the percentiles of a bootstrap, of slides where there are some; for the same expanded
(Hesterberg 2015, section 5.3); for BCa (Efron 1987); for the jackknife with Student's t, which is what
`sentinode evaluate` does by slide; and, of the AUC, for DeLong's or Obuchowski's.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm
from scipy.stats import t as student

from sentinode.scoring import METRICS, measure
from sentinode.scoring.bootstrap import bca_interval, centred, percentile_interval, resampled_metrics
from sentinode.scoring.counts import Counted
from sentinode.scoring.intervals import joined
from sentinode.scoring.uncertainty import without_each

SHOWN = ("auc", "accuracy", "recall", "specificity", "f1", "average_precision", "nll", "ece")
THRESHOLD = 0.5
EVEN = ("even", "independent")
METHODS = ("percentile", "expanded", "bca", "jackknife t", "delong")

Sample = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]
"""Labels, probabilities and slides: (N,) each."""


def made_up(kind: str, slides: int, rng: np.random.Generator) -> Sample:
    """A data set of so many slides."""
    size = np.full(slides, 30) if kind in EVEN else np.maximum(4, rng.lognormal(3.3, 0.7, slides).round().astype(int))
    share = np.full(slides, 0.5) if kind in EVEN else rng.beta(0.7, 0.7, slides)
    if kind == "scarce":
        share = np.where(rng.random(slides) < 0.5, 0, share)
    slide = np.repeat(np.arange(slides), size)
    label = (rng.random(len(slide)) < share[slide]).astype(np.int64)
    if kind == "independent":
        margin = 1.4 * (2 * label - 1) + rng.normal(0, 1.6, len(slide))
        return label, expit(margin.round(1)), np.arange(len(slide))
    moved = rng.normal(0, 1, slides)[slide] + rng.normal(0, 0.7, (slides, 2))[slide, label]
    margin = 1.4 * (2 * label - 1) + moved + rng.normal(0, 1, len(slide))
    return label, expit(margin.round(1)), slide  # rounded, so that there are few scores and all is quick


def intervals(sample: Sample, resamples: int, seed: int) -> dict[tuple[str, str], tuple[float, float]]:
    """The limits by method and metric."""
    labels, probabilities, slide = sample
    slides = int(slide.max()) + 1
    by_slide = slides < len(slide)
    groups = slide if by_slide else None
    scores = measure(labels, probabilities, THRESHOLD, groups=groups, interval="jackknife", resamples=1)
    patches = Counted.of(labels, probabilities, THRESHOLD)
    resampled = resampled_metrics([patches], groups, resamples, seed)[0]
    without = without_each(patches, joined(slide, 200))
    expanded = 2 * float(norm.cdf(math.sqrt(slides / (slides - 1)) * student.ppf(0.025, slides - 1)))
    found = {}
    for at, name in enumerate(METRICS):
        if name not in SHOWN:
            continue
        value = getattr(scores, name)
        middle = centred(resampled[:, at], value.value) if name == "ece" else resampled[:, at]
        found["percentile", name] = percentile_interval(middle)
        found["expanded", name] = percentile_interval(middle, 1 - expanded)
        found["bca", name] = bca_interval(value.value, resampled[:, at], without[:, at])
        found["jackknife t", name] = (value.low, value.high)
    found["delong", "auc"] = (scores.auc_delong.low, scores.auc_delong.high)
    return found


def coverage(kind: str, slides: int, sets: int, resamples: int, seed: int) -> dict[tuple[str, str], str]:
    """The share of data sets whose interval holds the truth, and its mean width, by method and figure."""
    truth = measure(*made_up(kind, 20_000, np.random.default_rng(1))[:2], THRESHOLD, resamples=0)
    rng = np.random.default_rng([seed, slides])
    held, width = defaultdict(list), defaultdict(list)
    for number in range(sets):
        for at, (low, high) in intervals(made_up(kind, slides, rng), resamples, number).items():
            if not math.isnan(low):  # the figure or its interval is undefined, and Sentinode says so
                held[at].append(low <= getattr(truth, at[1]).value <= high)
                width[at].append(high - low)
    return {at: f"{100 * np.mean(held[at]):.0f} % ({np.mean(width[at]):.2f})" for at in held}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=1000, help="data sets of each kind and number of slides")
    parser.add_argument("--slides", type=int, nargs="+", default=[5, 10, 20, 40, 100])
    parser.add_argument("--kinds", nargs="+", default=["even", "uneven", "scarce", "independent"])
    parser.add_argument("--resamples", type=int, default=400, help="of the bootstrap")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| kind | slides | interval |", " | ".join(SHOWN), "|")
    print("|---|---|---|" + "---|" * len(SHOWN))
    for kind in options.kinds:
        for slides in options.slides:
            found = coverage(kind, slides, options.sets, options.resamples, options.seed)
            for method in METHODS:
                print(
                    f"| {kind} | {slides} | {method} |",
                    " | ".join(found.get((method, name), "-") for name in SHOWN),
                    "|",
                )


if __name__ == "__main__":
    main()
