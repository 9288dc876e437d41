"""Training, to be read from top to bottom.

``launch`` holds :func:`train`, the way in. ``parent`` is the bundle that it may go on from. ``job`` is what was asked,
and refuses what cannot work. ``run`` is the state of a run, ``loop`` trains and evaluates, ``learner`` takes each
step, and ``finishing`` chooses the operating point and writes the bundle.
"""

from sentinode.training.launch import train

__all__ = ["train"]
