"""Many slides, overnight: which are done, which failed and why, and who is at which.

``OUT/manifest.json`` says how the slides of a batch are scanned, and each slide's folder has a
``manifest.json`` with its state. Times and machines stand in these files only; everything else in a slide's
folder depends on nothing but the slide, the bundle and the settings. A lock that the operating system drops
with its process keeps two processes off the same slide, so a kill at any moment leaves nothing to clean up.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from sentinode._version import __version__
from sentinode.atomic import make_folder, output_errors, whole_file, write_text
from sentinode.errors import DeviceError, OutputError, SentinodeError, SlideError
from sentinode.model.bundle import Bundle
from sentinode.model.engines import Engine, open_engine
from sentinode.progress import console
from sentinode.slides.reading.folder import find_slides, name_slides
from sentinode.slides.reading.slide import Slide, fingerprint, open_slide
from sentinode.slides.results.outputs import write_outputs
from sentinode.slides.scanning.manifest import (
    DONE,
    FAILED,
    MANIFEST,
    RUNNING,
    TISSUE,
    Settings,
    SlideState,
    read_settings,
    read_state,
    read_states,
    settle_coordinates,
)
from sentinode.slides.scanning.probability_map import RECORD, ProbabilityMap, open_map, write_map
from sentinode.slides.scanning.scan import PRIOR, STRIDE, lay_grid, scan_slide
from sentinode.slides.scanning.tissue import Tissue, find_tissue

LOG, LOCKS = "scores.part", ".locks"

WriteOutputs = Callable[[Path, Slide, ProbabilityMap, Tissue], object]
"""What is made of a finished map: its folder, the slide, the map and the tissue."""


def scan(
    bundle: Bundle,
    slides: Iterable[str | Path],
    out: str | Path,
    *,
    stride: int = STRIDE,
    prior: float = PRIOR,
    mpp: float | None = None,
    icc: bool = False,
    device: str = "auto",
    precision: str = "auto",
    tta: bool = False,
    whole_slide_coordinates: bool | None = None,
    make: WriteOutputs | None = write_outputs,
    show: bool = True,
) -> list[SlideState]:
    """Scan slides into ``out``, one folder each, and go on where an earlier call of the same settings
    stopped.

    Args:
        bundle: the model.
        slides: files, and folders that are searched for them.
        out: the batch's folder; each slide's map lies in ``out/<stem>``.
        stride: pixels between windows at the bundle's resolution.
        prior: share of tumour among windows of tissue, to which probabilities are corrected.
        mpp: microns per level-0 pixel, in place of what the slides state.
        icc: convert colours by the slides' ICC profiles, where they have one.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; an earlier call's choice stands.
        precision: ``auto``, ``float32`` or ``bfloat16``; likewise.
        tta: average over the eight symmetries of the square, at eight times the work.
        whole_slide_coordinates: whether ``lesions.geojson`` counts from the slide's corner also where the slide
            states bounds, to which QuPath crops it; None for an earlier call's choice, at first False.
        make: called with each finished map before its slide counts as done; None for the map alone.
        show: whether to show progress.

    Returns:
        The state of each slide, in the order of their names. A slide that failed is among them, with its
        reason.

    Raises:
        SlideError: there is no slide at all.
        OutputError: ``out`` cannot be written, the disk is full, or ``out`` holds a batch of other settings.
        DeviceError: the device is missing, or is not the one that the batch was begun with.
    """
    _require_sense(stride, prior)
    out = make_folder(Path(out))
    found = find_slides(slides, exclude=out)
    card = bundle.card
    settings = Settings(bundle.fingerprint, card.temperature, card.threshold, stride, prior, mpp, icc, engine="")
    settings, engine = _join_batch(out, settings, bundle, device, precision, tta)
    coordinates = settle_coordinates(out, whole_slide_coordinates)
    if make is write_outputs:
        make = partial(write_outputs, whole_slide_coordinates=coordinates)
    names = name_slides(found)
    work = _Work(bundle, engine, settings, out, make, show)
    taken = [(name, path) for name, path in names.items() if not work.attempt(name, path, wait=False)]
    if taken:
        console.print(f"Waiting for {len(taken)} slides that another process has in hand.", markup=False)
    for name, path in taken:
        work.attempt(name, path, wait=True)
    return [state for state in read_states(out) if state.name in names]


def _require_sense(stride: int, prior: float) -> None:
    if stride < 1:
        raise SlideError(
            f"a stride of {stride} pixels covers nothing.", hint="Give --stride 32, or 96 for a quick look."
        )
    if not 0 < prior < 1:
        raise SlideError(
            f"a prior of {prior:g} is not a share between 0 and 1.",
            hint="Give the share of windows of tissue that you expect to show tumour, such as --prior 0.05.",
        )


def _join_batch(
    out: Path, settings: Settings, bundle: Bundle, device: str, precision: str, tta: bool
) -> tuple[Settings, Engine]:
    """Begin a batch in ``out``, or join the one that is there with the engine that it was begun with."""
    manifest = out / MANIFEST
    with _lock(out, "batch"):
        if not manifest.exists():
            engine = open_engine(bundle, kind="fastest", device=device, precision=precision, tta=tta)
            settings = replace(settings, engine=engine.name)
            record = {"format": 1, "version": __version__, "begun": _now(), **asdict(settings)}
            write_text(manifest, json.dumps(record, indent=2) + "\n")
            return settings, engine
        begun = read_settings(manifest)
    for name, value in asdict(settings).items():
        if name != "engine" and value != getattr(begun, name):
            raise OutputError(
                f"this folder holds a batch with {name} {getattr(begun, name)}, and you ask for {value}.",
                where=out,
                hint="Choose another --out, or scan with the settings of this one.",
            )
    kind, begun_device, begun_precision, *rest = begun.engine.split()
    same_device = device.split(":")[0] in ("auto", begun_device)
    if not same_device or precision not in ("auto", begun_precision) or tta != (rest == ["tta"]):
        raise DeviceError(
            f"this batch was begun on '{begun.engine}', and its maps must all come from one engine.",
            where=out,
            hint="Leave out --device, --precision and --tta to go on as it was begun, or choose another --out.",
        )
    chosen = begun_device if device == "auto" else device
    engine = open_engine(bundle, kind=kind, device=chosen, precision=begun_precision, tta=tta)
    if engine.name != begun.engine:
        raise DeviceError(
            f"this batch was begun on '{begun.engine}', and this machine offers '{engine.name}'.",
            where=out,
            hint="Go on with a machine that has it, or choose another --out.",
        )
    return begun, engine


class _Work:
    """One process at a batch: takes the slides that no other process has in hand."""

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        settings: Settings,
        out: Path,
        make: WriteOutputs | None,
        show: bool,
    ) -> None:
        self._bundle, self._engine, self._settings, self._out = bundle, engine, settings, out
        self._make, self._show, self._began = make, show, _now()

    def attempt(self, name: str, slide: Path, *, wait: bool) -> bool:
        """Scan a slide unless it is done; False if another process has it in hand and we do not ``wait``."""
        try:
            with _lock(self._out, name, wait=wait):
                if not self._is_settled(name, slide):
                    self._scan(name, slide)
                (self._out / name / LOG).unlink(missing_ok=True)
        except Timeout:
            return False
        return True

    def _is_settled(self, name: str, slide: Path) -> bool:
        """Whether a slide is done, or failed while this process has been running."""
        folder = self._out / name
        state = read_state(folder / MANIFEST)
        if state is None:
            return False
        if state.state == FAILED:
            return (state.finished or "") >= self._began
        if state.state != DONE or not (folder / RECORD).exists():
            return False
        return state.slide == str(slide.resolve()) or open_map(folder).slide.fingerprint == fingerprint(slide)

    def _scan(self, name: str, path: Path) -> None:
        folder = make_folder(self._out / name)
        _sweep(folder)
        state = SlideState(
            name, str(path.resolve()), RUNNING, started=_now(), host=socket.gethostname(), process=os.getpid()
        )
        self._write_state(state)
        try:
            state = self._map(folder, path, state)
        except OutputError:
            raise
        except SentinodeError as error:
            state = replace(state, state=FAILED, reason=str(error))
        # A fault of ours on one slide must not cost the night's other slides.
        except Exception as error:
            console.print_exception(max_frames=8)
            state = replace(state, state=FAILED, reason=f"a fault of Sentinode's: {type(error).__name__}: {error}")
        self._write_state(replace(state, finished=_now()))
        if state.reason:
            console.print(f"Failed: {state.reason}", markup=False)

    def _map(self, folder: Path, path: Path, state: SlideState) -> SlideState:
        settings = self._settings
        with open_slide(path, mpp=settings.mpp, icc=settings.icc) as slide:
            lay_grid(slide, self._bundle.card.mpp, settings.stride)
            tissue = find_tissue(slide)
            with whole_file(folder / TISSUE) as staged:
                tissue.picture().save(staged)
            map = scan_slide(
                slide,
                tissue,
                self._bundle,
                self._engine,
                stride=settings.stride,
                prior=settings.prior,
                log=folder / LOG,
                show=self._show,
            )
            write_map(folder, map)
            if self._make is not None:
                self._make(folder, slide, map, tissue)
        return replace(state, state=DONE, windows=int(map.tissue.sum()), tissue_mm2=round(tissue.area_mm2, 3))

    def _write_state(self, state: SlideState) -> None:
        write_text(self._out / state.name / MANIFEST, json.dumps(asdict(state), indent=2) + "\n")


@contextlib.contextmanager
def _lock(out: Path, name: str, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock that the operating system drops when the process ends, however it ends.

    Raises:
        Timeout: another process holds it and we do not ``wait``.
    """
    folder = out / LOCKS
    with output_errors(folder):
        folder.mkdir(exist_ok=True)
    lock = FileLock(folder / f"{name}.lock", timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        if isinstance(error, Timeout):
            raise
        raise OutputError(
            f"files cannot be locked on this disk ({error}).",
            where=folder,
            hint="Choose an --out on a disk that locks files, such as a local one.",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _sweep(folder: Path) -> None:
    """Remove what a killed process left half-written."""
    for staged in folder.glob(".*.part*"):
        shutil.rmtree(staged) if staged.is_dir() else staged.unlink()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
