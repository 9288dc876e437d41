"""Sentinode detects metastases in lymph-node tissue. For research, not for diagnosis.

The verbs: :func:`train`, :func:`evaluate`, :func:`predict`, :func:`explain`, :func:`load`, :func:`scan` and
:func:`open_map`. They are imported when first used, so that ``import sentinode`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sentinode.api import train
    from sentinode.bundle import load

_VERBS = {
    "train": "sentinode.api",
    "load": "sentinode.bundle",
}
__all__ = ["__version__", "load", "train"]


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return getattr(importlib.import_module(_VERBS[name]), name)
    raise AttributeError(f"module 'sentinode' has no attribute {name!r}")
