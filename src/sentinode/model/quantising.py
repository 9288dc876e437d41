"""Makes a bundle's int8 network: calibrated on training patches, checked on valid, and refused where it costs accuracy.

NNCF chooses the range of whole numbers for each layer from what the layer gives on training patches. Several ways are
tried, from the fastest on; in the later ones convolutions at both ends of the network stay in float32. The first that
holds on valid is kept. The calibration of the probabilities stays that of float32, and is part of what must hold.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentinode._version import __version__
from sentinode.ahead import in_order
from sentinode.errors import BundleError, DataError, DeviceError, OutputError
from sentinode.model.bundle import DENSE, INT8_LOSS, PATCH, Bundle, Int8, Int8Reading, load, with_card
from sentinode.model.card import as_line
from sentinode.model.dense import lattice_of
from sentinode.model.engines import Engine, Int8Engine, OpenVinoEngine, TorchEngine, openvino_engine
from sentinode.model.engines.int8_engine import GRAPH, VALUES, digest_of
from sentinode.model.hardware import processor, processor_gains_from_bfloat16
from sentinode.model.readings import MEASURED, mirrored_margins
from sentinode.patches import PatchSet
from sentinode.progress import console
from sentinode.scoring import auc, calibrated

CALIBRATION = 300
"""Training patches from which the ranges are taken."""

ROUNDS, TIMED = 3, 32
"""Times that each engine is timed, in turn with the others, and patches on which."""


class Attempt(NamedTuple):
    """A way to quantise: NNCF's preset, and the share of convolutions that stay in float32, half of it at each end."""

    preset: str
    in_float: float


ATTEMPTS = (
    Attempt("performance", 0),
    Attempt("mixed", 0),
    Attempt("mixed", 0.1),
    Attempt("mixed", 0.3),
    Attempt("mixed", 0.6),
)


def quantise(
    bundle: Bundle, training: PatchSet, valid: PatchSet, *, out: Path | None = None, show: bool = True
) -> Bundle:
    """Make the int8 network of a bundle, measure it, and write both into the bundle; its weights stay as they are.

    Args:
        bundle: the model; its network has a backbone and a head of Sentinode's.
        training: patches of the training split, on which the ranges are calibrated.
        valid: patches of the valid split, on which int8 is compared with float32.
        out: a new bundle to write; None to write into the bundle itself.
        show: whether to show progress.

    Returns:
        The bundle with its int8 network.

    Raises:
        BundleError: the network cannot be quantised, or no attempt holds on valid.
        DataError: there are no training patches, or the valid patches hold one class only.
        DeviceError: NNCF or OpenVINO is missing, or OpenVINO cannot run the network.
        OutputError: ``out`` exists, or the bundle cannot be written.
    """
    _require(bundle, training, valid, out)
    graph = _convert(bundle)
    images = training.images[_spread(len(training), CALIBRATION)]
    lost = ""
    with tempfile.TemporaryDirectory() as folder:
        for attempt in ATTEMPTS:
            left = _outermost(graph, attempt.in_float)
            if show:
                console.print(f"Quantising: preset {attempt.preset}, {len(left)} convolutions left in float.")
            _write(_quantised(graph, images, attempt.preset, left, show=show), Path(folder))
            trial = _trial(bundle, Path(folder), attempt.preset, left, training, len(images))
            assert trial.card.int8 is not None
            try:
                readings = _measure(trial, valid, show=show)
            except DeviceError as error:  # too far from PyTorch, or OpenVINO cannot run it
                lost = error.what
                continue
            lost = _loss(readings)
            if not lost:
                int8 = trial.card.int8.model_copy(update={"readings": readings})
                card = bundle.card.model_copy(update={"int8": int8})
                return with_card(bundle, card, out, [trial.path / GRAPH, trial.path / VALUES])
            if show:
                console.print(lost, markup=False)
    raise BundleError(
        f"int8 does not hold for this network; nothing was written. The last attempt: {lost}",
        where=bundle.path,
        hint="Use --precision auto, which takes bfloat16 where the processor gains from it.",
    )


def _require(bundle: Bundle, training: PatchSet, valid: PatchSet, out: Path | None) -> None:
    missing = [
        name
        for name, found in (("nncf", importlib.util.find_spec("nncf")), ("openvino", openvino_engine.available()))
        if not found
    ]
    if missing:
        raise DeviceError(
            f"making an int8 network needs {' and '.join(missing)}.",
            hint="Install it: pip install 'sentinode[quantise]'. Using an int8 network needs sentinode[fast] alone.",
        )
    if bundle.card.architecture.kind == "custom":
        raise BundleError(
            "int8 is made for networks of a backbone and a head of Sentinode's, and this one is a class of a user.",
            where=bundle.path,
        )
    if not len(training):
        raise DataError("there are no training patches to calibrate on.", where=training.source)
    if len(np.unique(valid.labels)) < 2:
        raise DataError("the valid patches hold one class only; there is nothing to measure.", where=valid.source)
    if out is not None and out.exists():
        raise OutputError("this exists, and is not overwritten.", where=out, hint="Choose another --out, or remove it.")


def _spread(length: int, most: int) -> NDArray[np.int64]:
    """Rows spread evenly, ``most`` of them at most."""
    return np.unique(np.linspace(0, length - 1, min(length, most)).astype(np.int64))


def _convert(bundle: Bundle) -> Any:
    """The backbone as OpenVINO's graph, in float32, for any number of patches or regions of any sides.

    Raises:
        BundleError: the network cannot read densely.
        DeviceError: OpenVINO cannot follow the network.
    """
    from sentinode.model.engines.openvino_conversion import converted

    network = TorchEngine(bundle, device="cpu", precision="float32").network
    try:
        lattice_of(network)
    except BundleError as error:
        raise BundleError(f"int8 needs what dense reading needs: {error.what}", where=bundle.path) from None
    try:
        return converted(network, bundle.card.geometry, dense=True, regions=-1)
    except Exception as error:  # OpenVINO raises RuntimeErrors and errors of its own
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DeviceError(f"OpenVINO cannot run this network ({first}).", where=bundle.path) from error


def _outermost(graph: Any, share: float) -> list[str]:
    """The names of the convolutions nearest to both ends of the network."""
    names = [op.get_friendly_name() for op in graph.get_ordered_ops() if "Convolution" in op.get_type_name()]
    count = max(1, round(share * len(names) / 2)) if share else 0
    return names if 2 * count >= len(names) else names[:count] + names[len(names) - count :]


def _quantised(graph: Any, images: NDArray[np.uint8], preset: str, left: list[str], *, show: bool) -> Any:
    # NNCF would send usage data to its makers; this variable, which it reads when it is imported, keeps it silent.
    os.environ.setdefault("NNCF_CI", "1")
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns where there is no CUDA
    import nncf

    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(sys.stderr if show else io.StringIO()):  # its bars would stand among results
        return nncf.quantize(
            graph.clone(),
            nncf.Dataset([images[i : i + 1] for i in range(len(images))]),
            preset=nncf.QuantizationPreset(preset),
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(names=left) if left else None,
        )


def _write(model: Any, folder: Path) -> None:
    import openvino

    openvino.save_model(model, folder / GRAPH, compress_to_fp16=False)


def _trial(bundle: Bundle, folder: Path, preset: str, left: list[str], training: PatchSet, count: int) -> Bundle:
    """A copy of the bundle with a quantised network that has not been measured."""
    import nncf
    import openvino

    int8 = Int8(
        graph=digest_of(folder),
        made_from=bundle.fingerprint,
        preset=preset,
        left_in_float=[as_line(name) for name in left],
        calibrated_on=as_line(training.source.resolve().name),
        n_calibration=count,
        versions={"sentinode": __version__, "nncf": nncf.__version__, "openvino": openvino.__version__},
        processor=as_line(processor()),
    )
    card = bundle.card.model_copy(update={"int8": int8})
    trial = folder / "trial"
    with_card(bundle, card, trial, [folder / GRAPH, folder / VALUES])
    return load(trial)


def _measure(trial: Bundle, valid: PatchSet, *, show: bool) -> dict[str, Int8Reading]:
    rows = _spread(len(valid), MEASURED)
    ways = [PATCH] + [DENSE] * (DENSE in trial.card.readings)
    return {name: _measure_reading(trial, valid, rows, name, show=show) for name in ways}


def _measure_reading(trial: Bundle, valid: PatchSet, rows: NDArray[np.int64], name: str, *, show: bool) -> Int8Reading:
    dense = name == DENSE
    reading = trial.card.reading(name)
    int8 = Int8Engine(trial, dense=dense, measured=False)
    float32 = OpenVinoEngine(trial, precision="float32", dense=dense)
    others: list[Engine] = [float32]
    if processor_gains_from_bfloat16():
        others.append(OpenVinoEngine(trial, precision="bfloat16", dense=dense))
    labels = valid.labels[rows]
    found = []
    for engine in (int8, float32):
        if dense:
            margins = mirrored_margins(engine, valid, rows, reading.halo, show=show)
        else:
            batches = (valid.images[part] for part in np.array_split(rows, -(-len(rows) // engine.batch)))
            margins = np.concatenate([found for _, found in in_order(engine.margins, batches, engine.streams)])
        probabilities = calibrated(margins + np.float32(reading.offset), reading.temperature)
        right = np.where(labels == 1, probabilities, 1 - probabilities).astype(np.float64)
        found.append((probabilities, float(auc(labels, probabilities)), -np.log(np.clip(right, 1e-7, 1)).mean()))
    (ours, auc_int8, nll_int8), (theirs, auc_float32, nll_float32) = found
    seconds = _processor_seconds([int8, *others], valid, rows, dense=dense, halo=reading.halo)
    return Int8Reading.model_construct(  # unchecked: a network that answers NaN is refused by its loss, not by the card
        auc=auc_int8,
        nll=float(nll_int8),
        auc_float32=auc_float32,
        nll_float32=float(nll_float32),
        largest_change=float(np.abs(ours - theirs).max()),
        times_faster=min(seconds[1:]) / seconds[0],
        n=len(rows),
    )


def _processor_seconds(
    engines: list[Engine], valid: PatchSet, rows: NDArray[np.int64], *, dense: bool, halo: int
) -> list[float]:
    """Medians over rounds in which the engines take turns; other programs on the machine hardly change them."""
    some = rows[:TIMED]
    images = valid.images[some]
    found: list[list[float]] = [[] for _ in engines]
    for _ in range(ROUNDS):
        for mine, engine in zip(found, engines, strict=True):
            began = time.process_time()
            if dense:
                mirrored_margins(engine, valid, some, halo, show=False)
            else:
                engine.margins(images)
            mine.append(time.process_time() - began)
    return [float(np.median(mine)) for mine in found]


def _loss(readings: dict[str, Int8Reading]) -> str:
    """What int8 loses too much of, in words; empty where it holds in each reading."""
    for name, one in readings.items():
        for metric, loss in one.losses.items():
            limit = INT8_LOSS[metric]
            if not loss < limit:
                return f"it costs {loss:.4f} of the {metric} on valid (reading: {name}; less than {limit} is allowed)."
    return ""
