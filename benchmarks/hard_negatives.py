"""One round of hard negatives: mine on training cohorts, train on from the bundle, judge slides before and after.

    python benchmarks/hard_negatives.py --data SHARED/data [--tools SHARED/tools] [--bundle BUNDLE] [--out runs/hard]
                                        [--train-seeds 100 101 102] [--valid-seeds 0 1 2] [--report]

Builds cohorts of slides from *training* patches. The bundle looks at windows of their tissue that lie apart, and
``sentinode extract --hard`` keeps the normal ones that it most takes for tumour, and as many of tumour. ``sentinode
train --also --from`` then trains the bundle on with the original patches and these together, for one pass. Cohorts of
valid patches are scanned with both bundles; the table shows each. ``--report`` scans cohorts of test patches, too: a
last step, once all choices are made. What is there is not made again.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from cohort import add_options, build, figures, judge_all, table

import sentinode
from sentinode.model.bundle import Bundle
from sentinode.model.engines import open_engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_round_options(parser, out=Path("runs/hard"), train_seeds=[100, 101, 102])
    parser.add_argument("--hard-share", type=float, default=1.0, help="share of the normal patches that are mined")
    run_round(mine, parser.parse_args())


def add_round_options(parser: argparse.ArgumentParser, *, out: Path, train_seeds: Sequence[int]) -> None:
    """The options of one round: patches from cohorts, a training on them, and a comparison before and after."""
    add_options(parser)
    parser.add_argument("--bundle", type=Path, help="default: the bundled model")
    parser.add_argument("--out", type=Path, default=out, help="where patches, run and figures go")
    parser.add_argument("--train-seeds", nargs="+", type=int, default=train_seeds, help="of the cohorts to train on")
    parser.add_argument("--valid-seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--per-slide", type=int, default=100, help="patches of each class from a slide at most")
    parser.add_argument("--set", dest="settings", nargs="+", default=[], metavar="KEY=VALUE", help="of the recipe")
    parser.add_argument("--report", action="store_true", help="scan cohorts of test patches, too")
    parser.add_argument("--report-seeds", nargs="+", type=int, default=[0, 1, 2])


def run_round(patches: Callable[[Bundle, int, argparse.Namespace], Path], arguments: argparse.Namespace) -> None:
    """Train a bundle on with the patches of each seed's cohort, and print the figures before and after."""
    before = sentinode.load(arguments.bundle)
    after = train_on(before, [patches(before, seed, arguments) for seed in arguments.train_seeds], arguments)
    show("valid", arguments.valid_seeds, before, after, arguments)
    if arguments.report:
        show("test", arguments.report_seeds, before, after, arguments)


def mine(bundle: Bundle, seed: int, arguments: argparse.Namespace) -> Path:
    """The patches mined on a cohort of training patches, all in the train split; mined unless they are there."""
    cohort = build(arguments, seed, "train")
    out = arguments.out / f"mined-{seed}"
    if (out / "EXTRACTED.json").exists():
        return out
    with (cohort / "truth.csv").open(newline="", encoding="utf-8") as file:
        names = [row["slide"] for row in csv.DictReader(file)]
    options = sentinode.ExtractOptions(
        per_slide=arguments.per_slide,
        geometry=bundle.card.geometry,
        splits=dict.fromkeys(names, "train"),
        engine=open_engine(bundle, device=arguments.device),
        hard_share=arguments.hard_share,
        seed=seed,
    )
    counts = sentinode.extract([cohort / "slides"], cohort / "annotations", out, options)["train"]
    print(f"{cohort.name}: {counts['normal']} hard normal patches, {counts['tumour']} of tumour.", flush=True)
    return out


def train_on(bundle: Bundle, mined: list[Path], arguments: argparse.Namespace) -> Bundle:
    """The bundle trained on with the original patches and the mined ones; an unfinished run goes on."""
    run = arguments.out / "run"
    if (run / "bundle").exists():
        return sentinode.load(run)
    going_on = (run / "checkpoint.pt").exists()
    return sentinode.train(
        arguments.data / "pcam",
        run,
        also=mined,
        start_from=None if going_on else bundle,
        resume=going_on,
        settings=[] if going_on else arguments.settings,
        device=arguments.device,
    )


def show(split: str, seeds: list[int], before: Bundle, after: Bundle, arguments: argparse.Namespace) -> None:
    """Scan the cohorts of a split with both bundles, print the table, and write it as JSON."""
    cohorts = [build(arguments, seed, split) for seed in seeds]
    bundles = {"before": before, "after": after}
    results = {name: figures(judge_all(cohorts, bundle, arguments)) for name, bundle in bundles.items()}
    print(f"\nCohorts of {split} patches, seeds {', '.join(map(str, seeds))}:\n\n{table(results)}", flush=True)
    content = json.dumps({"seeds": seeds, "fingerprint": after.fingerprint, **results}, indent=2)
    (arguments.out / f"{split}.json").write_text(content + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
