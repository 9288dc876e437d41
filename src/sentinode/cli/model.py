"""The argument ``[BUNDLE] PATH...``: the user's bundle, or the bundled model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sentinode.errors import DataError
from sentinode.progress import console

if TYPE_CHECKING:
    from sentinode.model.bundle import Bundle

P = TypeVar("P", str, Path)


def open_model(paths: Sequence[P]) -> tuple[Bundle, Sequence[P]]:
    """The bundle that stands first among the paths, or the packaged one, and the other paths.

    Raises:
        DataError: nothing but a bundle is named.
        BundleError: the bundle cannot be opened.
    """
    from sentinode.model.bundle import load
    from sentinode.model.bundle_files import is_bundle

    first, *others = paths
    here = Path(first)
    named = is_bundle(here) or is_bundle(here / "bundle")
    # What is not there may be a bundle's misspelt name: no other may take its place.
    if not named and (here.exists() or "://" in str(first)):
        bundle, others = load(), list(paths)
        auc = bundle.card.metrics["valid"]["auc"]["value"]
        console.print(
            f"No bundle is named. Using the bundled model, {bundle.card.name} (valid AUC {auc:.3f}).",
            markup=False,
        )
    else:
        bundle = load(first)
    if not others:
        raise DataError("no images or slides are named.", hint="Name images or slides after the bundle.")
    if bundle.card.toy:
        console.print("This bundle is a toy: it was trained on generated patches.")
    return bundle, others
