"""What works on this machine, what is missing, and how to fix it."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.request import Request, urlopen

import psutil
from packaging.requirements import Requirement

if TYPE_CHECKING:
    import torch

State = Literal["good", "lack", "broken"]

WEIGHTS_FILE = "model.safetensors"
"""The name that the hub gives to a backbone's weights."""

ROOM_GB = 20
"""Full PatchCamelyon: 8 GB of downloads, 9 GB unpacked, and a run beside them."""

MEMORY_GB = 6
"""Training the default recipe: PyTorch, a batch of 64 with its activations, the optimiser, the system."""

PATIENCE_S = 5
"""How long an address may take to answer."""

DEVELOPERS_EXTRAS = ("dev", "docs")
"""Extras that nobody misses who does not develop Sentinode."""

LOADED = {
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "h5py": "h5py",
    "openslide-python": "openslide",
}
"""Distributions with compiled parts, which can be installed and yet fail to load, and their import names."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        topic: the heading that it stands under.
        name: what was looked at.
        value: what was found, in words.
        state: ``good``; ``lack``, which some work will miss; ``broken``, without which nothing runs.
        remedy: what to do about it, as a sentence, where it is not good.
    """

    topic: str
    name: str
    value: str
    state: State = "good"
    remedy: str | None = None


@dataclass(frozen=True)
class Examination:
    """All that was found."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether the main job can run here."""
        return all(finding.state != "broken" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: ``ok``, and the findings with the keys of :class:`Finding`."""
        return {"ok": self.ok, "findings": [asdict(finding) for finding in self.findings]}

    def as_text(self) -> str:
        """For people: a block for each topic, each lack marked, its remedy below it, a verdict at the end."""
        lines: list[str] = []
        width = max(len(finding.name) for finding in self.findings)
        for topic, findings in groupby(self.findings, key=lambda finding: finding.topic):
            lines += [topic]
            for finding in findings:
                mark = {"good": " ", "lack": "!", "broken": "x"}[finding.state]
                lines += [f" {mark} {finding.name:<{width}}  {finding.value}"]
                lines += [f"   {'':<{width}}  -> {finding.remedy}"] if finding.remedy else []
            lines += [""]
        return "\n".join([*lines, self._verdict()])

    def _verdict(self) -> str:
        count = {state: sum(finding.state == state for finding in self.findings) for state in ("lack", "broken")}
        if count["broken"]:
            return f"Not ready: fix the items marked x ({count['broken']})."
        if count["lack"]:
            return f"Ready. The items marked ! are missing for some work ({count['lack']})."
        return "Ready."


def examine(*, folder: Path | None = None, online: bool = True, measure: bool = False) -> Examination:
    """Look at this machine.

    Args:
        folder: where results would be written; the current folder by default.
        online: whether to ask the hub if it can be reached (a few seconds at most).
        measure: whether to time ResNet-50 for about two seconds in each precision.
    """
    findings = [*_system(), *_packages()]
    if all(finding.state != "broken" for finding in findings):
        findings += [*_compute(), *(_speed() if measure else ())]
        findings += [*_weights(online), *_places(folder or Path.cwd()), *_extras()]
    return Examination(tuple(findings))


def _system() -> Iterator[Finding]:
    old = sys.version_info < (3, 11)
    yield Finding("System", "sentinode", metadata.version("sentinode"))
    yield Finding(
        "System",
        "python",
        f"{platform.python_version()} ({sys.executable})",
        "broken" if old else "good",
        "Sentinode needs Python 3.11 or later: make a new environment with it." if old else None,
    )
    yield Finding("System", "system", platform.platform())
    memory = psutil.virtual_memory()
    small = memory.total < MEMORY_GB * 1e9
    yield Finding(
        "System",
        "memory",
        f"{memory.total / 1e9:.0f} GB, {memory.available / 1e9:.0f} GB of it free",
        "lack" if small else "good",
        "Compute each batch in parts: --set training.accumulate=4." if small else None,
    )


def _requirements() -> dict[str | None, list[Requirement]]:
    """What the package itself says it needs, by extra; None for what it cannot do without."""
    needed: dict[str | None, list[Requirement]] = {None: []}
    for text in metadata.requires("sentinode") or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            needed[None].append(requirement)
            continue
        for extra in metadata.metadata("sentinode").get_all("Provides-Extra") or []:
            if requirement.marker.evaluate({"extra": extra}):
                needed.setdefault(extra, []).append(requirement)
    return needed


def _fault(requirement: Requirement) -> str | None:
    """What is wrong with an installed package, or None."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{requirement.name} {version} is not {requirement.specifier}"
    if module := LOADED.get(requirement.name):
        try:
            importlib.import_module(module)
        except (ImportError, OSError) as error:
            return f"{requirement.name} {version} does not load ({error})"
    return None


def _packages() -> Iterator[Finding]:
    for requirement in _requirements()[None]:
        fault = _fault(requirement)
        yield Finding(
            "Packages",
            requirement.name,
            fault or metadata.version(requirement.name),
            "broken" if fault else "good",
            f"Run: python -m pip install --force-reinstall '{requirement.name}{requirement.specifier}'."
            if fault
            else None,
        )


def _extras() -> Iterator[Finding]:
    for extra, requirements in _requirements().items():
        if extra in (None, *DEVELOPERS_EXTRAS):
            continue
        faults = {f"'{each.name}{each.specifier}'": fault for each in requirements if (fault := _fault(each))}
        yield Finding(
            "Extras",
            str(extra),
            "; ".join(faults.values()) or ", ".join(requirement.name for requirement in requirements),
            "lack" if faults else "good",
            f"Run: python -m pip install {' '.join(faults)}." if faults else None,
        )


def _compute() -> Iterator[Finding]:
    import torch

    from sentinode.model.hardware import choose_device, choose_precision, cores, describe, native_bfloat16, processor

    topic = "Compute"
    available, threads = cores(), torch.get_num_threads()
    held = threads < available and "OMP_NUM_THREADS" in os.environ
    yield Finding(
        topic,
        "processor",
        f"{processor()}, {available} cores, {threads} threads, {torch.backends.cpu.get_cpu_capability()}",
        "lack" if held else "good",
        "OMP_NUM_THREADS limits PyTorch: unset it." if held else None,
    )
    yield _cuda()
    device = choose_device("auto")
    yield Finding(topic, "--device auto", f"chooses {describe(device)}")
    native = native_bfloat16(device)
    dtype = str(choose_precision("auto", device)).removeprefix("torch.")
    why = "supports bfloat16 natively" if native else "would only emulate bfloat16, which is slow"
    yield Finding(topic, "precision auto", f"chooses {dtype}: this device {why}")


def _cuda() -> Finding:
    import torch

    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        value = ", ".join(f"{device.name} with {device.total_memory / 1e9:.0f} GB" for device in devices)
        return Finding("Compute", "cuda", f"{value}; CUDA {torch.version.cuda}")
    if shutil.which("nvidia-smi") is None:
        return Finding("Compute", "cuda", "no NVIDIA GPU")
    build = f"the build for CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU build"
    return Finding(
        "Compute",
        "cuda",
        f"there is an NVIDIA driver, but PyTorch ({build}) finds no GPU",
        "lack",
        "Install the build of PyTorch that https://pytorch.org/get-started/locally/ names for this driver.",
    )


def _speed(seconds: float = 2.0) -> Iterator[Finding]:
    import torch

    from sentinode.model.hardware import choose_device, choose_precision

    device = choose_device("auto")
    speeds = {name: _patches_per_second(device, name, seconds) for name in ("float32", "bfloat16")}
    chosen = str(choose_precision("auto", device)).removeprefix("torch.")
    best = max(speeds, key=lambda name: speeds[name])
    wrong = speeds[best] > 1.1 * speeds[chosen]
    for name, speed in speeds.items():
        yield Finding(
            "Compute",
            f"resnet50 {name}",
            f"{speed:,.0f} patches/s, forward, {torch.get_num_threads()} threads",
            "lack" if wrong and name == best else "good",
            f"Faster here than {chosen}: use --precision {best}." if wrong and name == best else None,
        )


def _patches_per_second(device: torch.device, precision: str, seconds: float) -> float:
    """ResNet-50 forward on random patches of 96 x 96 pixels, in batches of 32."""
    import timm
    import torch

    layout = torch.channels_last
    model = timm.create_model("resnet50", num_classes=2).eval().to(device).to(memory_format=layout)
    batch = torch.randn(32, 3, 96, 96, device=device).contiguous(memory_format=layout)
    lower = precision == "bfloat16"
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=lower):
        model(batch).sum().item()  # .item() waits for the device; the first pass also prepares its kernels
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            model(batch).sum().item()
            done += len(batch)
    return done / (time.perf_counter() - began)


def _weights(online: bool, backbone: str = "resnet50") -> Iterator[Finding]:
    """Whether the default recipe finds ImageNet's weights: in a cache, on timm's hub, or at torchvision's."""
    import timm
    from huggingface_hub import try_to_load_from_cache
    from torch.hub import get_dir
    from torchvision.models import get_model_weights

    repo = str(timm.get_pretrained_cfg_value(backbone, "hf_hub_id"))
    url = get_model_weights(backbone).DEFAULT.url
    cached = (try_to_load_from_cache(repo, WEIGHTS_FILE), Path(get_dir(), "checkpoints", Path(url).name))
    held = next((path for path in cached if isinstance(path, str | Path) and Path(path).exists()), None)
    if held:
        yield Finding("Weights", backbone, f"the ImageNet weights are in the cache, {held}")
    elif not online:
        yield Finding("Weights", backbone, "the ImageNet weights are not in the cache; the network was not tried")
    elif (from_hub := _hub_trouble(repo)) and (from_torchvision := _url_trouble(url)):
        remedy = (
            "Download weights on another machine (.safetensors or .pth, with timm's or torchvision's key names) and "
            "give them with --weights FILE, or start from random weights with --weights none."
        )
        value = f"the ImageNet weights cannot be downloaded: {repo}: {from_hub}; torchvision: {from_torchvision}"
        yield Finding("Weights", backbone, value, "lack", remedy)
    else:
        value = f"the ImageNet weights can be downloaded from {'torchvision' if from_hub else repo}"
        yield Finding("Weights", backbone, value)


def _hub_trouble(repo: str) -> str | None:
    """Why the weights of ``repo`` cannot be fetched now, or None."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_hf_file_metadata(hf_hub_url(repo, WEIGHTS_FILE), timeout=PATIENCE_S)
    except Exception as error:  # the hub's client raises whatever its transport does
        return type(error).__name__
    return None


def _url_trouble(url: str) -> str | None:
    """Why ``url`` cannot be fetched now, or None."""
    try:
        with urlopen(Request(url, method="HEAD"), timeout=PATIENCE_S):
            return None
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", None) or error)


def _places(folder: Path) -> Iterator[Finding]:
    from sentinode.patches.cache import cache_folder

    elsewhere = "Choose another disk"
    yield _place("results", folder, f"{elsewhere} with --out.", ROOM_GB)
    yield _place("cache", cache_folder(), f"{elsewhere} by setting SENTINODE_CACHE.", ROOM_GB)
    yield _place("temporary", Path(tempfile.gettempdir()), f"{elsewhere} by setting TMPDIR.", 1)


def _place(name: str, path: Path, remedy: str, room_gb: float) -> Finding:
    """Whether a folder, which need not exist yet, can be written and has room for full PatchCamelyon."""
    there = next(parent for parent in (path, *path.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(there).free / 1e9
    value = f"{path}, {free:,.0f} GB free"
    if name == "cache" and path.is_dir():
        used = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        value += f", {used / 1e9:,.1f} GB used by Sentinode"
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Finding("Places", name, f"{value}; cannot be written ({error.strerror})", "lack", remedy)
    if free < room_gb:
        return Finding("Places", name, value, "lack", f"Work on full PatchCamelyon needs {room_gb} GB. {remedy}")
    return Finding("Places", name, value)
