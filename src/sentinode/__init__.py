"""Sentinode detects metastases in lymph-node tissue. For research, not for diagnosis.

Every public name is here; docs/reference/api.md lists them. They are imported when first used, so that
``import sentinode`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sentinode._version import __version__

if TYPE_CHECKING:
    from sentinode.app import View, view
    from sentinode.augmentation.preview import preview
    from sentinode.augmentation.transforms import Augment, symmetry
    from sentinode.errors import SentinodeError
    from sentinode.evaluation import Evaluation, evaluate
    from sentinode.evaluation.comparing import Comparison, compare
    from sentinode.evaluation.evaluating_predictions import PredictionEvaluation, evaluate_predictions
    from sentinode.evaluation.operating import Operating, operate
    from sentinode.evaluation.prediction_files import read_predictions
    from sentinode.evaluation.site_check import SiteCheck, check_site
    from sentinode.evaluation.stress import StressPoint, stress
    from sentinode.experiments.embedding import embed
    from sentinode.experiments.features_file import Embeddings
    from sentinode.experiments.learning_curve import CurvePoint, LearningCurve, curve
    from sentinode.experiments.probing import Probe, probe
    from sentinode.experiments.spread import Spread
    from sentinode.experiments.sweeping import Setting, Sweep, sweep
    from sentinode.experiments.trials import Failure
    from sentinode.experiments.tuned_trial import TunedTrial
    from sentinode.experiments.tuning import Confirmed, Tuned, tune
    from sentinode.explanation import Evidence, Explained, Explainer, explain
    from sentinode.geometry import PatchGeometry
    from sentinode.learning import Learned, learn
    from sentinode.model.bundle import Bundle, Card, Reading, load
    from sentinode.model.classifier import Classifier, build_classifier
    from sentinode.model.engines import Engine, open_engine
    from sentinode.model.exporting import Exported, export
    from sentinode.model.slide_operating_point import SlideOperatingPoint, SlideOperatingPoints, Target
    from sentinode.patches import PatchData, PatchSet, open_data
    from sentinode.patches.audit import Audit, audit
    from sentinode.patches.download import download
    from sentinode.patches.synthetic import synthesise
    from sentinode.prediction import Predicted, Prediction, predict
    from sentinode.recipes import Recipe, load_recipe
    from sentinode.scoring import Estimate, Predictions, Scores, cluster_interval, measure
    from sentinode.scoring.comparison import Difference
    from sentinode.scoring.power_law import Forecast, ForecastPoint, PowerLaw
    from sentinode.slides.batch import scan
    from sentinode.slides.extract import ExtractOptions, extract
    from sentinode.slides.results.lesions import Lesion, Lesions, find_lesions
    from sentinode.slides.scanning.manifest import SlideState
    from sentinode.slides.scanning.probability_map import ProbabilityMap, open_map
    from sentinode.training import train

_HOME = {
    "Audit": "sentinode.patches.audit",
    "Augment": "sentinode.augmentation.transforms",
    "Bundle": "sentinode.model.bundle",
    "Card": "sentinode.model.bundle",
    "Classifier": "sentinode.model.classifier",
    "Comparison": "sentinode.evaluation.comparing",
    "Confirmed": "sentinode.experiments.tuning",
    "CurvePoint": "sentinode.experiments.learning_curve",
    "Difference": "sentinode.scoring.comparison",
    "Embeddings": "sentinode.experiments.features_file",
    "Engine": "sentinode.model.engines",
    "Estimate": "sentinode.scoring",
    "Evaluation": "sentinode.evaluation",
    "Evidence": "sentinode.explanation",
    "Explained": "sentinode.explanation",
    "Explainer": "sentinode.explanation",
    "Exported": "sentinode.model.exporting",
    "ExtractOptions": "sentinode.slides.extract",
    "Failure": "sentinode.experiments.trials",
    "Forecast": "sentinode.scoring.power_law",
    "ForecastPoint": "sentinode.scoring.power_law",
    "Learned": "sentinode.learning",
    "LearningCurve": "sentinode.experiments.learning_curve",
    "Lesion": "sentinode.slides.results.lesions",
    "Lesions": "sentinode.slides.results.lesions",
    "Operating": "sentinode.evaluation.operating",
    "PatchData": "sentinode.patches",
    "PatchGeometry": "sentinode.geometry",
    "PatchSet": "sentinode.patches",
    "PowerLaw": "sentinode.scoring.power_law",
    "Predicted": "sentinode.prediction",
    "Prediction": "sentinode.prediction",
    "PredictionEvaluation": "sentinode.evaluation.evaluating_predictions",
    "Predictions": "sentinode.scoring",
    "ProbabilityMap": "sentinode.slides.scanning.probability_map",
    "Probe": "sentinode.experiments.probing",
    "Reading": "sentinode.model.bundle",
    "Recipe": "sentinode.recipes",
    "Scores": "sentinode.scoring",
    "SentinodeError": "sentinode.errors",
    "Setting": "sentinode.experiments.sweeping",
    "SiteCheck": "sentinode.evaluation.site_check",
    "SlideOperatingPoint": "sentinode.model.slide_operating_point",
    "SlideOperatingPoints": "sentinode.model.slide_operating_point",
    "SlideState": "sentinode.slides.scanning.manifest",
    "Spread": "sentinode.experiments.spread",
    "StressPoint": "sentinode.evaluation.stress",
    "Sweep": "sentinode.experiments.sweeping",
    "Target": "sentinode.model.slide_operating_point",
    "Tuned": "sentinode.experiments.tuning",
    "TunedTrial": "sentinode.experiments.tuned_trial",
    "View": "sentinode.app",
    "audit": "sentinode.patches.audit",
    "build_classifier": "sentinode.model.classifier",
    "check_site": "sentinode.evaluation.site_check",
    "cluster_interval": "sentinode.scoring",
    "compare": "sentinode.evaluation.comparing",
    "curve": "sentinode.experiments.learning_curve",
    "download": "sentinode.patches.download",
    "embed": "sentinode.experiments.embedding",
    "evaluate": "sentinode.evaluation",
    "evaluate_predictions": "sentinode.evaluation.evaluating_predictions",
    "explain": "sentinode.explanation",
    "export": "sentinode.model.exporting",
    "extract": "sentinode.slides.extract",
    "find_lesions": "sentinode.slides.results.lesions",
    "learn": "sentinode.learning",
    "load": "sentinode.model.bundle",
    "load_recipe": "sentinode.recipes",
    "measure": "sentinode.scoring",
    "open_data": "sentinode.patches",
    "open_engine": "sentinode.model.engines",
    "open_map": "sentinode.slides.scanning.probability_map",
    "operate": "sentinode.evaluation.operating",
    "predict": "sentinode.prediction",
    "preview": "sentinode.augmentation.preview",
    "probe": "sentinode.experiments.probing",
    "read_predictions": "sentinode.evaluation.prediction_files",
    "scan": "sentinode.slides.batch",
    "stress": "sentinode.evaluation.stress",
    "sweep": "sentinode.experiments.sweeping",
    "symmetry": "sentinode.augmentation.transforms",
    "synthesise": "sentinode.patches.synthetic",
    "train": "sentinode.training",
    "tune": "sentinode.experiments.tuning",
    "view": "sentinode.app",
}
"""The module of each public name."""

__all__ = [
    "Audit",
    "Augment",
    "Bundle",
    "Card",
    "Classifier",
    "Comparison",
    "Confirmed",
    "CurvePoint",
    "Difference",
    "Embeddings",
    "Engine",
    "Estimate",
    "Evaluation",
    "Evidence",
    "Explained",
    "Explainer",
    "Exported",
    "ExtractOptions",
    "Failure",
    "Forecast",
    "ForecastPoint",
    "Learned",
    "LearningCurve",
    "Lesion",
    "Lesions",
    "Operating",
    "PatchData",
    "PatchGeometry",
    "PatchSet",
    "PowerLaw",
    "Predicted",
    "Prediction",
    "PredictionEvaluation",
    "Predictions",
    "ProbabilityMap",
    "Probe",
    "Reading",
    "Recipe",
    "Scores",
    "SentinodeError",
    "Setting",
    "SiteCheck",
    "SlideOperatingPoint",
    "SlideOperatingPoints",
    "SlideState",
    "Spread",
    "StressPoint",
    "Sweep",
    "Target",
    "Tuned",
    "TunedTrial",
    "View",
    "__version__",
    "audit",
    "build_classifier",
    "check_site",
    "cluster_interval",
    "compare",
    "curve",
    "download",
    "embed",
    "evaluate",
    "evaluate_predictions",
    "explain",
    "export",
    "extract",
    "find_lesions",
    "learn",
    "load",
    "load_recipe",
    "measure",
    "open_data",
    "open_engine",
    "open_map",
    "operate",
    "predict",
    "preview",
    "probe",
    "read_predictions",
    "scan",
    "stress",
    "sweep",
    "symmetry",
    "synthesise",
    "train",
    "tune",
    "view",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'sentinode' has no attribute {name!r}")
