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
    from sentinode.evaluation import evaluate
    from sentinode.explanation import explain
    from sentinode.prediction import predict
    from sentinode.slides.batch import scan
    from sentinode.slides.probability_map import open_map

_VERBS = {
    "train": "sentinode.api",
    "evaluate": "sentinode.evaluation",
    "explain": "sentinode.explanation",
    "load": "sentinode.bundle",
    "open_map": "sentinode.slides.probability_map",
    "predict": "sentinode.prediction",
    "scan": "sentinode.slides.batch",
}
__all__ = ["__version__", "evaluate", "explain", "load", "open_map", "predict", "scan", "train"]


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return getattr(importlib.import_module(_VERBS[name]), name)
    raise AttributeError(f"module 'sentinode' has no attribute {name!r}")
