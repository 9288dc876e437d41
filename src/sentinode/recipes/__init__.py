"""Every hyperparameter, named, with its unit and range.

A recipe is a TOML file. The shipped ones lie beside this module; ``load_recipe`` reads one by name or path, applies
overrides such as ``optimizer.lr=3e-4`` and checks all of it. Unknown keys are refused, and the message names the
nearest valid key.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo

from sentinode.errors import RecipeError, nearest
from sentinode.names import shortened

LARGEST = 1_000_000
"""Bytes of a recipe's file at most."""


class Section(BaseModel):
    """A table of a recipe. Frozen, and closed to keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelRecipe(Section):
    """The network: a backbone of timm and a new head."""

    backbone: str = Field("resnet50", max_length=200, description="Any backbone of timm, by name.")
    weights: str = Field(
        "imagenet",
        max_length=4096,
        description="Start from: 'imagenet', 'none', or a .safetensors or .pth file.",
    )
    side: int = Field(
        0,
        ge=0,
        le=1024,
        description="Side in pixels to which patches are enlarged for the backbone; the cost grows with its square; "
        "0 for no enlargement.",
    )
    stride: Literal[8, 16, 32] = Field(
        32,
        description="Pixels per cell of the last feature map. Below 32, the backbone's last layers are left out.",
    )
    pooling: Literal["avg", "max", "avgmax", "gem", "centre", "avgcentre"] = Field(
        "avg",
        description="How the feature map is pooled to one vector. 'centre' uses only the part that the label covers.",
    )
    hidden: list[Annotated[int, Field(ge=1, le=8192)]] = Field(
        default_factory=list, max_length=4, description="Widths of the head's hidden layers; [] for none."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of the head's inputs that training drops.")


class AugmentRecipe(Section):
    """Random changes of each training patch. They never change its label."""

    symmetries: bool = Field(True, description="Apply one of the eight symmetries of the square.")
    stain: float = Field(0.05, ge=0, le=1, description="Stain jitter: largest change of each stain's gain and offset.")
    stain_space: Literal["hed", "macenko"] = Field("hed", description="Stain vectors: fixed, or found per patch.")
    brightness: float = Field(0.1, ge=0, le=1, description="Largest relative change of brightness.")
    contrast: float = Field(0.1, ge=0, le=1, description="Largest relative change of contrast.")
    saturation: float = Field(0.1, ge=0, le=1, description="Largest relative change of saturation.")
    hue: float = Field(0.02, ge=0, le=0.5, description="Largest rotation of hue, in turns.")
    blur: float = Field(0.0, ge=0, le=1, description="Probability of a Gaussian blur.")
    blur_sigma: float = Field(1.0, gt=0, le=4, description="Largest sigma of the blur, in pixels.")
    noise: float = Field(0.0, ge=0, le=64, description="Largest sigma of Gaussian noise, in grey levels of 255.")
    jpeg: float = Field(0.0, ge=0, le=1, description="Probability of JPEG compression.")
    jpeg_quality: tuple[Annotated[int, Field(ge=1, le=100)], Annotated[int, Field(ge=1, le=100)]] = Field(
        (50, 95), description="Lowest and highest JPEG quality."
    )
    scale: float = Field(0.0, ge=0, le=0.3, description="Largest relative zoom about the centre, in or out.")
    crop: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Largest share of the side that is cut off. Only for labels that cover whole patches.",
    )
    shift: int = Field(
        0, ge=0, le=2048, description="Largest shift in pixels, at most half of the label's region (16 in PCam)."
    )
    mixup: float = Field(0.0, ge=0, le=4, description="Alpha of mixup's Beta distribution; 0 for none.")

    @field_validator("jpeg_quality")
    @classmethod
    def _ascending(cls, quality: tuple[int, int]) -> tuple[int, int]:
        if quality[0] > quality[1]:
            raise ValueError("the lowest quality comes first")
        return quality


class OptimizerRecipe(Section):
    """The optimiser and its learning rate."""

    name: Literal["adamw", "sgd"] = Field("adamw", description="AdamW, or SGD with Nesterov momentum 0.9.")
    lr: float = Field(3e-4, gt=0, le=10, description="Peak learning rate of the last layers.")
    head_lr: float = Field(1e-3, gt=0, le=10, description="Learning rate of the first stage (head only).")
    weight_decay: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Decoupled weight decay, also in SGD. None for biases, norms, position embeddings, class tokens.",
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="Learning rate of a layer divided by that of the next layer; 1 for none."
    )
    schedule: Literal["onecycle", "cosine", "constant"] = Field("onecycle", description="Learning-rate schedule.")
    warmup: float = Field(0.3, ge=0, le=0.9, description="Share of the steps in which the rate rises.")
    gradient_clip: float = Field(1.0, ge=0, le=1000, description="Largest norm of the gradient; 0 for no limit.")


class TrainingRecipe(Section):
    """How long training takes, its batches, and when it stops."""

    epochs: int = Field(4, ge=1, le=10000, description="Passes over the training patches that train all layers.")
    head_epochs: float = Field(0.0, ge=0, le=100, description="Passes before these that train only the head.")
    batch_size: int = Field(64, ge=2, le=65536, description="Patches per step of the optimiser, over all devices.")
    accumulate: int = Field(1, ge=1, le=1024, description="Parts in which a batch is computed, to save memory.")
    label_smoothing: float = Field(0.05, ge=0, lt=1, description="Share of the target spread over both classes.")
    ema: float = Field(0.0, ge=0, lt=1, description="Decay per step of the weights' moving average; 0 for none.")
    teacher: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the target that the moving average predicts; rises in the first pass; 0 for none.",
    )
    surroundings: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the steps in which patches lie in their mirror image, as for dense reading.",
    )
    patience: int = Field(
        0, ge=0, le=1000, description="Epochs without a better valid score before training stops; 0: never."
    )
    monitor: Literal["auc", "nll", "accuracy"] = Field("auc", description="The valid score that chooses the epoch.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="'auto' chooses bfloat16 where it is faster on this machine."
    )
    compile: bool = Field(False, description="Compile the network with torch.compile first.")
    checkpoint_minutes: float = Field(5.0, ge=0, le=1440, description="Minutes between checkpoints; 0: at each step.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Random seed for order, augmentation and head.")

    def steps_per_epoch(self, patches: int) -> int:
        """Steps of the optimiser in one pass on one device; a last, smaller batch is left out."""
        return patches // min(self.batch_size, patches)


class OperatingPointRecipe(Section):
    """How outputs become probabilities, and which threshold separates the classes."""

    calibration: Literal["temperature", "platt"] = Field(
        "temperature",
        description="What is fitted on valid: a temperature; with 'platt' also an offset, kept in the head's bias.",
    )
    rule: str = Field(
        "accuracy",
        max_length=100,
        description="Rule on valid: accuracy, balanced_accuracy, f1, sensitivity@0.95, specificity@0.95; or half.",
    )


class SplitRecipe(Section):
    """Used only for data without splits of its own."""

    seed: int = Field(0, ge=0, le=2**31 - 1, description="Random seed for the 80/10/10 split.")


class Recipe(Section):
    """A whole recipe."""

    model: ModelRecipe = Field(default_factory=ModelRecipe)
    augment: AugmentRecipe = Field(default_factory=AugmentRecipe)
    optimizer: OptimizerRecipe = Field(default_factory=OptimizerRecipe)
    training: TrainingRecipe = Field(default_factory=TrainingRecipe)
    operating_point: OperatingPointRecipe = Field(default_factory=OperatingPointRecipe)
    split: SplitRecipe = Field(default_factory=SplitRecipe)

    def to_toml(self) -> str:
        """The recipe as TOML, each key with what it means."""
        lines: list[str] = []
        for name, section in self:
            lines += [f"# {line}" for line in (type(section).__doc__ or "").splitlines() if line]
            lines += [f"[{name}]"]
            for key, info in type(section).model_fields.items():
                value = json.dumps(getattr(section, key), ensure_ascii=False)
                lines.append(f"{key} = {value}  # {info.description}{value_range(info)}")
            lines.append("")
        return "\n".join(lines)


def value_range(info: FieldInfo) -> str:
    """The values that a key may have, such as `` [0 .. 1]``; empty where its description says it."""
    if get_origin(info.annotation) is Literal:
        return f" [{', '.join(map(str, get_args(info.annotation)))}]"
    bounds = {type(mark).__name__: mark for mark in info.metadata}
    low, high = bounds.get("Ge") or bounds.get("Gt"), bounds.get("Le") or bounds.get("Lt")
    if low is None or high is None:
        return ""
    start = f"{low.ge}" if isinstance(low, Ge) else f"above {low.gt}"
    end = f"{high.le}" if isinstance(high, Le) else f"below {high.lt}"
    return f" [{start} .. {end}]"


OTHER_NAMES = {"best": "small"}
"""Names that stand for another recipe: ``best`` is whichever has the highest valid AUC so far (docs/experiments.md)."""


def recipe_names() -> list[str]:
    """The names of the shipped recipes."""
    files = resources.files(__name__).iterdir()
    return sorted([*(Path(file.name).stem for file in files if file.name.endswith(".toml")), *OTHER_NAMES])


def load_recipe(source: str | Path | Mapping[str, Any] = "resnet50", overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe and check it.

    Args:
        source: the name of a shipped recipe, the path of a TOML file, or the tables of one, as in a bundle's card;
            missing keys get their defaults.
        overrides: strings such as ``optimizer.lr=3e-4``; the last one wins.

    Raises:
        RecipeError: no such recipe, invalid TOML, an unknown key, a wrong type or a value out of range.
    """
    tables, where = (deepcopy(dict(source)), None) if isinstance(source, Mapping) else (_read(source), str(source))
    for text in overrides:
        _override(tables, text)
    return check_recipe(tables, where=where)


def check_recipe(tables: Mapping[str, Any], *, where: str | None = None) -> Recipe:
    """The recipe that nested ``tables`` spell out.

    Raises:
        RecipeError: an unknown key, a wrong type or a value out of range.
    """
    try:
        # Strict for what TOML types already tell apart, so that "3" is no number and 1 no truth value.
        return Recipe.model_validate_json(json.dumps(tables), strict=True)
    except ValidationError as error:
        raise _explain(error, where) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise RecipeError(f"contains a value that a recipe cannot contain ({error}).", where=where) from None


def _read(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if path.suffix != ".toml" and (not str(source) or not os.path.exists(path)):  # noqa: PTH110 (any name is taken)
        names = recipe_names()
        if str(source) not in names:
            guess = nearest(str(source), names)
            raise RecipeError(
                f"there is no recipe '{shortened(str(source), 80)}'{f'; did you mean {guess!r}' if guess else ''}.",
                hint=f"The shipped recipes are {', '.join(names)}; or give a path to a .toml file.",
            )
        file = f"{OTHER_NAMES.get(str(source), source)}.toml"
        return tomllib.loads(resources.files(__name__).joinpath(file).read_text("utf-8"))
    try:
        if not path.is_file() and path.exists():
            raise RecipeError("is no file.", where=path, hint="Give a .toml file, or the name of a recipe.")
        with path.open("rb") as stream:
            read = stream.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecipeError(f"cannot be read ({reason}).", where=path) from None
    if len(read) > LARGEST:
        raise RecipeError(f"is larger than {LARGEST:,} bytes, which no recipe is.", where=path)
    try:
        return _parsed(read.decode("utf-8-sig"))
    except ValueError as error:
        raise RecipeError(f"is not valid TOML: {error}.", where=path, hint="Correct that line and run again.") from None


def _parsed(text: str) -> dict[str, Any]:
    """TOML as tables.

    Raises:
        ValueError: it is no TOML, or has numbers or a nesting that no recipe has.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise error
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError:
        raise ValueError("a number has too many digits") from None


def _override(tables: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    section, dot, name = key.strip().partition(".")
    if not equals or not dot or not name:
        raise RecipeError(
            f"'{shortened(text, 80)}' is not of the form SECTION.KEY=VALUE.",
            where="--set",
            hint="For example --set optimizer.lr=3e-4",
        )
    try:
        tables_of_value = _parsed(f"value = {value.strip()}")
        parsed = tables_of_value.pop("value")
        if tables_of_value:
            raise RecipeError(f"'{shortened(text, 80)}' contains more than one value.", where="--set")
    except tomllib.TOMLDecodeError:
        parsed = value.strip()  # a bare word, such as resnet18, stands for a string
    except ValueError as error:
        raise RecipeError(f"'{shortened(text, 80)}' is not a value: {error}.", where="--set") from None
    table = tables.setdefault(section, {})
    if not isinstance(table, dict):
        raise RecipeError(f"there is no section '{section}'.", where="--set")
    table[name] = parsed


def _explain(error: ValidationError, where: str | None) -> RecipeError:
    """The first thing wrong, in words, with the nearest right key."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    if not path:  # pydantic does not take it for JSON
        return RecipeError("contains text that is not valid Unicode.", where=where)
    key = shortened(".".join(path), 80)
    if first["type"] == "extra_forbidden":
        guess = _nearest_key(path)
        advice = f"Did you mean '{guess}'?" if guess else f"The sections are {', '.join(Recipe.model_fields)}."
        return RecipeError(f"there is no key '{key}' in a recipe.", where=where, hint=advice)
    section = Recipe.model_fields.get(path[0])
    info = section.annotation.model_fields.get(path[1]) if section and len(path) > 1 else None  # type: ignore[union-attr]
    says = first["msg"].removeprefix("Value error, ")
    says = says[0].lower() + says[1:]
    hint = f"{'.'.join(path[:2])}: {info.description}" if info is not None else None
    value = shortened(repr(first["input"]), 80)
    return RecipeError(f"'{key}' = {value} is not valid: {says}.", where=where, hint=hint)


def _nearest_key(path: list[str]) -> str | None:
    """The section, or the key of any section, that was most likely meant: ``training.lr`` was ``optimizer.lr``."""
    if len(path) == 1:
        return nearest(path[0], list(Recipe.model_fields))
    keys = {
        f"{name}.{key}": key
        for name, info in Recipe.model_fields.items()
        for key in info.annotation.model_fields  # type: ignore[union-attr]
    }
    same = [full for full, key in keys.items() if key == path[1]]
    return same[0] if same else nearest(".".join(path), list(keys))
