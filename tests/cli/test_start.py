"""A quick start: which modules a command imports is a budget, which seconds on a busy machine could not be."""

from __future__ import annotations

import json
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
NEVER = {"sklearn", "pandas", "skimage", "monai", "IPython", "torchmetrics", "tensorboard"}
"""What no command of these needs, though it may be installed."""


def imported(*words: object) -> set[str]:
    """The packages that a command has imported at its end."""
    command = [sys.executable, "-c", PROGRAM, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_help_imports_nothing_heavy() -> None:
    assert not imported("--help") & (HEAVY | NEVER)


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
