"""What a site check sees and what it does not: how often it warns, beside how much the AUC truly falls.

    python benchmarks/site_check.py --data DATA --other FOLDER --tiles FOLDER [--weights BUNDLE] [--patches 600]
        [--sizes 80 300] [--draws 20] [--reference-patches 1000]

DATA has valid and test. FOLDER of --other holds lc25000_lung_224 (lung, 224 pixels, class folders) and camelyon16_256
(256 pixels at 0.25 microns per pixel: too small for a patch, so half of the resolution is kept). FOLDER of --tiles
holds a picture of tissue of each hospital of Camelyon17, as for scanner_colours.py. A bundle without a reference is
compared, too: the reference is made here, from every other patch of valid.

Each kind of patches is passed through the network once. Then DRAWS samples of each size are drawn from it, and each is
checked. Printed for each kind: AUC and accuracy at the bundle's threshold on all of its patches, where there are
labels; how often the check says "different" or worse, and how often "do not trust"; the median discrepancy of the
features. The last table counts warnings where the accuracy falls by more than FALL and where it does not.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sentinode.evaluation.site_check import DISTRUST, SAME, compare
from sentinode.evaluation.stress import DISTURBANCES, Disturbance, scanner
from sentinode.model.bundle import Bundle, load
from sentinode.model.site_reference import BATCH, FEWEST, Reference, Seen, look, make_reference
from sentinode.patches import PatchSet, open_data
from sentinode.patches.unlabelled import fitted
from sentinode.scoring import auc, calibrated

FALL = 0.03
"""From this fall of the accuracy on, a warning is right."""

CHANGES = (
    *(("blur", 1), ("blur", 2), ("defocus", 1.5), ("defocus", 3), ("jpeg", 70), ("jpeg", 30)),
    *(("magnification", 0.9), ("magnification", 1.1), ("magnification", 0.7), ("magnification", 1.5)),
    *(("stain", 0.7), ("stain", 1.3), ("hue", 0.05), ("hue", -0.1), ("brightness", 0.9), ("brightness", 0.6)),
)

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Kind:
    """Patches of one kind: a title, uint8 (N, S, S, 3), and the labels where the bundle's classes have a meaning."""

    title: str
    images: Images
    labels: NDArray[np.uint8] | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="labelled patches with valid and test")
    parser.add_argument("--other", type=Path, help="patches of other tissue and of another centre")
    parser.add_argument("--tiles", type=Path, help="a picture of tissue of each hospital of Camelyon17")
    parser.add_argument("--weights", type=Path, help="a bundle; by default the bundled model")
    parser.add_argument("--patches", type=int, default=600, help="of each kind, at most")
    parser.add_argument("--sizes", type=int, nargs="+", default=[80, 300], help="patches of a sample")
    parser.add_argument("--draws", type=int, default=20, help="samples of each kind and size")
    parser.add_argument("--reference-patches", type=int, default=1000, help="patches of valid in the reference")
    options = parser.parse_args()
    bundle, data = load(options.weights), open_data(options.data)
    valid, test = data["valid"], data["test"]
    even = valid.subset(np.arange(0, len(valid), 2)[: options.reference_patches])
    seen = _seen(bundle, even.images[:])
    reference = make_reference(seen, even.labels, even.slides)
    others = valid.subset(np.arange(1, len(valid), 2))
    print("| patches | n | AUC | accuracy | sample | discrepancy | different or worse | do not trust |")
    print("|---|---|---|---|---|---|---|---|")
    base: float | None = None
    counts = {(size, falls): [0, 0, 0] for size in options.sizes for falls in (False, True)}
    for kind in _kinds(bundle, others, test, options.patches, options.other, options.tiles):
        seen = _seen(bundle, kind.images)
        right = _accuracy(bundle, seen, kind.labels)
        if kind.title == "test, as it is":
            base = right
        for size in (size for size in options.sizes if size <= len(kind.images)):
            verdicts, distances = _checked(bundle, reference, seen, size, options.draws)
            warned = np.mean([verdict != SAME for verdict in verdicts])
            far = np.mean([verdict == DISTRUST for verdict in verdicts])
            ranks = "-" if kind.labels is None or len(set(kind.labels)) < 2 else f"{auc(kind.labels, seen.margins):.3f}"
            share = "-" if right is None else f"{right:.3f}"
            print(
                f"| {kind.title} | {len(kind.images)} | {ranks} | {share} | {size} | {np.median(distances):.3f} "
                f"| {warned:.0%} | {far:.0%} |",
                flush=True,
            )
            if base is not None and right is not None:
                count = counts[size, base - right > FALL]
                count[0] += len(verdicts)
                count[1] += sum(verdict != SAME for verdict in verdicts)
                count[2] += sum(verdict == DISTRUST for verdict in verdicts)
    print(f"\n| sample | the accuracy falls by more than {FALL} | samples | different or worse | do not trust |")
    print("|---|---|---|---|---|")
    for (size, falls), (n, warned, far) in counts.items():
        if n:
            print(f"| {size} | {'yes' if falls else 'no'} | {n} | {warned / n:.0%} | {far / n:.0%} |")


def _kinds(
    bundle: Bundle, valid: PatchSet, test: PatchSet, most: int, other: Path | None, tiles: Path | None
) -> Iterator[Kind]:
    rng = np.random.default_rng(0)
    rows = np.sort(rng.permutation(len(valid))[:most])
    yield Kind("valid, other patches", valid.images[rows], valid.labels[rows])
    rows = np.sort(rng.permutation(len(test))[:most])
    images, labels = test.images[rows], test.labels[rows]
    yield Kind("test, as it is", images, labels)
    for label, name in enumerate(bundle.card.class_names):
        yield Kind(f"test, {name} alone", images[labels == label], labels[labels == label])
    for name, level in CHANGES:
        yield Kind(f"test, {name} {level:g}", _changed(images, DISTURBANCES[name], level), labels)
    stains = scanner(images)
    for level in stains.levels:
        yield Kind(f"test, stain of {stains.label(level)}", _changed(images, stains, level), labels)
    for path in sorted(tiles.glob("centre_*.jpeg")) if tiles else ():
        yield Kind(f"tissue of {path.stem[:8].replace('_', ' ')}, normal", _grid(path, bundle), None)
    if other:
        size = bundle.card.geometry.size
        lung = [
            fitted(np.asarray(Image.open(path).convert("RGB")), 1, size)
            for path in _pictures(other, "lc25000_lung_224")
        ]
        yield Kind(
            "lung (its resolution is unknown)", np.stack([one for one in lung if isinstance(one, np.ndarray)]), None
        )
        paths = _pictures(other, "camelyon16_256")
        small = [fitted(np.asarray(Image.open(path).convert("RGB")), 0.5, size) for path in paths]
        images = np.stack([one for one in small if isinstance(one, np.ndarray)])
        labels = np.array([path.parent.name == "tumor" for path in paths], np.uint8)
        yield Kind("Camelyon16, magnified twice", images, labels)


def _pictures(folder: Path, name: str) -> list[Path]:
    return sorted(path for path in (folder / name).rglob("*") if path.suffix in (".png", ".jpeg", ".jpg"))


def _changed(images: Images, disturbance: Disturbance, level: float) -> Images:
    return np.stack([np.asarray(disturbance.apply(Image.fromarray(image), level)) for image in images])


def _grid(path: Path, bundle: Bundle) -> Images:
    """A picture at 0.25 microns per pixel, averaged down and cut into patches."""
    picture, size = Image.open(path).convert("RGB"), bundle.card.geometry.size
    assert bundle.card.mpp is not None
    side = round(picture.width * 0.25 / bundle.card.mpp)
    small = np.asarray(picture.resize((side, side), Image.Resampling.BOX))
    starts = range(0, side - size + 1, size // 2)
    return np.stack([small[top : top + size, left : left + size] for top in starts for left in starts])


def _seen(bundle: Bundle, images: Images) -> Seen:
    return look(bundle, (images[at : at + BATCH] for at in range(0, len(images), BATCH)), device="cpu")


def _accuracy(bundle: Bundle, seen: Seen, labels: NDArray[np.uint8] | None) -> float | None:
    if labels is None:
        return None
    called = calibrated(seen.margins, bundle.card.temperature) >= bundle.card.threshold
    return float((called == labels).mean())


def _checked(bundle: Bundle, reference: Reference, seen: Seen, size: int, draws: int) -> tuple[list[str], list[float]]:
    verdicts, distances = [], []
    for seed in range(draws if size >= FEWEST else 0):
        rows = np.random.default_rng(seed).permutation(len(seen.margins))[:size]
        site = Seen(seen.features[rows], seen.margins[rows], seen.appearance[rows])
        found = compare(bundle, reference, site, seed=seed)
        verdicts.append(found.verdict)
        distances.append(found.features.distance)
    return verdicts, distances


if __name__ == "__main__":
    main()
