"""Arrays in, numbers out: metrics with intervals, calibration and the operating point. No model."""

from sentinode.scoring.calibration import (
    ECE_BINS,
    Reliability,
    calibrated,
    ece_floor,
    fit_platt,
    fit_temperature,
    reliability,
)
from sentinode.scoring.counts import METRICS
from sentinode.scoring.estimate import Estimate
from sentinode.scoring.intervals import cluster_interval, effective_clusters
from sentinode.scoring.metrics import Curve, Scores, auc, measure, pr_curve, roc_curve
from sentinode.scoring.operating_point import RULES, choose_threshold, parse_rule, with_threshold
from sentinode.scoring.predictions import Predictions, align
from sentinode.scoring.uncertainty import METHODS

__all__ = [
    "ECE_BINS",
    "METHODS",
    "METRICS",
    "RULES",
    "Curve",
    "Estimate",
    "Predictions",
    "Reliability",
    "Scores",
    "align",
    "auc",
    "calibrated",
    "choose_threshold",
    "cluster_interval",
    "ece_floor",
    "effective_clusters",
    "fit_platt",
    "fit_temperature",
    "measure",
    "parse_rule",
    "pr_curve",
    "reliability",
    "roc_curve",
    "with_threshold",
]
