"""Where labelled patches come from."""

from sentinode.patches.description import Expected, Stated
from sentinode.patches.opening import PatchData, open_data
from sentinode.patches.patch_set import (
    ALL,
    CLASS_NAMES,
    SPLITS,
    Images,
    PatchSet,
)

__all__ = [
    "ALL",
    "CLASS_NAMES",
    "SPLITS",
    "Expected",
    "Images",
    "PatchData",
    "PatchSet",
    "Stated",
    "open_data",
]
