"""One round of teaching: scan, review, train on with what the review says, and judge slides before and after.

    python benchmarks/teach.py --data SHARED/data [--tools SHARED/tools] [--bundle BUNDLE] [--out runs/teach]
                               [--train-seeds 100 101] [--valid-seeds 0 1 2] [--report]

Builds cohorts of slides from *training* patches and scans them with the bundle. The review is simulated from the truth,
with the operations that ``sentinode view`` records. A lesion of the scan that touches an outline of the truth is
accepted, every other is rejected, and a lesion of the truth that the scan missed is drawn. ``sentinode extract
--annotated-only`` cuts patches from what was reviewed, and ``sentinode train --also --from`` trains the bundle on with
the original patches and these together. Cohorts of valid patches are scanned with both bundles. ``--report`` scans
cohorts of test patches, too: a last step, once all choices are made. What is there is not made again.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from uuid import uuid4

from cohort import build, read_table, scan
from hard_negatives import add_round_options, run_round
from shapely.geometry import shape

import sentinode
from sentinode.model.bundle import Bundle
from sentinode.slides.reading.annotations import read_annotations
from sentinode.slides.review import LOG, REVIEW, add_operation, parse_operation, read_lesions, read_review


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_round_options(parser, out=Path("runs/teach"), train_seeds=[100, 101])
    run_round(patches, parser.parse_args())


def patches(bundle: Bundle, seed: int, arguments: argparse.Namespace) -> Path:
    """The patches that the review of a cohort of training patches gives; cut unless they are there."""
    out = arguments.out / f"reviewed-{seed}"
    if (out / "EXTRACTED.json").exists():
        return out
    cohort = build(arguments, seed, "train")
    maps = scan(cohort, bundle, arguments.device)
    reviews = arguments.out / f"reviews-{seed}"
    reviews.mkdir(parents=True, exist_ok=True)
    for row in read_table(cohort / "truth.csv"):
        if review(maps / row["slide"], cohort / "annotations" / f"{row['slide']}.xml"):
            shutil.copyfile(maps / row["slide"] / REVIEW, reviews / f"{row['slide']}.geojson")
    options = sentinode.ExtractOptions(
        per_slide=arguments.per_slide, geometry=bundle.card.geometry, annotated_only=True, seed=seed
    )
    counts = sentinode.extract([cohort / "slides"], reviews, out, options)["train"]
    print(f"{cohort.name}: {counts['normal']} normal patches, {counts['tumour']} of tumour.", flush=True)
    return out


def review(folder: Path, truth: Path) -> bool:
    """Review a scanned slide as its truth says, unless that was done; False where there is nothing to review."""
    if (folder / LOG).exists():
        return bool(read_review(folder).revision)
    scanned = sentinode.open_map(folder)
    outlines = [region.shape for region in read_annotations(truth).tumour]
    operations: list[dict[str, object]] = []
    found = [(feature["id"], shape(feature["geometry"])) for feature in read_lesions(folder)]
    for identifier, region in found:
        is_true = any(region.intersects(outline) for outline in outlines)
        verdict = "accepted" if is_true else "rejected"
        operations.append({"kind": "judge", "lesion": identifier, "verdict": verdict})
    for outline in outlines:
        if not any(outline.intersects(region) for _, region in found):
            polygon = getattr(outline, "geoms", [outline])[0]
            operations.append({"kind": "draw", "meaning": "tumour", "points": list(polygon.exterior.coords)[:-1]})
    for operation in operations:
        parsed = parse_operation({"id": str(uuid4()), **operation})
        add_operation(folder, parsed, who="the truth", slide=scanned.slide, bundle=scanned.bundle)
    return bool(operations)


if __name__ == "__main__":
    main()
