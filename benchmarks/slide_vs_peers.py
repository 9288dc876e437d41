"""The same ResNet-50 over the same slide with TIAToolbox, WSInfer and Sentinode, on the same device, in turn.

    python benchmarks/slide_vs_peers.py --data SHARED/data --weights BUNDLE [--slide SLIDE] [--work DIR] [--rounds 3]

BUNDLE is a ResNet-50; the peers get the same network with the same weights as TorchScript. Without --slide the mosaic
of 8000 x 8000 pixels is built (see benchmarks/mosaic.py). TIAToolbox and WSInfer each get a virtual environment of
their own below --work; WSInfer fetches its registry of models when it starts, and that call is stubbed. Every program
finds the tissue by its own method, so that each counts its own tiles; windows are 96 x 96 at 0.972 microns per pixel,
96 apart. Start-up is the time of the whole program on a slide of a few tiles; the time of a tile is what the large
slide takes longer, by the tiles that it has more. Prints a Markdown table with the medians of the rounds so far,
after each. On a machine that is busy with other things the processor time with --threads 1 is what to compare.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from measure import Run, measure
from mosaic import MOSAICS, build

from sentinode.model.bundle import Bundle, load
from sentinode.model.classifier import MEAN, STD
from sentinode.slides.scanning.probability_map import open_map

PACKAGES = {
    "TIAToolbox": ["tiatoolbox"],
    "WSInfer": ["wsinfer", "zarr<3", "openslide-python", "openslide-bin"],
}
OURS = {"Sentinode": "float32", "Sentinode, bfloat16": "bfloat16"}
"""Our rows of the table and their precision; the peers compute in float32."""

STRIDE = 96
BATCH = 64

TIATOOLBOX = """
import json, sys
from pathlib import Path
import numpy as np, torch, zarr
from tiatoolbox.models.architecture.vanilla import CNNModel
from tiatoolbox.models.engine.io_config import IOPatchPredictorConfig
from tiatoolbox.models.engine.patch_predictor import PatchPredictor
from tiatoolbox.models.models_abc import ModelABC

class Traced(CNNModel):
    def __init__(self, path):
        ModelABC.__init__(self)
        self.num_classes, self.network = 2, torch.jit.load(path)

    def forward(self, images):
        return torch.softmax(self.network(images), -1)

slide, out, path, device, workers, batch, mean, std = json.loads(sys.argv[1])
model = Traced(path)
mean, std = (np.array(values, "float32") for values in (mean, std))
model.preproc_func = lambda image: (image.astype("float32") / 255 - mean) / std
config = IOPatchPredictorConfig(
    patch_input_shape=(96, 96), stride_shape=(96, 96), input_resolutions=[{"units": "mpp", "resolution": 0.972}]
)
predictor = PatchPredictor(model=model, batch_size=batch, num_workers=workers, device=device, verbose=False)
output = predictor.run(
    [Path(slide)], patch_mode=False, ioconfig=config, save_dir=Path(out), overwrite=True, output_type="zarr",
    return_probabilities=True,
)
store = zarr.open(next(iter(output.values())), mode="r")
Path(out, "tiles.json").write_text(json.dumps(store["coordinates"].shape[0]))
"""

WSINFER = """
import csv, json, sys
from pathlib import Path
import wsinfer_zoo.client as client

client.load_registry = lambda *_, **__: client.ModelRegistry(models={})
from wsinfer.cli.cli import cli

slides, out, model, config, workers, batch = json.loads(sys.argv[1])
words = ["--backend", "openslide", "run", "-i", slides, "-o", out, "-p", model, "-c", config]
cli(words + ["-n", str(workers), "-b", str(batch)], standalone_mode=False)
(table,) = Path(out, "model-outputs-csv").glob("*.csv")
Path(out, "tiles.json").write_text(json.dumps(sum(1 for _ in csv.DictReader(table.open()))))
"""


@dataclass(frozen=True)
class Result:
    """One run of one program on one slide."""

    run: Run
    tiles: int


def main() -> None:
    arguments = _parse()
    work: Path = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    export(load(arguments.weights), work)
    slide = (arguments.slide or build("small", arguments.data, work)).resolve()
    few = build("few", arguments.data, work)
    programs = arguments.programs
    for name in PACKAGES.keys() & set(programs):
        create_environment(work / name)
    results: dict[str, list[tuple[Result, Result]]] = {name: [] for name in programs}
    for turn in range(arguments.rounds):
        for name in programs:
            pair = tuple(run(name, path, work, arguments) for path in (few, slide))
            results[name].append(pair)  # type: ignore[arg-type]
            print(f"round {turn + 1}: {name}: {pair[1].run.seconds:.0f} s, {pair[1].tiles} tiles", file=sys.stderr)
        print(table(results), flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds pcam/ and slides/")
    parser.add_argument("--weights", type=Path, required=True, help="a bundle with a ResNet-50")
    parser.add_argument("--slide", type=Path, help="a slide in place of the mosaic")
    parser.add_argument("--work", type=Path, default=Path("runs/peers"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that read, for the peers; >= 1")
    parser.add_argument("--threads", type=int, help="threads that compute, for all")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--programs", nargs="+", choices=[*PACKAGES, *OURS], default=[*PACKAGES, *OURS])
    return parser.parse_args()


MOSAICS["few"] = ["--window", "1800", "4000", "96", "96"]


def create_environment(folder: Path) -> None:
    """A virtual environment with one of the peers, made once."""
    if (folder / "ready").exists():
        return
    venv.create(folder, with_pip=True, clear=True)
    subprocess.run([_python(folder), "-m", "pip", "install", "--quiet", *PACKAGES[folder.name]], check=True)
    (folder / "ready").touch()


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def export(bundle: Bundle, work: Path) -> None:
    """The bundle's network in the form that the peers read: TorchScript, and WSInfer's description of it."""
    network = bundle.classifier()
    normalised = torch.rand(1, 3, 96, 96)
    torch.jit.trace(torch.nn.Sequential(network.backbone, network.head), normalised).save(work / "model.pt")
    description = {
        "spec_version": "1.0",
        "architecture": "resnet50",
        "num_classes": 2,
        "class_names": ["normal", "tumour"],
        "name": "bundle",
        "patch_size_pixels": 96,
        "spacing_um_px": 0.972,
        "transform": [
            {"name": "Resize", "arguments": {"size": 96}},
            {"name": "ToTensor"},
            {"name": "Normalize", "arguments": {"mean": MEAN, "std": STD}},
        ],
    }
    (work / "config.json").write_text(json.dumps(description))


def run(name: str, slide: Path, work: Path, arguments: argparse.Namespace) -> Result:
    """Run one program on one slide, from a clean start."""
    out = work / f"out-{name}"
    shutil.rmtree(out, ignore_errors=True)
    environment = {**os.environ, "WSINFER_FORCE_CPU": "1" if arguments.device == "cpu" else "0"}
    if arguments.threads:
        environment["OMP_NUM_THREADS"] = str(arguments.threads)
    python = _python(work / name)
    match name:
        case "TIAToolbox":
            options = [slide, out, work / "model.pt", arguments.device, arguments.workers, BATCH, MEAN, STD]
            done = measure([python, "-c", TIATOOLBOX, _json(options)], environment=environment)
        case "WSInfer":
            alone = work / f"only-{slide.stem}"  # it reads a folder that may hold nothing but slides
            alone.mkdir(exist_ok=True)
            if not (alone / slide.name).exists():
                os.link(slide, alone / slide.name)
            options = [alone, out, work / "model.pt", work / "config.json", arguments.workers, BATCH]
            done = measure([python, "-c", WSINFER, _json(options)], environment=environment)
        case _:
            command = [sys.executable, "-m", "sentinode", "scan", arguments.weights, slide, "--out", out]
            settings = ["--stride", STRIDE, "--device", arguments.device, "--precision", OURS[name]]
            done = measure([*command, *settings], environment=environment)
            return Result(done, int(open_map(out / slide.stem).tissue.sum()))
    return Result(done, json.loads((out / "tiles.json").read_text()))


def _json(options: list[object]) -> str:
    return json.dumps(options, default=str)


def table(results: dict[str, list[tuple[Result, Result]]]) -> str:
    """Medians over the rounds, and each program's time per tile as a multiple of Sentinode's."""
    heads = ("", "tiles", "ms per tile", "tiles/s", "of Sentinode's", "processor ms per tile", "of Sentinode's")
    heads = (*heads, "start-up, s", "peak MiB")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    clocks = [
        {name: _cost(pairs, clock) for name, pairs in results.items()} for clock in ("seconds", "processor_seconds")
    ]
    for name, pairs in results.items():
        cells = [name, f"{pairs[0][1].tiles:,}"]
        for clock in clocks:
            cells.append(f"{1000 * clock[name]:.1f}")
            if clock is clocks[0]:
                cells.append(f"{1 / clock[name]:.0f}")
            cells.append(f"{clock[name] / clock.get('Sentinode', np.nan):.2f}")
        startup = statistics.median(few.run.seconds for few, _ in pairs)
        peak = max(slide.run.peak_mib for _, slide in pairs)
        lines.append("| " + " | ".join((*cells, f"{startup:.1f}", f"{peak:,.0f}")) + " |")
    return "\n".join(lines)


def _cost(pairs: list[tuple[Result, Result]], clock: str) -> float:
    """Seconds per tile by one of the clocks of a :class:`Run`."""
    return statistics.median(
        (getattr(slide.run, clock) - getattr(few.run, clock)) / (slide.tiles - few.tiles) for few, slide in pairs
    )


if __name__ == "__main__":
    main()
