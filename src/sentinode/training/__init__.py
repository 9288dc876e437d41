"""Training, to be read from top to bottom.

``launch`` contains :func:`train`, the entry point. ``parent`` is the bundle that a training can continue. ``job``
describes the task, and refuses a task that cannot work. ``run`` is the state of a run, ``loop`` trains and evaluates,
``learner`` takes each step, and ``finishing`` chooses the operating point and writes the bundle.
"""

from sentinode.training.launch import train

__all__ = ["train"]
