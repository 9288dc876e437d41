"""How good a bundle is: metrics with intervals, curves, and a report."""

from sentinode.evaluation.evaluating import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
