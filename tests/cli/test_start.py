"""A quick start: which modules a command imports is a budget, which seconds on a busy machine could not be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image

from sentinode.model.bundle import Bundle
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


def test_predict_imports_the_network_and_nothing_of_slides_or_charts(
    bundle: Bundle, generated: Path, tmp_path: Path
) -> None:
    image = tmp_path / "patch.png"
    Image.fromarray(open_data(generated, show=False)["test"].images[0]).save(image)
    seen = imported("predict", bundle.path, image)
    assert not seen & (NEVER | {"scipy", "matplotlib", "lightning", "openvino", "highdicom", "shapely", "tifffile"})


def test_what_only_reads_the_card_imports_no_charts(bundle: Bundle) -> None:
    assert not imported("bundle", bundle.path) & (NEVER | {"scipy", "matplotlib", "lightning", "openvino"})
