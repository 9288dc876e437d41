"""The commands around slides: what they print, write and refuse."""

import csv
import dataclasses
import inspect
import json
import shutil

import numpy as np
import pytest
import tifffile
import typer
from annotation_files import feature, geojson, polygon
from made_maps import asap, blob, made_map, square
from slide_files import tissue_picture, write_tiff
from typer.testing import CliRunner

from sentinode.cli.slides import check_annotations, extract, froc, lesions
from sentinode.errors import AnnotationError, DataError, SlideError
from sentinode.slides.scanning.manifest import DONE, MANIFEST, SlideState
from sentinode.slides.scanning.probability_map import write_map

app = typer.Typer()
for name, command in (("lesions", lesions), ("froc", froc), ("annotations", check_annotations), ("extract", extract)):
    app.command(name)(command)


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def batch(tmp_path):
    """Two scanned slides, one with tumour, and their annotations."""
    slides, truth, maps = (tmp_path / name for name in ("slides", "truth", "maps"))
    slides.mkdir()
    truth.mkdir()
    for name, boxes in (("ill", [(3, 3, 12, 12)]), ("well", [])):
        write_tiff(slides / f"{name}.tif", tissue_picture(640, 480), mpp=0.972)
        (maps / name).mkdir(parents=True)
        probability = blob(15, 20, *boxes)
        probability[-1, -1] = 0.6
        write_map(maps / name, made_map(probability, name=f"{name}.tif", file=slides / f"{name}.tif"))
        state = SlideState(name, str(slides / f"{name}.tif"), DONE)
        (maps / name / MANIFEST).write_text(json.dumps(dataclasses.asdict(state)))
        asap(truth / f"{name}.xml", *([square(96, 96, 288)] if boxes else []))
    return tmp_path


def test_lesions_writes_the_files_and_stages_patients(batch):
    (batch / "nodes.csv").write_text("slide,node,patient\nill.tif,1,p\nwell.tif,2,p\n")
    result = run("lesions", batch / "maps", "--nodes", batch / "nodes.csv", "--truth", batch / "truth")
    assert result.exit_code == 0, result.output
    assert "p  pN1mi" in result.stdout
    assert "pN1mi" in (batch / "maps" / "index.html").read_text()
    assert (batch / "maps" / "ill" / "lesions.geojson").is_file()
    assert [row["stage"] for row in csv.DictReader((batch / "maps" / "stages.csv").open())] == ["pN1mi"]


@pytest.mark.parametrize(("words", "kind"), [((), "bounds"), (("--whole-slide-coordinates",), "slide")])
def test_lesions_counts_from_the_slides_bounds_unless_asked_for_the_whole_slide(batch, words, kind):
    file = batch / "slides" / "ill.tif"
    bounded = made_map(blob(15, 20, (3, 3, 12, 12)), name="ill.tif", file=file, bounds=(64, 32, 500, 400))
    write_map(batch / "maps" / "ill", bounded)
    assert run("lesions", batch / "maps", *words).exit_code == 0
    content = json.loads((batch / "maps" / "ill" / "lesions.geojson").read_text())
    assert content["sentinode"]["coordinates"] == kind
    assert min(x for x, _ in content["features"][0]["geometry"]["coordinates"][0]) == (96 if kind == "slide" else 32)


def test_lesions_goes_on_past_a_slide_that_is_gone(batch):
    (batch / "slides" / "well.tif").unlink()
    result = run("lesions", batch / "maps", "--json")
    assert result.exit_code == 3
    content = json.loads(result.stdout)
    assert list(content["slides"]) == ["ill"]
    assert list(content["failed"]) == ["well"]


def test_lesions_refuses_a_folder_without_a_scan(tmp_path):
    assert isinstance(run("lesions", tmp_path).exception, SlideError)


def test_froc_prints_the_figures_and_writes_them(batch):
    words = ("froc", batch / "maps", batch / "truth", "--box", 100)
    result = run(*words, "--out", batch / "out")
    assert result.exit_code == 0, result.output
    assert "FROC       1.0000" in result.stdout
    assert "slide AUC  1.0000" in result.stdout
    assert "one to a box of 100 um" in result.stdout
    assert json.loads((batch / "out" / "froc.json").read_text())["froc"]["value"] == 1
    assert json.loads(run(*words, "--json").stdout) == json.loads((batch / "out" / "froc.json").read_text())


def test_froc_says_undefined_where_there_is_no_such_figure(batch):
    shutil.rmtree(batch / "maps" / "well")
    assert "slide AUC  undefined" in run("froc", batch / "maps", batch / "truth").stdout


def test_froc_refuses_missing_truth_unless_told(batch):
    (batch / "truth" / "well.xml").unlink()
    assert isinstance(run("froc", batch / "maps", batch / "truth").exception, AnnotationError)
    assert run("froc", batch / "maps", batch / "truth", "--absent-is-normal").exit_code == 0


CLASSES = ("--tumour-class", "Carcinoma", "--excluded-class", "Hole", "--ignored-class", "Tissue")


def test_every_command_that_reads_annotations_takes_the_same_options(batch):
    """The hint of a refusal names them, so none of them may lack one."""
    (batch / "truth" / "ill.xml").unlink()
    geojson(
        batch / "truth" / "ill.geojson",
        feature(polygon(square(96, 96, 288)), "Carcinoma"),
        feature(polygon(square(96, 96, 32)), "Hole"),
        feature(polygon(square(0, 0, 470)), "Tissue"),
    )
    (batch / "splits.csv").write_text("slide,split\nill.tif,train\nwell.tif,train\n")
    well = write_tiff(batch / "slides" / "well.tif", tissue_picture(640, 480, seed=1), mpp=0.972)
    write_map(batch / "maps" / "well", made_map(blob(15, 20), name="well.tif", file=well))
    extracting = ("extract", batch / "slides", "--annotations", batch / "truth", "--out", batch / "data")
    for words in (
        ("froc", batch / "maps", batch / "truth"),
        ("annotations", batch / "truth" / "ill.geojson", "--slide", batch / "slides" / "ill.tif"),
        (*extracting, "--splits", batch / "splits.csv", "--per-slide", 3),
    ):
        refused = run(*words)
        assert isinstance(refused.exception, AnnotationError), refused.output
        assert "--tumour-class" in refused.exception.hint
        result = run(*words, *CLASSES, "--whole-slide-coordinates")
        assert result.exit_code == 0, result.output
    drawing = ("lesions", batch / "maps", "--truth", batch / "truth")
    assert run(*drawing).exit_code == 3
    assert run(*drawing, *CLASSES, "--whole-slide-coordinates").exit_code == 0


def test_froc_says_how_many_slides_are_without_tumour_and_on_whose_word(batch):
    words = ("froc", batch / "maps", batch / "truth", "--absent-is-normal")
    assert "slides without tumour: 1 with an annotation file, 0 without one" in run(*words).stdout
    (batch / "truth" / "well.xml").unlink()
    asap(batch / "truth" / "another.xml")
    result = run(*words)
    assert "slides without tumour: 0 with an annotation file, 1 without one" in result.stdout
    assert "1 annotation file matches no slide: 'another.xml'." in result.stderr


def test_annotations_says_what_is_there_and_writes_a_mask(batch):
    result = run(
        "annotations", batch / "truth" / "ill.xml", "--slide", batch / "slides" / "ill.tif",
        "--mask", batch / "mask.tif", "--downsample", 4,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "1 regions of tumour, 0 exclusions; 82,944 level-0 pixels" in result.stdout
    with tifffile.TiffFile(batch / "mask.tif") as tif:
        mask = tif.asarray()
    assert mask.shape == (120, 160)
    assert np.argwhere(mask).min(0).tolist() == [24, 24]
    assert mask.sum() == 72 * 72


def test_annotations_needs_the_slide_for_a_mask(batch):
    result = run("annotations", batch / "truth" / "ill.xml", "--mask", batch / "mask.tif")
    assert isinstance(result.exception, DataError)


def test_extract_says_what_it_cut(batch):
    (batch / "splits.csv").write_text("slide,split\nill.tif,train\nwell.tif,train\n")
    result = run(
        "extract", batch / "slides", "--annotations", batch / "truth", "--out", batch / "data",
        "--splits", batch / "splits.csv", "--per-slide", 3, "--json",
    )  # fmt: skip
    # The two slides show the same picture, so they are one.
    assert isinstance(result.exception, DataError)
    assert "the same slide" in str(result.exception)
    write_tiff(batch / "slides" / "well.tif", tissue_picture(640, 480, seed=1), mpp=0.972)
    result = run(
        "extract", batch / "slides", "--annotations", batch / "truth", "--out", batch / "data",
        "--splits", batch / "splits.csv", "--per-slide", 3, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    counts = json.loads(result.stdout)["train"]
    assert counts["tumour"] == counts["normal"] == 3


def test_extract_refuses_splits_it_cannot_read(batch):
    (batch / "splits.csv").write_text("slide,part\nill,train\n")
    result = run(
        "extract", batch / "slides", "--annotations", batch / "truth", "--out", batch / "data",
        "--splits", batch / "splits.csv",
    )  # fmt: skip
    assert isinstance(result.exception, DataError)


def test_the_defaults_are_those_of_the_modules():
    """They stand as numbers in the commands, so that asking for help need not import what scans."""
    from sentinode.evaluation import froc as scoring
    from sentinode.slides import extract as extraction
    from sentinode.slides.results import lesions as finding

    def default(command, name):
        return inspect.signature(command).parameters[name].default

    assert default(lesions, "sigma") == finding.SIGMA_UM
    assert default(froc, "threshold") == scoring.THRESHOLD
    assert default(froc, "box") == scoring.BOX_UM
    assert default(froc, "mask_mpp") == pytest.approx(scoring.MASK_MPP)
    assert default(extract, "per_slide") == extraction.PER_SLIDE
    assert default(extract, "hard_share") == extraction.HARD_SHARE
