"""Where labelled patches come from."""

from sentinode.patches.opening import PatchData, open_data
from sentinode.patches.patch_set import (
    ALL,
    CLASS_NAMES,
    LABEL_REGION,
    MPP,
    PATCH_SIZE,
    SPLITS,
    Images,
    PatchSet,
)

__all__ = [
    "ALL",
    "CLASS_NAMES",
    "LABEL_REGION",
    "MPP",
    "PATCH_SIZE",
    "SPLITS",
    "Images",
    "PatchData",
    "PatchSet",
    "open_data",
]
