"""What is given to others works without the repository: a wheel, and the sdist that it is built from."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sentinode

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[1]

VENDOR = "src/sentinode/app/vendor/"
TINY = (
    *("--recipe", "quick", "--weights", "none", "--device", "cpu"),
    *("--set", "model.backbone=test_resnet", "--set", "training.epochs=1", "--set", "training.batch_size=32"),
)
REFUSED = "this would reach for the network"
PATIENCE_S = 240
OFFLINE = f"""\
import faulthandler, os, socket, sys

faulthandler.dump_traceback_later({PATIENCE_S}, exit=True)  # a command that hangs says where

def refused(*arguments, **options):
    print("{REFUSED}:", arguments, file=sys.stderr)
    sys.stderr.flush()
    os._exit(97)  # an exception could be caught by who asked

class Refusing(socket.socket):
    def connect(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            refused(address)
        return super().connect(address)

socket.socket, socket.getaddrinfo, socket.create_connection = Refusing, refused, refused
"""
"""``sitecustomize`` of the fresh environment."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist, and the wheel that was built from it."""
    pytest.importorskip("build", reason="build is not installed here, so no wheel can be built")
    out = tmp_path_factory.mktemp("dist")
    here = ["--no-isolation", "--skip-dependency-check"] if find_spec("hatchling") else []  # else pip fetches it
    command = [sys.executable, "-m", "build", *here, "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "SENTINODE_VIEWER": "off"})
    if done.returncode and not here and "No matching distribution" in done.stdout + done.stderr:
        pytest.skip("hatchling is not installed here, and cannot be fetched")
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``python`` of an environment that holds the wheel, sees what it depends on, and has no network."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--disable-pip-version-check", str(wheel)], check=True)
    (module,) = folder.rglob("sentinode/py.typed")
    site = module.parents[1]
    # A path in a .pth file is only searched: the editable install of the checkout beside it stays unseen.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    (site / "sitecustomize.py").write_text(OFFLINE, encoding="utf-8")
    return python


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where the commands run, one after another."""
    return tmp_path_factory.mktemp("empty")


def run(fresh: Path, folder: Path, *arguments: str) -> str:
    """What a command of the installed wheel prints to standard output."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV"))}
    command = [str(fresh.with_name("sentinode" + fresh.suffix)), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, env=kept)  # OFFLINE ends it where it hangs
    message = done.stderr.decode("utf-8", "replace")
    assert done.returncode == 0 and REFUSED not in message, message  # a child that is refused ends alone
    return done.stdout.decode("utf-8", "replace")


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = {f"src/{name}" for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout, so nothing says which files belong to the package")
    command = ["git", "ls-files", "-z", "src/sentinode"]
    expected = set(
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")[:-1]
    )
    assert {name for name in names if not name.startswith(VENDOR)} == expected
    vendor = {f"{VENDOR}{path.name}" for path in (ROOT / VENDOR).glob("*")}
    assert {name for name in names if name.startswith(VENDOR)} == vendor


def test_the_wheel_has_what_is_no_source(wheel: Path) -> None:
    """Said by name, so that a file that is taken out of version control is missed."""
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("py.typed", "recipes/resnet50.toml", "recipes/slides.toml"):
        assert f"sentinode/{name}" in names
    for part, ending in (("packaged", ".safetensors"), ("app/pages", ".js"), ("evaluation", ".j2")):
        assert [name for name in names if name.startswith(f"sentinode/{part}") and name.endswith(ending)], part
    assert [name for name in names if name.endswith("licenses/LICENSE")]


def test_the_sdist_holds_what_a_wheel_is_built_from(built: Path) -> None:
    """No tests with their data, no pages, no modules of Node."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {name.partition("/")[0] for name in names} == {
        *("src", "web", ".gitignore", "CHANGELOG.md", "CITATION.cff", "LICENSE", "PKG-INFO", "README.md"),
        *("SECURITY.md", "pyproject.toml"),
    }
    assert {name for name in names if name.startswith("web/")} == {
        f"web/{name}" for name in (".npmrc", "build.py", "hook.py", "package.json", "package-lock.json")
    }


def test_the_installed_wheel_is_what_runs(fresh: Path, empty: Path) -> None:
    assert run(fresh, empty, "--version").strip() == sentinode.__version__
    program = "import sentinode; print(sentinode.__file__)"
    where = subprocess.run([fresh, "-I", "-c", program], cwd=empty, capture_output=True, text=True, check=True).stdout
    assert Path(where.strip()).is_relative_to(fresh.parents[1])


def test_it_predicts_with_the_bundled_model(fresh: Path, empty: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    Image.fromarray(pixels).save(empty / "patch.png")
    (row,) = csv.DictReader(run(fresh, empty, "predict", "patch.png", "--device", "cpu").splitlines())
    assert 0 <= float(row["probability"]) <= 1


def test_it_scans_a_slide_with_the_bundled_model(fresh: Path, empty: Path) -> None:
    tifffile = pytest.importorskip("tifffile", reason="reading slides needs sentinode[slides]")
    pixels = np.full((512, 512, 3), 245, np.uint8)
    stained = np.random.default_rng(0).integers(-25, 25, (320, 320, 1)) + np.array([170, 90, 160])
    pixels[96:416, 96:416] = stained
    per_cm = (1e4 / 0.972,) * 2
    options = {"photometric": "rgb", "compression": "zlib", "resolution": per_cm, "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(empty / "slide.tif", pixels, tile=(256, 256), **options)
    run(fresh, empty, "scan", "slide.tif", "--out", "maps", "--stride", "96", "--device", "cpu")
    assert (empty / "maps" / "slide" / "map.npy").is_file()


def test_it_makes_patches_trains_and_evaluates(fresh: Path, empty: Path) -> None:
    run(fresh, empty, "data", "synth", "toy", "--train", "64", "--valid", "32", "--test", "32")
    run(fresh, empty, "train", "toy", "--out", "run", *TINY)
    run(fresh, empty, "evaluate", "run/bundle", "toy", "--split", "test", "--out", "test", "--device", "cpu")
    assert "auc" in json.loads((empty / "run" / "bundle" / "card.json").read_text("utf-8"))["metrics"]["valid"]
    assert (empty / "test" / "report.html").is_file()
