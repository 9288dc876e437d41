"""The patches of a lesson: from what was judged, and, where the original patches are not at hand, a replay sample.

The **replay sample** is normal tissue of the slides that teach, outside of everything that the scan listed or anyone
drew. On a slide that was looked at as a whole, the reviewer says that it is normal. On another slide the old bundle
says so, and only where it is sure (P(tumour) below ``SURE`` at a prior of one half): the new bundle shall still call
normal what the old one was sure of. It is no substitute for the original patches. It shows no other slides, and what
the old bundle missed with certainty is taught once more.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import shapely
from scipy.special import logit
from shapely.geometry import MultiPolygon, box, mapping

from sentinode.atomic import make_folder, whole_folder, write_text
from sentinode.csv_tables import write_rows
from sentinode.geometry import PatchGeometry
from sentinode.learning.reviews import ReviewedSlide, kind_of
from sentinode.patches import PatchSet, open_data
from sentinode.patches.official import EXTRACTED, STEM
from sentinode.patches.table import read_table
from sentinode.slides.extract import ExtractOptions, NoPatchError, extract
from sentinode.slides.reading.folder import find_slides, name_slides
from sentinode.slides.results.lesions import log_odds
from sentinode.slides.results.outline import outline
from sentinode.slides.review import NORMAL
from sentinode.slides.scanning.probability_map import open_map

SURE = 0.05
"""P(tumour) at a prior of one half below which the old bundle is sure of normal tissue."""

REPLAY_SHARE = 0.5
"""Replay patches for each patch of the review, at least."""

REPLAYED, CONFIRMED = "normal for the old bundle", "normal on slides looked at whole"
"""What a replay patch may come from."""


@dataclass(frozen=True)
class Cut:
    """Patches that were cut into a folder.

    Attributes:
        path: the folder, in PatchCamelyon's format, all of it the train split; None where there was nothing to cut.
        tumour, normal: how many of each class.
        kinds: how many of each kind: ``KINDS``, ``REPLAYED`` and ``CONFIRMED``.
        slides: the names of the slides that gave some.
    """

    path: Path | None
    tumour: int = 0
    normal: int = 0
    kinds: Mapping[str, int] | None = None
    slides: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """How many patches there are."""
        return self.tumour + self.normal


def cut_reviewed(slides: Sequence[ReviewedSlide], out: Path, options: ExtractOptions) -> Cut:
    """Cut patches from what was judged on some slides, unless that was done.

    Args:
        slides: the slides.
        out: the folder of the patches. The annotations that they were cut by lie beside it.
        options: how to cut; only what was judged gives patches.
    """
    texts = {slide.name: slide.geojson for slide in slides if slide.has_tumour or slide.has_normal}
    return _cut(slides, texts, out, options)


def cut_replay(slides: Sequence[ReviewedSlide], out: Path, options: ExtractOptions, *, wanted: int) -> Cut:
    """Cut the replay sample of some slides, unless that was done.

    Args:
        slides: the slides.
        out: the folder of the patches.
        options: how to cut.
        wanted: how many patches there should be; each slide gives an equal part.
    """
    texts = {}
    for slide in slides:
        area = quiet_area(slide)
        if not area.is_empty:
            texts[slide.name] = _as_normal(area)
    per_slide = min(options.per_slide, math.ceil(wanted / max(len(texts), 1)))
    return _cut(slides, texts, out, replace(options, per_slide=max(per_slide, 1)))


def quiet_area(slide: ReviewedSlide) -> MultiPolygon:
    """Where the replay sample may come from, in level-0 pixels.

    It keeps a window away from all that the scan listed or anyone drew.
    """
    scanned = open_map(slide.folder)
    even = log_odds(scanned)
    with np.errstate(invalid="ignore"):
        quiet = ~np.isnan(even) if slide.whole else even <= logit(SURE)
    if not quiet.any():
        return MultiPolygon()
    corner = np.asarray(scanned.origin) - scanned.stride / 2
    area: shapely.Geometry = shapely.transform(outline(quiet), lambda points: points * scanned.stride + corner)
    area = shapely.intersection(area, box(0, 0, slide.record.width, slide.record.height))
    if slide.regions:
        spoken_of = shapely.union_all([region.area for region in slide.regions])
        area = shapely.difference(area, shapely.buffer(spoken_of, scanned.stride))
    return MultiPolygon([part for part in shapely.get_parts(area) if part.geom_type == "Polygon" and part.area > 0])


def _as_normal(area: MultiPolygon) -> str:
    """Annotations that say that an area is normal."""
    properties = {"objectType": "annotation", "name": "quiet tissue", "classification": {"name": NORMAL}}
    feature = {"type": "Feature", "geometry": mapping(area), "properties": properties}
    frame = {"coordinates": "slide"}
    return json.dumps({"type": "FeatureCollection", "sentinode": frame, "features": [feature]})


def _cut(slides: Sequence[ReviewedSlide], texts: Mapping[str, str], out: Path, options: ExtractOptions) -> Cut:
    """Cut patches by these annotations, unless that was done; and count them."""
    here = {slide.name: slide for slide in slides if slide.name in texts}
    if not here:
        return Cut(None)
    paths = {os.path.abspath(slide.path): name for name, slide in here.items()}  # noqa: PTH100
    named = {
        name: paths[os.path.abspath(path)]  # noqa: PTH100
        for name, path in name_slides(find_slides([slide.path for slide in here.values()])).items()
    }
    if not (out / EXTRACTED).is_file():
        annotations = make_folder(out.with_name(f"{out.name}-annotations"))
        for name, of_slide in named.items():
            write_text(annotations / f"{name}.geojson", texts[of_slide])
        try:
            extract([slide.path for slide in here.values()], annotations, out, options)
        except NoPatchError:
            return Cut(None)
    return _counted(out, {name: here[of_slide] for name, of_slide in named.items()}, options.geometry)


def _counted(out: Path, slides: Mapping[str, ReviewedSlide], geometry: PatchGeometry) -> Cut:
    """How many patches there are of each class and each kind, by their places."""
    kinds, classes, given = Counter[str](), Counter[bool](), set[str]()
    assert geometry.mpp is not None
    columns = ("wsi", "center_tumor_patch", "coord_x", "coord_y")
    for name, centre, left, top in read_table(out / f"{STEM}train_meta.csv", *((column,) for column in columns)):
        slide, is_tumour = slides[name], centre == "True"
        scale = geometry.mpp / slide.record.mpp
        middle = np.array([float(left), float(top)]) + geometry.size * scale / 2
        reach = geometry.label_region * scale / 2
        kinds[_kind_at(slide, box(*(middle - reach), *(middle + reach)), is_tumour)] += 1
        classes[is_tumour] += 1
        given.add(slide.name)
    return Cut(out, classes[True], classes[False], dict(kinds), tuple(sorted(given)))


def _kind_at(slide: ReviewedSlide, square: shapely.Geometry, is_tumour: bool) -> str:
    """What a patch comes from, by the square that its label covers; what is not of the review is of the replay."""
    meaning = "tumour" if is_tumour else "normal"
    overlaps = {
        kind: area
        for region in slide.regions
        if region.meaning == meaning
        and (kind := kind_of(region)) is not None
        and (area := shapely.intersection(region.area, square).area) > 0
    }
    if overlaps:
        return max(overlaps, key=lambda kind: overlaps[kind])
    return CONFIRMED if slide.whole else REPLAYED


def replay_wanted(taught: Cut) -> int:
    """How many replay patches a lesson needs: as many normal patches as of tumour, and half of the lesson at least."""
    return max(taught.tumour - taught.normal, math.ceil(REPLAY_SHARE * taught.total))


def mix(out: Path, train: Sequence[PatchSet], valid: Sequence[PatchSet], geometry: PatchGeometry) -> Path:
    """Write patches of several sets as one in PatchCamelyon's format, with a train and a valid split; done once.

    Raises:
        OutputError: the folder cannot be written.
    """
    if (out / EXTRACTED).is_file():
        return out
    counts = {}
    with whole_folder(out) as staged:
        for split, sets in (("train", train), ("valid", valid)):
            _write_split(staged, split, sets, geometry)
            labels = np.concatenate([one.labels for one in sets])
            counts[split] = {"tumour": int(labels.sum()), "normal": int((labels == 0).sum())}
        about = {"size": geometry.size, "mpp": geometry.mpp, "label_region": geometry.label_region, "counts": counts}
        write_text(staged / EXTRACTED, json.dumps(about, indent=1) + "\n")
    return out


def _write_split(folder: Path, split: str, sets: Sequence[PatchSet], geometry: PatchGeometry) -> None:
    total = sum(map(len, sets))
    with h5py.File(folder / f"{STEM}{split}_x.h5", "w") as file:
        x, at = file.create_dataset("x", (total, *geometry.shape), "uint8"), 0
        for one in sets:
            for start in range(0, len(one), 256):
                images = one.images[start : start + 256]
                x[at : at + len(images)] = images
                at += len(images)
    with h5py.File(folder / f"{STEM}{split}_y.h5", "w") as file:
        file["y"] = np.concatenate([one.labels for one in sets]).astype(np.uint8).reshape(-1, 1, 1, 1)
    slides = np.concatenate([np.full(len(one), "") if one.slides is None else one.slides for one in sets])
    with (folder / f"{STEM}{split}_meta.csv").open("w", newline="", encoding="utf-8") as file:
        write_rows(file, [["wsi"], *([slide] for slide in slides.tolist())])


def patches_of(cut: Cut) -> list[PatchSet]:
    """The patches that were cut, as a list of one set or none."""
    return [] if cut.path is None else [open_data(cut.path, show=False)["train"]]
