"""A quick start: which modules a command imports is a budget, which seconds on a busy machine could not be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from slide_files import tissue_picture, write_tiff

from sentinode.model.bundle import Bundle
from sentinode.model.engines import open_engine, openvino_engine
from sentinode.patches import open_data

PROGRAM = """
import json, sys
from sentinode.cli import app
try:
    app(sys.argv[1:])
finally:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""

HEAVY = {
    "torch",
    "timm",
    "torchvision",
    "scipy",
    "matplotlib",
    "lightning",
    "openvino",
    "highdicom",
    "pyarrow",
    "shapely",
}
NEVER = {
    "sklearn",
    "pandas",
    "skimage",
    "monai",
    "IPython",
    "torchmetrics",
    "tensorboard",
    "lightning",
    "ray",
    "fsspec",
}
"""What no command of these needs, though it may be installed."""


COMMANDS = ("", "predict", "scan", "view", "train", "evaluate", "compare", "explain", "data download", "tune", "doctor")


def packages(*program: str, cache: Path | None = None) -> set[str]:
    """The packages that a program of Python names in the last line of its messages; ``cache`` is one of its own."""
    environment = os.environ | ({} if cache is None else {"SENTINODE_CACHE": str(cache)})
    done = subprocess.run([sys.executable, "-c", *program], capture_output=True, text=True, check=True, env=environment)
    return set(json.loads(done.stderr.splitlines()[-1]))


def imported(*words: object, cache: Path | None = None) -> set[str]:
    """The packages that a command has imported at its end."""
    return packages(PROGRAM, *map(str, words), cache=cache)


def test_the_package_imports_nothing_but_the_standard_library() -> None:
    program = """
import json, sys
before = set(sys.modules)
import sentinode
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules.keys() - before})), file=sys.stderr)
"""
    assert packages(program) <= sys.stdlib_module_names | {"sentinode"}


def test_the_help_of_no_command_imports_anything_heavy() -> None:
    program = """
import contextlib, io, json, sys
from sentinode.cli import app
for command in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as page, contextlib.suppress(SystemExit):
        app([*command.split(), "--help"])
    assert "Usage:" in page.getvalue(), command
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""
    assert not packages(program, json.dumps(COMMANDS)) & (HEAVY | NEVER | {"numpy", "h5py", "PIL", "jinja2"})


def test_help_takes_a_fraction_of_the_time_that_pytorch_takes_to_import() -> None:
    """In processor seconds, one after the other, so that a slow or busy machine is slow for both."""
    program = "import sys, time; {}; print(time.process_time(), file=sys.stderr)"

    def seconds(statement: str) -> float:
        command = [sys.executable, "-c", program.format(statement)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stderr)

    assert min(seconds("import sentinode.cli") for _ in range(2)) < seconds("import torch") / 2


def test_a_first_predict_imports_pytorch_but_nothing_of_training(bundle: Bundle, tmp_path: Path) -> None:
    image = tmp_path / "patch.png"
    Image.new("RGB", (96, 96), (170, 90, 160)).save(image)
    seen = imported("predict", bundle.path, image, "--device", "cpu", cache=tmp_path / "cache")
    assert "torch" in seen
    assert not seen & (NEVER | {"matplotlib", "scipy", "pyarrow", "h5py", "shapely", "jinja2"})


@pytest.mark.slow
def test_a_first_scan_imports_pytorch_but_nothing_of_training(bundle: Bundle, tmp_path: Path) -> None:
    slide = write_tiff(tmp_path / "slide.tif", tissue_picture(256, 256, seed=1))
    words = ("scan", bundle.path, slide, "--out", tmp_path / "maps", "--stride", "96", "--device", "cpu")
    seen = imported(*words, cache=tmp_path / "cache")
    assert "torch" in seen
    assert not seen & (NEVER | {"pyarrow", "h5py"})


@pytest.fixture
def warm(bundle: Bundle) -> Bundle:
    """A bundle whose network lies compiled in the cache."""
    if not openvino_engine.available():
        pytest.skip("OpenVINO (sentinode[fast]) is not installed here")
    open_engine(bundle, kind="openvino", device="cpu")
    return bundle


def test_the_second_predict_imports_the_compiled_network_and_nothing_that_made_it(
    warm: Bundle, generated: Path, tmp_path: Path
) -> None:
    image = tmp_path / "patch.png"
    Image.fromarray(open_data(generated, show=False)["test"].images[0]).save(image)
    seen = imported("predict", warm.path, image, "--device", "cpu")
    assert "openvino" in seen
    assert not seen & ((HEAVY | NEVER | {"tifffile", "h5py", "jinja2"}) - {"openvino"})


def test_the_second_scan_imports_no_pytorch(warm: Bundle, tmp_path: Path) -> None:
    slide = write_tiff(tmp_path / "slide.tif", tissue_picture(256, 256, seed=1))
    seen = imported(
        "scan", warm.path, slide, "--out", tmp_path / "maps", "--reading", "patch", "--stride", "96", "--device", "cpu"
    )
    assert {"openvino", "matplotlib"} <= seen
    assert not seen & (NEVER | {"torch", "timm", "torchvision", "lightning", "pyarrow", "h5py"})


def test_what_only_reads_the_card_imports_no_charts(bundle: Bundle) -> None:
    assert not imported("bundle", bundle.path) & (HEAVY | NEVER)
