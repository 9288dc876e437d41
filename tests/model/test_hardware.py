"""The device and the precision are found, or refused in words."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

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


def test_what_is_asked_without_pytorch_is_answered_as_pytorch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for name in ("auto", "float32", "bfloat16"):
        assert hardware.processor_precision(name) == str(hardware.choose_precision(name, cpu)).removeprefix("torch.")
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    assert hardware.processor_gains_from_bfloat16() == any(getattr(torch.cpu, probe, bool)() for probe in probes)
    assert hardware.is_processor("auto") == (hardware.choose_device("auto").type == "cpu")
    told = hardware.threads()
    assert told == torch.get_num_threads()
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setenv("OMP_NUM_THREADS", f"{told}")
    assert hardware.threads() == told
    if not hardware.may_have_gpu():
        assert hardware.is_processor("auto")


@pytest.mark.parametrize(("told", "expected"), [("3", 3), ("4,2", 4), ("", 6), ("0", 6), ("many", 6)])
def test_threads_are_those_that_the_environment_tells_or_one_a_core(
    monkeypatch: pytest.MonkeyPatch, told: str, expected: int
) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(hardware, "cores", lambda: 6)
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert hardware.threads() == expected


def test_where_a_gpu_may_be_pytorch_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "choose_device", lambda name: torch.device("cuda"))
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(hardware, "may_have_gpu", lambda: True)
    assert not hardware.is_processor("auto")
    monkeypatch.setattr(hardware, "may_have_gpu", lambda: False)
    assert hardware.is_processor("auto") and not hardware.is_processor("cuda")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the device files are those of Linux")
def test_a_drivers_device_file_is_a_sign_of_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hardware, "Path", lambda *parts: tmp_path.joinpath(parts[-1]))
    monkeypatch.setattr(hardware.ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError))
    assert not hardware.may_have_gpu()
    (tmp_path / "nvidiactl").touch()
    assert hardware.may_have_gpu()
    monkeypatch.setattr(hardware.sys, "platform", "darwin")
    assert hardware.may_have_gpu()


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
