"""A batch's manifests: how its slides are scanned, and how far each of them is.

``OUT/manifest.json`` holds the settings, and each slide's folder has a ``manifest.json`` with its state.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sentinode._version import __version__
from sentinode.atomic import is_address, write_text
from sentinode.errors import OutputError, SlideError
from sentinode.model.slide_operating_point import PointName, SlideOperatingPoints
from sentinode.scoring.counts import CLASS_NAMES

FORMAT = 2
"""Of a batch's manifest. In format 1 the engine is its name."""

MANIFEST, TISSUE = "manifest.json", "tissue.png"

WHOLE_SLIDE = "whole_slide_coordinates"

POINTS = "slide_operating_points"

CLASSES = "class_names"

DONE, FAILED, RUNNING = "done", "failed", "running"


@dataclass(frozen=True)
class EngineRecord:
    """What computes the maps of a batch.

    Attributes:
        kind: ``torch`` or ``openvino``.
        device: ``cpu``, ``cuda`` or ``mps``.
        precision: ``float32``, ``bfloat16`` or ``int8``.
        tta: whether the eight symmetries are averaged.
        graph: digest of the bundle's int8 network, where that computes the maps.
    """

    kind: str
    device: str
    precision: str
    tta: bool
    graph: str | None = None

    @classmethod
    def of(cls, name: str, graph: str | None = None) -> EngineRecord:
        """The record of an engine by its name, such as ``torch cpu float32`` or ``torch cuda bfloat16 tta``."""
        kind, device, precision, *rest = name.split()
        return cls(kind, device, precision, tta=rest == ["tta"], graph=graph)

    @property
    def name(self) -> str:
        """The engine's name."""
        return f"{self.kind} {self.device} {self.precision}{' tta' if self.tta else ''}"


@dataclass(frozen=True)
class Settings:
    """What determines the maps of a batch, together with the engine.

    Attributes:
        bundle: fingerprint of the bundle's weights.
        temperature: the bundle's, by which scores are divided.
        threshold: the bundle's, before the correction of the prior.
        stride: pixels between windows at the bundle's resolution.
        prior: share of tumour among windows of tissue.
        mpp: microns per level-0 pixel in place of what the slides state, or None.
        icc: whether colours were converted by the slides' ICC profiles.
        reading: ``patch`` or ``dense``. Batches of older versions, which do not say it, were read patch by patch.
    """

    bundle: str
    temperature: float
    threshold: float
    stride: int
    prior: float
    mpp: float | None
    icc: bool
    reading: str = "patch"


@dataclass(frozen=True)
class SlideState:
    """How far a slide is.

    Attributes:
        name: its folder below the batch's.
        slide: its file.
        state: ``running``, ``done`` or ``failed``.
        reason: why it failed.
        windows: how many were scored.
        tissue_mm2: area of the tissue.
        started, finished: times, UTC.
        host, process: who is or was at it.
        version: of Sentinode.
        remote_version: what changes with the content of a slide that lies elsewhere, such as an ETag.
    """

    name: str
    slide: str
    state: str
    reason: str | None = None
    windows: int | None = None
    tissue_mm2: float | None = None
    started: str | None = None
    finished: str | None = None
    host: str = ""
    process: int = 0
    version: str = __version__
    remote_version: str | None = None


def no_scan(folder: Path) -> SlideError:
    """What to say where a folder holds no batch."""
    if is_address(folder):
        return SlideError(
            "this command reads the results of a scan from a folder, not from an address.",
            where=folder,
            hint="Copy them to a disk, and name the folder there.",
        )
    return SlideError("there are no scanned slides here.", where=folder, hint="Name the --out folder of a scan.")


def read_states(out: str | Path) -> list[SlideState]:
    """The state of every slide in a batch's folder, in the order of their names."""
    states = []
    for file in sorted(Path(out).glob(f"*/{MANIFEST}")):
        state = read_state(file)
        if state is not None:
            states.append(state)
    return states


def read_state(file: Path) -> SlideState | None:
    """A slide's state from its manifest, or None where that is missing or cannot be read.

    Its name is that of the folder, whatever the manifest says: files are written there.
    """
    try:
        return parse_state(file.read_text(encoding="utf-8"), file.absolute().parent.name)
    except (OSError, ValueError):
        return None


def parse_state(manifest: str, name: str) -> SlideState | None:
    """A slide's state from the text of its manifest, or None where that is damaged."""
    try:
        state = SlideState(**{**_parse(manifest), "name": name})
    except (ValueError, TypeError):
        return None
    texts = state.slide, state.state, state.host, state.version, state.reason, state.started, state.finished
    numbers = state.process, state.windows, state.tissue_mm2
    sound = all(isinstance(text, str | None) for text in texts) and all(
        isinstance(n, int | float | None) for n in numbers
    )
    return state if sound and state.slide and state.state and "\0" not in state.slide else None


def _read(file: Path) -> dict[str, Any]:
    """What a manifest holds.

    Raises:
        OSError, ValueError: it is missing, or is no JSON object.
    """
    return _parse(file.read_text(encoding="utf-8"))


def _parse(manifest: str) -> dict[str, Any]:
    try:
        record = json.loads(manifest)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(record, dict):
        raise ValueError("it is no object")
    return record


def write_batch(
    manifest: Path, settings: Settings, engine: EngineRecord, *, begun: str, class_names: Sequence[str] = CLASS_NAMES
) -> None:
    """Write what a batch is begun with, and when.

    Args:
        manifest: the file.
        settings: what determines the maps.
        engine: what computes them.
        begun: the time, UTC.
        class_names: the bundle's names of label 0 and label 1, for the pages.

    Raises:
        OutputError: the place cannot be written or the disk is full.
    """
    computed_with = {key: value for key, value in asdict(engine).items() if value is not None}
    record = {"format": FORMAT, "version": __version__, "begun": begun, **asdict(settings), "engine": computed_with}
    record[CLASSES] = list(class_names)
    write_text(manifest, json.dumps(record, indent=2) + "\n")


def begun_of(manifest: bytes) -> str | None:
    """When a batch was begun, which tells it from another, or None where its manifest does not say it."""
    try:
        return str(_parse(manifest.decode("utf-8", "replace"))["begun"])
    except (ValueError, KeyError):
        return None


def read_class_names(batch: Path) -> tuple[str, str]:
    """What a batch's bundle calls label 0 and label 1; the usual names where its manifest does not say it."""
    try:
        negative, positive = _read(batch / MANIFEST)[CLASSES]
    except (OSError, ValueError, KeyError, TypeError):
        return CLASS_NAMES
    return str(negative), str(positive)


def settle_coordinates(batch: Path, asked: bool | None, *, change: bool = False) -> bool:
    """Whether a batch's ``lesions.geojson`` count from the slides' own corners also where these state bounds.

    The batch's manifest keeps the choice, so that all of its slides agree.

    Args:
        batch: its folder.
        asked: the choice, or None for the one that the batch was begun with, at first False.
        change: whether ``asked`` may change an earlier choice.

    Raises:
        OutputError: the batch was begun with the other choice, or its manifest cannot be written.
    """
    manifest = batch / MANIFEST
    try:
        record = _read(manifest)
    except (OSError, ValueError):
        return bool(asked)
    begun = record.get(WHOLE_SLIDE)
    chosen = bool(begun) if asked is None else asked
    if begun not in (None, chosen) and not change:
        raise OutputError(
            "the lesions of this batch count from the corner of "
            f"{'the whole slide' if begun else 'the part that the scanner filled'}, and you ask for the other.",
            where=batch,
            hint="Leave the option out, choose another --out, or write all its lesions again with 'sentinode lesions'.",
        )
    if chosen != begun:
        write_text(manifest, json.dumps({**record, WHOLE_SLIDE: chosen}, indent=2) + "\n")
    return chosen


def read_points(batch: Path) -> SlideOperatingPoints | None:
    """The operating points by which a batch's lesions are found, or None where its manifest records none.

    Raises:
        OutputError: they are damaged.
    """
    manifest = batch / MANIFEST
    try:
        record = _read(manifest).get(POINTS)
    except (OSError, ValueError):
        return None
    if record is None:
        return None
    try:
        return SlideOperatingPoints.model_validate(record)
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise OutputError(
            f"the slide operating points of this batch cannot be read (at '{key}').",
            where=manifest,
            hint=f"Remove '{POINTS}' from the file, and name the bundle: sentinode lesions DIR --bundle BUNDLE",
        ) from error


def settle_points(
    batch: Path, points: SlideOperatingPoints, name: PointName | None, *, change: bool = False
) -> SlideOperatingPoints:
    """By which operating points a batch's lesions are found; their default is the one that is used.

    The batch's manifest keeps the choice, so that all of its slides agree, and so that lesions can be found again
    without the bundle.

    Args:
        batch: its folder.
        points: the operating points to use.
        name: which one, or None for the batch's earlier choice, at first the default of ``points``.
        change: whether these may take the place of an earlier choice.

    Raises:
        OutputError: the batch was begun with another choice, the manifest cannot be read or written, or ``points``
            holds none of this name.
    """
    begun = read_points(batch)
    same = begun is not None and begun.points == points.points
    if begun is not None and not change and not (same and name in (None, begun.default)):
        what = f"operating point '{begun.default}'" if same else "operating points of another bundle or version"
        raise OutputError(
            f"the lesions of this batch are found by the {what}, and you ask for others.",
            where=batch,
            hint="Choose another --out, or find the batch's lesions anew first: sentinode lesions DIR "
            + (f"--operating-point {name}" if same else "--bundle BUNDLE"),
        )
    if name is None:
        name = begun.default if begun is not None and same else points.default
    if name not in points.points:
        raise OutputError(
            f"there is no operating point '{name}'; there is {', '.join(points.points)}.",
            where=batch,
            hint="Choose one with 'sentinode operate', or leave out --operating-point.",
        )
    chosen = points.model_copy(update={"default": name})
    if chosen != begun and (batch / MANIFEST).exists():
        try:
            record = _read(batch / MANIFEST)
        except ValueError as error:
            raise OutputError(
                f"the manifest of this batch cannot be read ({error}).",
                where=batch / MANIFEST,
                hint="Remove the file, and name the bundle: sentinode lesions DIR --bundle BUNDLE",
            ) from error
        dump = chosen.model_dump(mode="json")
        write_text(batch / MANIFEST, json.dumps({**record, POINTS: dump}, indent=2) + "\n")
    return chosen


def read_batch(manifest: Path) -> tuple[Settings, EngineRecord]:
    """What a batch was begun with.

    Raises:
        OutputError: its manifest cannot be read, or a newer version wrote it.
    """
    try:
        record = _read(manifest)
        if record["format"] not in (1, FORMAT):
            raise OutputError(
                f"the manifest of this batch has format {record['format']!r}, and this version reads up to {FORMAT}.",
                where=manifest,
                hint="Update sentinode, or choose another --out.",
            )
        engine = record["engine"]
        record = {"reading": "patch", **record}
        settings = Settings(**{field.name: record[field.name] for field in fields(Settings)})
        return settings, EngineRecord.of(engine) if isinstance(engine, str) else EngineRecord(**engine)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"the manifest of this batch cannot be read ({error.__class__.__name__}).",
            where=manifest,
            hint="Choose another --out, or remove the file to begin the batch again.",
        ) from error
