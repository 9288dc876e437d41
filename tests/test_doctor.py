"""What `sentinode doctor` says of a machine that is well, and of one that lacks something."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from sentinode import doctor
from sentinode.cli import app
from sentinode.doctor import Examination, Finding, examine
from sentinode.model import hardware

Find = Callable[..., Finding]


@pytest.fixture
def find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Find:
    """One finding by its name, of an examination with an empty cache and no network."""
    monkeypatch.setenv("SENTINODE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "torch"))

    def look(name: str, **options: bool) -> Finding:
        found = examine(folder=tmp_path, **{"online": False} | options)
        return next(finding for finding in found.findings if finding.name == name)

    return look


def test_a_machine_that_passes_the_tests_is_ready(find: Find) -> None:
    assert examine(online=False).ok
    assert find("torch").value == metadata.version("torch")
    assert find("python").state == "good"


def test_every_lack_comes_with_something_to_do() -> None:
    for finding in examine(online=False).findings:
        assert (finding.remedy is None) == (finding.state == "good"), finding


def test_a_missing_package_is_broken_and_named(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = metadata.version

    def version(name: str) -> str:
        if name == "h5py":
            raise metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(metadata, "version", version)
    missing = find("h5py")
    assert (missing.state, missing.value) == ("broken", "h5py is not installed")
    assert missing.remedy is not None and "pip install" in missing.remedy
    assert not examine(online=False).ok


def test_a_version_known_to_be_unsafe_is_named_with_one_that_is_not(
    find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.6.2" if name == "lightning" else installed(name))
    training = find("train")
    assert (training.state, training.value) == ("lack", "lightning 2.6.2 is not >=2.6.6")
    assert training.remedy == "Run: python -m pip install 'lightning>=2.6.6'."


def test_a_package_that_is_installed_and_does_not_load_is_broken(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> None:
        if name == "timm":
            raise OSError("a shared library is missing")

    monkeypatch.setattr("importlib.import_module", load)
    assert "a shared library is missing" in find("timm").value
    assert find("timm").state == "broken"


def test_without_the_reader_of_slides_the_main_job_still_runs(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = metadata.version

    def version(name: str) -> str:
        if name == "openslide-python":
            raise metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(metadata, "version", version)
    lack = find("slides")
    assert (lack.state, lack.remedy) == ("lack", "Run: python -m pip install 'openslide-python>=1.4'.")
    assert examine(online=False).ok


def test_weights_out_of_reach_name_the_way_on(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise socket.gaierror("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    lack = find("resnet50", online=True)
    assert lack.state == "lack"
    assert "--weights FILE" in str(lack.remedy)


def test_weights_in_the_cache_need_no_network(find: Find, tmp_path: Path) -> None:
    from torchvision.models import ResNet50_Weights

    held = tmp_path / "torch" / "checkpoints" / Path(ResNet50_Weights.DEFAULT.url).name
    held.parent.mkdir(parents=True)
    held.touch()
    weights = find("resnet50", online=True)
    assert weights.state == "good"
    assert str(held) in weights.value


def test_precision_is_what_training_would_choose(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentinode.model.hardware.choose_device", lambda name: torch.device("cpu"))
    monkeypatch.setattr("sentinode.model.hardware.native_bfloat16", lambda device: True)
    assert "bfloat16" in find("precision auto").value
    monkeypatch.setattr("sentinode.model.hardware.native_bfloat16", lambda device: False)
    assert "float32" in find("precision auto").value


def test_a_measurement_that_contradicts_the_choice_says_so(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {"float32": 50.0, "bfloat16": 500.0}
    monkeypatch.setattr(doctor, "_patches_per_second", lambda device, precision, seconds: speeds[precision])
    monkeypatch.setattr("sentinode.model.hardware.native_bfloat16", lambda device: False)
    assert find("resnet50 float32", measure=True).state == "good"
    assert "bfloat16" in str(find("resnet50 bfloat16", measure=True).remedy)


def test_the_measurement_runs_on_this_machine(find: Find) -> None:
    assert doctor._patches_per_second(torch.device("cpu"), "float32", seconds=0.01) > 0


def test_a_driver_without_a_gpu_for_pytorch_is_a_lack(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert find("cuda").state == "lack"


def test_threads_held_back_by_the_environment_are_a_lack(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(hardware, "cores", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert "OMP_NUM_THREADS" in str(find("processor").remedy)


def test_a_full_disk_names_the_need_and_another_place(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1e9))
    lack = find("cache")
    assert "SENTINODE_CACHE" in str(lack.remedy) and "20 GB" in str(lack.remedy)


def test_a_place_that_cannot_be_written_is_a_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    unwritable = Path("/proc/sentinode")
    if not unwritable.parent.is_dir():
        pytest.skip("this system has no /proc, the one folder that root cannot write either")
    finding = next(f for f in examine(folder=unwritable, online=False).findings if f.name == "results")
    assert finding.state == "lack"
    assert "cannot be written" in finding.value


def test_the_verdict_counts_what_is_missing() -> None:
    well = Finding("System", "a", "fine")
    lack = Finding("System", "b", "missing", "lack", "Get it.")
    broken = Finding("System", "c", "gone", "broken", "Mend it.")
    assert Examination((well,)).as_text().endswith("Ready.")
    assert "!" in Examination((well, lack)).as_text() and "Get it." in Examination((well, lack)).as_text()
    assert Examination((well, lack, broken)).as_text().endswith("Not ready: fix the items marked x (1).")


def test_the_command_prints_json_for_scripts() -> None:
    result = CliRunner().invoke(app, ["doctor", "--offline", "--json"])
    assert result.exit_code == 0
    assert {finding["name"] for finding in json.loads(result.stdout)["findings"]} >= {
        "torch",
        "cuda",
        "cache",
    }


def test_the_command_exits_with_2_where_the_main_job_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_system", lambda: [Finding("System", "python", "2.7", "broken", "Newer.")])
    assert CliRunner().invoke(app, ["doctor", "--offline"]).exit_code == 2
