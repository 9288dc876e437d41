"""One readable training run: ``fit(recipe, data, out)`` leaves a bundle."""

from sentinode.training.fit import fit

__all__ = ["fit"]
