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

from sentinode.cli import app as sentinode_app
from sentinode.cli.slides import check_annotations, extract, froc, lesions, operate
from sentinode.errors import AnnotationError, DataError, OutputError, SlideError
from sentinode.slides.scanning.manifest import DONE, MANIFEST, SlideState
from sentinode.slides.scanning.probability_map import open_map, write_map

app = typer.Typer()
for command in (lesions, froc, operate, extract):
    app.command()(command)
app.command("annotations")(check_annotations)


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
    bounds_of_lesion = 128 if kind == "slide" else 64
    assert run("lesions", batch / "maps", *words).exit_code == 0
    content = json.loads((batch / "maps" / "ill" / "lesions.geojson").read_text())
    assert content["sentinode"]["coordinates"] == kind
    assert min(x for x, _ in content["features"][0]["geometry"]["coordinates"][0]) == bounds_of_lesion


def test_lesions_goes_on_past_a_slide_that_is_gone(batch):
    (batch / "slides" / "well.tif").unlink()
    result = run("lesions", batch / "maps", "--json")
    assert result.exit_code == 3
    content = json.loads(result.stdout)
    assert list(content["slides"]) == ["ill"]
    assert list(content["failed"]) == ["well"]


def test_lesions_refuses_a_folder_without_a_scan(tmp_path):
    assert isinstance(run("lesions", tmp_path).exception, SlideError)


@pytest.fixture
def own_bundle(bundle, batch):
    """The maps of ``batch``, as if a bundle had made them."""
    for name in ("ill", "well"):
        made = open_map(batch / "maps" / name)
        write_map(batch / "maps" / name, dataclasses.replace(made, bundle=bundle.fingerprint))
    (batch / "maps" / MANIFEST).write_text('{"format": 2}')
    return bundle.path


def test_operate_writes_a_copy_of_the_bundle_with_which_lesions_finds_what_it_says(batch, own_bundle):
    words = ("operate", batch / "maps", batch / "truth", own_bundle, "--out", batch / "new")
    result = run(*words, "--false-lesions", 0.5, "--description", "two slides")
    assert result.exit_code == 0, result.output
    assert "false lesions on a negative slide" in result.stdout and "sensitive" in result.stdout
    assert "1 regions touch a lesion" in result.stderr
    assert (batch / "new-operating" / "operating.html").is_file()
    card = json.loads((batch / "new" / "card.json").read_text())
    assert card["slide_operating_points"]["balanced"]["target"]["false_lesions"] == 0.5
    assert card["slide_operating_points"]["balanced"]["chosen_on"]["description"] == "two slides"
    described = CliRunner().invoke(sentinode_app, ["bundle", str(batch / "new")])
    assert "'balanced' was chosen for at most 0.5 false lesions" in described.stdout
    assert "two slides (2 slides, 1 without tumour, and 1 lesions)" in described.stdout
    assert "has no slide operating point" in CliRunner().invoke(sentinode_app, ["bundle", str(own_bundle)]).stdout
    found = run("lesions", batch / "maps", "--bundle", batch / "new", "--json")
    assert found.exit_code == 0, found.output
    slides = json.loads(found.stdout)["slides"]
    assert [slides[name]["category"] for name in ("ill", "well")] == ["micrometastasis", "negative"]
    assert slides["ill"]["operating_point"]["chosen_on"]["description"] == "two slides"
    specific = run("lesions", batch / "maps", "--operating-point", "specific", "--json")
    assert json.loads(specific.stdout)["slides"]["ill"]["operating_point"]["name"] == "specific"
    assert "two slides" in (batch / "maps" / "index.html").read_text()


def test_operate_refuses_what_exists_before_it_works_and_leaves_nothing_behind(batch, own_bundle):
    words = ("operate", batch / "maps", batch / "truth", own_bundle)
    assert isinstance(run(*words, "--out", batch / "maps").exception, OutputError)
    assert isinstance(run(*words, "--out", batch / "new", "--sensitivity", 2).exception, DataError)
    asap(batch / "truth" / "another.xml")
    assert isinstance(run(*words, "--out", batch / "new").exception, AnnotationError)
    assert not (batch / "new").exists() and not (batch / "new-operating").exists()


def test_operate_and_lesions_refuse_maps_of_another_bundle(batch, bundle):
    refused = run("operate", batch / "maps", batch / "truth", bundle.path, "--out", batch / "new")
    assert isinstance(refused.exception, SlideError) and "another bundle" in str(refused.exception)
    refused = run("lesions", batch / "maps", "--bundle", bundle.path)
    assert isinstance(refused.exception, SlideError) and "another bundle" in str(refused.exception)


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


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (b"slide,fold\nill.tif,train\n", "split"),
        (b"slide,split\nill.tif\n", "line 2 has 1 cells"),
        (b"slide,split\n", "no rows"),
        (b"slide,split\n\xe9.tif,train\n", "UTF-8"),
        (b"slide,split\n" + b"x" * 2_000_000 + b",train\n", "line 2"),
        (None, "splits.csv"),
    ],
)
def test_a_table_of_splits_that_cannot_be_read_is_refused(batch, table, says):
    if table is not None:
        (batch / "splits.csv").write_bytes(table)
    folders = (batch / "slides", "--annotations", batch / "truth", "--out", batch / "data")
    refused = run("extract", *folders, "--splits", batch / "splits.csv")
    assert isinstance(refused.exception, DataError) and says in str(refused.exception)


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
    from sentinode.cli.choices import PointName
    from sentinode.evaluation import froc as scoring
    from sentinode.model import slide_operating_point
    from sentinode.slides import extract as extraction

    def default(command, name):
        return inspect.signature(command).parameters[name].default

    assert default(froc, "threshold") == scoring.THRESHOLD
    assert default(froc, "box") == scoring.BOX_UM
    assert default(froc, "mask_mpp") == pytest.approx(scoring.MASK_MPP)
    assert PointName == slide_operating_point.PointName
    assert default(extract, "per_slide") == extraction.PER_SLIDE
    assert default(extract, "hard_share") == extraction.HARD_SHARE
