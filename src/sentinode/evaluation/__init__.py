"""How good a bundle is: figures with intervals, curves, and a report for people."""

from sentinode.evaluation.evaluating import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
