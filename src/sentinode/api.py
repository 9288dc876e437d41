"""The few verbs of Sentinode in Python, as ``sentinode.train`` and so on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sentinode.errors import RecipeError
from sentinode.model.bundle import Bundle, ModuleSource, load
from sentinode.patches import open_data
from sentinode.recipes import Recipe, load_recipe
from sentinode.training import fit

__all__ = ["load", "train"]


def train(
    data: str | Path,
    out: str | Path,
    *,
    recipe: str | Path | Recipe | None = None,
    weights: str | Path | None = None,
    settings: Iterable[str] = (),
    module: ModuleSource | None = None,
    slide_map: str | Path | None = None,
    mpp: float | None = None,
    label_region: int | None = None,
    positive: Sequence[str] = (),
    resume: bool = False,
    device: str = "auto",
    devices: int = 1,
    show: bool = True,
) -> Bundle:
    """Train a patch classifier and return the bundle that it leaves at ``out/bundle``.

    Args:
        data: labelled patches of any kind that :func:`sentinode.patches.open_data` reads.
        out: the run's folder.
        recipe: the name of a shipped recipe, a TOML file, or a :class:`Recipe`; ``resnet50`` by default, and on
            resuming the run's own.
        weights: ``imagenet``, ``none`` or a file, in place of the recipe's.
        settings: overrides such as ``optimizer.lr=3e-4``.
        module: a network of one's own in place of the recipe's: uint8 (B, S, S, 3) to logits (B, 2).
        slide_map: a CSV that names the slide of each patch, where the data does not.
        mpp: microns per pixel of the patches, where the data does not record them.
        label_region: side in pixels of the centre square that labels cover, likewise.
        positive: names of the class folders of label 1, where their names do not say it.
        resume: go on from the last checkpoint in ``out``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        devices: processes that train together.
        show: whether to show progress on standard error.

    Raises:
        SentinodeError: something was refused; its subclasses say what.
    """
    out = Path(out)
    settings = list(settings)
    if weights is not None:
        settings.append(f"model.weights={_quoted(weights)}")
    if recipe is None:
        recipe = out / "recipe.toml" if resume and (out / "recipe.toml").exists() else "resnet50"
    if isinstance(recipe, Recipe):
        if settings:
            raise RecipeError("settings go with a recipe's name or file, not with a Recipe.")
    else:
        recipe = load_recipe(recipe, settings)
    patches = open_data(
        Path(data),
        slide_map=None if slide_map is None else Path(slide_map),
        seed=recipe.split.seed,
        mpp=mpp,
        label_region=label_region,
        positive=positive,
        show=show,
    )
    return fit(recipe, patches, out, module=module, resume=resume, device=device, devices=devices, show=show)


def _quoted(value: str | Path) -> str:
    """A TOML string, so that no path is taken for anything else."""
    return "'" + str(value) + "'"
