"""Sentinode detects metastases in lymph-node tissue. For research, not for diagnosis.

The verbs: :func:`train`, :func:`evaluate`, :func:`predict`, :func:`explain`, :func:`load`, :func:`scan` and
:func:`open_map`. They are imported when first used, so that ``import sentinode`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sentinode._version import __version__

if TYPE_CHECKING:
    from sentinode.api import train
    from sentinode.evaluation import evaluate
    from sentinode.explanation import explain
    from sentinode.model.bundle import load
    from sentinode.prediction import predict
    from sentinode.slides.batch import scan
    from sentinode.slides.scanning.probability_map import open_map

_VERBS = {
    "train": "sentinode.api",
    "evaluate": "sentinode.evaluation",
    "explain": "sentinode.explanation",
    "load": "sentinode.model.bundle",
    "open_map": "sentinode.slides.scanning.probability_map",
    "predict": "sentinode.prediction",
    "scan": "sentinode.slides.batch",
}
__all__ = ["__version__", "evaluate", "explain", "load", "open_map", "predict", "scan", "train"]


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return getattr(importlib.import_module(_VERBS[name]), name)
    raise AttributeError(f"module 'sentinode' has no attribute {name!r}")
