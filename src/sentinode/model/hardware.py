"""The device and the precision to compute with on this machine."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import platform
import sys
from pathlib import Path

import torch

from sentinode.errors import DeviceError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16", "int8")


def choose_device(name: str = "auto") -> torch.device:
    """The device to compute on: CUDA, then MPS, then the CPU, or the one that ``name`` asks for.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        DeviceError: no such device, or this machine or this build of PyTorch has none.
    """
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
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, probe, bool)() for probe in probes)
    return False


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The precision that PyTorch computes in; ``auto`` chooses bfloat16 where it is faster on the device.

    Raises:
        DeviceError: no such precision, or one that PyTorch does not compute in.
    """
    if name not in PRECISIONS:
        raise DeviceError(f"there is no precision '{name}'.", hint=f"Choose one of {', '.join(PRECISIONS)}.")
    if name == "int8":
        raise DeviceError("int8 runs only with OpenVINO on a processor.", hint="Use --device cpu, or float32.")
    if name == "auto":
        return torch.bfloat16 if native_bfloat16(device) else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32


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
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def describe(device: torch.device) -> str:
    """The device in words, such as ``cuda (NVIDIA H100)``."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return f"{device.type} ({name})"
