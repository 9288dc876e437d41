"""A folder of maps as a scan leaves it, small: one slide with a painted square that its map knows, and one of glass."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from made_maps import blob, made_map
from PIL import Image
from slide_files import tissue_picture, write_tiff

import sentinode
from sentinode.slides.results.lesion_files import write_geojson
from sentinode.slides.results.outputs import GEOJSON, SMALL, TOTALS, totals
from sentinode.slides.scanning.manifest import DONE, MANIFEST, SlideState
from sentinode.slides.scanning.probability_map import write_map

ROWS, COLUMNS, STRIDE = 38, 50, 32
SQUARE = (10, 20, 16, 26)
"""Top, left, bottom and right of the painted square, in windows."""

SECOND = (26, 8, 29, 12)
"""A smaller lesion."""

GREEN = (0, 170, 60)


def make_batch(folder: Path) -> Path:
    """Write slides and maps; gives the folder of the maps, beside which the slides lie."""
    picture = tissue_picture(COLUMNS * STRIDE, ROWS * STRIDE, seed=1)
    for top, left, bottom, right in (SQUARE, SECOND):
        picture[top * STRIDE : bottom * STRIDE, left * STRIDE : right * STRIDE] = GREEN
    slides, maps = folder / "slides", folder / "maps"
    slides.mkdir(parents=True)
    probabilities = blob(ROWS, COLUMNS, SQUARE, SECOND)
    probabilities[:3] = np.nan
    probabilities[SQUARE[0] : SQUARE[2], SQUARE[1] : SQUARE[3]] = 0.99
    write_slide(slides / "painted.tif", maps / "painted", picture, probabilities)
    plain = tissue_picture(COLUMNS * STRIDE, ROWS * STRIDE, seed=2)
    write_slide(slides / "normal.tif", maps / "normal", plain, blob(ROWS, COLUMNS))
    return maps


def write_slide(slide: Path, folder: Path, picture: np.ndarray, probabilities: np.ndarray) -> None:
    write_tiff(slide, picture, levels=2, tile=256, compression="zlib")
    found = made_map(probabilities, name=slide.name, file=slide, prior=0.05, threshold=0.2)
    folder.mkdir(parents=True)
    write_map(folder, found)
    lesions = sentinode.find_lesions(found)
    write_geojson(folder / GEOJSON, lesions)
    (folder / TOTALS).write_text(json.dumps(asdict(totals(lesions))), encoding="utf-8")
    Image.fromarray(picture[::16, ::16]).save(folder / SMALL)
    state = SlideState(folder.name, str(slide.resolve()), DONE, windows=int(found.tissue.sum()))
    (folder / MANIFEST).write_text(json.dumps(asdict(state)), encoding="utf-8")
