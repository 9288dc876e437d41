"""Teaching shown end to end: scan, review, `sentinode learn`, and slides of known truth before and after.

    python benchmarks/teach.py --data SHARED/data [--tools SHARED/tools] [--bundle BUNDLE] [--out runs/teach]
                               [--train-seeds 100 101] [--report-seeds 0 1 2] [--alone] [--lesions-only] [--quick]

Builds cohorts of slides from *training* patches and scans them with the bundle into one folder of maps. The review is
simulated from the truth, with the operations that ``sentinode view`` records: a lesion of the scan that touches an
outline of the truth is accepted, every other is rejected, a lesion of the truth that the scan missed is drawn, and the
slide is noted as looked at whole. ``sentinode.learn`` then teaches the bundle, with the original patches or, with
``--alone``, with a replay sample, and compares it on slides held back and on valid patches. At the end both bundles
scan cohorts of *test* patches, and the table shows each. With ``--lesions-only`` nothing is drawn and no slide counts
as looked at whole, as a reader in a hurry would leave it.

What is there is not made again, so a run that was stopped goes on. ``--quick`` shows that all of it works, on a few
tiny slides; its figures say nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from uuid import uuid4

from cohort import add_options, build, read_table
from hard_negatives import show
from shapely.geometry import shape

import sentinode
from sentinode.learning import Learned
from sentinode.model.bundle import Bundle
from sentinode.slides.reading.annotations import read_annotations
from sentinode.slides.review import LOG, add_operation, parse_operation, read_lesions
from sentinode.slides.scanning.manifest import DONE

QUICK = {"slides": 8, "side": 14, "train_seeds": [100], "report_seeds": [0], "per_slide": 20, "alone": True}


def main() -> None:
    arguments = _parse()
    before = sentinode.load(arguments.bundle)
    maps = scan_cohorts(before, arguments)
    learned = teach(before, maps, arguments)
    print(f"\n{learned.verdict.sentence}\n{learned.page}", flush=True)
    show("test", arguments.report_seeds, before, learned.bundle, arguments)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--bundle", type=Path, help="default: the bundled model")
    parser.add_argument("--out", type=Path, default=Path("runs/teach"), help="where maps, run and figures go")
    parser.add_argument("--train-seeds", nargs="+", type=int, default=[100, 101], help="of the cohorts that teach")
    parser.add_argument("--report-seeds", nargs="+", type=int, default=[0, 1, 2], help="of the cohorts that judge")
    parser.add_argument("--per-slide", type=int, default=200, help="patches of each class from a slide at most")
    parser.add_argument("--share", type=float, default=0.2, help="share of a pass that is of the review")
    parser.add_argument("--hold-out", type=int, help="slides held back; default: a third")
    parser.add_argument("--set", dest="settings", nargs="+", default=[], metavar="KEY=VALUE", help="of the recipe")
    parser.add_argument("--alone", action="store_true", help="without the original patches: with a replay sample")
    parser.add_argument("--lesions-only", action="store_true", help="draw nothing, and look at no slide as a whole")
    parser.add_argument("--quick", action="store_true", help="a few tiny slides, to see that it works")
    arguments = parser.parse_args()
    if arguments.quick:
        vars(arguments).update(QUICK)
    return arguments


def scan_cohorts(bundle: Bundle, arguments: argparse.Namespace) -> Path:
    """Scan the cohorts that teach into one folder, and review every slide."""
    slides, maps = arguments.out / "slides", arguments.out / "maps"
    slides.mkdir(parents=True, exist_ok=True)
    truth = {}
    for seed in arguments.train_seeds:
        cohort = build(arguments, seed, "train")
        for row in read_table(cohort / "truth.csv"):
            (source,) = (cohort / "slides").glob(f"{row['slide']}.*")
            name = f"{seed}-{row['slide']}"
            truth[name] = cohort / "annotations" / f"{row['slide']}.xml"
            _link(source, slides / f"{name}{source.suffix}")
    states = sentinode.scan(bundle, [slides], maps, device=arguments.device)
    if failed := [state for state in states if state.state != DONE]:
        raise SystemExit(f"{len(failed)} slides failed, the first for this reason: {failed[0].reason}")
    for name, outlines in truth.items():
        review(maps / name, outlines, lesions_only=arguments.lesions_only)
    return maps


def _link(source: Path, target: Path) -> None:
    """The same file under another name; a copy on disks that cannot link."""
    if not target.exists():
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


def review(folder: Path, truth: Path, *, lesions_only: bool) -> None:
    """Review a scanned slide as its truth says, unless that was done."""
    if (folder / LOG).exists():
        return
    scanned = sentinode.open_map(folder)
    outlines = [region.shape for region in read_annotations(truth).tumour]
    operations: list[dict[str, object]] = []
    found = [(feature["id"], shape(feature["geometry"])) for feature in read_lesions(folder)]
    for identifier, region in found:
        is_true = any(region.intersects(outline) for outline in outlines)
        verdict = "accepted" if is_true else "rejected"
        operations.append({"kind": "judge", "lesion": identifier, "verdict": verdict})
    for outline in [] if lesions_only else outlines:
        if not any(outline.intersects(region) for _, region in found):
            polygon = getattr(outline, "geoms", [outline])[0]
            operations.append({"kind": "draw", "meaning": "tumour", "points": list(polygon.exterior.coords)[:-1]})
    if not lesions_only:
        operations.append({"kind": "look", "whole": True})
    for operation in operations:
        parsed = parse_operation({"id": str(uuid4()), **operation})
        add_operation(folder, parsed, who="the truth", slide=scanned.slide, bundle=scanned.bundle)


def teach(bundle: Bundle, maps: Path, arguments: argparse.Namespace) -> Learned:
    """Teach the bundle with the review; a run that was stopped goes on."""
    pcam = arguments.data / "pcam"
    return sentinode.learn(
        maps,
        arguments.out / ("alone" if arguments.alone else "run"),
        start_from=bundle,
        data=None if arguments.alone else pcam,
        hold_out=arguments.hold_out,
        share=arguments.share,
        per_slide=arguments.per_slide,
        settings=arguments.settings,
        resume=True,
        device=arguments.device,
    )


if __name__ == "__main__":
    main()
