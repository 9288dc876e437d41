"""Training on several nodes: what is refused at once, and a node that dies on the way."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from sentinode.errors import DeviceError
from sentinode.patches import PatchData
from sentinode.recipes import load_recipe
from sentinode.training import train
from sentinode.training.nodes import environment, is_first

TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "GROUP_RANK": "1"}
SLURM = {"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_JOB_NAME": "train"}

SETTINGS = [
    "model.backbone=test_resnet",
    "model.weights=none",
    "training.epochs=3",
    "training.batch_size=16",
    "training.head_epochs=0.5",
    "training.checkpoint_minutes=0",
    "training.precision=float32",
]


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that neither torchrun nor Slurm has set."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC_")) or name in TORCHRUN:
            monkeypatch.delenv(name)
    return monkeypatch


def test_one_node_needs_no_launcher(clean: pytest.MonkeyPatch) -> None:
    assert environment(1, 8) is None and is_first(1)


@pytest.mark.parametrize("started_by", [TORCHRUN, SLURM], ids=["torchrun", "srun"])
def test_the_process_is_what_its_launcher_says(clean: pytest.MonkeyPatch, started_by: Mapping[str, str]) -> None:
    for name, value in started_by.items():
        clean.setenv(name, value)
    found = environment(2, 2)
    assert found is not None
    assert (found.world_size(), found.global_rank(), found.local_rank(), found.node_rank()) == (4, 3, 1, 1)
    assert not is_first(2)
    with pytest.raises(
        DeviceError, match="4 processes were started, which are not those of 2 nodes with 4 devices each"
    ):
        environment(2, 4)


def test_without_a_launcher_the_commands_are_named(clean: pytest.MonkeyPatch, data: PatchData, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="neither torchrun nor srun") as refused:
        train(data, tmp_path / "run", recipe="quick", nodes=2, show=False)
    assert "torchrun --nnodes 2 --nproc-per-node 1" in str(refused.value.hint) and "srun --nodes=2" in str(
        refused.value
    )
    assert not (tmp_path / "run").exists()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def two_nodes(data: Path, out: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Torchrun on two nodes with one process each, as one would start it by hand."""
    port, root = free_port(), out.parent
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    processes, logs = [], []
    for node in range(2):
        command = [
            sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
            "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-conf", f"is_host={1 - node}",
            "--max-restarts", "3", "-m", "sentinode", "train", str(data), "--out", str(out), "--recipe", "quick",
            "--device", "cpu", "--nodes", "2", "--resume", *words,
        ]  # fmt: skip
        logs.append((root / f"node{node}.log").open("wb"))
        processes.append(subprocess.Popen(command, env=environment, stdout=logs[-1], stderr=subprocess.STDOUT))
    try:
        yield processes
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in (*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()
            process.wait()
        for log in logs:
            log.close()


@pytest.mark.nightly
@pytest.mark.timeout(1200)
@pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs libuv there, which PyTorch's wheels lack")
def test_two_nodes_arrive_where_two_processes_do_although_one_dies(data: PatchData, tmp_path: Path) -> None:
    train(data, tmp_path / "here", recipe=load_recipe("quick", SETTINGS), device="cpu", devices=2, show=False)
    out = tmp_path / "nodes"
    with two_nodes(data.path, out) as nodes:
        ends = time.monotonic() + 300
        while not (out / "log.csv").exists() or not (out / "checkpoint.pt").exists():
            assert time.monotonic() < ends and nodes[1].poll() is None, (tmp_path / "node1.log").read_text()
            time.sleep(0.02)
        workers = psutil.Process(nodes[1].pid).children(recursive=True)
        next(one for one in workers if "sentinode" in one.cmdline()).send_signal(signal.SIGKILL)
        assert [node.wait(400) for node in nodes] == [0, 0], (tmp_path / "node0.log").read_text()
    printed = [(tmp_path / f"node{node}.log").read_text() for node in range(2)]
    assert "Resuming from the checkpoint" in printed[0]
    assert str(out / "bundle") in printed[0] and str(out / "bundle") not in printed[1]
    here, there = (load_file(one / "bundle" / "weights.safetensors") for one in (tmp_path / "here", out))
    for name, value in here.items():
        torch.testing.assert_close(there[name], value, atol=1e-5, rtol=1e-5, msg=name)
