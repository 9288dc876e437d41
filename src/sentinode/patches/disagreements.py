"""A picture of the copies that have both labels: one of the labels must be wrong, or the patch lies on a border."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sentinode.atomic import whole_file
from sentinode.errors import DataError
from sentinode.names import drawable, families, shortened
from sentinode.patches.audit import LISTED, Audit
from sentinode.patches.cache import cache_folder
from sentinode.patches.opening import find_source
from sentinode.patches.patch_set import ALL

ACROSS = 6
"""Patches of a group that are drawn."""

NAME_WIDTH = 24
"""Columns of a patch's name above its picture."""


def draw_disagreements(found: Audit, out: Path, *, positive: Sequence[str] = (), cache: Path | None = None) -> int:
    """Draw the patches of each group of copies with both labels in a row, each under its label and its id.

    Args:
        found: an audit of data that still lies at its path.
        out: the picture, a PNG. It is not written where no copies have both labels.
        positive: as it was stated for the audit; so is ``cache``.

    Returns:
        How many groups were drawn, at most 20 of six patches.

    Raises:
        DataError: the data can no longer be read.
        OutputError: the picture cannot be written.
    """
    groups = [copies for copies in found.copies if copies.labels_differ][:LISTED]
    if not groups:
        return 0
    shown = [_both(copies.labels) for copies in groups]
    wanted = {(copies.splits[at], copies.ids[at]) for copies, rows in zip(groups, shown, strict=True) for at in rows}
    pixels = _pixels(found, wanted, positive, cache)
    across = max(map(len, shown))
    figure = Figure(figsize=(1.7 * across, 2.0 * len(groups)), dpi=110, layout="constrained")
    panels = figure.subplots(len(groups), across, squeeze=False)
    for row, (copies, members) in enumerate(zip(groups, shown, strict=True)):
        for axes in panels[row]:
            axes.set_axis_off()
        for axes, at in zip(panels[row], members, strict=False):
            axes.imshow(pixels[copies.splits[at], copies.ids[at]], interpolation="nearest")
            name = drawable(shortened(copies.ids[at], NAME_WIDTH))
            axes.set_title(
                f"{drawable(found.class_names[copies.labels[at]])}\n{name}", fontsize=7, family=list(families())
            )
    with whole_file(out) as staged:
        figure.savefig(staged, format="png")
    return len(groups)


def _both(labels: Sequence[int]) -> list[int]:
    """At most ``ACROSS`` members of a group, of both labels."""
    members = [[at for at, label in enumerate(labels) if label == wanted] for wanted in (0, 1)]
    fewer = min(len(members[0]), len(members[1]), ACROSS // 2)
    return sorted(at for rows in members for at in rows[: ACROSS - fewer])


def _pixels(
    found: Audit, wanted: set[tuple[str, str]], positive: Sequence[str], cache: Path | None
) -> dict[tuple[str, str], NDArray[np.uint8]]:
    source = find_source(Path(found.path), cache_folder(cache), positive)
    pixels: dict[tuple[str, str], NDArray[np.uint8]] = {}
    for split, part in source.parts.items():
        for id, patch in zip(part.ids.tolist(), part.pixels.stream(), strict=True):
            key = (split or ALL, id)
            if key in wanted and not isinstance(patch, DataError):
                pixels[key] = np.array(patch)
    if missing := wanted - pixels.keys():
        raise DataError(f"the patch {min(missing)[1]} can no longer be read.", where=found.path)
    return pixels
