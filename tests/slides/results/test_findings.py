"""A finished batch looked at again gives the same files, and what is new is in them."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from annotation_files import feature, geojson, polygon
from made_maps import asap, blob, made_map, made_point, square
from slide_files import tissue_picture, write_tiff
from stand_in import StandInBundle

from sentinode.errors import AnnotationError, DataError, OutputError, SlideError
from sentinode.slides.results.findings import STAGES, write_findings
from sentinode.slides.results.lesions import MICRO
from sentinode.slides.results.outputs import GEOJSON, HEATMAP
from sentinode.slides.results.summary import PAGE
from sentinode.slides.scanning.manifest import DONE, FAILED, MANIFEST, SlideState
from sentinode.slides.scanning.probability_map import ARRAY, open_map, write_map


@pytest.fixture
def batch(tmp_path):
    slide = write_tiff(tmp_path / "one.tif", tissue_picture(640, 480), mpp=0.972)
    maps = tmp_path / "maps"
    for name, state in (("one", DONE), ("two", FAILED)):
        (maps / name).mkdir(parents=True)
        record = SlideState(name, str(slide), state, "truncated." if state == FAILED else None)
        (maps / name / MANIFEST).write_text(json.dumps(dataclasses.asdict(record)))
    write_map(maps / "one", made_map(blob(15, 20, (3, 3, 12, 12)), name="one.tif", file=slide))
    return maps


def test_looking_twice_changes_no_byte(batch):
    def contents():
        write_findings(batch, show=False)
        return {path: path.read_bytes() for path in batch.rglob("*") if path.is_file()}

    assert contents() == contents()


def test_only_scanned_slides_count_and_the_page_shows_the_rest(batch):
    found = write_findings(batch, show=False)
    assert {name: totals.category for name, totals in found.slides.items()} == {"one": MICRO}
    assert "truncated." in found.page.read_text()


def a_bundle(fingerprint="b" * 64, **points):
    """A bundle by its weights and its operating points."""
    bundle = StandInBundle(fingerprint=fingerprint)
    bundle.card = bundle.card.model_copy(update={"slide_operating_points": points})
    return bundle


def test_the_points_of_a_bundle_are_taken_and_stay_for_later_calls_without_it(batch):
    (batch / MANIFEST).write_text('{"format": 1, "stride": 32}')
    bundle = a_bundle(balanced=made_point(reach=0.6), specific=made_point(reach=0.97))
    asked = [(bundle, None), (None, None), (None, "specific"), (None, None), (bundle, "balanced")]
    names, counts = [], []
    for given, name in asked:
        totals = write_findings(batch, bundle=given, operating_point=name, show=False).slides["one"]
        names.append((totals.operating_point["name"], totals.operating_point["reach"]))
        counts.append(sum(totals.lesions.values()))
    assert names == [("balanced", 0.6)] * 2 + [("specific", 0.97)] * 2 + [("balanced", 0.6)]
    assert counts == [1, 1, 0, 0, 1]
    assert json.loads((batch / MANIFEST).read_text())["stride"] == 32


def test_a_bundle_of_other_weights_is_refused(batch):
    with pytest.raises(SlideError, match="another bundle made these maps"):
        write_findings(batch, bundle=a_bundle("c" * 64, balanced=made_point()), show=False)


def test_a_point_that_the_bundle_lacks_is_refused(batch):
    with pytest.raises(OutputError, match="no operating point 'specific'; there is balanced"):
        write_findings(batch, bundle=a_bundle(balanced=made_point()), operating_point="specific", show=False)


def test_maps_of_earlier_versions_get_the_general_point_and_that_is_printed(batch, capsys):
    found = write_findings(batch, show=False)
    assert found.slides["one"].operating_point["chosen_on"]["description"].startswith("general default")
    assert "the general one is used" in " ".join(capsys.readouterr().err.split())


def test_maps_of_the_bundled_model_of_earlier_versions_get_its_point(batch, monkeypatch, capsys):
    monkeypatch.setattr("sentinode.model.bundle.load", lambda: a_bundle(balanced=made_point(reach=0.7)))
    assert write_findings(batch, show=False).slides["one"].operating_point["reach"] == 0.7
    monkeypatch.setattr("sentinode.model.bundle.load", lambda: a_bundle("c" * 64, balanced=made_point(reach=0.7)))
    assert write_findings(batch, show=False).slides["one"].operating_point["reach"] != 0.7


def chosen_on(reading):
    """A point that was chosen on maps of a reading."""
    point = made_point(reach=0.6)
    return point.model_copy(update={"chosen_on": point.chosen_on.model_copy(update={"slides": 20, "reading": reading})})


@pytest.mark.parametrize(("reading", "cautions"), [("patch", 0), ("dense", 1)])
def test_a_point_that_was_chosen_on_maps_of_the_other_reading_is_cautioned_once(batch, capsys, reading, cautions):
    shutil.copytree(batch / "one", batch / "three")
    state = json.loads((batch / "one" / MANIFEST).read_text())
    (batch / "three" / MANIFEST).write_text(json.dumps(state | {"name": "three"}))
    write_findings(batch, bundle=a_bundle(balanced=chosen_on(reading)), show=False)
    printed = " ".join(capsys.readouterr().err.split())
    assert (
        printed.count("was chosen on maps that were read densely, and these maps are read patch by patch") == cautions
    )


def test_damaged_points_of_a_batch_are_refused_with_a_way_out(batch):
    (batch / MANIFEST).write_text('{"slide_operating_points": {"points": {"balanced": {"grow": 2}}}}')
    with pytest.raises(OutputError, match=r"cannot be read(.|\n)*--bundle"):
        write_findings(batch, show=False)


def counts_from(batch):
    return json.loads((batch / "one" / GEOJSON).read_text())["sentinode"]["coordinates"]


def test_where_lesions_count_from_is_kept_until_it_is_changed(batch):
    slide = batch.parent / "one.tif"
    bounded = made_map(blob(15, 20, (3, 3, 12, 12)), name="one.tif", file=slide, bounds=(64, 32, 500, 400))
    write_map(batch / "one", bounded)
    (batch / MANIFEST).write_text('{"format": 1, "stride": 32}')
    asked = [None, True, None, False, None]
    found = []
    for choice in asked:
        write_findings(batch, whole_slide_coordinates=choice, show=False)
        found.append(counts_from(batch))
    assert found == ["bounds", "slide", "slide", "bounds", "bounds"]
    assert json.loads((batch / MANIFEST).read_text())["stride"] == 32


def test_a_map_that_was_changed_fails_alone_and_in_words(batch):
    (batch / "one" / ARRAY).write_bytes(b"something else")
    found = write_findings(batch, show=False)
    assert found.slides == {}
    assert "not the one that the record describes" in found.failed["one"]
    assert "sentinode lesions" in found.page.read_text()


def test_over_a_slide_that_was_replaced_nothing_is_drawn(batch, tmp_path):
    write_findings(batch, show=False)
    before = {path: path.read_bytes() for path in (batch / "one").iterdir() if path.name != PAGE}
    write_tiff(tmp_path / "one.tif", tissue_picture(640, 480, seed=1), mpp=0.972)
    found = write_findings(batch, show=False)
    assert found.slides == {}
    assert "one.tif: this is not the file that was scanned" in found.failed["one"]
    assert {path: path.read_bytes() for path in (batch / "one").iterdir() if path.name != PAGE} == before
    # The page still shows the old result, and says that it is old.
    assert "not the file that was scanned" in found.page.read_text()


def test_the_same_slide_under_another_name_is_drawn(batch, tmp_path):
    (tmp_path / "one.tif").rename(tmp_path / "moved.tif")
    state = json.loads((batch / "one" / MANIFEST).read_text()) | {"slide": str(tmp_path / "moved.tif")}
    (batch / "one" / MANIFEST).write_text(json.dumps(state))
    assert write_findings(batch, show=False).failed == {}


def test_a_slide_that_is_gone_fails_and_is_said_to_be_gone(batch, tmp_path):
    write_findings(batch, show=False)
    (tmp_path / "one.tif").unlink()
    found = write_findings(batch, show=False)
    assert "no longer there" in found.failed["one"] and "with the same --out" in found.failed["one"]
    assert (batch / "one" / HEATMAP).is_file()
    assert "no longer there" in found.page.read_text()


def test_the_truth_is_found_in_another_spelling_and_what_fits_no_slide_is_said(batch, tmp_path, capsys):
    truth = tmp_path / "truth"
    truth.mkdir()
    asap(truth / "three.xml", square(96, 96, 288))
    write_findings(batch, truth=truth, show=False)
    printed = capsys.readouterr().err
    assert "1 of 1 slides have no annotations: 'one'." in printed
    assert "1 annotation file matches no slide: 'three.xml'." in printed
    bare = (batch / "one" / "heatmap.png").read_bytes()
    asap(truth / "One.tif.XML", square(96, 96, 288))
    write_findings(batch, truth=truth, show=False)
    assert (batch / "one" / "heatmap.png").read_bytes() != bare


def test_truth_is_moved_by_the_bounds_and_read_as_it_is_named(batch, tmp_path, capsys):
    old = open_map(batch / "one")
    slide = dataclasses.replace(old.slide, bounds=(96, 64, 480, 360))
    write_map(batch / "one", dataclasses.replace(old, slide=slide))
    truth = tmp_path / "truth"
    truth.mkdir()
    geojson(truth / "one.geojson", feature(polygon(square(0, 0, 288)), "Carcinoma"))
    assert "--tumour-class" in write_findings(batch, truth=truth, show=False).failed["one"]
    found = write_findings(batch, truth=truth, tumour_classes=["Carcinoma"], show=False)
    assert found.failed == {}
    assert "moved by 96, 64 pixels" in capsys.readouterr().err.replace("\n", " ")


def test_a_truth_that_is_no_folder_is_refused(batch, tmp_path):
    with pytest.raises(AnnotationError, match="does not exist"):
        write_findings(batch, truth=tmp_path / "nothing", show=False)


def test_a_node_without_its_slide_is_refused_since_the_stage_would_be_too_low(batch, tmp_path):
    nodes = tmp_path / "nodes.csv"
    nodes.write_text("slide,node,patient\none.tif,1,p\ntwo.tif,2,p\n")
    with pytest.raises(DataError, match=r"two\.tif.*has not been read"):
        write_findings(batch, nodes=nodes, show=False)
    assert not (batch / STAGES).exists()


def test_stages_that_rest_on_an_uncertain_verdict_say_so(batch, tmp_path, capsys):
    nodes = tmp_path / "nodes.csv"
    nodes.write_text("slide,node,patient\none.tif,1,p\n")
    for reach, unsure in ((0.5, False), (0.96, True)):  # the lesion's P is 0.95
        points = a_bundle(balanced=made_point(reach=reach))
        (patient,) = write_findings(batch, bundle=points, nodes=nodes, show=False).patients
        printed = " ".join(capsys.readouterr().err.split())
        assert ("1 of 1 slides have an uncertain verdict" in printed) is unsure
        assert patient.stage == ("pN0" if unsure else "pN1mi")


def test_a_folder_without_a_scan_is_refused(tmp_path):
    with pytest.raises(SlideError, match="no scanned slides here"):
        write_findings(tmp_path, show=False)


def test_an_address_is_refused_and_not_taken_for_a_folder_without_a_scan():
    with pytest.raises(SlideError, match="not from an address"):
        write_findings(Path("s3://bucket/maps"), show=False)
