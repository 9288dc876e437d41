"""``embed``: the features of a frozen backbone for all patches of some data, in one file."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sentinode.ahead import read_ahead
from sentinode.atomic import make_folder, output_errors, write_text
from sentinode.errors import DataError, OutputError
from sentinode.experiments.backbone import Frozen, open_backbone
from sentinode.experiments.features_file import Embeddings, read_embeddings, require_ending, write_embeddings
from sentinode.model.bundle import Bundle, versions
from sentinode.model.hardware import choose_device, choose_precision, describe, keep_freed_memory
from sentinode.patches import PatchData, PatchSet, open_data
from sentinode.progress import bar, console

SAVED_EVERY = 2048
"""Patches between two notes of how far the work has come."""


def embed(
    data: str | Path | PatchData,
    out: str | Path,
    *,
    backbone: str | Path | Bundle = "packaged",
    weights: str | Path = "pretrained",
    pooling: str = "own",
    side: int = 0,
    options: Sequence[str] = (),
    splits: Sequence[str] = (),
    slide_map: str | Path | None = None,
    mpp: float | None = None,
    label_region: int | None = None,
    positive: Sequence[str] = (),
    device: str = "auto",
    precision: str = "float32",
    batch_size: int = 64,
    show: bool = True,
) -> Embeddings:
    """Write a frozen backbone's features of labelled patches to a file, and return them.

    If the file is there with the same backbone and patches, it is returned at once. If the work was interrupted, it
    goes on from the last finished part.

    Args:
        data: labelled patches, or what :func:`open_data` returned.
        out: the file, ``.npz`` or ``.parquet``.
        backbone: a timm name, ``hf-hub:ORGANISATION/MODEL``, a folder with a model of the hub, a bundle or its path,
            or ``packaged``, the bundled model.
        weights: ``pretrained``, ``none``, or a file with timm's key names.
        pooling: ``own``: what the backbone does by itself; or ``avg``, ``max``, ``avgmax``, ``centre`` or
            ``avgcentre``.
        side: pixels to which each side of a patch is enlarged; 0 for the size of the patch, or for that of the
            pretraining where the network takes only one.
        options: arguments of the network, such as ``init_values=1e-5``.
        splits: the splits to read; by default all.
        slide_map: a CSV that names the slide of each patch, if ``data`` is a path.
        mpp: microns per pixel of the patches, if ``data`` is a path that does not record them.
        label_region: side in pixels of the centre square that labels cover, in the same case.
        positive: names of the class folders of label 1, if their names do not tell it.
        device: where to compute.
        precision: ``auto``, ``float32`` or ``bfloat16``.
        batch_size: patches that are computed at a time.
        show: whether to show progress on standard error.

    Raises:
        DataError: the patches cannot be read, or some features are not numbers.
        RecipeError: there is no such backbone, or it does not take these patches.
        WeightsError: its weights cannot be had: no network, no access, or a file that does not fit.
        BundleError: the bundle cannot be loaded, or has no backbone.
        OutputError: the file cannot be written, or contains other features.
        DeviceError: no such device or precision.
    """
    out = Path(out)
    require_ending(out)
    if not isinstance(data, PatchData):
        data = open_data(
            data,
            slide_map=None if slide_map is None else Path(slide_map),
            mpp=mpp,
            label_region=label_region,
            positive=positive,
            show=show,
        )
    sets = [data[split] for split in splits or data.splits]
    target = choose_device(device)
    dtype = choose_precision(precision, target)
    frozen = open_backbone(backbone, data.geometry, weights=weights, pooling=pooling, side=side, options=options)
    about = _about(frozen, data, sets, list(options), dtype)
    if out.exists():
        return _kept(out, about, show)
    if show:
        console.print(
            f"{frozen.dimension:,} features of {frozen.name} at {frozen.side} x {frozen.side} pixels on "
            f"{describe(target)}.",
            markup=False,
        )
    work = _Work.begin(out, about, sum(map(len, sets)), frozen.dimension)
    _compute(work, frozen, sets, target, dtype, batch_size, show)
    embeddings = _collected(work.features, sets, about, out)
    write_embeddings(out, embeddings)
    shutil.rmtree(work.folder, ignore_errors=True)
    return embeddings


def _about(
    frozen: Frozen, data: PatchData, sets: Sequence[PatchSet], options: list[str], dtype: torch.dtype
) -> dict[str, Any]:
    """What made the features; all of it but the versions must be the same for work to go on."""
    return {
        "backbone": frozen.name,
        "weights": frozen.weights,
        "digest": frozen.digest,
        "pooling": frozen.pooling,
        "side": frozen.side,
        "options": sorted(options),
        "dimension": frozen.dimension,
        "precision": str(dtype).removeprefix("torch."),
        "geometry": asdict(data.geometry),
        "class_names": list(data.class_names),
        "data": {
            "name": data.path.resolve().name,
            "kind": data.kind,
            "toy": data.toy,
            "own_splits": data.own_splits,
            "warnings": list(data.warnings),
            "fingerprint": {patches.split: patches.fingerprint() for patches in sets},
        },
        "versions": versions(),
    }


def _identity(about: dict[str, Any]) -> dict[str, Any]:
    same = {key: value for key, value in about.items() if key not in ("versions", "backbone", "weights", "data")}
    return same | {"fingerprint": about.get("data", {}).get("fingerprint")}


def _kept(out: Path, about: dict[str, Any], show: bool) -> Embeddings:
    """The file that is there already, if it has what is asked for."""
    kept = read_embeddings(out)
    if _identity(kept.about) != _identity(about):
        raise OutputError(
            "this file contains other features: another backbone, other settings or other patches.",
            where=out,
            hint="Choose another name with --out, or remove the file.",
        )
    if show:
        console.print(f"{out} has these features already.", markup=False)
    return kept


@dataclass
class _Work:
    """Features so far, in a folder beside the file."""

    folder: Path
    features: NDArray[np.float32]
    done: int

    @classmethod
    def begin(cls, out: Path, about: dict[str, Any], patches: int, dimension: int) -> _Work:
        """Go on where an earlier run of the same work stopped, or begin."""
        folder = out.with_name(f".{out.name}.unfinished")
        make_folder(folder)
        identity = json.loads(json.dumps(_identity(about)))
        array, note = folder / "features.npy", folder / "done.json"
        with contextlib.suppress(OSError, ValueError, KeyError):
            noted = json.loads(note.read_text("utf-8"))
            if noted["identity"] == identity:
                return cls(folder, np.load(array, mmap_mode="r+"), int(noted["done"]))
        note.unlink(missing_ok=True)
        with output_errors(array):
            features = np.lib.format.open_memmap(array, mode="w+", dtype=np.float32, shape=(patches, dimension))
        work = cls(folder, features, 0)
        work.save(identity)
        return work

    def save(self, identity: dict[str, Any]) -> None:
        """Note how far the work has come, after what was done is on the disk."""
        if isinstance(self.features, np.memmap):
            self.features.flush()
        write_text(self.folder / "done.json", json.dumps({"done": self.done, "identity": identity}))


def _compute(
    work: _Work,
    frozen: Frozen,
    sets: Sequence[PatchSet],
    device: torch.device,
    dtype: torch.dtype,
    batch_size: int,
    show: bool,
) -> None:
    """Fill in the features that are missing."""
    keep_freed_memory()
    identity = json.loads((work.folder / "done.json").read_text("utf-8"))["identity"]
    network = frozen.network.to(device).to(memory_format=torch.channels_last)
    total, saved = sum(map(len, sets)), work.done
    with bar(f"Features of {frozen.name}", total, show=show) as shown, torch.inference_mode():
        shown.advance(work.done)
        for images in read_ahead(_batches(sets, work.done, batch_size)):
            batch = torch.from_numpy(np.require(images, requirements=["C", "W"])).to(device)
            with contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype):
                features = network(batch).float().cpu().numpy()
            if not np.isfinite(features).all():
                raise DataError(
                    f"the features of a patch between number {work.done:,} and {work.done + len(batch):,} are not "
                    "numbers.",
                    where=frozen.name,
                    hint="Use --precision float32, or other weights.",
                )
            work.features[work.done : work.done + len(batch)] = features
            work.done += len(batch)
            shown.advance(len(batch))
            if work.done - saved >= SAVED_EVERY:
                work.save(identity)
                saved = work.done


def _batches(sets: Sequence[PatchSet], done: int, size: int) -> Iterator[NDArray[np.uint8]]:
    """The images from patch number ``done`` on; a batch lies in one split."""
    first = 0
    for patches in sets:
        for start in range(max(done - first, 0), len(patches), size):
            yield patches.images[start : start + size]
        first += len(patches)


def _collected(features: NDArray[np.float32], sets: Sequence[PatchSet], about: dict[str, Any], out: Path) -> Embeddings:
    known = any(patches.slides is not None for patches in sets)
    slides = [np.full(len(p), "") if p.slides is None else p.slides for p in sets] if known else None
    return Embeddings(
        features=np.array(features),
        labels=np.concatenate([patches.labels for patches in sets]),
        ids=np.concatenate([patches.ids for patches in sets]),
        slides=None if slides is None else np.concatenate(slides),
        split=np.concatenate([np.full(len(patches), patches.split) for patches in sets]),
        about=about,
        path=out,
    )
