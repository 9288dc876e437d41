"""The trained model as a folder: ``weights.safetensors``, ``card.json`` and their checksums. No pickle, ever."""

from __future__ import annotations

import importlib
import math
import platform
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from safetensors import SafetensorError

from sentinode._version import __version__
from sentinode.atomic import whole_folder
from sentinode.errors import BundleError, OutputError, SentinodeError
from sentinode.geometry import PCAM, PatchGeometry, check_mpp
from sentinode.model import bundle_files as files
from sentinode.model.bundle_files import ASSIGNMENT, CARD, CHECKSUMS, WEIGHTS
from sentinode.model.card import (
    AGAIN,
    AS_GOOD,
    DENSE,
    FORMAT,
    INT8_LOSS,
    MOST_BYTES,
    PATCH,
    Architecture,
    Card,
    Int8,
    Int8Reading,
    MadeFrom,
    Reading,
    Taught,
    Threshold,
    as_line,
    as_text,
    parse_card,
)
from sentinode.model.slide_operating_point import SlideOperatingPoints

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "ASSIGNMENT",
    "AS_GOOD",
    "CARD",
    "CHECKSUMS",
    "DENSE",
    "FORMAT",
    "INT8_LOSS",
    "PACKAGED",
    "PATCH",
    "WEIGHTS",
    "Architecture",
    "Bundle",
    "Card",
    "Int8",
    "Int8Reading",
    "MadeFrom",
    "ModuleSource",
    "Reading",
    "Taught",
    "Threshold",
    "describe_custom",
    "images_as",
    "json_ready",
    "load",
    "require_mpp",
    "save",
    "state_mpp",
    "state_slide_points",
    "versions",
    "with_card",
    "with_file",
]

PACKAGED = Path(__file__).parents[1] / "packaged"
"""The bundle that comes with Sentinode."""

LARGEST_WEIGHT = 1e12
"""Beyond it, float32 overflows within a few layers."""

SPARE, WHOLE, CUT = 50_000_000, 4, 64
"""How many parameters a network may have while it is built: these, and so many for each number that its weights have.

Some networks replace layers while they are built. Of one that ends at a finer feature map, a sixtieth may be left."""

ModuleSource: TypeAlias = "nn.Module | Callable[[], nn.Module]"


class Bundle:
    """A trained model on disk. Use :func:`load`.

    Attributes:
        path: its folder.
        card: what it is and how to use it: geometry, class names, temperature, thresholds, metrics.
    """

    def __init__(self, path: Path, card: Card, module: ModuleSource | None = None) -> None:
        self.path, self.card, self._module = path, card, module

    def __repr__(self) -> str:
        return f"Bundle({self.card.name!r} at {self.path})"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights, which identifies the model in any place."""
        return files.checksums(self.path)[WEIGHTS]

    def classifier(self, device: str = "cpu") -> nn.Module:
        """The network with its weights, in eval mode: uint8 (B, S, S, 3) to logits (B, 2).

        Raises:
            BundleError: the weights do not fit the network, or the network is the user's own class, and the class was
                not given.
        """
        from safetensors.torch import load_file

        held = files.shapes(self.path)
        module = self._network(sum(map(math.prod, held.values())))
        try:
            self._require_same(held, {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()})
            tensors = load_file(self.path / WEIGHTS)
            self._require_numbers(tensors)
            module.load_state_dict(tensors)
        except (SafetensorError, RuntimeError, OSError) as error:
            raise self._misfit(as_line(next(iter(str(error).splitlines()), type(error).__name__))) from error
        return module.eval().to(device)

    def _require_same(self, held: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> None:
        """
        Raises:
            BundleError: the tensors of the file and those of the network differ in names or shapes.
        """
        for name in [*wanted, *held]:
            if held.get(name) != wanted.get(name):
                has, needs = (str(shapes.get(name, "no such tensor")) for shapes in (held, wanted))
                raise self._misfit(f"{as_line(name)}: the file has {has}, the network {needs}")

    def _require_numbers(self, tensors: Mapping[str, Tensor]) -> None:
        """
        Raises:
            BundleError: a tensor holds NaN, or a number with which no network can calculate.
        """
        for name, tensor in tensors.items():
            if not tensor.is_floating_point() or not tensor.numel():
                continue
            lowest, highest = tensor.aminmax()
            if not bool((lowest >= -LARGEST_WEIGHT) & (highest <= LARGEST_WEIGHT)):  # neither holds of NaN
                raise BundleError(
                    f"its weights hold a number that is not finite, or too large for a network, in {as_line(name)}.",
                    where=self.path,
                    hint=AGAIN,
                )

    def _misfit(self, how: str) -> BundleError:
        return BundleError(
            f"its weights do not fit its network ({how}).",
            where=self.path,
            hint="Give the class that it was trained with, or train again.",
        )

    def _network(self, numbers: int) -> nn.Module:
        """The network without its weights, of which the file has so many numbers.

        Raises:
            BundleError: it cannot be built, or has more parameters than the file.
        """
        from torch import nn

        from sentinode.model.classifier import STRIDE, at_most, build_classifier

        arch = self.card.architecture
        if self._module is not None:
            return self._module if isinstance(self._module, nn.Module) else self._module()
        if arch.kind == "custom":
            raise BundleError(
                f"its network is the class {arch.class_name} of a user, and loading a bundle runs no code.",
                where=self.path,
                hint="Load it from Python: sentinode.load(path, module=ThatClass). Its source is in card.json.",
            )
        options = arch.model_dump(exclude={"kind", "parameters", "class_name", "source"})
        # A network that ends early is built whole before its last layers are left out.
        most = SPARE + numbers * (WHOLE if arch.stride == STRIDE else CUT)
        try:
            with at_most(most):
                return build_classifier(**options, geometry=self.card.geometry)[0]
        except OverflowError:
            raise self._misfit(f"'{arch.backbone}' has more parameters than the file has numbers") from None
        except SentinodeError as error:
            what = error.what
        except Exception as error:  # timm's networks raise whatever their authors thought of
            what = f"{type(error).__name__}: {as_line(str(error))[:200].rstrip('.')}."
        raise BundleError(
            f"its network, '{arch.backbone}', cannot be built: {what}",
            where=self.path,
            hint=f"It was made with timm {self.card.versions.get('timm', 'of an unknown version')}; `sentinode doctor` "
            "names yours.",
        )

    def assignment(self) -> dict[str, str] | None:
        """The split of each patch by id, if training made the splits; else None.

        Raises:
            BundleError: the split file is damaged, too large, or no table of ids and splits.
        """
        return files.read_assignment(self.path)


def load(path: str | Path | None = None, *, module: ModuleSource | None = None) -> Bundle:
    """Open a bundle and verify its checksums. This runs no code from the bundle.

    Args:
        path: the folder of the bundle or of its run; by default the bundled model.
        module: for your own network: the class, a function that makes the network, or the network.

    Raises:
        BundleError: it is missing, incomplete, changed since it was written, or newer than this version.
    """
    if path is None:
        path = PACKAGED
        if not (path / CARD).is_file():
            raise BundleError(
                "you named no bundle, and this version contains none.",
                hint="Make one with `sentinode train DATA --out RUN`, and name RUN/bundle first.",
            )
    path = Path(path)
    if not files.is_bundle(path) and files.is_bundle(path / "bundle"):
        path = path / "bundle"
    if not files.is_bundle(path):
        raise BundleError(
            "there is no bundle here: card.json is missing.",
            where=path,
            hint="`sentinode train DATA --out RUN` writes one to RUN/bundle.",
        )
    card = parse_card(files.read(path, CARD, MOST_BYTES), path)
    files.verify(path)
    held = sum(map(math.prod, files.shapes(path).values()))
    if card.architecture.parameters > held:
        raise BundleError(
            f"its card speaks of {card.architecture.parameters:,} parameters, and its weights have {held:,} numbers.",
            where=path,
            hint=AGAIN,
        )
    return Bundle(path, card, module)


def save(path: Path, network: nn.Module, card: Card, *, assignment: Mapping[str, str] | None = None) -> Bundle:
    """Write a bundle, completely or not at all, and open it.

    Raises:
        OutputError: the place cannot be written or the disk is full.
    """
    from safetensors.torch import save_file

    with whole_folder(path) as staged:
        tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
        save_file(tensors, staged / WEIGHTS)
        _write_card(staged, card)
        # safetensors lets nobody but the owner read its file; a bundle is there to be handed on.
        shutil.copymode(staged / CARD, staged / WEIGHTS)
        if assignment is not None:
            (staged / ASSIGNMENT).write_bytes(files.pack_assignment(assignment))
        _write_sums(staged)
    # The network itself is kept: a class of the user's could not be built again without asking for it.
    return Bundle(path, card, network if card.architecture.kind == "custom" else None)


def state_mpp(bundle: Bundle, mpp: float) -> Bundle:
    """Write the microns per pixel into a bundle that has none. This can be done once.

    Raises:
        DataError: ``mpp`` is outside the range of microscopes.
        BundleError: the bundle has another resolution.
        OutputError: the bundle cannot be written.
    """
    check_mpp(mpp)
    if bundle.card.mpp is not None and bundle.card.mpp != mpp:
        raise BundleError(
            f"this bundle was trained at {bundle.card.mpp:g} microns per pixel, and you state {mpp:g}.",
            where=bundle.path,
            hint="A network works at the resolution on which it was trained. Train another one for another resolution.",
        )
    return with_card(bundle, bundle.card.model_copy(update={"mpp": mpp}))


def state_slide_points(bundle: Bundle, points: SlideOperatingPoints, out: Path) -> Bundle:
    """Write a copy of a bundle with other operating points for slides; its weights stay as they are.

    Args:
        bundle: the bundle, which is not changed.
        points: what the copy's card holds.
        out: the copy's folder, which must not exist.

    Raises:
        OutputError: ``out`` exists, cannot be written, or the disk is full.
    """
    if out.exists():
        raise OutputError("this exists, and is not overwritten.", where=out, hint="Choose another --out, or remove it.")
    card = bundle.card.model_copy(
        update={"slide_operating_points": points.points, "slide_operating_point": points.default}
    )
    return with_card(bundle, card, out)


def with_card(bundle: Bundle, card: Card, out: Path | None = None, files: Iterable[Path] = ()) -> Bundle:
    """Write another card into a bundle, or into a copy of it; the weights stay as they are.

    Args:
        bundle: the bundle.
        card: the new card.
        out: the copy's folder; None to change the bundle in its own place.
        files: are copied into it under their own names.

    Raises:
        OutputError: the place cannot be written or the disk is full.
    """
    out = bundle.path if out is None else out
    with whole_folder(out) as staged:
        shutil.copytree(bundle.path, staged, dirs_exist_ok=True)
        for file in files:
            shutil.copyfile(file, staged / file.name)
        _write_card(staged, card)
        _write_sums(staged)
    return Bundle(out, card, bundle._module)


def with_file(bundle: Bundle, name: str, content: bytes) -> Bundle:
    """Add a file to a bundle, or replace it; weights and card stay as they are.

    Raises:
        OutputError: the place cannot be written or the disk is full.
    """
    with whole_folder(bundle.path) as staged:
        shutil.copytree(bundle.path, staged, dirs_exist_ok=True)
        (staged / name).write_bytes(content)
        _write_sums(staged)
    return Bundle(bundle.path, bundle.card, bundle._module)


def require_mpp(bundle: Bundle) -> float:
    """The microns per pixel that the network reads.

    Raises:
        BundleError: they are unknown.
    """
    if bundle.card.mpp is None:
        raise BundleError(
            "the microns per pixel of this bundle are unknown: its training data did not record them.",
            where=bundle.path,
            hint=f"State them once: sentinode bundle {bundle.path} --mpp UM",
        )
    return bundle.card.mpp


def images_as(bundle: Bundle, mpp: float | None) -> PatchGeometry:
    """The geometry to which images are resampled for a bundle.

    Raises:
        BundleError: ``mpp`` is given, and the bundle's own is unknown.
    """
    if mpp is not None:
        require_mpp(bundle)
    return bundle.card.geometry


def versions() -> dict[str, str]:
    """The versions that a bundle was made with."""
    names = ("torch", "torchvision", "timm", "lightning", "numpy")
    found = {name: str(importlib.import_module(name).__version__) for name in names}
    return {"sentinode": __version__, "python": platform.python_version(), **found}


def describe_custom(network: nn.Module) -> tuple[str, str | None]:
    """The full name of a network's class, and its source where Python can find it."""
    import inspect

    kind = type(network)
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        source = None
    if source is not None and source != as_text(source):
        source = None  # too long for a card, or not fit to be shown
    return as_line(f"{kind.__module__}.{kind.__qualname__}"), source


def json_ready(value: Any) -> Any:
    """``value`` with numpy's scalars and arrays as Python's own, and undefined numbers as None: fit for a card."""
    if isinstance(value, str):
        return as_text(value)
    if isinstance(value, Mapping):
        return {as_text(str(key)): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return json_ready(value.tolist())
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _write_card(folder: Path, card: Card) -> None:
    """
    Raises:
        BundleError: the card could not be opened again.
    """
    # Older versions would give other geometries PatchCamelyon's centre: the format keeps them away.
    known = card.geometry == PCAM and not card.positive
    card = card.model_copy(update={"format": 1 if known else FORMAT})
    content = (card.model_dump_json(indent=2) + "\n").encode()
    parse_card(content, folder)
    (folder / CARD).write_bytes(content)


def _write_sums(folder: Path) -> None:
    found = [file for file in sorted(folder.iterdir()) if file.name != CHECKSUMS]
    sums = [f"{files.sha256(file)}  {file.name}\n" for file in found]
    (folder / CHECKSUMS).write_text("".join(sums), encoding="utf-8", newline="\n")
