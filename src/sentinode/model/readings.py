"""How well a bundle reads densely: measured beside patch by patch, on patches with a mirrored border.

The patches of a data set have no surroundings. So each is given its own mirror image as surroundings, which tell the
network nothing new, and lies at another place of the cells of the feature map, as the windows of a scan do. What comes
out goes into the bundle's card, with a calibration for dense reading: its margins are not those of patch by patch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sentinode.ahead import in_order
from sentinode.errors import BundleError, DataError
from sentinode.model.bundle import DENSE, PATCH, Bundle, Card, Reading, with_card
from sentinode.model.engines import Engine, open_engine
from sentinode.model.slide_operating_point import ReadingName
from sentinode.progress import bar, console

if TYPE_CHECKING:
    from sentinode.patches import PatchSet

MEASURED = 3000
"""Patches that are measured at most, spread evenly."""

SAME_MARGIN = 0.02
"""By how much a window's margin may depend on what lies beyond the halo."""

PROBED = 6
"""Patches on which the halo is found."""

REACH = 3
"""Patches' sides within which the halo is looked for."""

GLASS = 245

CHOICES = ("auto", DENSE, PATCH)

Images = NDArray[np.uint8]


def choose_reading(card: Card, wanted: str, stride: int) -> ReadingName:
    """``dense`` or ``patch``: as wanted, or with ``auto`` what is faster, dense only if the card says it is as good.

    Args:
        card: the bundle's.
        wanted: ``auto``, ``dense`` or ``patch``.
        stride: pixels between windows. Where windows do not overlap there is nothing to share.

    Raises:
        BundleError: there is no such reading, or dense reading was not measured for this bundle.
    """
    if wanted not in CHOICES:
        raise BundleError(f"there is no reading '{wanted}'.", hint=f"Choose one of {', '.join(CHOICES)}.")
    if wanted == PATCH or (wanted == "auto" and (stride >= card.patch_size or not card.dense_is_as_good)):
        return PATCH
    if DENSE not in card.readings:
        raise BundleError(
            f"dense reading has not been measured for '{card.name}', and needs a calibration of its own.",
            hint="Measure it once: sentinode check BUNDLE DATA. Or use --reading patch.",
        )
    if not card.dense_is_as_good and card.dense_costs is not None:
        console.print(f"Dense reading costs this bundle {card.dense_costs:.4f} of its AUC on patches.", markup=False)
    return DENSE


def check_readings(
    bundle: Bundle, patches: PatchSet, *, kind: str = "fastest", device: str = "auto", show: bool = True
) -> Bundle:
    """Measure a bundle's two ways of reading on valid patches, and write them into its card.

    Args:
        bundle: the model.
        patches: labelled patches that it was not trained on, of its geometry.
        kind: of the engine; see :func:`~sentinode.model.engines.open_engine`.
        device: where to compute, in float32.
        show: whether to show a progress bar.

    Returns:
        The bundle with its new card.

    Raises:
        BundleError: the network cannot read densely, or its answers depend on pixels too far away.
        DataError: the patches hold one class only, or no threshold keeps what the bundle's rule asks for.
        OutputError: the bundle cannot be written.
    """
    from sentinode.scoring import calibrated, choose_threshold, fit_platt

    if len(np.unique(patches.labels)) < 2:
        raise DataError("the patches hold one class only; there is nothing to measure.", where=patches.source)
    engine = open_engine(bundle, kind=kind, device=device, precision="float32", dense=True)
    rows = np.unique(np.linspace(0, len(patches) - 1, min(len(patches), MEASURED)).astype(np.int64))
    labels = patches.labels[rows]
    halo = find_halo(engine, patches.images[rows[:: max(1, len(rows) // PROBED)][:PROBED]])
    batches = (patches.images[part] for part in np.array_split(rows, math.ceil(len(rows) / engine.batch)))
    by_patch = np.concatenate([margins for _, margins in in_order(engine.margins, batches, engine.streams)])
    densely = mirrored_margins(engine, patches, rows, halo, show=show)
    card = bundle.card
    temperature, offset = fit_platt(densely, labels)
    probabilities = calibrated(densely + np.float32(offset), temperature)
    threshold = choose_threshold(labels, probabilities, card.threshold_rule, card.class_names)
    readings = {
        PATCH: _reading(labels, calibrated(by_patch, card.temperature), card.patch_reading),
        DENSE: _reading(
            labels,
            probabilities,
            Reading(temperature=temperature, offset=offset, threshold=threshold, prior=float(labels.mean()), halo=halo),
        ),
    }
    return with_card(bundle, card.model_copy(update={"readings": readings}))


def _reading(labels: NDArray[np.uint8], probabilities: NDArray[np.float32], calibration: Reading) -> Reading:
    """The calibration with what it reaches on the patches that it was measured on."""
    from sentinode.scoring import auc, reliability

    right = np.where(labels == 1, probabilities, 1 - probabilities).astype(np.float64)
    figures = {
        "auc": float(auc(labels, probabilities)),
        "nll": float(-np.log(np.clip(right, 1e-7, 1)).mean()),
        "ece": float(reliability(labels, probabilities).error),
        "n": len(labels),
    }
    return calibration.model_copy(update=figures)


def mirrored_margins(
    engine: Engine, patches: PatchSet, rows: NDArray[np.int64], halo: int, *, show: bool = True
) -> NDArray[np.float32]:
    """The margin of each patch in dense reading, float32 (N,), its surroundings being its mirror image.

    Many patches are read at once, each with half of the halo around it, and each at another place in the cells.
    """
    lattice, size = engine.lattice, engine.geometry.size
    margin = lattice.up(halo / 2)
    pitch = size + 2 * margin + lattice.unit
    side = max(1, engine.block // pitch)
    found: list[NDArray[np.float32]] = []

    def read(first: int) -> NDArray[np.float32]:
        images = patches.images[rows[first : first + side * side]]
        phases = [(number + first // side**2) % lattice.unit for number in range(2 * side)]
        region = _mosaic(images, side, pitch, margin, phases)
        tops, lefts = (np.arange(side) * pitch + margin + each for each in (phases[:side], phases[side:]))
        return engine.dense(region, tops, lefts).ravel()[: len(images)]

    with bar("Dense reading", len(rows), show=show) as shown:
        for _, margins in in_order(read, range(0, len(rows), side * side), engine.streams):
            found.append(margins)
            shown.advance(len(margins))
    return np.concatenate(found)


def _mosaic(images: Images, side: int, pitch: int, margin: int, phases: list[int]) -> Images:
    """Patches in a square of ``side`` x ``side``, row by row, each in the middle of its mirror image."""
    size = images.shape[1]
    region = np.full((side * pitch, side * pitch, 3), GLASS, np.uint8)
    for number, image in enumerate(images):
        row, column = divmod(number, side)
        before = margin + phases[row], margin + phases[side + column]
        around = [(start, pitch - size - start) for start in before]
        cell = np.pad(image, (*around, (0, 0)), mode="symmetric")
        region[row * pitch : (row + 1) * pitch, column * pitch : (column + 1) * pitch] = cell
    return region


def find_halo(engine: Engine, images: Images) -> int:
    """Pixels of surroundings, a multiple of the lattice's unit, beyond which a window's margin hardly changes.

    What lies beyond is cut off, and is painted as glass: neither may change a margin by more than ``SAME_MARGIN``. The
    former shows how far the zeros reach that convolutions are padded with, the latter what looks at the whole picture.

    Args:
        engine: computes in float32.
        images: uint8 (N, S, S, 3), patches on which to look.

    Raises:
        BundleError: there is no such halo within three patches' sides.
    """
    lattice, size = engine.lattice, engine.geometry.size
    reach = lattice.up(REACH * size)
    regions = [np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric") for image in images]
    whole = [engine.dense(region, [reach], [reach]) for region in regions]

    def holds(halo: int) -> bool:
        for region, margin in zip(regions, whole, strict=True):
            cut = np.ascontiguousarray(region[reach - halo : size + reach + halo, reach - halo : size + reach + halo])
            glass = np.full_like(region, GLASS)
            glass[reach - halo : size + reach + halo, reach - halo : size + reach + halo] = cut
            seen = (engine.dense(cut, [halo], [halo]), engine.dense(glass, [reach], [reach]))
            if any(not abs((other - margin).item()) <= SAME_MARGIN for other in seen):
                return False
        return True

    # The least number of units that holds, by halving.
    low, high = 0, (reach - lattice.unit) // lattice.unit
    if not holds(high * lattice.unit):
        raise BundleError(
            f"this network cannot read densely: pixels {high * lattice.unit} away from a window change its answer.",
            hint="Use --reading patch.",
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle * lattice.unit) else (middle, high)
    return high * lattice.unit
