"""Lesions of Camelyon16's test slides by the rule of its evaluation, slide by slide, with time and memory.

    python benchmarks/truth.py --data SHARED/data [--json FILE]

Reads the outlines of annotations/c16_test (the official lesions in the JSON of NCRF), draws each slide's mask at level
5, grows it by 75/2 um, fills holes and labels what touches. Regions whose longest axis is under 275 um are ignored.
``peak MiB`` is what NumPy held at most for that slide; the last row adds the slides up, and has the most of any slide.

They are 226, and 219 without test_021, as the sensitivities imply that people got with the challenge's script (issues
53 and 54 of NCRF: multiples of 1/219 and of 1/226). ``near`` are the regions from 265 to 285 um: masks drawn in another
way move some of them across 275 um. Pixels that stand for their centre give 228; polygons drawn by Pillow, whose fill
includes the outline, give 229.
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sentinode.evaluation.froc import MASK_MPP, longest_axes, tumours_within
from sentinode.slides.reading.annotations import read_annotations

SLIDE_MPP = 0.243
"""Microns per level-0 pixel, as the challenge's script has it for all slides."""

BEYOND = 1 << 18
"""Pixels to a side, more than any slide has: the files do not say how large their slides are."""

NEAR_UM = (265.0, 285.0)


@dataclass(frozen=True)
class Row:
    """What one slide came to."""

    slide: str
    polygons: int
    regions: int
    ignored: int
    near: int
    seconds: float
    peak_mib: float

    @property
    def counted(self) -> int:
        """Regions that are targets."""
        return self.regions - self.ignored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds annotations/c16_test")
    parser.add_argument("--json", type=Path, help="where the figures go, too")
    arguments = parser.parse_args()
    print("| slide | polygons | regions | counted | near 275 um | seconds | peak MiB |\n|---|---|---|---|---|---|---|")
    rows = []
    for path in sorted((arguments.data / "annotations" / "c16_test").glob("*.json")):
        rows.append(count(path))
        print(_line(rows[-1]), flush=True)
    print(_line(added(rows)))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def count(path: Path) -> Row:
    """The regions of one slide."""
    tracemalloc.start()
    began = time.perf_counter()
    truth = read_annotations(path)
    tumours = tumours_within(truth, BEYOND, BEYOND, SLIDE_MPP)
    seconds = time.perf_counter() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    axes = longest_axes(tumours.labels, tumours.count) * MASK_MPP
    near = int(np.sum((axes > NEAR_UM[0]) & (axes < NEAR_UM[1])))
    return Row(path.stem, len(truth.tumour), tumours.count, len(tumours.ignored), near, seconds, peak / 2**20)


def added(rows: list[Row]) -> Row:
    """All slides together."""
    sums = {
        key: sum(getattr(row, key) for row in rows) for key in ("polygons", "regions", "ignored", "near", "seconds")
    }
    return Row("all", **sums, peak_mib=max(row.peak_mib for row in rows))


def _line(row: Row) -> str:
    cells = (
        row.slide, row.polygons, row.regions, row.counted, row.near, f"{row.seconds:.1f}", f"{row.peak_mib:.0f}"
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
