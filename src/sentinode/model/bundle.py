"""The trained model as a folder: ``weights.safetensors``, ``card.json`` and their checksums. No pickle, ever."""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib
import io
import platform
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError

from sentinode._version import __version__
from sentinode.atomic import whole_folder
from sentinode.errors import BundleError, DataError, OutputError
from sentinode.geometry import PCAM, PatchGeometry, check_mpp
from sentinode.model.slide_operating_point import DEFAULT, PointName, SlideOperatingPoint, SlideOperatingPoints
from sentinode.patches.description import Expected
from sentinode.patches.patch_set import CLASS_NAMES

if TYPE_CHECKING:
    from torch import nn

FORMAT = 2
"""The newest format of the card. 1 is for PatchCamelyon's geometry alone, and older versions read it, too."""
WEIGHTS, CARD, CHECKSUMS, ASSIGNMENT = "weights.safetensors", "card.json", "SHA256SUMS", "split.csv.gz"

PATCH: Final = "patch"
DENSE: Final = "dense"
"""The two ways of reading a slide: each window as a patch of its own, or windows pooled from one feature map."""

AS_GOOD = 0.003
"""By how much of its AUC dense reading may fall short and still be the default."""

INT8_LOSS = {"AUC": 0.002, "NLL": 0.01}
"""Int8 holds where it loses less than this on valid."""

PACKAGED = Path(__file__).parents[1] / "packaged"
"""The bundle that comes with Sentinode."""

ModuleSource: TypeAlias = "nn.Module | Callable[[], nn.Module]"


class Part(BaseModel):
    """A part of the card. Later versions may add keys, so unknown ones are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Architecture(Part):
    """The parameters that build the network again.

    A ``custom`` network is the user's own class. The card names it and keeps its source for readers; it is never run.
    """

    kind: Literal["timm", "custom"] = "timm"
    backbone: str = "resnet50"
    side: int = 96  # of cards that do not say
    stride: int = 32
    pooling: str = "avg"
    hidden: list[int] = Field(default_factory=list)
    dropout: float = 0.0
    parameters: int = 0
    class_name: str | None = None
    source: str | None = None


class Threshold(Part):
    """An operating point on the scale of calibrated probabilities."""

    value: float = Field(ge=0, le=1, allow_inf_nan=False)
    rule: str
    chosen_on: str
    n: int


class Reading(Part):
    """A way of reading windows: what calibrates its margins, and how good it is on patches of valid.

    Attributes:
        temperature: divides the sum of margin and offset.
        offset: is added to a margin.
        threshold: on the scale of calibrated probabilities.
        prior: share of label 1 among the patches that the calibration was fitted on.
        halo: pixels around a window that it depends on; 0 for a patch of its own.
        auc, nll, ece: on the patches of valid; None where they were not measured.
        n: how many patches they were measured on.
    """

    temperature: float = Field(gt=0)
    offset: float = 0.0
    threshold: float = Field(ge=0, le=1)
    prior: float = 0.5
    halo: int = Field(0, ge=0)
    auc: float | None = None
    nll: float | None = None
    ece: float | None = None
    n: int = 0


class Int8Reading(Part):
    """What int8 costs and gains in one way of reading, on patches of valid.

    Attributes:
        auc, nll: in int8, with the calibration of float32.
        auc_float32, nll_float32: in float32, on the same patches.
        largest_change: of a probability, from float32.
        times_faster: than the faster of float32 and bfloat16 on the machine where it was made, in processor seconds.
        n: how many patches they were measured on.
    """

    auc: float
    nll: float
    auc_float32: float
    nll_float32: float
    largest_change: float
    times_faster: float
    n: int

    @property
    def losses(self) -> dict[str, float]:
        """What int8 loses of each metric that it must keep."""
        return {"AUC": self.auc_float32 - self.auc, "NLL": self.nll - self.nll_float32}

    @property
    def holds(self) -> bool:
        """Whether int8 loses less than ``INT8_LOSS``."""
        return all(loss < INT8_LOSS[metric] for metric, loss in self.losses.items())


class Int8(Part):
    """The bundle's int8 network, which lies beside its weights.

    Attributes:
        graph: SHA-256 of its files.
        made_from: SHA-256 of the weights that it was made of.
        preset: of NNCF.
        left_in_float: names of the convolutions that were not quantised.
        calibrated_on: the training patches.
        n_calibration: how many.
        versions: of what made it.
        processor: on which it was timed.
        readings: ``patch``, and ``dense`` where that was measured.
    """

    graph: str
    made_from: str
    preset: str
    left_in_float: list[str] = Field(default_factory=list)
    calibrated_on: str
    n_calibration: int
    versions: dict[str, str] = Field(default_factory=dict)
    processor: str = ""
    readings: dict[str, Int8Reading] = Field(default_factory=dict)


class MadeFrom(Part):
    """The bundle that a training went on from.

    Attributes:
        name: of the bundle.
        fingerprint: SHA-256 of its weights.
    """

    name: str
    fingerprint: str


class Taught(Part):
    """The review that a bundle was taught with.

    Attributes:
        slides: the slides whose patches it was trained on: fingerprints of their content, by name.
        held_out: the slides that it was compared on, and never trained on.
        checked_on: the slides that the epoch, the calibration and the threshold were chosen on; none where there was
            other valid data.
        patches: how many of each kind.
        repeated: how often a pass shows each patch of the review.
        with_data: the name of the labelled patches that were mixed in, or None.
        reviewers: how many people reviewed.
        disagreements: how many of their judgements differ; the later ones count.
        review: SHA-256 of what was said.
    """

    slides: dict[str, str]
    held_out: list[str] = Field(default_factory=list)
    checked_on: list[str] = Field(default_factory=list)
    patches: dict[str, int] = Field(default_factory=dict)
    repeated: int = 1
    with_data: str | None = None
    reviewers: int = 0
    disagreements: int = 0
    review: str = ""


class Card(Part):
    """Everything that is needed to use and to judge the model in ten years."""

    format: int = 1
    name: str
    created: str
    versions: dict[str, str]
    architecture: Architecture
    patch_size: int = PCAM.size
    label_region: int = PCAM.label_region
    mpp: float | None = Field(PCAM.mpp, description="Microns per pixel; null if unknown.")
    class_names: list[str] = Field(
        default_factory=lambda: list(CLASS_NAMES), min_length=2, max_length=2, description="Label 0, then label 1."
    )
    positive: list[str] = Field(
        default_factory=list, description="The class folders of label 1, if they were stated in training."
    )
    temperature: float = Field(1.0, gt=0, description="Divides the logits; fitted on valid.")
    thresholds: dict[str, Threshold]
    threshold_rule: str = Field(description="The rule that the recipe chose.")
    slide_operating_points: dict[PointName, SlideOperatingPoint] = Field(
        default_factory=dict, description="What counts as a lesion on a slide; chosen by `sentinode operate`."
    )
    slide_operating_point: PointName = Field(DEFAULT, description="The one that a scan uses unless told otherwise.")
    prior: float = Field(0.5, description="Share of label 1 among the patches that the probabilities were fitted on.")
    readings: dict[str, Reading] = Field(
        default_factory=dict, description="Patch by patch and densely, measured on the same patches; or empty."
    )
    int8: Int8 | None = Field(None, description="The int8 network, made by `sentinode quantise`; null without one.")
    metrics: dict[str, dict[str, Any]] = Field(default_factory=dict)
    data: dict[str, Any] = Field(default_factory=dict)
    recipe: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    toy: bool = False
    initial_weights: str = "random initialisation"
    made_from: MadeFrom | None = Field(None, description="The bundle whose training this one continued.")
    taught: Taught | None = Field(None, description="The review that it was taught with, by `sentinode learn`.")
    licence: str = "The licence of the initial weights and of the training data."
    intended_use: str = "Research only; not for diagnosis."
    history: list[dict[str, float]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check_geometry(self) -> Card:
        try:
            PatchGeometry(self.patch_size, self.mpp, self.label_region)
        except DataError as error:
            raise ValueError(error.what) from None
        return self

    @model_validator(mode="after")
    def _check_slide_points(self) -> Card:
        if self.slide_operating_points and self.slide_operating_point not in self.slide_operating_points:
            raise ValueError(f"the slide operating point '{self.slide_operating_point}' is not among those of the card")
        return self

    @property
    def slide_points(self) -> SlideOperatingPoints | None:
        """The operating points for slides, or None where none was chosen for this bundle."""
        if not self.slide_operating_points:
            return None
        return SlideOperatingPoints(points=self.slide_operating_points, default=self.slide_operating_point)

    @property
    def geometry(self) -> PatchGeometry:
        """The geometry of the patches that the network takes."""
        return PatchGeometry(self.patch_size, self.mpp, self.label_region)

    @property
    def expected(self) -> Expected:
        """The labelled patches that it takes."""
        return Expected(self.geometry, (self.class_names[0], self.class_names[1]), tuple(self.positive))

    @property
    def positive_class(self) -> str:
        """The name of label 1, to which the probabilities refer."""
        return self.class_names[1]

    def called(self, probability: float, threshold: float | None = None) -> str:
        """The predicted class of a patch, at the bundle's threshold or another."""
        return self.class_names[probability >= (self.threshold if threshold is None else threshold)]

    @property
    def threshold(self) -> float:
        """The threshold that the recipe's rule chose, on calibrated probabilities."""
        return self.thresholds[self.threshold_rule].value

    @property
    def patch_reading(self) -> Reading:
        """The calibration of patch by patch, which every bundle has."""
        return Reading(temperature=self.temperature, threshold=self.threshold, prior=self.prior)

    def reading(self, name: str) -> Reading:
        """The calibration of ``patch`` or ``dense``; a KeyError where dense reading was not measured."""
        return self.patch_reading if name == PATCH else self.readings[name]

    @property
    def dense_costs(self) -> float | None:
        """By how much the AUC of dense reading is below that of patch by patch; None where it was not measured."""
        aucs = [self.readings[name].auc if name in self.readings else None for name in (PATCH, DENSE)]
        return None if aucs[0] is None or aucs[1] is None else aucs[0] - aucs[1]

    @property
    def dense_is_as_good(self) -> bool:
        """Whether dense reading was measured and costs less than ``AS_GOOD`` of the AUC."""
        return self.dense_costs is not None and self.dense_costs < AS_GOOD


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
        return _checksums(self.path)[WEIGHTS]

    def classifier(self, device: str = "cpu") -> nn.Module:
        """The network with its weights, in eval mode: uint8 (B, S, S, 3) to logits (B, 2).

        Raises:
            BundleError: the weights do not fit the network, or the network is the user's own class, and the class was
                not given.
        """
        from safetensors.torch import load_file

        try:
            module = self._network()
            module.load_state_dict(load_file(self.path / WEIGHTS))
        except (SafetensorError, RuntimeError, OSError) as error:
            raise BundleError(
                f"its weights do not fit its network ({str(error).splitlines()[0]}).",
                where=self.path,
                hint="Give the class that it was trained with, or train again.",
            ) from error
        return module.eval().to(device)

    def _network(self) -> nn.Module:
        from torch import nn

        from sentinode.model.classifier import build_classifier

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
        return build_classifier(**options, geometry=self.card.geometry)[0]

    def assignment(self) -> dict[str, str] | None:
        """The split of each patch by id, if training made the splits; else None."""
        path = self.path / ASSIGNMENT
        if not path.exists():
            return None
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            return {row["id"]: row["split"] for row in csv.DictReader(lines)}


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
    if not (path / CARD).is_file() and (path / "bundle" / CARD).is_file():
        path = path / "bundle"
    if not (path / CARD).is_file():
        raise BundleError(
            "there is no bundle here: card.json is missing.",
            where=path,
            hint="`sentinode train DATA --out RUN` writes one to RUN/bundle.",
        )
    card = _read_card(path)
    _verify(path)
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
            (staged / ASSIGNMENT).write_bytes(_pack(assignment))
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
    return f"{kind.__module__}.{kind.__qualname__}", source


def json_ready(value: Any) -> Any:
    """``value`` with numpy's scalars and arrays as Python's own, and undefined numbers as None: fit for JSON."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return json_ready(value.tolist())
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _write_card(folder: Path, card: Card) -> None:
    # Older versions would give other geometries PatchCamelyon's centre: the format keeps them away.
    known = card.geometry == PCAM and not card.positive
    card = card.model_copy(update={"format": 1 if known else FORMAT})
    (folder / CARD).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8", newline="\n")


def _write_sums(folder: Path) -> None:
    files = [file for file in sorted(folder.iterdir()) if file.name != CHECKSUMS]
    sums = [f"{_sha256(file)}  {file.name}\n" for file in files]
    (folder / CHECKSUMS).write_text("".join(sums), encoding="utf-8", newline="\n")


def _read_card(path: Path) -> Card:
    import json

    try:
        tables = json.loads((path / CARD).read_text("utf-8"))
        version = tables.get("format")
    except (ValueError, AttributeError, OSError) as error:
        raise BundleError(f"card.json cannot be read ({error}).", where=path, hint="Copy the bundle again.") from None
    if not isinstance(version, int) or version > FORMAT:
        raise BundleError(
            f"this bundle has format {version}; this Sentinode ({__version__}) reads up to {FORMAT}.",
            where=path,
            hint="Update Sentinode to a version that reads it.",
        )
    try:
        return Card.model_validate(tables)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"card.json is wrong at '{key}': {first['msg']}.", where=path) from None


def _checksums(path: Path) -> dict[str, str]:
    try:
        lines = (path / CHECKSUMS).read_text("utf-8").splitlines()
        return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as error:
        raise BundleError("its SHA256SUMS cannot be read.", where=path, hint="Copy the bundle again.") from error


def _verify(path: Path) -> None:
    sums = _checksums(path)
    for name in (CARD, WEIGHTS, *sums):
        file = path / name
        if not file.is_file():
            raise BundleError(f"{name} is missing.", where=path, hint="Copy the whole folder again.")
        if sums.get(name) != _sha256(file):
            raise BundleError(
                f"{name} has changed since the bundle was written, or was damaged in a copy.",
                where=path,
                hint="Copy the bundle again from where it was made.",
            )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _pack(assignment: Mapping[str, str]) -> bytes:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", "split"])
    rows.writerows(assignment.items())
    return gzip.compress(text.getvalue().encode(), mtime=0)
