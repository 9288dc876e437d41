"""Scan cohorts of slides with known truth and judge what a user reads: false lesions, sensitivity by size, verdicts.

    python benchmarks/cohort.py --data SHARED/data [--tools SHARED/tools] [--seeds 0 1 2] [--split test]
                                [--bundle BUNDLE ...] [--slides 20] [--work DIR] [--json FILE]

Builds a cohort for each seed with SHARED/tools/make_cohort.py from the patches of a split, scans it with
``sentinode scan`` at its default settings, and reads lesions.geojson and lesions.json alone. A lesion of the truth is
found if a lesion of the scan touches its outline; a lesion of the scan is false if it touches no outline. The slides of
all seeds are pooled; intervals are 95 % by slide. Cohorts and scans stay in DIR: a second call scans only what lacks.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from shapely.geometry import shape
from shapely.ops import unary_union

import sentinode
from sentinode.model.bundle import Bundle
from sentinode.model.readings import choose_reading
from sentinode.scoring import auc, cluster_interval
from sentinode.slides.reading.annotations import read_annotations
from sentinode.slides.results.findings import write_findings
from sentinode.slides.scanning.manifest import DONE, read_states

SIZES = {"to 0.2 mm": (0, 200), "to 0.6 mm": (200, 600), "to 2 mm": (600, 2000), "above": (2000, math.inf)}
"""Classes of lesions by their longest axis in um: above the first figure, up to the second."""

CATEGORIES = {
    "negative": "negative",
    "itc": "isolated tumour cells",
    "micro": "micrometastasis",
    "macro": "macrometastasis",
}
"""What lesions.json calls the categories of truth.csv."""

Figure = dict[str, float | None]

CELL = 96
"""Pixels to a side of a cell."""

FALSE, CLEAN, AUC, CATEGORY = "false lesions a negative slide", "negative slides clean", "slide AUC", "category right"
FALSE_POSITIVE = "false lesions a positive slide"


@dataclass(frozen=True)
class Judged:
    """One slide's files held against its truth.

    Attributes:
        name: cohort and slide.
        positive: whether it holds tumour.
        score: of the slide, from lesions.json.
        right: whether the category is that of truth.csv.
        false: lesions that touch no outline of the truth.
        axes: longest axis of each lesion of the truth in um.
        found: whether each was found.
    """

    name: str
    positive: bool
    score: float
    right: bool
    false: int
    axes: tuple[float, ...]
    found: tuple[bool, ...]


def main() -> None:
    arguments = _parse()
    cohorts = [build(arguments, seed) for seed in arguments.seeds]
    results = {}
    for bundle in [sentinode.load(path) for path in arguments.bundle] or [sentinode.load()]:
        slides = judge_all(cohorts, bundle, arguments)
        results[f"{bundle.card.name} ({bundle.fingerprint[:8]})"] = figures(slides)
    print(table(results), flush=True)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--split", choices=["train", "valid", "test"], default="test")
    parser.add_argument("--bundle", nargs="+", type=Path, default=[], help="default: the bundled model")
    parser.add_argument("--json", type=Path, help="where the figures go, too")
    return parser.parse_args()


def judge_all(cohorts: Sequence[Path], bundle: Bundle, arguments: argparse.Namespace) -> list[Judged]:
    """Every slide of the cohorts, scanned with a bundle and judged."""
    scans = [scan(cohort, bundle, arguments.device) for cohort in cohorts]
    return [one for cohort, scanned in zip(cohorts, scans, strict=True) for one in judge(cohort, scanned)]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that say where data lies, and how large a cohort is."""
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds pcam/")
    parser.add_argument("--tools", type=Path, help="the folder of make_cohort.py; default: tools beside --data")
    parser.add_argument("--slides", type=int, default=20, help="slides in a cohort")
    parser.add_argument("--side", type=int, default=40, help="cells across a node")
    parser.add_argument("--work", type=Path, default=Path("runs/cohorts"), help="where cohorts and scans go")
    parser.add_argument("--leave-out", nargs="*", type=int, default=[], help="rows of the split's patches to leave out")
    parser.add_argument("--device", default="auto")


def build(arguments: argparse.Namespace, seed: int, split: str | None = None) -> Path:
    """The folder of a cohort, built unless it is there."""
    split = split or arguments.split
    patches = arguments.data / "pcam" / f"{split}.parquet"
    out = arguments.work / f"{split}-{seed}-{arguments.slides}x{arguments.side}"
    if arguments.leave_out:
        out = out.with_name(out.name + "-without-" + "-".join(map(str, sorted(arguments.leave_out))))
    if not (out / "lesions.csv").exists():  # the last file that the tool writes
        out.mkdir(parents=True, exist_ok=True)
        if arguments.leave_out:
            patches = _without(patches, arguments.leave_out, out / "patches.parquet")
        tools = arguments.tools or arguments.data.resolve().parent / "tools"
        command = [
            sys.executable, tools / "make_cohort.py", out, "--slides", arguments.slides, "--side", arguments.side,
            "--patches", patches, "--seed", seed,
        ]  # fmt: skip
        subprocess.run([str(word) for word in command], check=True, stdout=sys.stderr)
    return out


def _without(patches: Path, rows: Sequence[int], out: Path) -> Path:
    """A copy of a Parquet file of patches without some of its rows."""
    table = pq.read_table(patches)
    pq.write_table(table.take([row for row in range(len(table)) if row not in rows]), out)
    return out


def scan(cohort: Path, bundle: Bundle, device: str = "auto") -> Path:
    """The folder of a cohort's scan at the default settings; slides that are done are not scanned again.

    Lesions are found anew each time, by the operating point that the bundle has now.
    """
    # What a map depends on, and the slide operating point does not.
    card = bundle.card
    reading = choose_reading(card, "auto", card.geometry.stride)
    settings = f"{reading} {card.reading(reading)} {card.mpp}"
    out = cohort / "scans" / f"{bundle.fingerprint[:12]}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"
    states = read_states(out)
    if len(states) < len(list((cohort / "slides").iterdir())) or any(state.state != DONE for state in states):
        states = sentinode.scan(bundle, [cohort / "slides"], out, device=device)
        if failed := [state for state in states if state.state != DONE]:
            raise SystemExit(f"{len(failed)} slides failed, the first for this reason: {failed[0].reason}")
    write_findings(out, bundle=bundle)
    return out


def judge(cohort: Path, scanned: Path) -> list[Judged]:
    """Every slide of a cohort, its files held against its truth."""
    lesions: dict[str, list[dict[str, str]]] = {}
    for row in read_table(cohort / "lesions.csv"):
        lesions.setdefault(row["slide"], []).append(row)
    truth = read_table(cohort / "truth.csv")
    return [judge_slide(cohort, scanned, row, lesions.get(row["slide"], [])) for row in truth]


def judge_slide(cohort: Path, scanned: Path, truth: dict[str, str], rows: list[dict[str, str]]) -> Judged:
    """One slide's files held against its row of truth.csv and its rows of lesions.csv."""
    name = truth["slide"]
    lesions = outlines(cohort / "annotations" / f"{name}.xml", [int(row["cells"]) for row in rows])
    features = json.loads((scanned / name / "lesions.geojson").read_text("utf-8"))["features"]
    regions = [shape(feature["geometry"]) for feature in features]
    verdict = json.loads((scanned / name / "lesions.json").read_text("utf-8"))
    return Judged(
        name=f"{cohort.name}/{name}",
        positive=truth["label"] == "1",
        score=math.nan if verdict["score"] is None else float(verdict["score"]),
        right=verdict["category"] in (truth["category"], CATEGORIES[truth["category"]]),
        false=sum(not any(region.intersects(lesion) for lesion in lesions) for region in regions),
        axes=tuple(float(row["longest_um"]) for row in rows),
        found=tuple(any(region.intersects(lesion) for region in regions) for lesion in lesions),
    )


def outlines(path: Path, cells: Sequence[int]) -> list[Any]:
    """The outline of each lesion of the truth, given how many cells each has.

    A lesion whose cells meet only at corners has several polygons. They follow each other in the file.
    """
    left = [region.shape for region in read_annotations(path).tumour] if cells else []
    lesions = []
    for count in cells:
        parts = []
        while left and sum(part.area for part in parts) < count * CELL**2 - 1:
            parts.append(left.pop(0))
        lesions.append(unary_union(parts))
    if left or any(lesion.is_empty for lesion in lesions):
        raise SystemExit(f"{path} and lesions.csv do not belong together.")
    return lesions


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def figures(slides: Sequence[Judged]) -> dict[str, Figure]:
    """Every figure of the table with its interval over slides: value, low, high, and what it was counted on."""
    negative = [one for one in slides if not one.positive]
    positive = [one for one in slides if one.positive]
    most = max((one.false for one in slides), default=0) + 1.0
    return {
        FALSE: ratio([(one.false, 1) for one in negative], highest=most),
        CLEAN: ratio([(one.false == 0, 1) for one in negative]),
        FALSE_POSITIVE: ratio([(one.false, 1) for one in positive], highest=most),
        **{f"found {size}": ratio(found_of_size(slides, *limits)) for size, limits in SIZES.items()},
        AUC: slide_auc(slides),
        CATEGORY: ratio([(one.right, 1) for one in slides]),
    }


def found_of_size(slides: Sequence[Judged], low: float, high: float) -> list[tuple[int, int]]:
    """For each slide with lesions of a size: how many were found, and how many there are."""
    pairs = []
    for one in slides:
        found = [f for f, axis in zip(one.found, one.axes, strict=True) if low < axis <= high]
        if found:
            pairs.append((sum(found), len(found)))
    return pairs


def ratio(pairs: Sequence[tuple[float, float]], highest: float = 1.0) -> Figure:
    """A sum over a sum with its interval: one pair of both for each slide."""
    above, below = (np.array([pair[k] for pair in pairs], float) for k in (0, 1))
    if not below.sum():
        return {"value": None, "low": None, "high": None, "of": 0}
    value = above.sum() / below.sum()
    rest = below.sum() - below
    without = np.divide(above.sum() - above, rest, out=np.full(len(pairs), math.nan), where=rest > 0)
    low, high = cluster_interval(value, without, below, bounds=(0.0, highest))
    return {"value": value, "low": _known(low), "high": _known(high), "of": below.sum()}


def slide_auc(slides: Sequence[Judged]) -> Figure:
    """The AUC of the slides' scores; a slide without a score counts as the lowest."""
    labels = np.array([one.positive for one in slides], np.uint8)
    scores = np.nan_to_num([one.score for one in slides], nan=-1.0)
    if len(np.unique(labels)) < 2:
        return {"value": None, "low": None, "high": None, "of": len(slides)}
    value, everyone = auc(labels, scores), np.arange(len(slides))
    without = [_auc_or_nan(labels[everyone != k], scores[everyone != k]) for k in everyone]
    low, high = cluster_interval(value, without, np.ones(len(slides)))
    return {"value": float(value), "low": _known(low), "high": _known(high), "of": len(slides)}


def _auc_or_nan(labels: np.ndarray, scores: np.ndarray) -> float:
    return float(auc(labels, scores)) if len(np.unique(labels)) == 2 else math.nan


def _known(number: float) -> float | None:
    return None if math.isnan(number) else float(number)


def table(results: dict[str, dict[str, Figure]]) -> str:
    """A Markdown table: a row for each figure, a column for each bundle."""
    names = list(results)
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for key in next(iter(results.values())):
        lines.append(f"| {key} | {' | '.join(_cell(results[name][key]) for name in names)} |")
    return "\n".join(lines)


def _cell(figure: Figure) -> str:
    if figure["value"] is None:
        return "none"
    limits = "no interval" if figure["low"] is None else f"{figure['low']:.3f} to {figure['high']:.3f}"
    return f"{figure['value']:.3f} ({limits}; n = {figure['of']:.0f})"


if __name__ == "__main__":
    main()
