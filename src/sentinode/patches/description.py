"""What is known about labelled patches: from the data, from the user, and from the bundle that will read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sentinode.errors import DataError
from sentinode.geometry import PCAM, PatchGeometry, agree, difference
from sentinode.patches.class_folders import same_meaning
from sentinode.patches.patch_set import CLASS_NAMES
from sentinode.patches.source import Source


@dataclass(frozen=True)
class Stated:
    """What the user states about patches.

    Attributes:
        mpp: microns per pixel.
        label_region: side in pixels of the centre square that the label covers.
        positive: the class folders of label 1.
    """

    mpp: float | None = None
    label_region: int | None = None
    positive: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expected:
    """The patches that a bundle takes, or that data takes which further patches are to join.

    Attributes:
        geometry: of the patches that the bundle was trained on, or of the data.
        class_names: of label 0 and label 1.
        positive: the class folders of label 1, if they were stated in training.
        of_data: whether data expects them, not a bundle.
    """

    geometry: PatchGeometry = PCAM
    class_names: tuple[str, str] = CLASS_NAMES
    positive: tuple[str, ...] = ()
    of_data: bool = False

    @property
    def taker(self) -> str:
        """Who expects it, as the beginning of a sentence."""
        return "The data that these patches are to join" if self.of_data else "The bundle"


def geometry_of(source: Source, stated: Stated, expected: Expected | None) -> tuple[PatchGeometry, str | None]:
    """The geometry of patches, and a sentence on what was assumed, if anything was.

    What the data records comes first, then what the user states. For the rest, patches of 96 pixels are taken for
    PatchCamelyon's, folders of images for what the bundle was trained on, and any others for wholly labelled.

    Raises:
        DataError: the patches are of several sizes, or the user contradicts what the data records, or the label's
            region is larger than the patches.
    """
    size = source.size
    if source.recorded is not None:
        _refuse_contradiction(source.recorded, stated, source)
        base, note = source.recorded, None
    else:
        base, note = _taken_for(source, size, stated, expected)
    region = base.label_region if stated.label_region is None else stated.label_region
    return PatchGeometry(size, base.mpp if stated.mpp is None else stated.mpp, region), note


def _taken_for(
    source: Source, size: int, stated: Stated, expected: Expected | None
) -> tuple[PatchGeometry, str | None]:
    complete = stated.mpp is not None and stated.label_region is not None
    nameless = source.kind == "folder" or size != PCAM.size
    if expected is not None and nameless and size == expected.geometry.size:
        whose = "the patches that they join" if expected.of_data else "those of the bundle's training"
        note = f"The patches are assumed to be like {whose}: {expected.geometry}."
        return expected.geometry, None if complete else f"{note} {SAY_OTHERWISE}"
    if size == PCAM.size and not _contradicts(PCAM, stated):
        note = f"The images are assumed to be patches like PatchCamelyon's: {PCAM}. {SAY_OTHERWISE}"
        return PCAM, note if source.kind == "folder" and not complete else None
    base = PatchGeometry(size, None, size)
    notes = [
        "Their microns per pixel are unknown (state them with --mpp); scanning slides will need them."
        if stated.mpp is None
        else "",
        "The label is assumed to cover the whole patch (state another square with --label-region)."
        if stated.label_region is None
        else "",
    ]
    message = " ".join(filter(None, notes))
    return base, f"The patches are {size} x {size} pixels. {message}" if message else None


SAY_OTHERWISE = "If this is wrong, state the right values with --mpp and --label-region."


def _contradicts(geometry: PatchGeometry, stated: Stated) -> bool:
    other_mpp = stated.mpp is not None and geometry.mpp is not None and not agree(stated.mpp, geometry.mpp)
    return other_mpp or stated.label_region not in (None, geometry.label_region)


def _refuse_contradiction(recorded: PatchGeometry, stated: Stated, source: Source) -> None:
    if _contradicts(recorded, stated):
        raise DataError(
            f"the data records that its patches are {recorded}, and you state other values.",
            where=source.path,
            hint="Leave out --mpp and --label-region.",
        )


def require_expected(
    expected: Expected,
    geometry: PatchGeometry,
    class_names: Sequence[str],
    *,
    named: bool,
    stated: Stated,
    where: object,
) -> str | None:
    """Refuse patches that are other than a bundle takes.

    Args:
        expected: what the bundle takes.
        geometry: of the patches.
        class_names: of the patches.
        named: whether the data itself names its classes.
        stated: by the user.
        where: the data, for messages.

    Returns:
        A sentence where the classes bear other names and were accepted all the same, else None.

    Raises:
        DataError: the geometry or the classes differ.
    """
    if (how := difference(expected.geometry, geometry)) is not None:
        whose = "the data that they join has others" if expected.of_data else "the bundle was trained on other patches"
        other = "" if expected.of_data else ", or train a bundle on patches like these"
        raise DataError(
            f"these patches {how}; {whose}.",
            where=str(where),
            hint=f"{expected.taker} takes {expected.geometry}. Give such patches{other}.",
        )
    if same_meaning(expected.class_names, class_names):
        return None
    ours, theirs = (f"{names[0]} and {names[1]}" for names in (expected.class_names, class_names))
    if named and not stated.positive:
        raise DataError(
            f"the classes here are {theirs}, but {expected.taker[0].lower()}{expected.taker[1:]} "
            f"{'has' if expected.of_data else 'was trained on'} {ours}.",
            where=str(where),
            hint=f"If they mean the same, name the folders that stand for {expected.class_names[1]} with --positive.",
        )
    classes = f"{expected.taker} has the classes" if expected.of_data else "The bundle's classes are"
    return f"{classes} {ours}; here they mean {theirs}."
