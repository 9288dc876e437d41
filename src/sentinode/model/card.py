"""The card of a bundle: what the model is and how to use it, as a closed schema in which every value has a limit.

A bundle may come from a stranger. So its card is checked once, when the bundle is opened, and everything after that
may rely on it: each field has a type, a range, a greatest length and a greatest number of items. The same check runs
before a card is written, so that no card is written that cannot be opened.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from sentinode._version import __version__
from sentinode.errors import BundleError, DataError
from sentinode.geometry import COARSEST, FINEST, LARGEST, PCAM, SMALLEST, PatchGeometry
from sentinode.model.slide_operating_point import DEFAULT, PointName, SlideOperatingPoint, SlideOperatingPoints
from sentinode.names import printable
from sentinode.patches.description import Expected
from sentinode.patches.patch_set import CLASS_NAMES

FORMAT = 2
"""The newest format of the card. 1 is for PatchCamelyon's geometry alone, and older versions read it, too."""

PATCH: Final = "patch"
DENSE: Final = "dense"
"""The two ways of reading a slide: each window as a patch of its own, or windows pooled from one feature map."""

AS_GOOD = 0.003
"""By how much of its AUC dense reading may fall short and still be the default."""

INT8_LOSS = {"AUC": 0.002, "NLL": 0.01}
"""Int8 holds where it loses less than this on valid."""

MOST_BYTES = 8_000_000
"""Of a card. One of 10,000 epochs has 4 million."""

DEEPEST, MOST_VALUES = 24, 500_000
"""Tables and lists within each other, and values in all."""

LONGEST_LINE, LONGEST_TEXT = 1000, 1_000_000
"""Characters of a name, and of a text such as the source of a user's network."""

MOST_EPOCHS = 10_000

AGAIN = "Copy the bundle again from where it was made."

# Controls, halves of a pair, and what turns the direction of writing: a terminal or an editor would obey them.
_UNFIT = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")

_OTHER_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _one_line(text: str) -> str:
    if printable(text) != text:
        raise ValueError("it is not one line of letters that can be shown")
    return text


def as_line(text: str) -> str:
    """A name from outside, such as that of a file, as a card can hold it."""
    return printable(text)[:LONGEST_LINE]


def as_text(text: str) -> str:
    """A text from outside, such as a warning that names a file, as a card can hold it."""
    return _UNFIT.sub("?", text)[:LONGEST_TEXT]


def _fits(kind: type[BaseModel]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Checks a table against what is used of it, and leaves it as it is."""

    def check(table: dict[str, Any]) -> dict[str, Any]:
        try:
            kind.model_validate_json(json.dumps(table), strict=True)
        except ValidationError as error:
            raise ValueError(_first(error)) from None
        except TypeError as error:
            raise ValueError(str(error)) from None
        return table

    return check


Line = Annotated[str, Field(max_length=LONGEST_LINE), AfterValidator(_one_line)]
Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Name = Annotated[Line, Field(min_length=1)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2**53)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Prior = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Number = Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]
Temperature = Annotated[float, Field(ge=0.01, le=100, allow_inf_nan=False)]
"""Wider than what is ever fitted, which is 0.05 to 20."""
ReadingKey = Annotated[str, Field(pattern="^(patch|dense)$")]
Backbone = Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_-]+)?$")]
"""A name of timm with or without a tag. Names with a colon or a slash would be fetched, or read from a folder."""


class Table(BaseModel):
    """What is used of a table that is else only shown. Its further keys are bounded like all values, and no more."""

    model_config = ConfigDict(extra="allow")


class Metric(Table):
    """A metric with its interval; None where it is undefined."""

    value: Number | None
    low: Number | None
    high: Number | None


UNMEASURED = Metric(value=None, low=None, high=None)


class Metrics(Table):
    """The metrics of a split."""

    auc: Metric = UNMEASURED
    accuracy: Metric = UNMEASURED
    precision: Metric = UNMEASURED
    recall: Metric = UNMEASURED
    specificity: Metric = UNMEASURED
    f1: Metric = UNMEASURED
    average_precision: Metric = UNMEASURED
    nll: Metric = UNMEASURED
    brier: Metric = UNMEASURED
    ece: Metric = UNMEASURED
    interval: Line = ""


class TrainingData(Table):
    """The training data."""

    kind: Line = ""
    name: Line = ""
    own_splits: bool = False
    toy: bool = False
    warnings: list[Text] = Field(default_factory=list, max_length=1000)
    also: list[dict[str, Any]] = Field(default_factory=list, max_length=1000)
    fingerprint: dict[Line, Line] = Field(default_factory=dict, max_length=100)
    counts: dict[Line, Count | Annotated[dict[Line, Count], Field(max_length=100)]] = Field(
        default_factory=dict, max_length=100
    )


class RecipeOptimizer(Table):
    """The part of a recipe from which a training that goes on takes its learning rate."""

    lr: Number = 0.0


class RecipeSplit(Table):
    """The part of a recipe that says how patches were split."""

    seed: Count = 0


class RecipeTables(Table):
    """A recipe, before it is checked as one. It may be of an older form."""

    training: dict[str, Any] = Field(default_factory=dict)
    optimizer: RecipeOptimizer = Field(default_factory=RecipeOptimizer)
    split: RecipeSplit = Field(default_factory=RecipeSplit)


class Part(BaseModel):
    """A part of the card, closed to keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Architecture(Part):
    """The parameters that build the network again.

    A ``custom`` network is the user's own class. The card names it and keeps its source for readers; it is never run.
    """

    kind: Literal["timm", "custom"] = "timm"
    backbone: Backbone = "resnet50"
    side: int = Field(96, ge=0, le=LARGEST)  # of cards that do not say
    stride: Literal[8, 16, 32] = 32
    pooling: Literal["avg", "max", "avgmax", "gem", "centre", "avgcentre"] = "avg"
    hidden: list[Annotated[int, Field(ge=1, le=8192)]] = Field(default_factory=list, max_length=4)
    dropout: float = Field(0.0, ge=0, lt=1)
    parameters: Count = 0
    class_name: Line | None = None
    source: Text | None = None


class Threshold(Part):
    """An operating point on the scale of calibrated probabilities."""

    value: Share
    rule: Name
    chosen_on: Line
    n: Count


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

    temperature: Temperature
    offset: Number = 0.0
    threshold: Share
    prior: Prior = 0.5
    halo: int = Field(0, ge=0, le=LARGEST)
    auc: Share | None = None
    nll: Number | None = None
    ece: Share | None = None
    n: Count = 0


class Int8Reading(Part):
    """What int8 costs and gains in one way of reading, on patches of valid.

    Attributes:
        auc, nll: in int8, with the calibration of float32.
        auc_float32, nll_float32: in float32, on the same patches.
        largest_change: of a probability, from float32.
        times_faster: than the faster of float32 and bfloat16 on the machine where it was made, in processor seconds.
        n: how many patches they were measured on.
    """

    auc: Share
    nll: Number
    auc_float32: Share
    nll_float32: Number
    largest_change: Share
    times_faster: Number
    n: Count

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

    graph: Digest
    made_from: Digest
    preset: Line
    left_in_float: list[Line] = Field(default_factory=list, max_length=10_000)
    calibrated_on: Line
    n_calibration: Count
    versions: dict[Line, Line] = Field(default_factory=dict, max_length=100)
    processor: Line = ""
    readings: dict[ReadingKey, Int8Reading] = Field(default_factory=dict)


class MadeFrom(Part):
    """The bundle that a training went on from.

    Attributes:
        name: of the bundle.
        fingerprint: SHA-256 of its weights.
    """

    name: Line
    fingerprint: Digest


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

    slides: dict[Line, Line] = Field(max_length=100_000)
    held_out: list[Line] = Field(default_factory=list, max_length=100_000)
    checked_on: list[Line] = Field(default_factory=list, max_length=100_000)
    patches: dict[Line, Count] = Field(default_factory=dict, max_length=100)
    repeated: Count = 1
    with_data: Line | None = None
    reviewers: Count = 0
    disagreements: Count = 0
    review: Line = ""


class Card(Part):
    """Everything that is needed to use and to judge the model in ten years."""

    format: int = Field(1, ge=1, le=FORMAT)
    name: Line
    created: Line
    versions: dict[Line, Line] = Field(max_length=100)
    architecture: Architecture
    patch_size: int = Field(PCAM.size, ge=SMALLEST, le=LARGEST)
    label_region: int = Field(PCAM.label_region, ge=1, le=LARGEST)
    mpp: float | None = Field(
        PCAM.mpp, ge=FINEST, le=COARSEST, allow_inf_nan=False, description="Microns per pixel; null if unknown."
    )
    class_names: list[Name] = Field(
        default_factory=lambda: list(CLASS_NAMES), min_length=2, max_length=2, description="Label 0, then label 1."
    )
    positive: list[Name] = Field(
        default_factory=list,
        max_length=1000,
        description="The class folders of label 1, if they were stated in training.",
    )
    temperature: Temperature = Field(1.0, description="Divides the logits; fitted on valid.")
    thresholds: dict[Name, Threshold] = Field(min_length=1, max_length=100)
    threshold_rule: Name = Field(description="The rule that the recipe chose.")
    slide_operating_points: dict[PointName, SlideOperatingPoint] = Field(
        default_factory=dict, description="What counts as a lesion on a slide; chosen by `sentinode operate`."
    )
    slide_operating_point: PointName = Field(DEFAULT, description="The one that a scan uses unless told otherwise.")
    prior: Prior = Field(0.5, description="Share of label 1 among the patches that the probabilities were fitted on.")
    readings: dict[ReadingKey, Reading] = Field(
        default_factory=dict, description="Patch by patch and densely, measured on the same patches; or empty."
    )
    int8: Int8 | None = Field(None, description="The int8 network, made by `sentinode quantise`; null without one.")
    metrics: dict[Line, Annotated[dict[str, Any], AfterValidator(_fits(Metrics))]] = Field(
        default_factory=dict, max_length=100
    )
    data: Annotated[dict[str, Any], AfterValidator(_fits(TrainingData))] = Field(default_factory=dict)
    recipe: Annotated[dict[str, Any], AfterValidator(_fits(RecipeTables))] = Field(default_factory=dict)
    seed: Count = 0
    toy: bool = False
    initial_weights: Text = "random initialisation"
    made_from: MadeFrom | None = Field(None, description="The bundle whose training this one continued.")
    taught: Taught | None = Field(None, description="The review that it was taught with, by `sentinode learn`.")
    licence: Text = "The licence of the initial weights and of the training data."
    intended_use: Text = "Research only; not for diagnosis."
    history: list[Annotated[dict[Line, Number], Field(max_length=100)]] = Field(
        default_factory=list, max_length=MOST_EPOCHS
    )

    @model_validator(mode="after")
    def _check_geometry(self) -> Card:
        try:
            PatchGeometry(self.patch_size, self.mpp, self.label_region)
        except DataError as error:
            raise ValueError(error.what) from None
        if 0 < self.architecture.side < self.patch_size:
            raise ValueError(
                f"the network's side of {self.architecture.side} pixels is smaller than the patch's {self.patch_size}"
            )
        return self

    @model_validator(mode="after")
    def _check_classes(self) -> Card:
        if self.class_names[0] == self.class_names[1]:
            raise ValueError("class_names has one name for both classes")
        return self

    @model_validator(mode="after")
    def _check_thresholds(self) -> Card:
        misnamed = [name for name, threshold in self.thresholds.items() if threshold.rule != name]
        if misnamed:
            raise ValueError(f"thresholds has one of another rule under '{misnamed[0]}'")
        if self.threshold_rule not in self.thresholds:
            raise ValueError(f"there is no threshold of the threshold_rule '{self.threshold_rule}'")
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


def parse_card(content: bytes, where: Path | None = None) -> Card:
    """The card that ``content`` spells out.

    A later version of Sentinode that adds a key writes a higher format. So a key that is not known is a mistake, and
    where it stands for one that has a default, ignoring it would change the model's answers.

    Raises:
        BundleError: it is no card, a value is missing, of another type or out of range, or its format is newer.
    """
    if len(content) > MOST_BYTES:
        raise BundleError(
            f"card.json has more than {MOST_BYTES // 1_000_000} MB, which no card has.", where=where, hint=AGAIN
        )
    try:
        tables = json.loads(content, object_pairs_hook=_once, parse_constant=_OTHER_NUMBERS.__getitem__)
        _check_values(tables)
    except RecursionError:
        raise BundleError(f"card.json is nested deeper than {DEEPEST} levels.", where=where, hint=AGAIN) from None
    except ValueError as error:
        raise BundleError(f"card.json cannot be read ({as_line(str(error))}).", where=where, hint=AGAIN) from None
    if not isinstance(tables, dict):
        raise BundleError("card.json cannot be read (it is no table).", where=where, hint=AGAIN)
    version = tables.get("format")
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise BundleError(
            f"this bundle has format {as_line(repr(version))}; this Sentinode ({__version__}) reads 1 to {FORMAT}.",
            where=where,
            hint="Update Sentinode to a version that reads it." if type(version) is int and version > FORMAT else AGAIN,
        )
    try:
        # Strict, so that "96" is no number and 1 no truth value. As JSON, in which a list may stand for a tuple.
        card = Card.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise BundleError(f"card.json is wrong {_first(error)}.", where=where, hint=AGAIN) from None
    if version == 1 and card.geometry != PCAM:
        raise BundleError(
            f"card.json is wrong: format 1 is for {PCAM}, and it names {card.geometry}.", where=where, hint=AGAIN
        )
    return card


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key '{twice}' stands there twice")
    return table


def _check_values(tables: Any) -> None:
    """
    Raises:
        ValueError: it is nested too deeply, has too many values, or holds a number or a text that no card has.
    """
    level, values = [tables], 0
    for _ in range(DEEPEST):
        values += len(level)
        if values > MOST_VALUES:
            raise ValueError(f"it has more than {MOST_VALUES:,} values")
        for value in level:
            _check_value(value)
        inner = [value for value in level if isinstance(value, dict)]
        for table in inner:
            for key in table:
                _check_value(key)
        lists = [list(table.values()) for table in inner] + [value for value in level if isinstance(value, list)]
        level = [item for values_of_it in lists for item in values_of_it]
        if not level:
            return
    raise ValueError(f"it is nested deeper than {DEEPEST} levels")


def _check_value(value: Any) -> None:
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise ValueError(f"it has a text of more than {LONGEST_TEXT:,} characters")
        if found := _UNFIT.search(value):
            raise ValueError(f"it has the character U+{ord(found[0]):04X}, which is for no text")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("it has a number that is NaN, infinite or too large")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError("it has a number that is too large")


def _first(error: ValidationError) -> str:
    """Where the first thing is wrong, and what."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    key = as_line(".".join(str(part) for part in first["loc"]))[:100]
    message = first["msg"].removeprefix("Value error, ")
    what = as_line(message[0].lower() + message[1:])
    return f"at '{key}': {what}".rstrip(".") if key else f"in itself: {what}".rstrip(".")
