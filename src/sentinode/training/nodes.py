"""Training on several nodes. Torchrun or Slurm's srun starts the same command once for each device of each node."""

from __future__ import annotations

import os

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from sentinode.errors import DeviceError

COMMAND = "torchrun --nnodes {nodes} --nproc-per-node {devices} --rdzv-backend c10d --rdzv-endpoint HOST:29500 -m"


def environment(nodes: int, devices: int) -> ClusterEnvironment | None:
    """What torchrun or Slurm says of this process; None for a training on one node, whose processes we start.

    Raises:
        DeviceError: neither has started this process, or not one process for each device of each node.
    """
    if nodes == 1:
        return None
    hint = (
        f"Run '{COMMAND.format(nodes=nodes, devices=devices)} sentinode train ... --nodes {nodes} --devices {devices}' "
        f"on each node, or in a job of Slurm: srun --nodes={nodes} --ntasks-per-node={devices} sentinode train ..."
    )
    if TorchElasticEnvironment.detect():
        found: ClusterEnvironment = TorchElasticEnvironment()
    elif SLURMEnvironment.detect():
        os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(devices))  # Lightning asks for it; srun sets it on request
        found = SLURMEnvironment()
    else:
        raise DeviceError(f"neither torchrun nor srun has started this process for {nodes} nodes.", hint=hint)
    try:
        found.validate_settings(devices, nodes)
        if found.world_size() != nodes * devices:
            raise ValueError
    except ValueError:
        raise DeviceError(
            f"{found.world_size()} processes were started, which are not those of {nodes} nodes with {devices} devices "
            "each.",
            hint=hint,
        ) from None
    return found


def is_first(nodes: int) -> bool:
    """Whether this is the process that writes files and prints results; on one node, it is the only one."""
    rank = "RANK" if TorchElasticEnvironment.detect() else "SLURM_PROCID"
    return nodes == 1 or os.environ.get(rank, "0") == "0"
