"""How much of tumor_001's lesions the tissue mask keeps, and how much of the slide: for docs/how-to/scan.md.

    python benchmarks/tissue.py --data SHARED/data [--pictures DIR]

No weights are involved. Beside Camelyon16's tumor_001 at level 5, whose lesions are known, it finds the tissue of the
other real slides and with --pictures draws them all.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from sentinode.slides.reading.annotations import rasterise, read_annotations
from sentinode.slides.reading.slide import open_slide
from sentinode.slides.scanning.tissue import MASK_MPP, Tissue, find_tissue

LEVEL_5 = 32
SLIDES = {
    "camelyon16_tumor_001_level5.tif": MASK_MPP,
    "CMU-1-Small-Region.svs": None,
    "tcga-cr-7395-01a-01-ts1.svs": 0.25,
    "small_dicom.dcm": MASK_MPP,
}
"""Each slide's microns per pixel where the file states none or a wrong one; the last two are guesses by eye."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds slides/")
    parser.add_argument("--pictures", type=Path, help="where to draw the masks")
    arguments = parser.parse_args()
    print("| slide | of the slide kept | of the lesions kept | seconds |\n|---|---|---|---|")
    for name, mpp in SLIDES.items():
        path = arguments.data / "slides" / name
        with open_slide(path, mpp=mpp) as slide:
            began = time.perf_counter()
            tissue = find_tissue(slide)
            seconds = time.perf_counter() - began
        lesions = f"{lesions_kept(tissue, path):.2%}" if "tumor_001" in name else ""
        print(f"| {name} | {tissue.mask.mean():.1%} | {lesions} | {seconds:.1f} |")
        if arguments.pictures:
            arguments.pictures.mkdir(parents=True, exist_ok=True)
            tissue.picture().save(arguments.pictures / f"{path.stem}.png")


def lesions_kept(tissue: Tissue, slide: Path) -> float:
    """The share of the annotated area that lies in the tissue."""
    truth = read_annotations(slide.with_name("camelyon16_tumor_001.json"))
    rows, columns = tissue.mask.shape
    inside = rasterise(truth.area, (rows, columns), LEVEL_5 * tissue.scale).astype(bool)
    return float(tissue.mask[inside].mean())


if __name__ == "__main__":
    main()
