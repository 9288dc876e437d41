"""A bundle's network for other programs: ONNX, OpenVINO, TorchScript, and the folder that WSInfer and QuPath open."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sentinode.atomic import whole_folder
from sentinode.errors import ExportError, OutputError, SentinodeError
from sentinode.model.bundle import Bundle, require_mpp
from sentinode.model.exporting.comparing import (
    PATCHES,
    TOLERANCE,
    in_batches,
    largest_difference,
    reference_logits,
    trial_patches,
)
from sentinode.model.exporting.description import describe, readme
from sentinode.model.exporting.formats import FORMATS, Facts, Format
from sentinode.model.exporting.networks import exportable

ExportFormat = Literal["onnx", "openvino", "torchscript", "wsinfer"]
DESCRIPTION, README = "export.json", "README.md"


@dataclass(frozen=True)
class Exported:
    """The result of :func:`export`.

    Attributes:
        path: the folder.
        to: the format.
        files: the names of the files in the folder; the first is the network.
        patches: how many patches it was compared with PyTorch on.
        real: how many of them came from ``data``.
        largest_difference: of a probability, from PyTorch's in float32.
        tolerance: the largest difference that is allowed.
    """

    path: Path
    to: str
    files: tuple[str, ...]
    patches: int
    real: int
    largest_difference: float
    tolerance: float


def export(bundle: Bundle, out: str | Path, *, to: ExportFormat, data: str | Path | None = None) -> Exported:
    """Write a bundle's network for other programs, load it again, and compare it with PyTorch on 256 patches.

    The folder is written only if all probabilities agree within 1e-4. The softmax over the network's two logits gives
    the bundle's calibrated probabilities of patches. The prior of slides is not corrected for.

    Args:
        bundle: the model.
        out: the new folder.
        to: ``onnx``, ``openvino``, ``torchscript`` or ``wsinfer``. The first three take uint8 (B, S, S, 3) RGB;
            ``wsinfer`` takes float32 (B, 3, S, S) from 0 to 1 and is what WSInfer and QuPath's extension for it open.
        data: patches to compare on: images, a folder, an HDF5 or a Parquet file. Without it, generated tissue is used.

    Raises:
        ExportError: no such format, a package is missing, the format cannot hold the network, or the exported network
            answers otherwise than PyTorch.
        BundleError: the network is your own class and was not given to :func:`sentinode.load`; or ``wsinfer``, and the
            microns per pixel are unknown.
        DataError: no patch of ``data`` can be used.
        OutputError: ``out`` exists or cannot be written.
    """
    out = Path(out)
    chosen = _format(to)
    if to == "wsinfer":
        require_mpp(bundle)
    if out.exists():
        raise OutputError("this exists, and is not overwritten.", where=out, hint="Choose another --out, or remove it.")
    images, real = trial_patches(bundle.card.geometry, data)
    reference = reference_logits(bundle, images)
    facts = describe(bundle, to)
    with whole_folder(out) as staged:
        _write(chosen, bundle, staged, facts)
        gap = largest_difference(_logits(chosen, bundle, staged, images, to), reference, to)
        facts["compared"] = {"patches": PATCHES, "real": real, "tolerance": TOLERANCE, "largest_difference": gap}
        described = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        (staged / DESCRIPTION).write_text(described, encoding="utf-8", newline="\n")
        (staged / README).write_text(readme(facts), encoding="utf-8", newline="\n")
    return Exported(out, to, (*chosen.files, DESCRIPTION, README), PATCHES, real, gap, TOLERANCE)


def _format(to: str) -> Format:
    if to not in FORMATS:
        raise ExportError(f"there is no format '{to}'.", hint=f"Choose one of {', '.join(FORMATS)}.")
    chosen = FORMATS[to]
    if chosen.missing:
        raise ExportError(
            f"the format {to} needs {' and '.join(chosen.missing)}, which is not installed.",
            hint=f"Install what it needs: pip install 'sentinode[{chosen.extra}]'.",
        )
    return chosen


def _write(chosen: Format, bundle: Bundle, folder: Path, facts: Facts) -> None:
    with _conversion(bundle, facts["exported_as"]):
        chosen.write(exportable(bundle), bundle.card.geometry, folder, facts)


def _logits(chosen: Format, bundle: Bundle, folder: Path, images: NDArray[np.uint8], to: str) -> NDArray[np.float32]:
    with _conversion(bundle, to):
        return in_batches(chosen.load(folder), images)


@contextlib.contextmanager
def _conversion(bundle: Bundle, to: str) -> Iterator[None]:
    """Converters and runtimes raise errors of many kinds for a network that they cannot follow."""
    try:
        yield
    except (SentinodeError, OSError):
        raise
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ExportError(
            f"this network cannot be exported as {to} ({first}). Nothing was written.",
            where=bundle.path,
            hint="Choose another format: torchscript holds most networks.",
        ) from error
