"""Choose the slide operating point of a bundle on cohorts of valid patches, and write it into a copy of the bundle.

    python benchmarks/slide_point.py --data SHARED/data --bundle BUNDLE --out NEW [--seeds 0 1 2] [--work DIR]
    python benchmarks/slide_point.py --data SHARED/data --picture PNG

Builds the cohorts of valid.parquet as cohort.py does, scans them with the bundle, and compares a few rules for regions
by the same target, each cross-fitted by slide. The rule that finds most lesions of 0.2 to 0.6 mm is written.

Four normal patches of valid are left out of the cohorts. A cohort shows each patch on nearly every slide, so these four
alone would choose the point. Seen by eye, one looks like tumour all over, two show tumour at their border, which the
label of the centre does not cover, and one is an edge of tissue out of focus.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from pathlib import Path

import cohort as cohorts
import pyarrow.parquet as pq
from PIL import Image

import sentinode
from sentinode.evaluation.operating import Operating
from sentinode.model.bundle import state_slide_points
from sentinode.model.slide_operating_point import Target

LEFT_OUT = [1324, 1357, 1393, 1543]
"""Rows of valid.parquet. docs/slide-verdict.md shows them."""

DRAWN = [1324, 1543, 1357, 1393]
"""The same, in the order of the page."""

TARGET = Target(false_lesions=0.1, clean_negatives=0.95)

RULES = [((31.0,), 0.73), ((47.0,), 0.73), ((62.0,), 0.73), ((31.0,), 0.88), ((22.0, 47.0), 0.73), ((31.0, 62.0), 0.73)]
"""Scales of smoothing in microns, and P(tumour) from which a region is grown."""

SHOWN = {
    "false_lesions": "false lesions a negative slide",
    "clean_negatives": "negative slides clean",
    "sensitivity_to_0.2_mm": "found to 0.2 mm",
    "sensitivity_to_0.6_mm": "to 0.6 mm",
    "sensitivity_to_2_mm": "to 2 mm",
    "sensitivity_above_2_mm": "above",
    "slide_auc": "slide AUC",
    "category_accuracy": "category right",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cohorts.add_options(parser)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--bundle", type=Path, help="default: the bundled model")
    parser.add_argument("--out", type=Path, help="the copy of the bundle")
    parser.add_argument("--picture", type=Path, help="only draw the patches that are left out")
    parser.set_defaults(leave_out=LEFT_OUT)
    arguments = parser.parse_args()
    if arguments.picture:
        draw(arguments.data / "pcam" / "valid.parquet", arguments.picture)
        return
    if arguments.out is None:
        parser.error("name the copy of the bundle with --out")
    bundle = sentinode.load(arguments.bundle)
    built = {seed: cohorts.build(arguments, seed, "valid") for seed in arguments.seeds}
    scans = {seed: cohorts.scan(folder, bundle, arguments.device) for seed, folder in built.items()}
    maps, truth = gathered(built, scans, arguments.work / "gathered")
    print(f"| scales in um, grown from | {' | '.join(SHOWN.values())} |\n|---{'|---' * len(SHOWN)}|")
    best: Operating | None = None
    for scales, grow in RULES:
        chosen = sentinode.operate(
            maps,
            truth,
            bundle,
            target=TARGET,
            scales_um=scales,
            grow=grow,
            smallest_mm2=0.0,
            description="cohorts built of PatchCamelyon's valid patches, not real slides",
            show=False,
        )
        print(f"| {', '.join(f'{s:g}' for s in scales)}; {grow:g} | {' | '.join(row(chosen))} |", flush=True)
        if best is None or rank(chosen) > rank(best):
            best = chosen
    assert best is not None
    print(state_slide_points(bundle, best.points, arguments.out).path, file=sys.stderr)


def rank(chosen: Operating) -> tuple[float, float]:
    """By what a rule is better than another: small micrometastases found, then the smallest lesions."""
    reached = chosen.points.point.reached
    return tuple(reached[f"sensitivity_to_{size}_mm"].value or 0.0 for size in ("0.6", "0.2"))  # type: ignore[return-value]


def row(chosen: Operating) -> list[str]:
    return [str(chosen.points.point.reached[name]) for name in SHOWN]


def gathered(built: dict[int, Path], scans: dict[int, Path], out: Path) -> tuple[Path, Path]:
    """One folder of maps and one of annotations for all cohorts, the slides named by their seed, too."""
    shutil.rmtree(out, ignore_errors=True)
    maps, truth = out / "maps", out / "truth"
    for folder in (maps, truth):
        folder.mkdir(parents=True)
    for seed, cohort in built.items():
        for file in sorted((cohort / "annotations").glob("*.xml")):
            name = f"seed{seed}_{file.stem}"
            (truth / f"{name}.xml").symlink_to(file.resolve())
            (maps / name).symlink_to((scans[seed] / file.stem).resolve())
    return maps, truth


def draw(patches: Path, out: Path) -> None:
    """The patches that are left out, side by side and three times as large."""
    side = 288
    sheet = Image.new("RGB", (len(LEFT_OUT) * (side + 8) - 8, side), "white")
    for place, row in enumerate(pq.read_table(patches).take(DRAWN).to_pylist()):
        with Image.open(io.BytesIO(row["image"]["bytes"])) as patch:
            sheet.paste(patch.convert("RGB").resize((side, side), Image.Resampling.BICUBIC), (place * (side + 8), 0))
    sheet.save(out)


if __name__ == "__main__":
    main()
