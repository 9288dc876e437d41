"""How good a learning curve's forecast is, on made-up curves whose truth is known. For docs/how-to/curve.md.

    python benchmarks/forecast.py [--curves 300]

Each curve has five sizes, each twice the one before, and a true error at each size; what is seen is the mean of three
seeds with noise. Truths: a power law with and without a floor, and a curve that falls and then stays. The forecast at
four times the data is compared with the truth there, and so is the forecast that nothing more is gained.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from sentinode.scoring.power_law import forecast

SIZES = [250, 500, 1000, 2000, 4000]
TRUTHS: dict[str, Callable[[float], float]] = {
    "power law to 0": lambda n: 0.2 * (n / 250) ** -0.4,
    "power law to 0.05": lambda n: 0.05 + 0.2 * (n / 250) ** -0.7,
    "stays from 2,000 on": lambda n: max(0.05, 0.2 - 0.05 * np.log2(n / 250)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=int, default=300)
    options = parser.parse_args()
    print(
        "| truth | noise of a seed | forecasts made | median miss at 4x | that of no more gain | truth in the range |"
    )
    print("|---|---|---|---|---|---|")
    for name, truth in TRUTHS.items():
        for noise in (0.003, 0.01):
            rng = np.random.default_rng(0)
            misses, held, still = [], [], []
            for _ in range(options.curves):
                seen = [max(truth(n) + noise * float(rng.normal(size=3).mean()), 1e-4) for n in SIZES]
                found = forecast(SIZES, seen)
                if found.why:
                    continue
                last, true = found.ahead[-1], truth(found.ahead[-1].size)
                misses.append(abs(last.error - true))
                held.append(last.low <= true <= last.high)
                still.append(abs(seen[-1] - true))
            told = f"| {name} | {noise} | {len(misses) / options.curves:.0%} |"
            if misses:
                told += f" {np.median(misses):.4f} | {np.median(still):.4f} | {np.mean(held):.0%} |"
            print(told if misses else f"{told} - | - | - |", flush=True)


if __name__ == "__main__":
    main()
