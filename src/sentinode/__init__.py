"""Sentinode detects metastases in lymph-node tissue. For research, not for diagnosis.

Every public name is here; docs/reference/api.md lists them. They are imported when first used, so that
``import sentinode`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sentinode._version import __version__

if TYPE_CHECKING:
    from sentinode.app import view
    from sentinode.augmentation.preview import preview
    from sentinode.augmentation.transforms import Augment, symmetry
    from sentinode.errors import SentinodeError
    from sentinode.evaluation import evaluate
    from sentinode.evaluation.stress import stress
    from sentinode.explanation import Explainer, explain
    from sentinode.geometry import PatchGeometry
    from sentinode.model.bundle import load
    from sentinode.model.classifier import build
    from sentinode.model.engines import open_engine
    from sentinode.patches import open_data
    from sentinode.patches.audit import audit
    from sentinode.patches.download import download
    from sentinode.patches.synthetic import synthesise
    from sentinode.patches.table import read_table
    from sentinode.prediction import predict
    from sentinode.recipes import load_recipe
    from sentinode.scoring import cluster_interval, measure
    from sentinode.slides.batch import scan
    from sentinode.slides.extract import ExtractOptions, extract
    from sentinode.slides.results.lesions import find_lesions
    from sentinode.slides.scanning.probability_map import open_map
    from sentinode.training import train

_HOME = {
    "Augment": "sentinode.augmentation.transforms",
    "Explainer": "sentinode.explanation",
    "ExtractOptions": "sentinode.slides.extract",
    "PatchGeometry": "sentinode.geometry",
    "SentinodeError": "sentinode.errors",
    "audit": "sentinode.patches.audit",
    "build": "sentinode.model.classifier",
    "cluster_interval": "sentinode.scoring",
    "download": "sentinode.patches.download",
    "evaluate": "sentinode.evaluation",
    "explain": "sentinode.explanation",
    "extract": "sentinode.slides.extract",
    "find_lesions": "sentinode.slides.results.lesions",
    "load": "sentinode.model.bundle",
    "load_recipe": "sentinode.recipes",
    "measure": "sentinode.scoring",
    "open_data": "sentinode.patches",
    "open_engine": "sentinode.model.engines",
    "open_map": "sentinode.slides.scanning.probability_map",
    "predict": "sentinode.prediction",
    "preview": "sentinode.augmentation.preview",
    "read_table": "sentinode.patches.table",
    "scan": "sentinode.slides.batch",
    "stress": "sentinode.evaluation.stress",
    "symmetry": "sentinode.augmentation.transforms",
    "synthesise": "sentinode.patches.synthetic",
    "train": "sentinode.training",
    "view": "sentinode.app",
}
"""The module of each public name."""

__all__ = [
    "Augment",
    "Explainer",
    "ExtractOptions",
    "PatchGeometry",
    "SentinodeError",
    "__version__",
    "audit",
    "build",
    "cluster_interval",
    "download",
    "evaluate",
    "explain",
    "extract",
    "find_lesions",
    "load",
    "load_recipe",
    "measure",
    "open_data",
    "open_engine",
    "open_map",
    "predict",
    "preview",
    "read_table",
    "scan",
    "stress",
    "symmetry",
    "synthesise",
    "train",
    "view",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'sentinode' has no attribute {name!r}")
