"""Where labelled patches come from. The readers of HDF5 and Parquet are imported when they are used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sentinode.patches.description import Expected, Stated
from sentinode.patches.patch_set import (
    ALL,
    CLASS_NAMES,
    SPLITS,
    Images,
    PatchSet,
)

if TYPE_CHECKING:
    from sentinode.patches.opening import PatchData, Reopening, open_data

__all__ = [
    "ALL",
    "CLASS_NAMES",
    "SPLITS",
    "Expected",
    "Images",
    "PatchData",
    "PatchSet",
    "Reopening",
    "Stated",
    "open_data",
]


def __getattr__(name: str) -> Any:
    if name in ("PatchData", "Reopening", "open_data"):
        return getattr(importlib.import_module("sentinode.patches.opening"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
