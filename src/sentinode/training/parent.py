"""The bundle that a training goes on from: its recipe, its weights, and what the run's folder keeps of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sentinode.atomic import write_text
from sentinode.errors import BundleError, DataError, RecipeError
from sentinode.geometry import PatchGeometry
from sentinode.model.bundle import Bundle, Card, MadeFrom, load
from sentinode.model.classifier import Classifier, build_classifier, pooling_for
from sentinode.patches import PatchData
from sentinode.patches.description import require_expected
from sentinode.recipes import Recipe, load_recipe

PARENT = "parent.json"
"""The file in the run's folder that says which bundle the run goes on from: needed to resume."""

PACKAGED = "packaged"
"""The word that stands for the bundle that comes with Sentinode, where a bundle's path is asked for."""

FROM_BUNDLE = "bundle"
"""The recipe's ``model.weights`` in a run that goes on from a bundle."""

EPOCHS, LR_SHARE = 1, 0.1
"""Passes over the training patches, and the learning rate as a share of that of the bundle's own training."""

OF_NETWORK = ("backbone", "side", "stride", "pooling", "hidden")
"""The keys of a recipe's model that the bundle decides."""


@dataclass(frozen=True)
class Parent:
    """A bundle that a training goes on from.

    Attributes:
        card: of the bundle.
        fingerprint: SHA-256 of its weights.
        bundle: the bundle itself; None where the run goes on from its own checkpoint and needs no other weights.
    """

    card: Card
    fingerprint: str
    bundle: Bundle | None = None

    @property
    def made_from(self) -> MadeFrom:
        """What the new card says."""
        return MadeFrom(name=self.card.name, fingerprint=self.fingerprint)

    @property
    def origin(self) -> str:
        """Where the initial weights came from, the bundle's own among them."""
        return f"bundle {self.card.name} ({self.fingerprint[:12]}), which began from: {self.card.initial_weights}"

    @property
    def licence(self) -> str:
        """Of the new bundle."""
        usual, ours = str(Card.model_fields["licence"].default), self.card.licence
        return usual if ours == usual else f"{usual} Of the bundle that it was made from: {ours}"

    def network(self, recipe: Recipe, geometry: PatchGeometry) -> Classifier:
        """The network with the bundle's weights, to train.

        Raises:
            BundleError: the weights do not fit the network.
        """
        assert self.bundle is not None
        network, _ = build_classifier(**recipe.model.model_dump() | {"weights": "none"}, geometry=geometry)
        network.load_state_dict(self.bundle.classifier().state_dict())
        return network

    def geometry(self, data: PatchGeometry) -> PatchGeometry:
        """The geometry of the new bundle: the old one's, with the resolution that ``data`` adds where it knew none."""
        ours = self.card.geometry
        return replace(ours, mpp=data.mpp) if ours.mpp is None else ours


def open_parent(source: str | Path | Bundle) -> Parent:
    """The bundle to go on from.

    Raises:
        BundleError: it cannot be loaded, or its network is a class of its author's.
    """
    bundle = source if isinstance(source, Bundle) else load(None if str(source) == PACKAGED else source)
    if bundle.card.architecture.kind != "timm":
        raise BundleError(
            f"its network is a class of its author's, {bundle.card.architecture.class_name}: training cannot go on "
            "from it.",
            where=bundle.path,
            hint="Load its weights into your class yourself, and give that to sentinode.train(module=...).",
        )
    return Parent(bundle.card, bundle.fingerprint, bundle)


def refuse_beside_parent(weights: object, module: object, resume: bool, settings: Sequence[str]) -> None:
    """Refuse what contradicts a bundle to go on from.

    Raises:
        RecipeError: other weights, a network of one's own, or a run to resume are asked for, too.
    """
    if resume:
        raise RecipeError(
            "a run that goes on from its checkpoint needs no bundle to go on from.",
            where="--from",
            hint="Leave out --from to resume the run, or leave out --resume to begin one.",
        )
    if weights is not None or any(text.partition("=")[0].strip() == "model.weights" for text in settings):
        raise RecipeError(
            "the bundle gives the initial weights, and others are asked for, too.",
            where="--from",
            hint="Leave out --weights and model.weights, or --from.",
        )
    if module is not None:
        raise RecipeError("the bundle gives the network, and another one is given, too.", where="module")


def recipe_from(parent: Parent, recipe: str | Path | Recipe | None, settings: Sequence[str]) -> Recipe:
    """The recipe of a training that goes on from a bundle.

    Without a recipe it is that of the bundle's own training, with one pass at a tenth of its learning rate. The
    network is the bundle's whatever the recipe leaves out.

    Raises:
        RecipeError: the recipe names another network than the bundle has, or is wrong.
    """
    if isinstance(recipe, Recipe):
        chosen = recipe
    elif recipe is not None:
        chosen = load_recipe(recipe, settings)
    else:
        chosen = load_recipe(_of_card(parent.card), settings)
    network = _network_of(parent.card)
    stated = chosen.model.model_fields_set
    for key in OF_NETWORK:
        if key in stated and _resolved(chosen, parent.card)[key] != network[key]:
            raise RecipeError(
                f"the recipe has model.{key} = {getattr(chosen.model, key)!r}, and the network of the bundle "
                f"{parent.card.name} has {network[key]!r}: its weights do not fit.",
                where="--from",
                hint=f"Leave out model.{key}: the bundle gives the network. Or train without --from.",
            )
    if "dropout" not in stated:
        network["dropout"] = parent.card.architecture.dropout
    model = chosen.model.model_copy(update=network | {"weights": FROM_BUNDLE})
    return chosen.model_copy(update={"model": model})


def _of_card(card: Card) -> dict[str, Any]:
    """The tables of a bundle's recipe for a training that goes on from it."""
    tables: dict[str, Any] = deepcopy(card.recipe)
    defaults = Recipe()
    rate = tables.get("optimizer", {}).get("lr", defaults.optimizer.lr)
    tables.setdefault("optimizer", {})["lr"] = rate * LR_SHARE
    tables.setdefault("training", {}).update(epochs=EPOCHS, head_epochs=0.0)
    # The card's architecture says what the network is; the recipe may be of an older form.
    tables["model"] = _network_of(card) | {"dropout": card.architecture.dropout}
    return tables


def _network_of(card: Card) -> dict[str, Any]:
    return {key: getattr(card.architecture, key) for key in OF_NETWORK}


def _resolved(recipe: Recipe, card: Card) -> dict[str, Any]:
    """The network of a recipe as patches of the bundle's geometry make it."""
    model = recipe.model
    network = {key: getattr(model, key) for key in OF_NETWORK}
    return network | {
        "side": model.side or card.patch_size,
        "pooling": pooling_for(model.pooling, card.geometry),
    }


def require_same_patches(parent: Parent, data: PatchData) -> None:
    """Refuse patches that a bundle does not take, and a split that puts its training patches into valid.

    Raises:
        DataError: geometry or classes differ, or the bundle has been trained on patches of valid.
    """
    require_expected(
        parent.card.expected,
        data.geometry,
        data.class_names,
        named=data.kind == "folder",
        stated=data.stated,
        where=data.path,
    )
    known = parent.bundle.assignment() if parent.bundle is not None else None
    if known is None or data.own_splits:
        return
    seen = [name for name, split in data.assignment().items() if split == "valid" and known.get(name) == "train"]
    if seen:
        raise DataError(
            f"{len(seen):,} patches of the valid split, such as {seen[0]}, are patches that the bundle was trained on: "
            "the figures on valid would be too good.",
            where=data.path,
            hint="Give the data and the split.seed that the bundle was trained with, or data with splits of its own.",
        )


def write_parent(out: Path, parent: Parent | None) -> None:
    """Keep in the run's folder what it goes on from, so that it can be resumed without the bundle.

    Raises:
        OutputError: the folder cannot be written.
    """
    if parent is None:
        (out / PARENT).unlink(missing_ok=True)
        return
    kept = {"fingerprint": parent.fingerprint, "card": parent.card.model_dump(mode="json")}
    write_text(out / PARENT, json.dumps(kept, indent=1) + "\n")


def read_parent(out: Path) -> Parent | None:
    """What the run in this folder goes on from, or None.

    Raises:
        DataError: the file that says so is damaged.
    """
    if not (out / PARENT).is_file():
        return None
    try:
        kept = json.loads((out / PARENT).read_text("utf-8"))
        return Parent(Card.model_validate(kept["card"]), str(kept["fingerprint"]))
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise DataError(
            "what this run goes on from cannot be read.",
            where=out / PARENT,
            hint="Begin the run again in another folder.",
        ) from error
