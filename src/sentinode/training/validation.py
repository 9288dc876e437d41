"""What a network answers on valid, in training and at its end."""

from __future__ import annotations

from contextlib import nullcontext
from typing import cast

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from sentinode.patches import PatchSet
from sentinode.progress import bar
from sentinode.scoring import auc
from sentinode.training.batches import read_batches

VALID_BATCH = 128


def logit_margins(
    fabric: Fabric, network: nn.Module, patches: PatchSet, title: str, *, alone: bool = False, show: bool = True
) -> NDArray[np.float32]:
    """The logit margin of each patch, float32 (N,): the logit of label 1 minus that of label 0.

    Args:
        fabric: the device, the precision and the other processes.
        network: uint8 (B, S, S, 3) to logits (B, 2); it is left in evaluation mode.
        patches: N patches.
        title: of the progress bar.
        alone: False lets each process score its share, in the precision of training; True lets this process score
            all, in the precision of the weights.
        show: whether to show the bar.
    """
    world, rank = (1, 0) if alone else (fabric.world_size, fabric.global_rank)
    precision = nullcontext() if alone else fabric.autocast()
    # Shares are of equal length, as gathering wants it: the last patch stands in for those that lack.
    share = np.arange(rank, rank + world * -(-len(patches) // world), world).clip(max=len(patches) - 1)
    rows = [share[i : i + VALID_BATCH] for i in range(0, len(share), VALID_BATCH)]
    network.eval()
    margins = []
    with torch.inference_mode(), precision, bar(title, len(share) * world, show=show) as shown:
        for images, _ in read_batches(patches, rows, fabric.device):
            logits = network(images).float()
            margins.append(logits[:, 1] - logits[:, 0])
            shown.advance(len(images) * world)
    mine = torch.cat(margins)
    together = cast(Tensor, fabric.all_gather(mine)) if world > 1 else mine[None]
    return together.T.reshape(-1)[: len(patches)].cpu().numpy()


def quick_metrics(margins: NDArray[np.float32], labels: NDArray[np.uint8]) -> dict[str, float]:
    """AUC, accuracy at 0.5 and negative log-likelihood before calibration, without intervals."""
    signed = np.where(labels == 1, margins, -margins).astype(np.float64)
    return {
        "auc": float(auc(labels, margins)),
        "accuracy": float((signed > 0).mean()),
        "nll": float(np.logaddexp(0, -signed).mean()),
    }
