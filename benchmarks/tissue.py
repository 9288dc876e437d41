"""How much tissue the mask keeps, by the rule of today and by the one before it: for docs/how-to/scan.md.

    python benchmarks/tissue.py --data SHARED/data [--cohort DIR ...] [--pictures DIR]

No weights are involved. Prints three Markdown tables: slides and their known lesions; pictures that are all tissue, as
they are, paler, as crops and on glass; and with --cohort the patches of made slides (make_cohort.py). With --pictures
it draws the masks of all slides, and one sheet of the overviews in slides/camelyon16_overviews.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage

from sentinode.slides.reading.annotations import rasterise, read_annotations
from sentinode.slides.reading.slide import open_slide
from sentinode.slides.scanning.tissue import MASK_MPP, Mask, Tissue, find_tissue, tissue_mask

LEVEL_5 = 32
SLIDES = {
    "camelyon16_tumor_001_level5.tif": MASK_MPP,
    "CMU-1-Small-Region.svs": None,
    "tcga-cr-7395-01a-01-ts1.svs": 0.25,
    "small_dicom.dcm": MASK_MPP,
}
"""Each slide's microns per pixel where the file states none or a wrong one; the last two are guesses by eye."""

OVERVIEW_MPP = 15.55
SHEET_COLUMNS, SHEET_CELL = 9, (330, 700)
GLASSES = {"white fill": (255, 255, 255), "grey glass": (243, 243, 244), "tinted glass": (235, 228, 240)}
CROP_SIDES = (64, 128, 256)
"""Sides of crops in um."""

Pixels = NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds slides/")
    parser.add_argument("--cohort", type=Path, nargs="*", default=[], help="folders that make_cohort.py wrote")
    parser.add_argument("--pictures", type=Path, help="where to draw the masks")
    arguments = parser.parse_args()
    slides = arguments.data / "slides"
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
    whole_slides(slides, arguments.pictures)
    all_tissue(sorted((slides / "camelyon17").glob("*.jpeg")))
    for cohort in arguments.cohort:
        cells_of(cohort)
    if arguments.pictures:
        overviews(sorted((slides / "camelyon16_overviews").glob("*.jpg")), arguments.pictures / "overviews.jpg")


def whole_slides(folder: Path, pictures: Path | None) -> None:
    print("| slide | of the slide kept | of the lesions kept | seconds |\n|---|---|---|---|")
    for name, mpp in SLIDES.items():
        path = folder / name
        with open_slide(path, mpp=mpp) as slide:
            began = time.perf_counter()
            tissue = find_tissue(slide)
            seconds = time.perf_counter() - began
        lesions = f"{lesions_kept(tissue, path):.2%}" if "tumor_001" in name else ""
        print(f"| {name} | {tissue.mask.mean():.1%} | {lesions} | {seconds:.1f} |", flush=True)
        if pictures:
            tissue.picture().save(pictures / f"{path.stem}.png")


def lesions_kept(tissue: Tissue, slide: Path) -> float:
    """The share of the annotated area that lies in the tissue."""
    truth = read_annotations(slide.with_name("camelyon16_tumor_001.json"))
    rows, columns = tissue.mask.shape
    inside = rasterise(truth.area, (rows, columns), LEVEL_5 * tissue.scale).astype(bool)
    return float(tissue.mask[inside].mean())


def all_tissue(tiles: list[Path]) -> None:
    """Pictures cut out of lymph nodes, with 0.25 um per pixel: of each hospital one."""
    print("\n| picture | kept before | kept |\n|---|---|---|")
    for path in tiles:
        with open_slide(path, mpp=0.25) as slide:
            tile = slide.thumbnail(MASK_MPP)
        for name, pictures in variants(tile):
            before, now = (np.mean([rule(p)[inside].mean() for p, inside in pictures]) for rule in (rule_before, rule))
            print(f"| {path.stem[:8].replace('_', ' ')}, {name} | {before:.1%} | {now:.1%} |", flush=True)


def variants(tile: Pixels) -> Iterator[tuple[str, list[tuple[Pixels, Mask]]]]:
    """Names, and pictures with the part of each that is tissue."""
    rng = np.random.default_rng(0)
    everywhere = np.ones(tile.shape[:2], bool)
    yield "whole", [(tile, everywhere)]
    yield "half as dark", [(diluted(tile, 2), everywhere)]
    yield "a third as dark", [(diluted(tile, 3), everywhere)]
    for um in CROP_SIDES:
        side = round(um / MASK_MPP)
        corners = rng.integers(0, np.array(tile.shape[:2]) - side + 1, (40, 2))
        yield f"40 crops of {um} um", [(tile[y : y + side, x : x + side], everywhere[:side, :side]) for y, x in corners]
    rows, columns = tile.shape[:2]
    for name, colour in GLASSES.items():
        for stain in (1, 2):
            glass = rng.integers(-3, 4, (3 * rows, 4 * columns, 3)) + colour
            picture = np.clip(glass, 0, 255).astype(np.uint8)
            picture[rows : 2 * rows, :columns] = tile
            picture[rows : 2 * rows, 2 * columns : 3 * columns] = diluted(tile, stain)
            inside = np.zeros(picture.shape[:2], bool)
            inside[rows : 2 * rows, 2 * columns : 3 * columns] = True
            yield f"on {name}{', half as dark beside itself' if stain == 2 else ''}", [(picture, inside)]


def diluted(picture: Pixels, times: int) -> Pixels:
    """A picture that absorbs so many times less."""
    return (255 - (255 - picture.astype(int)) / times).astype(np.uint8)


def rule(picture: Pixels) -> Mask:
    return tissue_mask(picture, MASK_MPP)


def cells_of(cohort: Path) -> None:
    """The patches of a cohort: kept where one of the patch's windows is."""
    rules: dict[str, Callable[[Pixels], Mask]] = {"kept before": rule_before, "kept": rule}
    shares: dict[str, list[float]] = {name: [] for name in rules}
    tumour: dict[str, list[bool]] = {name: [] for name in rules}
    for path in sorted((cohort / "slides").glob("*.tif")):
        with open_slide(path) as slide:
            picture = slide.thumbnail(MASK_MPP)
        with (cohort / "cells" / f"{path.stem}.csv").open() as file:
            cells = [(int(row["x"]) // 8, int(row["y"]) // 8, row["label"] == "1") for row in csv.DictReader(file)]
        for name, keep in rules.items():
            mask = keep(picture)
            kept = [bool(mask[y : y + 12, x : x + 12].any()) for x, y, _ in cells]
            shares[name].append(float(np.mean(kept)))
            tumour[name] += [one for one, (_, _, label) in zip(kept, cells, strict=True) if label]
    print(f"\n| {cohort.name} | of all patches | of the slide with the least | of tumour patches |\n|---|---|---|---|")
    for name, values in shares.items():
        print(f"| {name} | {np.mean(values):.2%} | {min(values):.2%} | {np.mean(tumour[name]):.2%} |", flush=True)


def overviews(paths: list[Path], sheet: Path) -> None:
    """One sheet of the slides with what is left out made pale, and a table of the shares kept."""
    print("\n| overview | kept before | kept |\n|---|---|---|")
    width, height = SHEET_CELL
    whole = Image.new("RGB", (SHEET_COLUMNS * width, math.ceil(len(paths) / SHEET_COLUMNS) * height), (128, 128, 128))
    for i, path in enumerate(paths):
        with open_slide(path, mpp=OVERVIEW_MPP) as slide:
            picture = slide.thumbnail(MASK_MPP)
        before, mask = rule_before(picture), rule(picture)
        print(f"| {path.stem} | {before.mean():.2%} | {mask.mean():.2%} |", flush=True)
        small = np.asarray(Image.fromarray(picture).reduce(4))
        shown = Tissue(mask, MASK_MPP / OVERVIEW_MPP, MASK_MPP, small).picture()
        shown.thumbnail((width - 4, height - 4), Image.Resampling.BOX)
        whole.paste(shown, (i % SHEET_COLUMNS * width, i // SHEET_COLUMNS * height))
    whole.save(sheet, quality=90)


def rule_before(picture: Pixels) -> Mask:
    """The mask of version 0.1: one threshold from Otsu's two classes, or the least stain where neither is glass."""
    smooth = np.asarray(Image.fromarray(picture).filter(ImageFilter.BoxBlur(1))).astype(np.int16)
    red, green, blue = (smooth[..., i] for i in range(3))
    stain = np.minimum(red, blue) - green
    stain[(12 * stain < 255 - green) | ((red - blue > 90) & (4 * (blue - green) < red - blue))] = 0
    levels = np.clip(stain, 0, 255)
    counts = np.bincount(levels.ravel(), minlength=256)
    below, mass = np.cumsum(counts), np.cumsum(counts * np.arange(256))
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = np.nan_to_num((mass / below - (mass[-1] - mass) / above) ** 2 * below * above)
    split = int(between.argmax())
    glass = int(mass[split]) // max(1, int(below[split]))
    tissue = int(mass[-1] - mass[split]) // max(1, int(above[split]))
    threshold = 6 if glass >= 12 else max(glass + 6, (3 * glass + tissue) // 4)
    mask = ndimage.binary_opening(levels > threshold)
    speck = min(0.02e6 / MASK_MPP**2, mask.size / 16)
    return np.asarray(ndimage.maximum_filter(without_small(without_small(mask, speck), speck, holes=True), size=5))


def without_small(mask: Mask, pixels: float, *, holes: bool = False) -> Mask:
    labels, _ = ndimage.label(mask != holes)
    large = np.bincount(labels.ravel()) >= pixels
    large[0] = False
    return np.asarray(large[labels] != holes)


if __name__ == "__main__":
    main()
