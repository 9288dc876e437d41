"""The device and the precision are found, or refused in words."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from sentinode.errors import DeviceError
from sentinode.model import hardware


def test_auto_finds_a_device_and_a_precision_that_work() -> None:
    device = hardware.choose_device("auto")
    dtype = hardware.choose_precision("auto", device)
    assert torch.zeros(2, device=device, dtype=dtype).sum() == 0


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cpu:3"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match=name):
        hardware.choose_device(name)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(DeviceError, match="float16"):
        hardware.choose_precision("float16", torch.device("cpu"))


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bfloat16_is_taken_only_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, native: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(hardware, "native_bfloat16", lambda device: native)
    assert hardware.choose_precision("auto", torch.device("cpu")) is dtype


def test_freed_memory_is_kept_where_the_c_library_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    hardware.keep_freed_memory.cache_clear()
    assert hardware.keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
    hardware.keep_freed_memory.cache_clear()
    monkeypatch.setattr(hardware.sys, "platform", "darwin")
    assert not hardware.keep_freed_memory()
    hardware.keep_freed_memory.cache_clear()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_large_block_that_was_freed_is_used_again_without_fresh_pages() -> None:
    program = """if True:
        import resource
        import torch
        from sentinode.model.hardware import keep_freed_memory

        def fresh_pages():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            torch.ones(64 << 20, dtype=torch.uint8)
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        keep_freed_memory()
        print(min(fresh_pages() for _ in range(16)) * resource.getpagesize())
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1 << 20
