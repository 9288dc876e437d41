"""What a run leaves to read: a CSV, TensorBoard events and a picture of the learning curve."""

from __future__ import annotations

import csv
import threading
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from sentinode.atomic import output_errors, whole_file

LOG, CURVE, EVENTS = "log.csv", "learning_curve.png", "tensorboard"


class Logbook:
    """Writes a run's history to its folder, one entry an epoch.

    Args:
        folder: of the run.
        history: entries so far, as dicts of figures by name.
    """

    def __init__(self, folder: Path, history: list[dict[str, float]]) -> None:
        self._folder, self._history = folder, history
        purge = history[-1]["step"] + 1 if history else 0
        with output_errors(folder / EVENTS):
            self._events = SummaryWriter(str(folder / EVENTS), purge_step=int(purge))
        self._told, threading.excepthook = threading.excepthook, self._tell

    def step(self, step: int, figures: dict[str, float]) -> None:
        """Send the figures of one step to TensorBoard."""
        with output_errors(self._folder / EVENTS):
            for name, value in figures.items():
                self._events.add_scalar(f"step/{name}", value, step)

    def epoch(self) -> None:
        """Write the history anew after its last epoch."""
        last = self._history[-1]
        with output_errors(self._folder / EVENTS):
            for name, value in last.items():
                if name not in ("epoch", "step"):
                    self._events.add_scalar(f"epoch/{name}", value, int(last["step"]))
            self._events.flush()
        with (
            whole_file(self._folder / LOG) as staged,
            staged.open("w", newline="", encoding="utf-8") as stream,
        ):
            table = csv.DictWriter(stream, last.keys(), lineterminator="\n")
            table.writeheader()
            table.writerows(self._history)
        draw_learning_curve(self._history, self._folder / CURVE)

    def close(self) -> None:
        """Flush what is left."""
        try:
            with output_errors(self._folder / EVENTS):
                self._events.close()
        finally:
            threading.excepthook = self._told

    def _tell(self, failed: threading.ExceptHookArgs) -> None:
        """As before, but for the thread in which TensorBoard writes: it keeps its error for the next call, and Python
        would print a traceback of it beside our sentence."""
        if not (isinstance(failed.exc_value, OSError) and type(failed.thread).__module__.startswith("tensorboard.")):
            self._told(failed)


def draw_learning_curve(history: list[dict[str, float]], path: Path) -> None:
    """Draw loss and valid score by epoch as a picture.

    Args:
        history: entries with ``epoch``, ``train_loss``, ``valid_nll`` and ``valid_auc``.
        path: of the picture; its ending chooses the format.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = [entry["epoch"] for entry in history]
    figure = Figure(figsize=(8, 3.2), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [e["train_loss"] for e in history], "o-", color="#7a7a7a", label="train (augmented, smoothed)")
    left.plot(epochs, [e["valid_nll"] for e in history], "o-", color="#b5338a", label="valid")
    left.set(title="Loss", xlabel="epoch", ylabel="nats per patch")
    left.legend(frameon=False)
    scores = [e["valid_auc"] for e in history]
    best = max(range(len(scores)), key=scores.__getitem__)
    right.plot(epochs, scores, "o-", color="#3d5a98")
    right.plot(epochs[best], scores[best], "o", markersize=12, markerfacecolor="none", color="#3d5a98")
    right.annotate(
        f"{scores[best]:.4f}", (epochs[best], scores[best]), (0, -18), textcoords="offset points", ha="center"
    )
    right.set(title="AUC on valid", xlabel="epoch")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", alpha=0.25)
    with whole_file(path) as staged:
        figure.savefig(staged)
