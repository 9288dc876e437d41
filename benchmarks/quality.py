"""What is called not assessable, and where blur begins to cost: for docs/how-to/scan.md.

    python benchmarks/quality.py --data SHARED/data --weights BUNDLE [--patches 500]
        [--cohort DIR ...] [--mosaic FILE ...]

Prints Markdown tables: the bundle's AUC and the share of patches out of focus by blur; patches of valid as they are, in
JPEG of several qualities, under ink, and folded; lymph nodes of five hospitals in 0.972 um per pixel; and with --cohort
and --mosaic the windows of whole slides (of make_cohort.py and make_mosaic.py), which no network reads.
"""

from __future__ import annotations

import argparse
import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from sentinode.model.bundle import load
from sentinode.model.engines import open_engine
from sentinode.patches import open_data
from sentinode.scoring import auc
from sentinode.slides.reading.slide import Slide, open_slide
from sentinode.slides.scanning.quality import Quality, tissue_density, window_quality
from sentinode.slides.scanning.scan import lay_grid
from sentinode.slides.scanning.tissue import find_tissue

SIDE, MPP, STRIDE, BLOCK = 96, 0.972, 32, 32
SIGMAS = (0, 0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4)
QUALITIES = (30, 50, 70, 85, 95)
INKS = {"black": (30, 28, 32), "blue": (35, 50, 165), "green": (20, 140, 95), "red": (205, 35, 45)}
OPACITIES = (1.0, 0.8, 0.6)

Pixels = NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds pcam/ and slides/")
    parser.add_argument("--weights", type=Path, help="a bundle; without it there is no AUC")
    parser.add_argument("--patches", type=int, default=500, help="how many of valid")
    parser.add_argument("--cohort", type=Path, nargs="*", default=[], help="folders that make_cohort.py wrote")
    parser.add_argument("--mosaic", type=Path, nargs="*", default=[], help="slides, such as make_mosaic.py's")
    arguments = parser.parse_args()
    valid = open_data(arguments.data / "pcam")["valid"]
    chosen = np.sort(np.random.default_rng(0).permutation(len(valid.labels))[: arguments.patches])
    patches, labels = valid.images[chosen], np.asarray(valid.labels)[chosen]
    by_blur(patches, labels, arguments.weights)
    print(f"\n| pictures | {' | '.join(reason.label for reason in Quality if reason)} |\n|---|---|---|---|---|")
    show("patches of tumour", patch_codes(patches[labels == 1]))
    show("normal patches", patch_codes(patches[labels == 0]))
    for quality in QUALITIES:
        show(f"JPEG {quality}", patch_codes(np.stack([compressed(patch, quality) for patch in patches])))
    for name, colour in INKS.items():
        for opacity in OPACITIES:
            inked = (patches * (1 - opacity) + np.array(colour) * opacity).astype(np.uint8)
            show(f"under {name} ink, {opacity:.0%} opaque", patch_codes(inked))
    show("folded", patch_codes(folded(patches), density=0.65))
    for path in sorted((arguments.data / "slides" / "camelyon17").glob("*.jpeg")):
        show(path.stem[:8].replace("_", " "), node_codes(path))
    for path in [path for cohort in arguments.cohort for path in sorted((cohort / "slides").glob("*.tif"))]:
        show(f"{path.parent.parent.name}, {path.stem}", slide_codes(path))
    for path in arguments.mosaic:
        show(path.name, slide_codes(path))


def by_blur(patches: Pixels, labels: NDArray[np.uint8], weights: Path | None) -> None:
    engine = open_engine(load(weights), device="cpu", precision="float32") if weights else None
    print("| sigma of the blur, pixels of 0.972 um | AUC | out of focus |\n|---|---|---|")
    for sigma in SIGMAS:
        blurred = ndimage.gaussian_filter(patches.astype(np.float32), (0, sigma, sigma, 0), mode="nearest")
        blurred = np.rint(blurred).astype(np.uint8)
        scored = f"{auc(labels, engine.probabilities(blurred)):.3f}" if engine else ""
        share = (patch_codes(blurred) == Quality.OUT_OF_FOCUS).mean()
        print(f"| {sigma:g} | {scored} | {share:.1%} |", flush=True)


def show(name: str, codes: NDArray[np.uint8]) -> None:
    shares = np.bincount(codes, minlength=len(Quality)) / len(codes)
    print(f"| {name} | {' | '.join(f'{share:.2%}' for share in shares[1:])} |", flush=True)


def patch_codes(patches: Pixels, density: float = math.inf) -> NDArray[np.uint8]:
    """The quality of each patch on its own; by default none is called a fold, since each is of another slide."""
    corner = np.zeros((1, 2), np.int64)
    return np.concatenate([window_quality(patch, corner, SIDE, MPP, density) for patch in patches])


def compressed(patch: Pixels, quality: int) -> Pixels:
    content = io.BytesIO()
    Image.fromarray(patch).save(content, "JPEG", quality=quality)
    return np.asarray(Image.open(content))


def folded(patches: Pixels) -> Pixels:
    """Each patch lying on itself turned by half: light passes both."""
    return (patches.astype(np.uint16) * patches[:, ::-1, ::-1] // 255).astype(np.uint8)


def node_codes(path: Path) -> NDArray[np.uint8]:
    """The windows of a picture of a lymph node with 0.25 um per pixel."""
    with open_slide(path, mpp=0.25) as slide:
        return np.concatenate(list(codes_of(slide)))


def slide_codes(path: Path) -> NDArray[np.uint8]:
    with open_slide(path) as slide:
        return np.concatenate(list(codes_of(slide)))


def codes_of(slide: Slide) -> Iterator[NDArray[np.uint8]]:
    """The quality of a slide's windows of tissue, in blocks of 1024 pixels as a scan reads them."""
    tissue, grid = find_tissue(slide), lay_grid(slide, MPP, STRIDE)
    cells = tissue.cells(grid.rows, grid.columns, grid.stride)
    density = tissue_density(tissue.thumbnail, tissue.mask)
    blocks = [
        (slice(top, min(top + BLOCK, grid.rows)), slice(left, min(left + BLOCK, grid.columns)))
        for top in range(0, grid.rows, BLOCK)
        for left in range(0, grid.columns, BLOCK)
    ]
    blocks = [block for block in blocks if cells[block].any()]
    regions = slide.regions([grid.box(*block, SIDE) for block in blocks], grid.mpp)
    for block, region in zip(blocks, regions, strict=True):
        yield window_quality(region, np.argwhere(cells[block]) * STRIDE, SIDE, grid.mpp, density)


if __name__ == "__main__":
    main()
