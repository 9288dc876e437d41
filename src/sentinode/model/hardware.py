"""The device, the precision and the threads to compute with on this machine.

PyTorch takes longer to import than OpenVINO takes to start. What an engine that runs without PyTorch has to ask is
answered here without it, and the answers are PyTorch's.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sentinode.errors import DeviceError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16", "int8")

GPU_NODES = ("nvidiactl", "kfd", "dxg")
"""Below /dev on Linux: of NVIDIA's driver, of AMD's, and of Windows' below WSL."""

BFLOAT16_FLAGS = {"avx512_bf16", "amx_tile"}
"""What Linux calls the instructions with which a processor gains from bfloat16."""

INT8_FLAGS = {"avx512_vnni", "avx_vnni", "amx_int8"}
"""Likewise those that multiply and add 8-bit numbers at once. Without them int8 gains little, and sums may saturate."""


def choose_device(name: str = "auto") -> torch.device:
    """The device to compute on: CUDA, then MPS, then the CPU, or the one that ``name`` asks for.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        DeviceError: no such device, or this machine or this build of PyTorch has none.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"there is no device '{name}'.", hint=f"Choose one of {', '.join(DEVICES)}.") from error
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= count.get(device.type, 0):
        raise DeviceError(
            f"PyTorch finds no device '{name}' on this machine.",
            hint="Run `sentinode doctor` to list the devices, or use --device auto.",
        )
    return device


def native_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` computes faster in bfloat16 than in float32.

    A processor without AVX512-BF16 or AMX emulates bfloat16 and is slower with it.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_capability(device)[0] >= 8
    return device.type == "cpu" and processor_gains_from_bfloat16()


@functools.cache
def processor_gains_from_bfloat16() -> bool:
    """Whether the processor computes bfloat16 itself."""
    return _processor_has(BFLOAT16_FLAGS, "_is_avx512_bf16_supported", "_is_amx_tile_supported")


@functools.cache
def processor_gains_from_int8() -> bool:
    """Whether the processor has VNNI or AMX."""
    return _processor_has(INT8_FLAGS, "_is_vnni_supported", "_is_avx512_vnni_supported", "_is_amx_tile_supported")


def _processor_has(flags: set[str], *probes: str) -> bool:
    """Whether it has one of these instructions: Linux is asked without PyTorch, other systems through its probes."""
    found = _cpuinfo("flags") or _cpuinfo("Features")  # as x86 and ARM call them
    if found is not None:
        return not flags.isdisjoint(found.split())
    import torch

    return any(getattr(torch.cpu, probe, bool)() for probe in probes)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The precision that PyTorch computes in; ``auto`` chooses bfloat16 where it is faster on the device.

    Raises:
        DeviceError: no such precision, or one that PyTorch does not compute in.
    """
    import torch

    check_precision(name)
    if name == "auto":
        return torch.bfloat16 if native_bfloat16(device) else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def processor_precision(name: str) -> str:
    """``float32`` or ``bfloat16``: what :func:`choose_precision` chooses for the processor.

    Raises:
        DeviceError: no such precision.
    """
    check_precision(name)
    if name == "auto":
        return "bfloat16" if processor_gains_from_bfloat16() else "float32"
    return name


def check_precision(name: str) -> None:
    """
    Raises:
        DeviceError: no such precision, or int8, which is no way to compute a network made for others.
    """
    if name not in PRECISIONS:
        raise DeviceError(f"there is no precision '{name}'.", hint=f"Choose one of {', '.join(PRECISIONS)}.")
    if name == "int8":
        raise DeviceError("int8 runs only with OpenVINO on a processor.", hint="Use --device cpu, or float32.")


def is_processor(name: str) -> bool:
    """Whether :func:`choose_device` chooses the processor.

    PyTorch is asked, unless the answer is known without it: the name says so, or the system shows no other device.

    Raises:
        DeviceError: no such device, or this machine or this build of PyTorch has none.
    """
    if name == "cpu" or (name == "auto" and "torch" not in sys.modules and not may_have_gpu()):
        return True
    return choose_device(name).type == "cpu"


def may_have_gpu() -> bool:
    """Whether PyTorch might find another device than the processor; False only where it cannot.

    Linux without a driver's device file and without NVIDIA's library has none. Other systems are not asked.
    """
    if not sys.platform.startswith("linux") or any(Path("/dev", node).exists() for node in GPU_NODES):
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def threads() -> int:
    """How many threads PyTorch computes with: as it was told, else one for each core that this process may use."""
    if "torch" in sys.modules:
        import torch

        return torch.get_num_threads()
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(told) if told.isdecimal() and int(told) else cores()


def cores() -> int:
    """Physical cores that this process may use."""
    import psutil

    allowed = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else sys.maxsize
    return min(allowed, psutil.cpu_count(logical=False) or allowed, os.cpu_count() or 1)


@functools.cache
def keep_freed_memory() -> bool:
    """Let this process keep what it frees for the next batch; whether the C library could be told.

    By itself glibc gives each large block back to the system, which clears every page of it again before the next
    layer writes there: on two cores, a tenth of a training step on the CPU, and where single feature maps are above
    32 MiB, nearly half. The memory held at most is about the same.
    """
    if not sys.platform.startswith("linux"):
        return False
    trim_threshold, mmap_max = -1, -4  # malloc.h: keep the most, and map no block for itself
    with contextlib.suppress(OSError, AttributeError):  # musl, for one, has no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(mmap_max, 0) and mallopt(trim_threshold, 2**31 - 1))
    return False


@functools.cache
def processor() -> str:
    """The processor's name, as the system tells it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(key: str) -> str | None:
    """What Linux tells of its first processor under a key, or None where it does not."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), None)
    except OSError:
        return None


def describe(device: torch.device) -> str:
    """The device in words, such as ``cuda (NVIDIA H100)``."""
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return f"{device.type} ({name})"
