"""How long the bootstrap of all metrics takes, and how much memory: 2,000 resamples of 32,768 predictions by default.

python benchmarks/bootstrap.py [--data predictions.parquet] [--resamples 2000] [--clusters 0]

Without --data the predictions are made up, each with a probability of its own, which is the slowest case. --clusters
draws so many clusters of patches instead of patches. Printed are the seconds by the clock and of the processor, and by
how much the memory of the process grew at its peak.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np

from sentinode.scoring.bootstrap import resampled_metrics
from sentinode.scoring.counts import Counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a table of predictions")
    parser.add_argument("--patches", type=int, default=32_768, help="number of made-up predictions")
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--clusters", type=int, default=0, help="draw so many clusters; 0 for patches")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    labels, probabilities = predictions(options)
    counted = Counted.of(labels, probabilities, 0.5)
    cluster = np.arange(len(labels)) % options.clusters if options.clusters else None
    before, began, worked = peak(), time.perf_counter(), time.process_time()
    resampled_metrics([counted], cluster, options.resamples, options.seed)
    print(
        f"{len(labels):,} predictions, {len(counted.scores):,} distinct; {options.resamples:,} resamples, all metrics"
    )
    print(f"{time.perf_counter() - began:.1f} s by the clock, {time.process_time() - worked:.1f} s of the processor")
    print(f"peak of memory {peak():,.0f} MiB, {peak() - before:,.0f} MiB of it for the bootstrap")


def predictions(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Labels int (N,) and probabilities float (N,)."""
    if options.data:
        from sentinode.evaluation.prediction_files import read_predictions

        read = read_predictions(options.data)
        return read.labels.astype(np.int64), read.probabilities
    rng = np.random.default_rng(options.seed)
    labels = rng.integers(2, size=options.patches)
    return labels, 1 / (1 + np.exp(-rng.normal(3 * labels - 1.5, 2)))


def peak() -> float:
    """The peak of this process's memory so far, in MiB."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 2**20 if sys.platform == "darwin" else used / 2**10


if __name__ == "__main__":
    main()
