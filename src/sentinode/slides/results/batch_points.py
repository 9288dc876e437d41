"""By which operating point the lesions of a batch are found."""

from __future__ import annotations

from pathlib import Path

from sentinode.errors import SentinodeError, SlideError
from sentinode.model.slide_operating_point import GENERAL, SlideOperatingPoints
from sentinode.slides.scanning.manifest import MANIFEST, read_batch, read_points
from sentinode.slides.scanning.probability_map import RECORD, open_map


def points_of_batch(batch: Path) -> SlideOperatingPoints:
    """The operating points that a batch records.

    Batches of earlier versions record none. They get those of the bundled model, if that made their maps, or else the
    general ones.

    Raises:
        OutputError: the batch's manifest holds operating points that cannot be read.
    """
    recorded = read_points(batch)
    if recorded is not None:
        return recorded
    from sentinode.model.bundle import load  # seconds to import, and seldom needed

    try:
        packaged = load()
    except SentinodeError:
        return GENERAL
    if packaged.card.slide_points is None or packaged.fingerprint != bundle_of_batch(batch):
        return GENERAL
    return packaged.card.slide_points


def bundle_of_batch(batch: Path) -> str | None:
    """The fingerprint of the bundle that made a batch's maps, or None where neither manifest nor map says it."""
    try:
        return read_batch(batch / MANIFEST)[0].bundle
    except SentinodeError:
        pass
    for record in sorted(batch.glob(f"*/{RECORD}")):
        try:
            return open_map(record.parent).bundle
        except SlideError:
            continue
    return None
