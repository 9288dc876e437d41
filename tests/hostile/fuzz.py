"""Random damage to sound files, run through the real commands: how each kind of file takes it. For the nightly run.

    python tests/hostile/fuzz.py [--inputs 1000] [--seed 0] [--shared DATA] [--keep DIR] [--kinds NAME ...]

Each input is a sound file in which bytes were flipped, zeroed, cut out, doubled, inserted or cut off at the end, by a
fixed seed. Printed for each kind is how many were

  refused    in one sentence, with the exit code of a refusal or of a part that failed
  same       accepted, with the result of the sound file
  different  accepted, with another result: right where a number in a text has changed, and worth a look elsewhere
  traceback, hang, crash, memory, outside (a file, program or connection that it had no business with)

and the command ends with 1 if there is any of the last line; ``--keep`` writes those inputs to a folder. ``--shared``
adds small real files: patches, slides, annotations and predictions.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sound
from harness import LINES, MEMORY, Case, Outcome, Worker, run
from odd_bundles import write_sums

from sentinode.model.bundle import CARD, WEIGHTS

STEM = "camelyonpatch_level_2_split_test_"
BAD = ("traceback", "hang", "crash", "memory", "outside")
COLUMNS = ("refused", "same", "different", *BAD)
REFUSED = (2, 3)
SMALL = 1_000_000
"""Bytes of a real file at most."""

Arguments = list[str]


@dataclass(frozen=True)
class Kind:
    """A sound input.

    Attributes:
        name: of the kind.
        make: writes it into an empty folder, and returns the file to damage and the command's arguments.
        result: patterns of the files whose content is the result, beside what the command prints.
        mend: puts right what would tell the damage at once, such as checksums.
    """

    name: str
    make: Callable[[Path], tuple[Path, Arguments]]
    result: tuple[str, ...] = ()
    mend: Callable[[Path], object] = lambda _: None


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """One to four changes of a file's bytes."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, max(len(changed), 1)))
        # Headers are small, and what they say matters most.
        at = int(rng.integers(0, min(len(changed), 400) + 1)) if rng.random() < 0.4 else at
        end = at + int(2 ** rng.uniform(0, 8))
        match int(rng.integers(0, 7)):
            case 0:
                changed[at:end] = rng.integers(0, 256, len(changed[at:end]), np.uint8).tobytes()
            case 1:
                changed[at:end] = bytes(len(changed[at:end]))
            case 2:
                del changed[at:end]
            case 3:
                changed[at:at] = changed[at:end]
            case 4:
                changed[at:at] = rng.integers(0, 256, end - at, np.uint8).tobytes()
            case 5:
                changed[at : at + 8] = int(rng.choice([0, 1, 2**31 - 1, 2**32, 2**63 - 1])).to_bytes(8, "little")
            case 6 if rng.random() < 0.5:
                del changed[at:]
            case _:
                changed[at : at + 1] = bytes([changed[at] ^ (1 << int(rng.integers(8)))]) if at < len(changed) else b""
    return bytes(changed)


def of_bundle(name: str) -> Callable[[Path], tuple[Path, Arguments]]:
    def make(folder: Path) -> tuple[Path, Arguments]:
        copied = sound.bundle(folder)
        sound.picture(folder / "patch.png")
        return copied / name, ["predict", "bundle", "patch.png", "--device", "cpu"]

    return make


def of_picture(ending: str) -> Callable[[Path], tuple[Path, Arguments]]:
    return lambda folder: (sound.picture(folder / f"patch.{ending}"), ["predict", f"patch.{ending}", "--device", "cpu"])


def of_hdf5(part: str) -> Callable[[Path], tuple[Path, Arguments]]:
    def make(folder: Path) -> tuple[Path, Arguments]:
        (folder / "data").mkdir()
        images = np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3), np.uint8)
        with h5py.File(folder / "data" / f"{STEM}x.h5", "w") as file:
            file.create_dataset("x", data=images, chunks=(2, 96, 96, 3), compression="gzip")
        with h5py.File(folder / "data" / f"{STEM}y.h5", "w") as file:
            file["y"] = np.array([0, 1, 0, 1], np.uint8).reshape(-1, 1, 1, 1)
        return folder / "data" / f"{STEM}{part}.h5", ["data", "audit", "data"]

    return make


def of_parquet(folder: Path) -> tuple[Path, Arguments]:
    pictures = [sound.picture(folder / f"{number}.png").read_bytes() for number in range(2)]
    table = pa.table({"image": [{"bytes": each, "path": None} for each in pictures], "label": [0, 1]})
    pq.write_table(table, folder / "test.parquet")
    return folder / "test.parquet", ["predict", "test.parquet", "--device", "cpu"]


def of_predictions(folder: Path) -> tuple[Path, Arguments]:
    rng = np.random.default_rng(0)
    rows = [f"p{number},{number % 2},{rng.random():.3f},s{number % 7}" for number in range(60)]
    (folder / "given.csv").write_text("id,label,probability,slide\n" + "\n".join(rows) + "\n")
    return folder / "given.csv", ["evaluate", "given.csv", "--out", "out", "--resamples", "20", "--json"]


def of_slide(folder: Path) -> tuple[Path, Arguments]:
    return sound.slide(folder / "a.tif"), ["scan", "a.tif", "--out", "out", "--device", "cpu"]


def of_annotations(folder: Path) -> tuple[Path, Arguments]:
    square = [[0, 0], [0, 90], [90, 90], [90, 0], [0, 0]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [square]},
        "properties": {"classification": {"name": "Tumor"}},
    }
    (folder / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature] * 3}))
    return folder / "a.geojson", ["annotations", "a.geojson"]


def of_asap(folder: Path) -> tuple[Path, Arguments]:
    points = "".join(
        f'<Coordinate Order="{at}" X="{x}" Y="{y}"/>' for at, (x, y) in enumerate([(0, 0), (0, 90), (90, 90), (90, 0)])
    )
    region = f'<Annotation Name="a" Type="Polygon" PartOfGroup="Tumor"><Coordinates>{points}</Coordinates></Annotation>'
    text = f'<?xml version="1.0"?><ASAP_Annotations><Annotations>{region}</Annotations></ASAP_Annotations>'
    (folder / "a.xml").write_text(text)
    return folder / "a.xml", ["annotations", "a.xml"]


def of_recipe(folder: Path) -> tuple[Path, Arguments]:
    from sentinode.recipes import load_recipe

    (folder / "mine.toml").write_text(load_recipe("quick").to_toml())
    return folder / "mine.toml", ["recipe", "mine.toml"]


def sums(file: Path) -> None:
    """Write the checksums of a bundle anew, so that the damage is not told by them."""
    (file.parent / "SHA256SUMS").unlink()
    write_sums(file.parent)


SCANNED = ("out/*/map.npy", "out/*/lesions.geojson")

KINDS = [
    Kind("bundle, card", of_bundle(CARD), mend=sums),
    Kind("bundle, weights", of_bundle(WEIGHTS), mend=sums),
    Kind("bundle, checksums", of_bundle("SHA256SUMS")),
    Kind("PNG", of_picture("png")),
    Kind("JPEG", of_picture("jpg")),
    Kind("TIFF patch", of_picture("tif")),
    Kind("HDF5, images", of_hdf5("x")),
    Kind("HDF5, labels", of_hdf5("y")),
    Kind("Parquet", of_parquet),
    Kind("predictions", of_predictions),
    Kind("slide", of_slide, SCANNED),
    Kind("GeoJSON", of_annotations),
    Kind("ASAP XML", of_asap),
    Kind("recipe", of_recipe),
]


def real_kinds(data: Path) -> Iterator[Kind]:
    """Small real files of the shared data."""

    def copied(file: Path, command: Callable[[str], Arguments]) -> Callable[[Path], tuple[Path, Arguments]]:
        def make(folder: Path) -> tuple[Path, Arguments]:
            return Path(shutil.copyfile(file, folder / file.name)), command(file.name)

        return make

    def scan(name: str) -> Arguments:
        return ["scan", name, "--out", "out", "--device", "cpu", "--stride", "256", "--mpp", "0.5"]

    slides = [*(data / "slides").glob("*.*"), *(data / "slides" / "containers").glob("*.*")]
    for file in sorted(slides):
        if file.suffix in (".svs", ".tif", ".tiff", ".dcm") and file.stat().st_size < SMALL:
            yield Kind(f"real slide {file.name}", copied(file, scan), SCANNED)
    regions = sorted((data / "annotations" / "c16_test").glob("*.json"), key=lambda file: file.stat().st_size)
    if regions:
        yield Kind(f"real annotations {regions[0].name}", copied(regions[0], lambda name: ["annotations", name]))

    def patches(folder: Path) -> tuple[Path, Arguments]:
        pq.write_table(pq.read_table(data / "pcam" / "test.parquet").slice(0, 4), folder / "test.parquet")
        return folder / "test.parquet", ["predict", "test.parquet", "--device", "cpu"]

    if (data / "pcam" / "test.parquet").exists():
        yield Kind("real patches", patches)


def ended(outcome: Outcome, expected: str) -> str:
    """How a damaged input was taken."""
    said = outcome.err
    if outcome.hung:
        return "hang"
    if outcome.code < 0:
        return "crash"
    if "Traceback" in said or "bug in Sentinode" in " ".join(said.split()):
        return "traceback"
    if outcome.peak > MEMORY:
        return "memory"
    if outcome.broken:
        return "outside"
    if outcome.code in REFUSED:
        return "refused" if len([line for line in said.splitlines() if line.strip()]) <= LINES else "traceback"
    if outcome.code:
        return "crash"
    return "same" if outcome.result == expected else "different"


def case_of(kind: Kind, seed: int | None, keep: Path | None = None) -> Case:
    """A damaged input, or the sound one where there is no ``seed``."""

    def make(folder: Path) -> Arguments:
        file, arguments = kind.make(folder)
        if seed is not None:
            content = damaged(file.read_bytes(), np.random.default_rng([seed, *kind.name.encode()]))
            file.write_bytes(content)
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{kind.name.replace(' ', '-')}-{seed}-{file.name}").write_bytes(content)
            kind.mend(file)
        return arguments

    return Case(f"{kind.name} {seed}", make, "", leaves=("*",), result=kind.result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1000, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shared", type=Path, help="the shared data, for real files")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that ended badly")
    parser.add_argument("--kinds", nargs="+", help="only these")
    options = parser.parse_args()
    kinds = [*KINDS, *(real_kinds(options.shared) if options.shared else ())]
    kinds = [kind for kind in kinds if not options.kinds or kind.name in options.kinds]
    each = -(-options.inputs // len(kinds))
    worker, total = Worker(), Counter[str]()
    print("| file |", " | ".join(COLUMNS), "|")
    print("|---|" + "---|" * len(COLUMNS))
    try:
        with ThreadPoolExecutor(2) as threads:
            for kind in kinds:
                whole = run(case_of(kind, None), worker)
                if whole.code in REFUSED and kind.name.startswith("real"):
                    print(f"left out, because it is refused as it is: {kind.name}", file=sys.stderr)
                    continue
                if whole.code or whole.hung:
                    raise SystemExit(f"the sound {kind.name} ends with {whole.code}: {whole.err}")
                seeds = [options.seed * 1_000_000 + number for number in range(each)]
                found = threads.map(lambda seed, kind=kind: run(case_of(kind, seed), worker), seeds)
                ends = [ended(outcome, whole.result) for outcome in found]
                for seed, end in zip(seeds, ends, strict=True):
                    if end in BAD:
                        print(f"{kind.name}, seed {seed}: {end}", file=sys.stderr)
                        if options.keep:
                            run(case_of(kind, seed, options.keep), worker)
                counts = Counter(ends)
                total += counts
                print(f"| {kind.name} |", " | ".join(str(counts[name]) for name in COLUMNS), "|", flush=True)
    finally:
        worker.close()
    print("| all |", " | ".join(str(total[name]) for name in COLUMNS), "|")
    raise SystemExit(any(total[name] for name in BAD))


if __name__ == "__main__":
    main()
