"""What the pages show of a slide, made of what the scan left in its folder, whatever version wrote it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from scipy.special import expit, logit

from sentinode.errors import SentinodeError
from sentinode.model.slide_operating_point import LOG_ODDS_LIMIT, ChosenOn, Target
from sentinode.names import printable
from sentinode.slides.results.lesions import TRUNCATE
from sentinode.slides.scanning.manifest import MANIFEST, SlideState, read_batch
from sentinode.slides.scanning.probability_map import ProbabilityMap, reading_of

SIGMA_UM = 32.0
"""Smoothing of a map whose lesions are of an earlier version and state none."""


def describe_lesions(features: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The lesions as the page lists them, the highest score first: P(lesion), or else the highest P(tumour) in it."""
    lesions = []
    for number, feature in enumerate(features, start=1):
        properties = feature["properties"]
        measured = properties.get("measurements") or {}
        own = measured.get("P(lesion)")
        lesions.append(
            {
                "id": feature["id"],
                "name": printable(str(properties.get("name") or f"Lesion {number}")),
                "category": str((properties.get("classification") or {}).get("name", "")),
                "score": measured.get("Maximum P(tumour)") if own is None else own,
                "is_probability": own is not None,
                "diameter_um": measured.get("Longest diameter (um)"),
                "area_mm2": measured.get("Area (mm2)"),
                "mean": measured.get("Mean P(tumour)"),
                "rings": rings_of(feature["geometry"]),
            }
        )
    return sorted(lesions, key=lambda lesion: -(lesion["score"] or 0.0))


def rings_of(geometry: Mapping[str, Any]) -> list[Any]:
    """Every ring of a polygon or of several; filled by the even-odd rule they are the area."""
    polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    return [ring for polygon in polygons for ring in polygon]


def outline_rule(point: Mapping[str, Any], totals: Mapping[str, Any], found: ProbabilityMap) -> dict[str, Any]:
    """How the scan outlined regions, so that the page can do the same.

    Args:
        point: the operating point, or empty for lesions of an earlier version.
        totals: the slide's, which state the smoothing of an earlier version.
        found: its map.

    Returns:
        ``on``: the scale that is smoothed: ``probability``, moved until the threshold is one half, or ``log-odds`` at a
        prior of one half, held within ``limit``; ``sigma_um`` and ``reach`` of the Gaussian, the latter in standard
        deviations; and ``cut``, the probability on the map's own scale from which a window is inside.
    """
    try:
        if point:
            cut = expit(logit(float(point["grow"])) + logit(found.prior))
            sigma = float(point["scales_um"][0])
            return {"on": "log-odds", "limit": LOG_ODDS_LIMIT, "sigma_um": sigma, "reach": TRUNCATE, "cut": float(cut)}
        sigma = float(totals.get("sigma_um", SIGMA_UM))
    except (KeyError, IndexError, TypeError, ValueError):
        sigma = SIGMA_UM
    return {"on": "probability", "limit": None, "sigma_um": sigma, "reach": 4.0, "cut": found.threshold}


def described_point(totals: Mapping[str, Any]) -> dict[str, str]:
    """The operating point of a slide's lesions in words: ``name``, ``target``, ``chosen_on``, and a ``caution`` where
    it does not fit the map; empty where the scan states none, or one of another version."""
    record = totals.get("operating_point")
    try:
        chosen_on = ChosenOn.model_validate(record["chosen_on"])  # type: ignore[index]
        target = record.get("target")  # type: ignore[union-attr]
        return {
            "name": str(record["name"]),  # type: ignore[index]
            "target": "" if target is None else str(Target.model_validate(target)),
            "chosen_on": str(chosen_on),
            "caution": chosen_on.caution(float(totals["window_um"]), reading_of(str(totals["engine"]))),
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def verdict_of(totals: Mapping[str, Any]) -> str | None:
    """The sentence that sums a slide up, where the scan wrote one."""
    verdict = totals.get("verdict")
    if isinstance(verdict, Mapping):
        verdict = verdict.get("sentence") or verdict.get("text")
    return verdict if isinstance(verdict, str) and verdict.strip() else None


def not_judged_of(totals: Mapping[str, Any]) -> str:
    """The sentence on what could not be judged, where the scan wrote one."""
    verdict = totals.get("verdict")
    sentence = verdict.get("not_judged") if isinstance(verdict, Mapping) else None
    return sentence if isinstance(sentence, str) else ""


def uncertain_of(totals: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The regions that the scan calls uncertain: where they are, how large, and their scores."""
    regions = totals.get("uncertain")
    wanted = ("number", "score", "diameter_um", "centroid_x", "centroid_y")
    return [
        {name: region[name] for name in wanted}
        for region in (regions if isinstance(regions, list) else [])
        if isinstance(region, Mapping) and all(isinstance(region.get(name), int | float) for name in wanted)
    ]


def resume_command(batch: Path, state: SlideState) -> str:
    """The command with which a scan that was stopped goes on.

    ``BUNDLE`` stands for a bundle that is not the packaged one: the batch does not record where it lies.
    """
    words = ["sentinode", "scan"]
    try:
        settings, engine = read_batch(batch / MANIFEST)
    except SentinodeError:
        return shlex.join([*words, state.slide, "--out", str(batch)])
    if settings.bundle not in _packaged_checksums():
        words.append("BUNDLE")
    words += [state.slide, "--out", str(batch), "--stride", str(settings.stride), "--prior", f"{settings.prior:g}"]
    words += [] if settings.mpp is None else ["--mpp", f"{settings.mpp:g}"]
    words += ["--icc"] * settings.icc + ["--tta"] * engine.tta
    return shlex.join(words)


def _packaged_checksums() -> str:
    try:
        return resources.files("sentinode.packaged").joinpath("SHA256SUMS").read_text(encoding="utf-8")
    except (OSError, ModuleNotFoundError):
        return ""
