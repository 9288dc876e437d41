"""Scan slides with known truth: the table of docs/how-to/scan.md.

    python benchmarks/mosaic.py --data SHARED/data --weights BUNDLE [--mosaic small large] [--stride 96 32] [--work DIR]

Builds the mosaics with SHARED/tools/make_mosaic.py from test.parquet: ``small`` is 8000 x 8000 pixels with the lesions
grown three times, ``large`` 24,576 x 57,344 with them grown twice. ``medium``, 3072 x 3072 pixels of tissue without a
lesion, and ``few``, a few windows, are for measuring time alone. Scans each with ``sentinode scan`` and compares the
map at the centre of every cell with the same bundle on exactly the patches that were laid into the cells. Prints a
Markdown table.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from measure import measure
from shapely.geometry import shape

from sentinode.model.bundle import load
from sentinode.model.engines import open_engine
from sentinode.patches import open_data
from sentinode.scoring import auc
from sentinode.slides.reading.annotations import read_annotations
from sentinode.slides.scanning.probability_map import open_map

MOSAICS = {
    "small": ["--window", "1400", "3500", "1000", "1000", "--grow", "3"],
    "large": ["--grow", "2"],
    "medium": ["--window", "1867", "3777", "384", "384"],
    "few": ["--window", "1800", "4000", "96", "96"],
}
CELL = 96


def main() -> None:
    arguments = _parse()
    arguments.work.mkdir(parents=True, exist_ok=True)
    columns = (
        "mosaic, stride", "tiles", "seconds", "tiles/s", "peak MiB", "AUC of the map", "AUC of the patches",
        "tumour cells in tissue", "lesions found", "false regions",
    )  # fmt: skip
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)
    for name in arguments.mosaic:
        slide = build(name, arguments.data, arguments.work)
        for stride in arguments.stride:
            print(row(slide, name, stride, arguments), flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds pcam/ and slides/")
    parser.add_argument("--weights", type=Path, required=True, help="a bundle")
    parser.add_argument("--mosaic", nargs="+", choices=list(MOSAICS), default=["small"])
    parser.add_argument("--stride", nargs="+", type=int, default=[96])
    parser.add_argument("--work", type=Path, default=Path("runs/mosaic"), help="where mosaics and maps go")
    parser.add_argument("--precision", default="auto")
    return parser.parse_args()


def build(name: str, data: Path, work: Path) -> Path:
    """The mosaic of a name, built unless it is there."""
    slide = work / f"{name}.tif"
    if not slide.with_suffix(".xml").exists():  # the last file that the tool writes
        tool = data.resolve().parent / "tools" / "make_mosaic.py"
        command = [sys.executable, tool, slide, *MOSAICS[name], "--patches", data / "pcam" / "test.parquet"]
        subprocess.run([str(word) for word in command], check=True, stdout=sys.stderr)
    return slide


def row(slide: Path, name: str, stride: int, arguments: argparse.Namespace) -> str:
    """Scan one mosaic and say how it went, as a row of the table."""
    out = arguments.work / f"{name}-{stride}"
    shutil.rmtree(out, ignore_errors=True)  # a scan that is done would not be done, nor timed, again
    command = [sys.executable, "-m", "sentinode", "scan", arguments.weights, slide, "--out", out]
    run = measure([*command, "--stride", stride, "--precision", arguments.precision])
    folder = out / slide.stem
    probability_map = open_map(folder)
    x, y, label, number = read_cells(slide.with_suffix(".cells.csv"))
    seen = np.array([probability_map.at(cx + CELL / 2, cy + CELL / 2) for cx, cy in zip(x, y, strict=True)])
    patches = open_data(arguments.data / "pcam")["test"].images
    engine = open_engine(load(arguments.weights), precision=arguments.precision)
    used = np.unique(number)
    scores = np.concatenate(
        [engine.margins(patches[used[i : i + engine.batch]]) for i in range(0, len(used), engine.batch)]
    )
    alone = scores[np.searchsorted(used, number)]
    inside = ~np.isnan(seen)
    found, lesions, false = regions(folder / "lesions.geojson", slide.with_suffix(".xml"))
    tiles = int(probability_map.tissue.sum())
    cells = (
        f"{name}, {stride}", f"{tiles:,}", f"{run.seconds:.0f}", f"{tiles / run.seconds:.0f}", f"{run.peak_mib:,.0f}",
        f"{auc(label, np.nan_to_num(seen, nan=0.0)):.4f}", f"{auc(label, alone):.4f}",
        f"{inside[label == 1].mean():.2%}", f"{found} of {lesions}", f"{false}",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def read_cells(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x and y of each cell's corner, its label, and the row of its patch."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    x, y, label, number = (np.array([int(row[key]) for row in rows]) for key in ("x", "y", "label", "row"))
    return x, y, label, number


def regions(found: Path, truth: Path) -> tuple[int, int, int]:
    """How many lesions of the truth a found region touches, how many there are, and how many regions touch none."""
    lesions = [region.shape for region in read_annotations(truth).tumour]
    detected = [shape(feature["geometry"]) for feature in json.loads(found.read_text())["features"]]
    touched = sum(any(lesion.intersects(region) for region in detected) for lesion in lesions)
    false = sum(not any(region.intersects(lesion) for lesion in lesions) for region in detected)
    return touched, len(lesions), false


if __name__ == "__main__":
    main()
