"""Many slides, overnight: which are done, which failed and why, and who is at which.

``OUT/manifest.json`` says how the slides of a batch are scanned, and each slide's folder has a
``manifest.json`` with its state. Times and machines stand in these files only; everything else in a slide's
folder depends on nothing but the slide, the bundle and the settings. A lock that the operating system drops
with its process keeps two processes off the same slide, so a kill at any moment leaves nothing to clean up.

A map belongs to a slide by the slide's content, not by its path. Where another file lies under the path of a slide
that is done, the old results are removed and the new file is scanned.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import shutil
import socket
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Self

from filelock import Timeout

import sentinode.cluster as ray_cluster
from sentinode.atomic import make_folder, output_errors, whole_file, write_text
from sentinode.errors import DeviceError, OutputError, SentinodeError, SlideError
from sentinode.leases import Hold, LeaseLost
from sentinode.locks import BATCH, lock
from sentinode.model.bundle import DENSE, Bundle, require_mpp
from sentinode.model.engines import Engine, open_engine
from sentinode.model.readings import choose_reading
from sentinode.model.slide_operating_point import GENERAL, PointName, ReadingName
from sentinode.names import printable
from sentinode.progress import bar, console
from sentinode.slides.division import Division, Item
from sentinode.slides.reading.addresses import is_remote, without_credentials
from sentinode.slides.reading.fingerprint import fingerprint
from sentinode.slides.reading.folder import NAMED, find_slides, name_slides
from sentinode.slides.reading.remote import (
    STAGE_GB,
    RemoteSlide,
    Stage,
    bytes_of,
    find_remote,
    where,
)
from sentinode.slides.reading.slide import Slide, open_slide
from sentinode.slides.results.findings import NO_POINT, caution_reading
from sentinode.slides.results.outputs import write_outputs
from sentinode.slides.results.remote import RemoteBatch
from sentinode.slides.results.summary import RESULTS, write_summary
from sentinode.slides.scanning.manifest import (
    DONE,
    FAILED,
    MANIFEST,
    RUNNING,
    TISSUE,
    EngineRecord,
    Settings,
    SlideState,
    read_batch,
    read_state,
    read_states,
    settle_coordinates,
    settle_points,
    write_batch,
)
from sentinode.slides.scanning.probability_map import ARRAY, RECORD, ProbabilityMap, open_map, slide_of, write_map
from sentinode.slides.scanning.scan import PRIOR, scan_slide, score_part
from sentinode.slides.scanning.scores import LOG, Scores, remove_scores
from sentinode.slides.scanning.tissue import Tissue, find_tissue
from sentinode.slides.shards import Part, Shard, join

WriteOutputs = Callable[[Path, Slide, ProbabilityMap, Tissue], object]
"""What is made of a finished map: its folder, the slide, the map and the tissue."""


def scan(
    bundle: Bundle,
    slides: Iterable[str | Path],
    out: str | Path,
    *,
    stride: int | None = None,
    prior: float = PRIOR,
    mpp: float | None = None,
    icc: bool = False,
    device: str = "auto",
    precision: str = "auto",
    tta: bool = False,
    reading: str = "auto",
    operating_point: PointName | None = None,
    whole_slide_coordinates: bool | None = None,
    shard: str | None = None,
    cluster: str | None = None,
    stage: str | Path | None = None,
    stage_gb: float = STAGE_GB,
    make: WriteOutputs | None = write_outputs,
    show: bool = True,
) -> list[SlideState]:
    """Scan slides into ``out``, one folder each, and go on where an earlier call of the same settings
    stopped.

    The pages of the batch begin at ``out/index.html``.

    Args:
        bundle: the model.
        slides: files, and folders that are searched for them; also addresses such as ``s3://bucket/folder``.
        out: the batch's folder; each slide's map lies in ``out/<stem>`` (see
            :func:`sentinode.slides.reading.folder.name_slides`). Or its address, as text, such as
            ``s3://bucket/maps``: each slide is scanned in ``stage`` and written there when it is done.
        stride: pixels between windows at the bundle's resolution; None for the side of the square that its labels
            cover (32 in PatchCamelyon), or half the patch where they cover all of it.
        prior: share of tumour among windows of tissue, to which probabilities are corrected.
        mpp: microns per level-0 pixel, in place of what the slides state.
        icc: convert colours by the slides' ICC profiles, where they have one.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; an earlier call's choice stands.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``int8``; likewise.
        tta: average over the eight symmetries of the square, at eight times the work.
        reading: ``dense`` computes each region once and pools the windows from it; ``patch`` computes each window
            separately; ``auto`` reads densely if the bundle's card says that it is as good. An earlier call's choice
            stands.
        operating_point: which of the bundle's operating points for slides says what a lesion is: ``sensitive``,
            ``balanced`` or ``specific``; None for an earlier call's choice, at first the bundle's default.
        whole_slide_coordinates: whether ``lesions.geojson`` counts from the slide's corner also where the slide
            states bounds, to which QuPath crops it; None for an earlier call's choice, at first False.
        shard: scans one part of the slides: ``2/8`` is the third of eight, ``auto`` the one of this task of a Slurm
            job array, if this is one. The pages are written when the last shard finishes. None for all slides.
        cluster: the address of a Ray cluster that scans the slides, with ``out``, the slides and the bundle at the same
            places on all of its machines: ``auto``, ``local`` or ``ray://host:port``. None for this process alone.
        stage: a local folder to which slides that lie elsewhere are copied while they are scanned, and in which
            the results are made if ``out`` is an address.
        stage_gb: gigabytes that these copies have at most.
        make: called with each finished map before its slide counts as done; None for the map alone.
        show: whether to show progress.

    Returns:
        The state of each slide (of the shard), in the order of their names. A slide that failed is among them, with its
        reason; so is one that was left alone because its folder holds the map of another slide.

    Raises:
        SlideError: there is no slide at all, or no such shard.
        BundleError: the bundle's microns per pixel are unknown.
        OutputError: ``out`` cannot be written, the disk is full, or ``out`` holds a batch of other settings or
            of another operating point; or ``out`` is an address, and ``shard`` or ``cluster`` is given.
        DeviceError: the device is missing, or is not the one that the batch was begun with; or there is no such
            cluster.
    """
    require_mpp(bundle)
    stride = bundle.card.geometry.stride if stride is None else stride
    _require_sense(stride, prior)
    chosen = None if shard is None else Shard.asked(shard)
    remote = _elsewhere(out, stage, chosen, cluster, show=show)
    out = Path(out) if remote is None else remote.folder
    names = _find(slides, out, stage)  # before anything is written: there may be none
    make_folder(out)
    with contextlib.nullcontext() if remote is None else remote.joining():
        reading = _settle_reading(out, bundle, reading, stride)
        card = bundle.card
        how = card.reading(reading)
        asked = Settings(bundle.fingerprint, how.temperature, how.threshold, stride, prior, mpp, icc, reading)
        copies = None if stage is None else (Path(stage).absolute(), stage_gb * 1e9)
        opening = _Opening(
            bundle,
            out,
            asked,
            reading,
            device,
            precision,
            tta,
            operating_point,
            whole_slide_coordinates,
            copies,
            make,
            show,
            remote,
        )
        work = opening() if cluster is None else None
    part = None if chosen is None else _take_part(out, chosen, names)
    own = names if part is None else {name: path for name, path in names.items() if name in part.names}
    if remote is not None:
        remote.pull_all()
        own = dict(random.sample([*own.items()], len(own)))  # machines that begin at once do not meet at each slide
    refused = _scan_here(work, own) if work is not None else _scan_on(cluster or "", opening, own)
    states = read_states(out)
    _say_renamed(states, names)
    if remote is not None:
        remote.finish()
    elif part is None or _is_last(part, states, names):
        write_summary(out)
    return [refused.get(state.name, state) for state in states if state.name in own]


def _elsewhere(
    out: str | Path, stage: str | Path | None, shard: Shard | None, cluster: str | None, *, show: bool
) -> RemoteBatch | None:
    """The batch at an address, or None where ``out`` is a folder.

    Raises:
        OutputError: results cannot be written there, or not by several processes that divide the work.
    """
    if not is_remote(out):
        return None
    remote = RemoteBatch(str(out), None if stage is None else Path(stage), show=show)
    if cluster is not None:
        raise OutputError(
            "a cluster writes its results to a folder that all of its machines share.",
            where=remote.shown,
            hint="Name such a folder with --out. Or start the same command on several machines, without --cluster.",
        )
    if shard is not None:
        raise OutputError(
            f"shard {shard} needs a folder that all shards share.",
            where=remote.shown,
            hint="Name such a folder with --out. Or start the same command on several machines with --shard none: each "
            "scans what is not done at the address.",
        )
    return remote


def _find(slides: Iterable[str | Path], out: Path, stage: str | Path | None) -> dict[str, Path | RemoteSlide]:
    """The slides at paths and addresses, by the names of their folders."""
    local: list[str | Path] = []
    addresses: list[str] = []
    for slide in slides:
        (addresses if is_remote(slide) else local).append(str(slide))
    if addresses and stage is None:
        raise SlideError(
            "slides that lie elsewhere are copied to a local disk while they are scanned, and no folder is named.",
            where=without_credentials(addresses[0]),
            hint="Name a folder on a fast local disk, such as --stage /tmp/slides.",
        )
    remote = {slide.place: slide for slide in find_remote(addresses)}
    found = [*(find_slides(local, exclude=out) if local or not addresses else ()), *remote]
    names = name_slides(found)
    _say_copies(found, names)
    return {name: remote.get(path, path) for name, path in names.items()}


def _scan_here(work: _Work, slides: Mapping[str, Path | RemoteSlide]) -> Mapping[str, SlideState]:
    """Scan slides in this process; those that were left alone, with the reason."""
    with work:
        taken = []
        items = list(slides.items())
        for at, (name, slide) in enumerate(items):
            work.fetch_ahead(dict(items[at : at + 2]))
            if not work.attempt(name, slide, wait=False):
                taken.append((name, slide))
        if taken:
            console.print(f"Waiting for {len(taken)} slides that another process has in hand.", markup=False)
        for name, slide in taken:
            work.attempt(name, slide, wait=True)
    return work.refused


def _scan_on(address: str, opening: _Opening, slides: Mapping[str, Path | RemoteSlide]) -> Mapping[str, SlideState]:
    """Scan slides on a cluster, the largest first; those that were left alone, with the reason."""
    refused: dict[str, SlideState] = {}
    items = [Item(name, slide.absolute() if isinstance(slide, Path) else slide) for name, slide in slides.items()]
    division = Division(opening.out, {item.name: bytes_of(item.slide) for item in items})
    queue = deque(sorted(items, key=lambda item: -division.sizes[item.name]))
    with bar("Scanning", len(items), unit="slides", show=opening.show) as shown:
        for item, answer in ray_cluster.run(
            address,
            opening.elsewhere().worker,
            queue,
            gpu=opening.wants_gpu(),
            divide=division.divide,
            prepare=opening.copies is not None,
            note=shown.note,
        ):
            if item.part is not None:
                if whole := division.gather(item, answer if isinstance(answer, Scores) else None):
                    queue.appendleft(whole)
            elif isinstance(answer, ray_cluster.Lost):
                reason = f"its process ended {answer.tries} times, perhaps because memory ran out."
                state = SlideState(item.name, where(item.slide), FAILED, reason=reason, finished=_now())
                with lock(opening.out, item.name):
                    make_folder(opening.out / item.name)
                    _write_state(opening.out, state)
                _say_failed(f"{where(item.slide)}: {reason}")
            elif isinstance(answer, SlideState):
                refused[item.name] = answer
            shown.advance(division.share(item))
    return refused


def _take_part(out: Path, shard: Shard, names: Mapping[str, Path | RemoteSlide]) -> Part:
    done = frozenset(state.name for state in read_states(out) if state.state == DONE)
    part = join(out, shard, names, done)
    console.print(f"Shard {shard}: {len(part.names)} of {len(names)} slides.", markup=False)
    return part


def _is_last(part: Part, states: Iterable[SlideState], names: Mapping[str, Path | RemoteSlide]) -> bool:
    """Whether all shards have finished, so that this one writes the pages. What is missing is printed."""
    others = part.finish()
    if others:
        numbers = ", ".join(map(str, others[:NAMED])) + (", ..." if len(others) > NAMED else "")
        console.print(
            f"Of {part.shard.count} shards, {len(others)} have not finished: {numbers}. The last one to finish writes "
            f"the pages. 'sentinode lesions {part.out}' writes them at any time.",
            markup=False,
        )
        return False
    missing = names.keys() - {state.name for state in states}
    if missing:
        console.print(
            f"{len(missing)} slides came while the shards ran, and are not scanned. Start all shards again.",
            markup=False,
        )
    return True


def _say_copies(found: Iterable[Path], names: Mapping[str, Path]) -> None:
    for path in sorted(set(found) - set(names.values())):
        console.print(f"{printable(str(path))}: a copy of a slide of the same name, scanned once.", markup=False)


def _say_renamed(states: Iterable[SlideState], names: Mapping[str, Path | RemoteSlide]) -> None:
    """Say which of the batch's folders were made of slides that have another name now."""
    here = {where(slide): name for name, slide in names.items()}
    for state in states:
        name = here.get(state.slide, state.name)
        if name != state.name and state.name not in names:
            console.print(
                f"'{state.name}' was made of the file that is now called '{name}', and the pages show both. Remove the "
                "folder that you no longer want.",
                markup=False,
            )


def _require_sense(stride: int, prior: float) -> None:
    if stride < 1:
        raise SlideError(
            f"a stride of {stride} pixels covers nothing.",
            hint="Leave out --stride, or give a larger one for a quick look.",
        )
    if not 0 < prior < 1:
        raise SlideError(
            f"a prior of {prior:g} is not a share between 0 and 1.",
            hint="Give the share of windows of tissue that you expect to show tumour, such as --prior 0.05.",
        )


def _settle_reading(out: Path, bundle: Bundle, wanted: str, stride: int) -> ReadingName:
    """How the windows are read: as wanted, as the batch in ``out`` was begun, or as suits the bundle and the stride."""
    if wanted == "auto" and (out / MANIFEST).exists():
        wanted = read_batch(out / MANIFEST)[0].reading
    return choose_reading(bundle.card, wanted, stride)


def _join_batch(out: Path, asked: Settings, bundle: Bundle, device: str, precision: str, tta: bool) -> Engine:
    """Begin a batch in ``out``, or join the one that is there: the engine that its maps come from."""
    manifest = out / MANIFEST
    with lock(out, BATCH):
        if not manifest.exists():
            engine = open_engine(
                bundle, kind="fastest", device=device, precision=precision, tta=tta, dense=asked.reading == DENSE
            )
            write_batch(
                manifest,
                asked,
                EngineRecord.of(engine.name, engine.graph),
                begun=_now(),
                class_names=bundle.card.class_names,
            )
            return engine
        settings, begun = read_batch(manifest)
    for name, value in asdict(asked).items():
        if value != getattr(settings, name):
            raise OutputError(
                f"this folder holds a batch with {name} {getattr(settings, name)}, and you ask for {value}.",
                where=out,
                hint="Choose another --out, or scan with the settings of this one.",
            )
    return _open_again(out, begun, bundle, device, precision, tta, asked.reading == DENSE)


def _open_again(
    out: Path, begun: EngineRecord, bundle: Bundle, device: str, precision: str, tta: bool, dense: bool
) -> Engine:
    """The engine that a batch was begun with; ``cuda:1`` is another place for ``cuda``, and not another engine."""
    asked = replace(
        begun,
        device=begun.device if device == "auto" else device.partition(":")[0],
        precision=begun.precision if precision == "auto" else precision,
        tta=tta,
    )
    if asked != begun:
        raise DeviceError(
            f"this batch was begun on '{begun.name}', and its maps must all come from one engine.",
            where=out,
            hint="Leave out --device, --precision and --tta to go on as it was begun, or choose another --out.",
        )
    place = begun.device if device == "auto" else device
    engine = open_engine(bundle, kind=begun.kind, device=place, precision=begun.precision, tta=begun.tta, dense=dense)
    if engine.graph != begun.graph:
        raise DeviceError(
            "this batch was begun with another int8 network, and its maps must all come from one.",
            where=out,
            hint="Go on with the bundle that it was begun with, or choose another --out.",
        )
    if engine.name != begun.name:
        raise DeviceError(
            f"this batch was begun on '{begun.name}', and this machine offers '{engine.name}'.",
            where=out,
            hint="Go on with a machine that has it, or choose another --out.",
        )
    return engine


@dataclass(frozen=True)
class _Opening:
    """What a process needs to know to work at a batch. Calling it begins or joins the batch and opens the engine."""

    bundle: Bundle
    out: Path
    settings: Settings
    reading: ReadingName
    device: str
    precision: str
    tta: bool
    operating_point: PointName | None
    whole_slide_coordinates: bool | None
    copies: tuple[Path, float] | None
    make: WriteOutputs | None
    show: bool
    remote: RemoteBatch | None = None
    began: str = field(default_factory=lambda: _now())

    def __call__(self) -> _Work:
        engine = _join_batch(self.out, self.settings, self.bundle, self.device, self.precision, self.tta)
        card, make = self.bundle.card, self.make
        with lock(self.out, BATCH):
            coordinates = settle_coordinates(self.out, self.whole_slide_coordinates)
            points = settle_points(self.out, card.slide_points or GENERAL, self.operating_point)
        if self.remote is not None and not self.remote.begin():
            self.remote.join()
            return self()
        if card.slide_points is None:
            console.print(NO_POINT, markup=False)
        caution_reading(points, self.reading)
        if make is write_outputs:
            make = partial(write_outputs, points=points, whole_slide_coordinates=coordinates)
        stage = None if self.copies is None else Stage(*self.copies)
        return _Work(self.bundle, engine, self.settings, self.out, stage, make, self.began, self.show, self.remote)

    def elsewhere(self) -> _Opening:
        """The same for a process with another working folder."""
        bundle = copy.copy(self.bundle)
        bundle.path = bundle.path.absolute()
        return replace(self, bundle=bundle, out=self.out.absolute())

    def worker(self) -> _Worker:
        """What scans slides in a worker of a cluster."""
        return _Worker(replace(self, show=False)())

    def wants_gpu(self) -> bool | None:
        """Whether the engine of the batch needs a GPU; None where that is open."""
        device = self.device
        if device == "auto" and (self.out / MANIFEST).exists():
            device = read_batch(self.out / MANIFEST)[1].device
        return None if device == "auto" else device.partition(":")[0] == "cuda"


class _Worker:
    """A worker of a cluster."""

    def __init__(self, work: _Work) -> None:
        self._work = work

    def prepare(self, item: Item) -> None:
        """Begin to copy a slide that lies elsewhere."""
        self._work.fetch_ahead({item.name: item.slide})

    def __call__(self, item: Item) -> Scores | SlideState | None:
        """Scan a slide: its state if it was left alone (see :class:`_Work`). Or score a part of it."""
        if item.part is not None:
            assert isinstance(item.slide, Path)
            return self._work.score(item.slide, item.part)
        self._work.attempt(item.name, item.slide, wait=True, scores=item.scores)
        return self._work.refused.get(item.name)


class _Work:
    """One process at a batch: takes the slides that no other process has in hand.

    Attributes:
        refused: the slides that were left alone, with the reason as their state, by their names. What lies in their
            folders stays.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        settings: Settings,
        out: Path,
        stage: Stage | None,
        make: WriteOutputs | None,
        began: str,
        show: bool,
        remote: RemoteBatch | None,
    ) -> None:
        self._bundle, self._engine, self._settings, self._out, self._stage = bundle, engine, settings, out, stage
        self._make, self._show, self._began, self._remote = make, show, began, remote
        self.refused: dict[str, SlideState] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the local copies of slides that lie elsewhere."""
        if self._stage is not None:
            self._stage.__exit__()

    def fetch_ahead(self, slides: Mapping[str, Path | RemoteSlide]) -> None:
        """Begin to copy those of some slides that lie elsewhere and are not done."""
        for name, slide in slides.items():
            if isinstance(slide, RemoteSlide) and self._stage is not None:
                state = read_state(self._out / name / MANIFEST)
                if state is None or state.state != DONE:
                    self._stage.ahead(slide)

    def score(self, slide: Path, part: tuple[int, int]) -> Scores | None:
        """The scores of a part of a slide's windows; None if it cannot be scored: whoever scans it will say why."""
        settings = self._settings
        try:
            with open_slide(slide, mpp=settings.mpp, icc=settings.icc) as opened:
                return score_part(
                    opened,
                    find_tissue(opened),
                    self._bundle,
                    self._engine,
                    part,
                    stride=settings.stride,
                    reading=settings.reading,
                )
        except SentinodeError:
            return None
        # A fault of ours in a part must not cost the night's other slides. The slide is scanned whole.
        except Exception:
            console.print_exception(max_frames=8)
            return None

    def attempt(self, name: str, slide: Path | RemoteSlide, *, wait: bool, scores: Scores | None = None) -> bool:
        """Scan a slide unless it is done; False if another process has it in hand and we do not ``wait``, or has
        taken it over from us.

        Args:
            name: of its folder.
            slide: where it lies.
            wait: for another process that has it in hand.
            scores: of its first windows, if they are known.
        """
        try:
            with lock(self._out, name, wait=wait) as hold:
                try:
                    self._attempt(name, slide, hold, scores)
                except OutputError:
                    hold.require()  # a process that took over removes what we had half-written
                    raise
        except Timeout:
            return False
        except LeaseLost:
            console.print(
                f"'{name}' is left to another process: this one was silent for too long, and lost its claim.",
                markup=False,
            )
            return False
        finally:
            if isinstance(slide, RemoteSlide) and self._stage is not None:
                self._stage.drop(slide)
        return True

    def _attempt(self, name: str, slide: Path | RemoteSlide, hold: Hold, scores: Scores | None) -> None:
        if self._remote is not None:
            self._remote.pull(name)
        try:
            if isinstance(slide, RemoteSlide):
                settled = self._is_remote_settled(name, slide)
            else:
                settled = self._is_settled(name, slide)
        except SentinodeError as error:
            self.refused[name] = SlideState(name, where(slide), FAILED, reason=str(error))
            _say_failed(error)
            return
        if not settled:
            self._scan(name, slide, hold, scores)
        remove_scores(self._out / name)
        if self._remote is not None:
            self._remote.push(name)

    @property
    def _place(self) -> str | Path:
        """Where the results lie, for a person."""
        return self._out if self._remote is None else self._remote.shown

    def _is_remote_settled(self, name: str, slide: RemoteSlide) -> bool:
        """Whether a slide that lies elsewhere is done, or failed while this process has been running.

        Raises:
            SlideError: the folder holds the map of another slide.
        """
        state = read_state(self._out / name / MANIFEST)
        if state is None or state.state not in (DONE, FAILED):
            return False
        if state.state == FAILED:
            return (state.finished or "") >= self._began
        if not (self._out / name / RECORD).exists():
            return False
        if state.slide != slide.shown:
            raise SlideError(
                f"'{name}' in {self._place} holds the results of another slide, {state.slide}.",
                where=slide.shown,
                hint="Choose another --out for this one, or remove that folder.",
            )
        if state.remote_version != slide.version:
            console.print(f"{slide.shown}: not the file that was scanned before. It is scanned again.", markup=False)
        return state.remote_version == slide.version

    def _is_settled(self, name: str, slide: Path) -> bool:
        """Whether a slide is done, or failed while this process has been running.

        Raises:
            SlideError: the folder holds the map of another slide, or it cannot be told whether it does.
        """
        folder = self._out / name
        state = read_state(folder / MANIFEST)
        if state is None:
            return False
        if state.state == FAILED:
            return (state.finished or "") >= self._began
        if state.state != DONE or not (folder / RECORD).exists():
            return False
        try:
            lies_elsewhere = self._remote is not None and not (folder / ARRAY).exists()
            scanned = (slide_of(folder) if lies_elsewhere else open_map(folder).slide).fingerprint
        except SlideError as error:
            console.print(f"{printable(str(slide))}: {error.what} It is scanned again.", markup=False)
            return False
        here, there = str(slide.resolve()), state.slide
        is_same = fingerprint(slide) == scanned
        if here != there:
            self._compare(replace(state, slide=here), scanned, Path(there), is_same)
        if not is_same:
            console.print(
                f"{printable(here)}: not the file that was scanned before. Its old results are removed, and it is "
                "scanned again.",
                markup=False,
            )
        return is_same

    def _compare(self, state: SlideState, scanned: str, before: Path, is_same: bool) -> None:
        """Note where a slide has moved to; refuse one whose folder holds the map of another, which still lies there.

        Raises:
            SlideError: this is another slide of the same name.
        """
        try:
            stayed = fingerprint(before) == scanned
        except SlideError:
            stayed = False
        if is_same and not stayed:
            _write_state(self._out, state)
        elif stayed and not is_same:
            raise SlideError(
                f"'{state.name}' in {self._place} holds the results of another slide, {before}.",
                where=state.slide,
                hint="Scan both in one call, choose another --out for this one, or remove that folder.",
            )

    def _scan(self, name: str, slide: Path | RemoteSlide, hold: Hold, scores: Scores | None) -> None:
        folder = make_folder(self._out / name)
        state = SlideState(
            name,
            where(slide),
            RUNNING,
            started=_now(),
            host=socket.gethostname(),
            process=os.getpid(),
            remote_version=slide.version if isinstance(slide, RemoteSlide) else None,
        )
        _write_state(self._out, state)
        _clear(folder, TISSUE, *RESULTS)
        try:
            with self._here(slide) as path:
                state = self._map(folder, path, state, hold, scores)
        except (OutputError, LeaseLost):
            raise
        except SentinodeError as error:
            state = replace(state, state=FAILED, reason=str(error))
            _say_failed(error)
        # A fault of ours on one slide must not cost the night's other slides.
        except Exception as error:
            state = replace(state, state=FAILED, reason=f"a bug in Sentinode: {type(error).__name__}: {error}")
            console.print_exception(max_frames=8)
            _say_failed(state.reason)
        hold.require()
        if state.state == FAILED:
            _clear(folder, *RESULTS)
        _write_state(self._out, replace(state, finished=_now()), hold)

    def _here(self, slide: Path | RemoteSlide) -> contextlib.AbstractContextManager[Path]:
        """A slide on this machine, for as long as it is needed."""
        if isinstance(slide, Path):
            return contextlib.nullcontext(slide)
        assert self._stage is not None
        return self._stage.copy(slide)

    def _map(self, folder: Path, path: Path, state: SlideState, hold: Hold, scores: Scores | None) -> SlideState:
        settings, content = self._settings, fingerprint(path)
        with open_slide(path, mpp=settings.mpp, icc=settings.icc) as slide:
            tissue = find_tissue(slide)
            with whole_file(folder / TISSUE) as staged:
                tissue.picture().save(staged)
            probability_map = scan_slide(
                slide,
                tissue,
                self._bundle,
                self._engine,
                stride=settings.stride,
                prior=settings.prior,
                reading=settings.reading,
                scores=scores,
                log=folder / LOG,
                before_write=hold.require,
                show=self._show,
            )
            hold.require()
            write_map(folder, probability_map)
            if self._make is not None:
                hold.require()
                self._make(folder, slide, probability_map, tissue)
        if not content == probability_map.slide.fingerprint == fingerprint(path):
            raise SlideError(
                "the file was changed while it was scanned.", where=path, hint="Scan it again once it is whole."
            )
        return replace(
            state, state=DONE, windows=int(probability_map.tissue.sum()), tissue_mm2=round(tissue.area_mm2, 3)
        )


def _write_state(out: Path, state: SlideState, hold: Hold | None = None) -> None:
    last = (lambda: None) if hold is None else hold.require
    write_text(out / state.name / MANIFEST, json.dumps(asdict(state), indent=2) + "\n", last=last)


def _clear(folder: Path, *names: str) -> None:
    """Remove files by name, and what a killed process left half-written; what others put there stays."""
    with output_errors(folder):
        for name in names:
            (folder / name).unlink(missing_ok=True)
        for staged in folder.glob(".*.part*"):
            shutil.rmtree(staged) if staged.is_dir() else staged.unlink()


def _say_failed(reason: object) -> None:
    console.print(f"Failed: {reason}", markup=False)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
