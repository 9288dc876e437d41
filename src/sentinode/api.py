"""The few verbs of Sentinode in Python, as ``sentinode.train`` and so on."""

from sentinode.model.bundle import load
from sentinode.training import train

__all__ = ["load", "train"]
