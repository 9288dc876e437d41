"""The same ResNet-50 over the same slide with TIAToolbox, WSInfer and Sentinode, on the same device, in turn.

    python benchmarks/slide_vs_peers.py --data SHARED/data --weights BUNDLE [--stride 96] [--mosaic small]
                                        [--slide SLIDE] [--work DIR] [--rounds 3]

BUNDLE is a ResNet-50; the peers get the same network with the same weights as TorchScript. Without --slide a mosaic is
built (see benchmarks/mosaic.py). TIAToolbox and WSInfer each get a virtual environment of their own below --work;
WSInfer fetches its registry of models when it starts, and that call is stubbed. Every program finds the tissue by its
own method, so that each counts its own windows; they are 96 x 96 at 0.972 microns per pixel, --stride apart. Where
windows overlap, TIAToolbox gets the stride and WSInfer the overlap as they take them, and both compute each window
anew. Sentinode runs with its default settings (``Sentinode``), so it reads densely where the bundle's card allows it:
run ``sentinode check BUNDLE DATA`` first.

The area of a program's tissue is one square of the stride's side for each of its windows. The time of a square
millimetre is what the large slide takes longer than a slide of a few windows, by the area that it has more; start-up is
what the small slide takes beside that.

Every program runs once on the small slide before anything is measured: that is the first start, and Sentinode keeps the
compiled network from there on. Prints a Markdown table with the medians of the rounds so far, after each. At a stride
of 32 use ``--mosaic medium``: the peers need some minutes for it. On a machine that is busy with other things the
processor time with --threads 1 is what to compare.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path

import torch
from measure import Run, measure
from mosaic import MOSAICS, build

from sentinode.model.bundle import Bundle, load
from sentinode.model.classifier import MEAN, STD
from sentinode.model.hardware import choose_device, describe
from sentinode.slides.scanning.probability_map import open_map

PACKAGES = {
    "TIAToolbox": ["tiatoolbox"],
    "WSInfer": ["wsinfer>=0.6.1", "zarr<3", "openslide-python", "openslide-bin"],
}
OURS = {
    "Sentinode": [],
    "Sentinode, float32": ["--precision", "float32"],
    "Sentinode, patch by patch": ["--reading", "patch"],
    "Sentinode, dense": ["--reading", "dense"],
}
"""Our rows of the table and their options; the peers compute in float32."""

WINDOW, MPP = 96, 0.972
BATCH = 64
CLOCKS = ("seconds", "processor_seconds")

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

slide, out, path, device, workers, batch, stride, mean, std = json.loads(sys.argv[1])
model = Traced(path)
mean, std = (np.array(values, "float32") for values in (mean, std))
model.preproc_func = lambda image: (image.astype("float32") / 255 - mean) / std
config = IOPatchPredictorConfig(
    patch_input_shape=(96, 96),
    stride_shape=(stride, stride),
    input_resolutions=[{"units": "mpp", "resolution": 0.972}],
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

slides, out, model, config, workers, batch, overlap = json.loads(sys.argv[1])
words = ["--backend", "openslide", "run", "-i", slides, "-o", out, "-p", model, "-c", config]
words += ["-n", str(workers), "-b", str(batch), "--patch-overlap-ratio", str(overlap)]
cli(words, standalone_mode=False)
(table,) = Path(out, "model-outputs-csv").glob("*.csv")
Path(out, "tiles.json").write_text(json.dumps(sum(1 for _ in csv.DictReader(table.open()))))
"""


@dataclass(frozen=True)
class Result:
    """One run of one program on one slide.

    Attributes:
        run: what it took.
        windows: how many windows of tissue the program found and computed.
        engine: what computed them.
    """

    run: Run
    windows: int
    engine: str = "PyTorch float32"


@dataclass
class Program:
    """All runs of one program: the first start, then in each round one on the slide of a few windows and one on the
    slide."""

    first: Result
    few: list[Result] = field(default_factory=list)
    slide: list[Result] = field(default_factory=list)

    def more(self, clock: str) -> float:
        """Seconds by one of the clocks of a :class:`Run` for each window that the slide has more."""
        return statistics.median(
            (getattr(slide.run, clock) - getattr(few.run, clock)) / (slide.windows - few.windows)
            for few, slide in zip(self.few, self.slide, strict=True)
        )


def main() -> None:
    arguments = _parse()
    work: Path = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    export(load(arguments.weights), work)
    slide = (arguments.slide or build(arguments.mosaic, arguments.data, work)).resolve()
    few = build("few", arguments.data, work)
    for name in PACKAGES.keys() & set(arguments.programs):
        create_environment(work / name)
    shutil.rmtree(work / "cache", ignore_errors=True)
    print(f"{describe(choose_device(arguments.device))}\n", flush=True)
    programs = {name: Program(run(name, few, work, arguments)) for name in arguments.programs}
    for turn in range(arguments.rounds):
        for name, program in programs.items():
            program.few.append(run(name, few, work, arguments))
            program.slide.append(run(name, slide, work, arguments))
            last = program.slide[-1]
            print(f"round {turn + 1}: {name}: {last.run.seconds:.0f} s, {last.windows} windows", file=sys.stderr)
        print(table(programs, arguments.stride, work), flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds pcam/ and slides/")
    parser.add_argument("--weights", type=Path, required=True, help="a bundle with a ResNet-50")
    parser.add_argument("--stride", type=int, default=96, help="pixels from one window to the next")
    parser.add_argument("--mosaic", choices=list(MOSAICS), default="small")
    parser.add_argument("--slide", type=Path, help="a slide in place of the mosaic")
    parser.add_argument("--work", type=Path, default=Path("runs/peers"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that read, for the peers; >= 1")
    parser.add_argument("--threads", type=int, help="threads that compute, for all")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    programs = [*PACKAGES, "Sentinode", "Sentinode, float32"]
    parser.add_argument("--programs", nargs="+", choices=[*PACKAGES, *OURS], default=programs)
    return parser.parse_args()


def create_environment(folder: Path) -> None:
    """A virtual environment with one of the peers, made once."""
    if (folder / "ready").exists():
        return
    venv.create(folder, with_pip=True, clear=True)
    subprocess.run([_python(folder), "-m", "pip", "install", "--quiet", *PACKAGES[folder.name]], check=True)
    (folder / "ready").touch()


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def version(name: str, work: Path) -> str:
    """Of a program, as its own environment states it."""
    python, package = (_python(work / name), name.lower()) if name in PACKAGES else (sys.executable, "sentinode")
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


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
    environment = {
        **os.environ,
        "WSINFER_FORCE_CPU": "1" if arguments.device == "cpu" else "0",
        "SENTINODE_CACHE": str(work / "cache"),
    }
    if arguments.threads:
        environment["OMP_NUM_THREADS"] = str(arguments.threads)
    python, stride = _python(work / name), arguments.stride
    match name:
        case "TIAToolbox":
            options = [slide, out, work / "model.pt", arguments.device, arguments.workers, BATCH, stride, MEAN, STD]
            done = measure([python, "-c", TIATOOLBOX, _json(options)], environment=environment)
        case "WSInfer":
            alone = work / f"only-{slide.stem}"  # it reads a folder that may hold nothing but slides
            alone.mkdir(exist_ok=True)
            if not (alone / slide.name).exists():
                os.link(slide, alone / slide.name)
            overlap = 1 - stride / WINDOW
            options = [alone, out, work / "model.pt", work / "config.json", arguments.workers, BATCH, overlap]
            done = measure([python, "-c", WSINFER, _json(options)], environment=environment)
        case _:
            command = [sys.executable, "-m", "sentinode", "scan", arguments.weights, slide, "--out", out]
            settings = ["--stride", stride, "--device", arguments.device, *OURS[name]]
            done = measure([*command, *settings], environment=environment)
            probability_map = open_map(out / slide.stem)
            return Result(done, int(probability_map.tissue.sum()), probability_map.engine)
    return Result(done, json.loads((out / "tiles.json").read_text()))


def _json(options: list[object]) -> str:
    return json.dumps(options, default=str)


COLUMNS = (
    "", "computed by", "windows", "tissue, mm2", "s per mm2", "times faster than the better peer", "ms per window",
    "processor s per mm2", "times less than the better peer", "first start, s", "start-up, s", "a few windows, s",
    "whole slide, s", "peak MiB",
)  # fmt: skip


def table(programs: dict[str, Program], stride: int, work: Path) -> str:
    """Medians over the rounds; a column beside each time holds it against the better of the peers."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    square = (stride * MPP / 1000) ** 2
    cost = {clock: {name: each.more(clock) for name, each in programs.items()} for clock in CLOCKS}
    better = {
        clock: min((cost[clock][name] for name in PACKAGES if name in programs), default=math.nan) for clock in CLOCKS
    }
    for name, program in programs.items():
        seconds, processor = (cost[clock][name] for clock in CLOCKS)
        last = program.slide[-1]
        cells = (
            f"{name} {version(name, work)}", last.engine, f"{last.windows:,}", f"{last.windows * square:.2f}",
            f"{seconds / square:.2f}", f"{better[CLOCKS[0]] / seconds:.2f}", f"{1000 * seconds:.2f}",
            f"{processor / square:.2f}", f"{better[CLOCKS[1]] / processor:.2f}", f"{program.first.run.seconds:.1f}",
            f"{statistics.median(each.run.seconds - each.windows * seconds for each in program.few):.1f}",
            f"{statistics.median(each.run.seconds for each in program.few):.1f}",
            f"{statistics.median(each.run.seconds for each in program.slide):.1f}",
            f"{max(each.run.peak_mib for each in program.slide):,.0f}",
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
