"""A scanned batch of small slides with a review beside each map, for tests that learn from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from made_maps import blob, made_map
from scanned_batch import write_lesions
from slide_files import write_tiff

from sentinode.model.bundle import Bundle
from sentinode.slides.review import add_operation, parse_operation, read_lesions
from sentinode.slides.scanning.manifest import DONE, MANIFEST, EngineRecord, Settings, SlideState, write_batch
from sentinode.slides.scanning.probability_map import ProbabilityMap, open_map, write_map

SIDE, STRIDE = 24, 32
"""Windows to a side of a slide, and pixels of a window."""

TRUE, FALSE = (5, 5, 11, 11), (14, 12, 20, 18)
"""Top, left, bottom and right, in windows, of a lesion that is right and of one that is wrong."""


def write_batch_of(maps: Path, bundle: Bundle) -> Path:
    """The batch's own manifest."""
    maps.mkdir(parents=True, exist_ok=True)
    card = bundle.card
    settings = Settings(bundle.fingerprint, card.temperature, card.threshold, STRIDE, 0.05, None, False, "patch")
    write_batch(maps / MANIFEST, settings, EngineRecord("torch", "cpu", "float32", False), begun="then")
    return maps


def scanned_slide(maps: Path, name: str, bundle: Bundle, number: int = 0) -> Path:
    """A slide beside the maps, with its map and two lesions; its blue channel says which slide it is."""
    pixels = SIDE * STRIDE
    rng = np.random.default_rng(number)
    picture = np.full((pixels, pixels, 3), 244, np.int16)
    picture[96:, 96:] = (200, 90, 150 + 8 * number)
    picture[..., :2] += rng.integers(-6, 7, picture[..., :2].shape, dtype=np.int16)
    top, left, bottom, right = (STRIDE * side for side in TRUE)
    picture[top:bottom, left:right, 0] = 110
    slides = maps.with_name("slides")
    slides.mkdir(exist_ok=True)
    slide = write_tiff(slides / f"{name}.tif", np.clip(picture, 0, 255).astype(np.uint8), tile=256)
    probabilities = blob(SIDE, SIDE, TRUE, FALSE, high=0.9, low=0.001)
    probabilities[:3], probabilities[:, :3] = np.nan, np.nan
    found = made_map(probabilities, name=slide.name, file=slide, prior=0.05, threshold=0.2)
    folder = maps / name
    folder.mkdir()
    write_map(folder, replace(found, bundle=bundle.fingerprint))
    write_lesions(folder, found, (TRUE, FALSE))
    state = SlideState(name, str(slide.resolve()), DONE, windows=int(found.tissue.sum()))
    (folder / MANIFEST).write_text(json.dumps(asdict(state)), encoding="utf-8")
    return folder


def review(folder: Path, who: str = "ada", **operation: Any) -> None:
    """Add an operation to a review."""
    found: ProbabilityMap = open_map(folder)
    parsed = parse_operation({"id": str(uuid4()), **operation})
    add_operation(folder, parsed, who=who, slide=found.slide, bundle=found.bundle)


def judge(folder: Path, number: int, verdict: str | None, who: str = "ada") -> None:
    """Give a verdict on lesion 1, which is right, or 2, which is wrong."""
    review(folder, who, kind="judge", lesion=read_lesions(folder)[number - 1]["id"], verdict=verdict)


def reviewed_batch(folder: Path, bundle: Bundle, count: int = 6, *, whole: Sequence[int] = ()) -> Path:
    """The folder of maps of so many slides, each with its first lesion accepted and its second rejected."""
    maps = write_batch_of(folder / "maps", bundle)
    for number in range(count):
        slide = scanned_slide(maps, f"s{number}", bundle, number)
        judge(slide, 1, "accepted")
        judge(slide, 2, "rejected")
        if number in whole:
            review(slide, kind="look", whole=True)
    return maps
