"""Measure how well ``sentinode data audit`` finds near-duplicates that are known.

    python benchmarks/near_duplicates.py --data PARQUET_FOLDER

The Parquet files in ``--data`` need a column ``cluster`` beside ``image``, ``label`` and ``index``: patches of one
cluster are near-duplicates of each other. Prints, for each split, how many pairs are known, how many were found,
recall and precision, and the pairs in dispute.
"""

from __future__ import annotations

import argparse
import time
from itertools import combinations
from pathlib import Path

import pyarrow.parquet as pq

from sentinode.patches.audit import audit


def pairs(groups: list[list[str]]) -> set[tuple[str, ...]]:
    """All pairs within each group."""
    return {pair for ids in groups for pair in combinations(sorted(ids), 2)}


def known(path: Path, split: str) -> set[tuple[str, ...]]:
    """The pairs that the column ``cluster`` names."""
    table = pq.read_table(path, columns=["index", "cluster"]).to_pydict()
    clusters: dict[int, list[str]] = {}
    for index, cluster in zip(table["index"], table["cluster"], strict=True):
        clusters.setdefault(cluster, []).append(f"{split}/{index:06d}")
    return pairs(list(clusters.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of Parquet files")
    data: Path = parser.parse_args().data
    began = time.perf_counter()
    found = audit(data)
    took = time.perf_counter() - began
    print(f"{sum(split.patches for split in found.splits):,} patches in {took:.0f} s")
    print(f"{'split':<8}{'known':>8}{'found':>8}{'recall':>9}{'precision':>11}")
    for split in (split.split for split in found.splits):
        wanted = known(data / f"{split}.parquet", split)
        inside = [[name for name in copies.ids if name.startswith(f"{split}/")] for copies in found.copies]
        got = pairs(inside)
        both = len(wanted & got)
        recall, precision = both / max(len(wanted), 1), both / max(len(got), 1)
        print(f"{split:<8}{len(wanted):>8,}{len(got):>8,}{recall:>9.2%}{precision:>11.2%}")
        for pair in sorted(wanted ^ got):
            print(f"  {'missed' if pair in wanted else 'not known'}: {' and '.join(pair)}")


if __name__ == "__main__":
    main()
