"""Folders of maps as a scan leaves them, small, with lesions that are known to the pixel."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from made_maps import blob, made_map
from PIL import Image
from scipy.special import logit
from shapely.affinity import translate
from shapely.geometry import box, mapping
from slide_files import tissue_picture, write_tiff

from sentinode.slides.results.lesion_files import frame_of
from sentinode.slides.results.outputs import GEOJSON, SMALL, TOTALS
from sentinode.slides.scanning.manifest import DONE, MANIFEST, SlideState
from sentinode.slides.scanning.probability_map import RECORD, ProbabilityMap, open_map, write_map
from sentinode.slides.scanning.scores import LOG, MapPlan, open_log

ROWS, COLUMNS, STRIDE = 38, 50, 32
SQUARE = (10, 20, 16, 26)
"""Top, left, bottom and right of the painted square, in windows."""

SECOND = (26, 8, 29, 12)
"""A smaller lesion."""

GREEN = (0, 170, 60)
SIGMA_UM = 32.0

Box = tuple[int, int, int, int]


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
    write_slide(slides / "painted.tif", maps / "painted", picture, probabilities, (SQUARE, SECOND))
    plain = tissue_picture(COLUMNS * STRIDE, ROWS * STRIDE, seed=2)
    write_slide(slides / "normal.tif", maps / "normal", plain, blob(ROWS, COLUMNS))
    return maps


def write_lesions(folder: Path, found: ProbabilityMap, boxes: Sequence[Box]) -> None:
    """A ``lesions.geojson`` of rectangles of windows, the most likely first."""
    frame = frame_of(found.slide)
    corner = frame.get("bounds", (0, 0))[:2]
    features = []
    for number, (top, left, bottom, right) in enumerate(boxes, start=1):
        area = box(*(found.stride * side for side in (left, top, right, bottom)))
        measurements = {
            "Longest diameter (um)": 300.0 / number,
            "Maximum P(tumour)": float(np.nanmax(found.probability[top:bottom, left:right])),
        }
        properties = {
            "objectType": "annotation",
            "name": f"Lesion {number}",
            "classification": {"name": "Micrometastasis"},
            "measurements": measurements,
        }
        identifier = str(uuid5(NAMESPACE_URL, f"{found.slide.fingerprint}/{(top, left, bottom, right)}"))
        geometry = mapping(translate(area, -corner[0], -corner[1]))
        features.append({"type": "Feature", "id": identifier, "geometry": geometry, "properties": properties})
    content = {"type": "FeatureCollection", "sentinode": frame, "features": features}
    (folder / GEOJSON).write_text(json.dumps(content), encoding="utf-8")


def write_slide(
    slide: Path, folder: Path, picture: np.ndarray, probabilities: np.ndarray, boxes: Sequence[Box] = ()
) -> None:
    """A slide, and its folder as a scan leaves it."""
    write_tiff(slide, picture, levels=2, tile=256, compression="zlib")
    found = made_map(probabilities, name=slide.name, file=slide, prior=0.05, threshold=0.2)
    folder.mkdir(parents=True)
    write_map(folder, found)
    write_lesions(folder, found, boxes)
    count = {"micrometastasis": len(boxes)}
    totals = {"slide": slide.name, "score": 0.9 if boxes else 0.1, "lesions": count, "sigma_um": SIGMA_UM}
    totals |= {"category": "micrometastasis" if boxes else "negative", "largest_um": 300.0 if boxes else 0.0}
    (folder / TOTALS).write_text(json.dumps(totals), encoding="utf-8")
    Image.fromarray(picture[::16, ::16]).save(folder / SMALL)
    state = SlideState(folder.name, str(slide.resolve()), DONE, windows=int(found.tissue.sum()))
    (folder / MANIFEST).write_text(json.dumps(asdict(state)), encoding="utf-8")


def half_scanned(folder: Path, *, share: float = 0.5) -> ProbabilityMap:
    """Make a folder of maps look as if its scan were on its way; gives the map that it would end with."""
    whole = open_map(folder)
    sequence = np.argwhere(whole.tissue)
    counts = [50] * (len(sequence) // 50) + [len(sequence) % 50]
    empty = replace(whole, probability=np.full(whole.probability.shape, np.nan, np.float32), quality=None)
    plan = MapPlan(bytes(range(32)), sequence, counts, 0.0, 1.0, 0.0, empty)
    places = tuple(sequence.T)
    scores = logit(np.clip(whole.probability[places], 1e-6, 1 - 1e-6)).astype(np.float32)
    with open_log(folder / LOG, plan) as log:
        for batch in range(int(len(counts) * share)):
            part = slice(50 * batch, 50 * batch + 50)
            log.append(scores[part], np.zeros(len(scores[part]), np.uint8))
    state = json.loads((folder / MANIFEST).read_text("utf-8"))
    (folder / MANIFEST).write_text(json.dumps(state | {"state": "running"}), encoding="utf-8")
    (folder / RECORD).unlink()
    return whole
