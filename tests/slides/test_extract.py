"""A patch set like PatchCamelyon's, cut from annotated slides: fair, apart, and without a way to leak."""

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from annotation_files import asap_file, feature, geojson, polygon
from hypothesis import given
from hypothesis import strategies as st
from made_maps import asap, square
from slide_files import write_tiff
from stand_in_ray import StandInRay, install

from sentinode.errors import AnnotationError, DataError, DeviceError, OutputError, SlideError
from sentinode.geometry import PCAM, PatchGeometry
from sentinode.patches import open_data
from sentinode.patches.official import EXTRACTED
from sentinode.slides.extract import ExtractOptions, candidates, evenly, extract, label_squares
from sentinode.slides.reading.annotations import read_annotations
from sentinode.slides.reading.slide import open_slide
from sentinode.slides.scanning.scan import lay_grid

SIDE = 1280
TUMOUR = square(500.0, 400.0, 400.0)


def cut(slides, annotations, out, **options):
    return extract(slides, annotations, out, ExtractOptions(show=False, **options))


def a_picture(seed):
    """Stained tissue on glass, whose red channel says where it is tumour."""
    rng = np.random.default_rng(seed)
    picture = np.empty((SIDE, SIDE, 3), np.uint8)
    picture[:] = 244
    picture[:, 160:] = (200, 90, 170)
    picture[400:800, 500:900] = (120, 90, 170)
    return np.clip(picture.astype(int) + rng.integers(-6, 7, picture.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """Six slides of 1,280 pixels, each with a square of tumour, and one without."""
    folder = tmp_path_factory.mktemp("annotated")
    slides, annotations = folder / "slides", folder / "annotations"
    slides.mkdir()
    annotations.mkdir()
    for i in range(6):
        write_tiff(slides / f"s{i}.tif", a_picture(i), tile=256)
        asap(annotations / f"s{i}.xml", TUMOUR)
    picture = a_picture(9)
    picture[400:800, 500:900] = picture[:400, 500:900]
    write_tiff(slides / "clean.tif", picture, tile=256)
    asap(annotations / "clean.xml")
    return slides, annotations


SPLITS = {"s0": "train", "s1": "train", "clean": "train", "s2": "valid", "s3": "valid", "s4": "test", "s5": "test"}


@pytest.fixture(scope="module")
def extracted(annotated, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "data"
    counts = cut([annotated[0]], annotated[1], out, per_slide=12, splits=SPLITS)
    return out, counts


def meta(out, split):
    with (out / f"camelyonpatch_level_2_split_{split}_meta.csv").open() as file:
        return list(csv.DictReader(file))


def test_it_opens_as_official_data_with_slides(extracted):
    out, counts = extracted
    data = open_data(out, show=False)
    assert (data.kind, data.splits, data.toy) == ("official", ("train", "valid", "test"), False)
    for split in data.splits:
        patches = data[split]
        assert patches.images[:4].shape == (4, 96, 96, 3)
        assert len(patches) == counts[split]["tumour"] + counts[split]["normal"]
        assert set(patches.slides) <= {slide for slide, of in SPLITS.items() if of == split}


def test_classes_are_balanced_and_slides_give_evenly(extracted):
    out, counts = extracted
    for split in counts:
        assert counts[split]["tumour"] == counts[split]["normal"] == 24
        rows = meta(out, split)
        for is_tumour in ("True", "False"):
            given = [sum(r["wsi"] == s and r["center_tumor_patch"] == is_tumour for r in rows) for s in SPLITS]
            of_split = [n for n, slide in zip(given, SPLITS, strict=True) if SPLITS[slide] == split]
            assert max(of_split) - min(n for n in of_split if n) <= 1
    assert {row["wsi"] for row in meta(out, "train")} == {"s0", "s1", "clean"}


def test_the_label_speaks_of_the_centre(extracted):
    """Positive if and only if the centre 32 x 32 holds tumour; the pictures agree with the places."""
    out, counts = extracted
    for split in counts:
        with h5py.File(out / f"camelyonpatch_level_2_split_{split}_x.h5") as file:
            images = file["x"][()].astype(int)
        labels = open_data(out, show=False)[split].labels
        for row, image, label in zip(meta(out, split), images, labels, strict=True):
            shown = image[..., 0] < 160
            assert label == (row["center_tumor_patch"] == "True") == shown[32:64, 32:64].any()
            assert shown.any() == (row["tumor_patch"] == "True")


def test_patches_of_a_slide_do_not_overlap_and_lie_on_it(extracted):
    out, counts = extracted
    for split in counts:
        places = {}
        for row in meta(out, split):
            places.setdefault(row["wsi"], []).append((int(row["coord_x"]), int(row["coord_y"])))
        for of_slide in places.values():
            xy = np.array(of_slide)
            apart = np.abs(xy[:, None] - xy[None]).max(axis=2)
            assert apart[~np.eye(len(xy), dtype=bool)].min() >= 96
            assert xy.min() >= 0
            assert xy.max() <= SIDE - 96


def test_the_slide_map_names_the_slide_of_every_patch(extracted):
    out, counts = extracted
    with (out / "slides.csv").open() as file:
        slide_of = {row["id"]: row["slide"] for row in csv.DictReader(file)}
    data = open_data(out, show=False)
    for split in counts:
        patches = data[split]
        assert [slide_of[name] for name in patches.ids] == patches.slides.tolist()
    assert len(slide_of) == sum(len(data[split]) for split in counts)


def test_the_same_seed_gives_the_same_patches_and_another_does_not(annotated, extracted, tmp_path):
    out, _ = extracted
    for name, seed in (("again", 0), ("other", 1)):
        cut([annotated[0]], annotated[1], tmp_path / name, per_slide=12, splits=SPLITS, seed=seed)
    first, again, other = (open_data(p, show=False)["test"] for p in (out, tmp_path / "again", tmp_path / "other"))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    assert (out / EXTRACTED).read_bytes() == (tmp_path / "again" / EXTRACTED).read_bytes()


def test_a_cluster_cuts_the_same_patches_and_says_which_slide_ends_its_workers(
    annotated, extracted, tmp_path, monkeypatch
):
    ray = install(StandInRay([{"CPU": 1.0}, {"CPU": 1.0}], dies={4, 9}.__contains__), monkeypatch)
    monkeypatch.chdir(annotated[0].parent)
    folders = (Path(annotated[0].name), Path(annotated[1].name))
    counts = cut([folders[0]], folders[1], tmp_path / "data", per_slide=12, splits=SPLITS, cluster="auto")
    assert counts == extracted[1] and len(ray.actors) > 4
    files = sorted(path.name for path in extracted[0].iterdir())
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == files
    for name in files:
        assert (tmp_path / "data" / name).read_bytes() == (extracted[0] / name).read_bytes(), name
    install(StandInRay([{"CPU": 1.0}], dies=lambda number: number == 2), monkeypatch)
    monkeypatch.setattr("sentinode.cluster.TRIES", 1)
    with pytest.raises(DeviceError, match="workers ended at this item") as lost:
        cut([folders[0]], folders[1], tmp_path / "lost", per_slide=12, splits=SPLITS, cluster="auto")
    assert lost.value.where == "clean" and not (tmp_path / "lost").exists()


def test_whole_slides_are_dealt_where_no_splits_are_given(annotated, tmp_path):
    cut([annotated[0]], annotated[1], tmp_path / "data", per_slide=4)
    data = open_data(tmp_path / "data", show=False)
    of_split = [set(data[split].slides) for split in data.splits]
    assert len(of_split) == 3
    assert sum(map(len, of_split)) == len(set.union(*of_split))


class Greenness:
    """An engine that takes the brightest green for tumour."""

    name, batch, geometry = "greenness", 64, PCAM

    def margins(self, images):
        return images[..., 1].mean((1, 2))


def test_hard_normal_patches_are_mined_for_train_alone(annotated, extracted, tmp_path):
    usual, _ = extracted
    counts = cut([annotated[0]], annotated[1], tmp_path / "hard", per_slide=12, splits=SPLITS, engine=Greenness())
    assert counts["train"]["normal"] == 24

    def green(out, split):
        data = open_data(out, show=False)[split]
        return data.images[:][data.labels == 0][..., 1].mean()

    assert green(tmp_path / "hard", "train") > green(usual, "train")
    assert green(tmp_path / "hard", "valid") == green(usual, "valid")


def test_squares_are_tumour_from_the_first_pixel(annotated, tmp_path):
    with open_slide(annotated[0] / "s0.tif") as slide:
        grid = lay_grid(slide, 0.972, 32)
        annotations = read_annotations(asap(tmp_path / "a.xml", [(63.4, 0), (70, 0), (70, 32.4), (63.4, 32.4)]))
        labels = label_squares(annotations, grid)
    assert np.argwhere(labels).tolist() == [[0, 1], [0, 2]]


@given(st.integers(0, 60), st.lists(st.integers(0, 20), min_size=1, max_size=6))
def test_shares_are_even_within_their_limits(total, limits):
    total = min(total, sum(limits))
    shares = evenly(total, limits)
    assert sum(shares) == total
    assert all(share <= limit for share, limit in zip(shares, limits, strict=True))
    free = [share for share, limit in zip(shares, limits, strict=True) if share < limit]
    assert not free or max(shares) - min(free) <= 1


def test_the_same_slide_under_two_names_is_refused(annotated, tmp_path):
    """normal_086 of Camelyon16 is tumor_111: it could end in train and in test."""
    slides, annotations = tmp_path / "slides", tmp_path / "annotations"
    slides.mkdir()
    annotations.mkdir()
    for name in ("normal_086", "tumor_111"):
        (slides / f"{name}.tif").write_bytes((annotated[0] / "s0.tif").read_bytes())
        asap(annotations / f"{name}.xml", TUMOUR)
    with pytest.raises(DataError, match="'normal_086' and 'tumor_111' are the same slide"):
        cut([slides], annotations, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_split_without_tumour_is_refused(annotated, tmp_path):
    splits = SPLITS | {"s2": "train", "s3": "train", "clean": "valid"}
    with pytest.raises(DataError, match="valid split would have no tumour patch: its slides are clean"):
        cut([annotated[0]], annotated[1], tmp_path / "data", per_slide=4, splits=splits)
    assert not (tmp_path / "data").exists()


def reviewed(folder, slides, *, normal, tumour=(), unreviewed=()):
    """Reviews as `sentinode view` exports them: for each slide some regions of each class."""
    folder.mkdir()
    classes = {"Tumor": tumour, "Normal: Germinal centre": normal, "Unreviewed": unreviewed}
    for name in slides:
        regions = [feature(polygon(points), name) for name, some in classes.items() for points in some]
        geojson(folder / f"{name}.geojson", *regions)
    return folder


def test_of_a_review_only_what_was_judged_gives_patches(annotated, tmp_path, capsys):
    normal = square(320.0, 960.0, 192.0)
    reviews = reviewed(tmp_path / "reviews", ["s0", "s1"], normal=[normal], unreviewed=[square(900.0, 900.0, 96.0)])
    counts = cut([annotated[0]], reviews, tmp_path / "out", annotated_only=True, spacing=32)
    assert counts.keys() == {"train"} and counts["train"]["tumour"] == 0
    assert "5 of 7 slides have no annotations" in capsys.readouterr().err
    for row in meta(tmp_path / "out", "train"):
        x, y = float(row["coord_x"]) + 48, float(row["coord_y"]) + 48
        assert 320 + 16 <= x <= 512 - 16 and 960 + 16 <= y <= 1152 - 16
        assert row["wsi"] in ("s0", "s1")
    assert counts["train"]["normal"] == 2 * 6 * 6


def test_rejected_and_accepted_regions_give_the_two_classes(annotated, tmp_path):
    reviews = reviewed(tmp_path / "reviews", ["s0"], tumour=[TUMOUR], normal=[square(320.0, 960.0, 192.0)])
    counts = cut([annotated[0]], reviews, tmp_path / "out", annotated_only=True)
    assert counts["train"]["tumour"] > counts["train"]["normal"] > 0
    assert open_data(tmp_path / "out")["train"].labels.sum() == counts["train"]["tumour"]


def test_what_was_reviewed_joins_a_training_even_without_tumour(annotated, generated, tmp_path):
    reviews = reviewed(tmp_path / "reviews", ["s0"], normal=[square(320.0, 960.0, 192.0)])
    counts = cut([annotated[0]], reviews, tmp_path / "out", annotated_only=True, spacing=32)
    alone, mixed = (open_data(generated, also=also, show=False) for also in ((), (tmp_path / "out",)))
    joined = mixed["train"].subset(range(len(alone["train"]), len(mixed["train"])))
    assert len(joined) == counts["train"]["normal"] > 0 and not joined.labels.any()


def test_a_review_without_a_patch_and_options_that_contradict_it_are_refused(annotated, tmp_path):
    reviews = reviewed(tmp_path / "reviews", ["s0"], normal=[square(0.0, 0.0, 20.0)])
    with pytest.raises(DataError, match="hold no patch"):
        cut([annotated[0]], reviews, tmp_path / "out", annotated_only=True)
    with pytest.raises(DataError, match="all train's"):
        cut([annotated[0]], reviews, tmp_path / "out", annotated_only=True, splits=SPLITS)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="no slide has a file"):
        cut([annotated[0]], tmp_path / "nothing", tmp_path / "out", annotated_only=True)


def test_a_slide_without_a_split_is_refused(annotated, tmp_path):
    with pytest.raises(DataError, match="1 slides have no split"):
        cut([annotated[0]], annotated[1], tmp_path / "d", splits=SPLITS | {"s5": "tset"})


def test_missing_annotations_are_refused(annotated, tmp_path):
    with pytest.raises(AnnotationError, match=r"no annotations for 7 of 7 slides(.|\n)*--absent-is-normal"):
        cut([annotated[0]], tmp_path, tmp_path / "data")


@pytest.mark.parametrize("name", ["S0.XML", "s0.tif.geojson", " s0.json"])
def test_annotations_of_another_spelling_are_found_and_never_taken_for_normal(annotated, tmp_path, name, capsys):
    for path in annotated[1].glob("s[1-5].xml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    write = asap if name.endswith("XML") else lambda path, points: geojson(path, feature(polygon(points)))
    write(tmp_path / name, TUMOUR)
    out = tmp_path / "data"
    cut([annotated[0]], tmp_path, out, per_slide=4, splits=SPLITS, absent_is_normal=True)
    slides = json.loads((out / EXTRACTED).read_text())["slides"]
    assert (slides["s0"]["annotations"], slides["clean"]["annotations"]) == (name, None)
    assert "Slides without tumour: 0 with an annotation file, 1 without one." in capsys.readouterr().err


def test_a_similar_file_or_one_of_which_nothing_is_left_is_refused(annotated, tmp_path):
    for path in annotated[1].glob("s[1-5].xml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    words = {"per_slide": 4, "splits": SPLITS, "absent_is_normal": True}
    asap(tmp_path / "s0_annotations.xml", TUMOUR)
    with pytest.raises(AnnotationError, match="looks like that of 's0'"):
        cut([annotated[0]], tmp_path, tmp_path / "data", **words)
    (tmp_path / "s0_annotations.xml").unlink()
    asap_file(tmp_path / "s0.xml", ("x", "PointSet", "Tumor", TUMOUR))
    with pytest.raises(AnnotationError, match="nothing with an area was left"):
        cut([annotated[0]], tmp_path, tmp_path / "data", **words)


def test_how_annotations_are_read_can_be_named(annotated, tmp_path):
    for path in annotated[1].glob("*.xml"):
        (tmp_path / path.name).write_text(path.read_text().replace("Tumor", "Carcinoma"))
    with pytest.raises(AnnotationError, match="--tumour-class"):
        cut([annotated[0]], tmp_path, tmp_path / "data", splits=SPLITS)
    words = {"reading": {"tumour_classes": ["Carcinoma"]}, "splits": SPLITS, "per_slide": 4}
    counts = cut([annotated[0]], tmp_path, tmp_path / "data", **words)
    assert counts["train"]["tumour"] > 0


def test_what_qupath_drew_is_moved_by_the_slides_bounds(annotated, tmp_path):
    corner = (TUMOUR[0][0] - 160, TUMOUR[0][1] - 96)
    cropped = read_annotations(geojson(tmp_path / "s.geojson", feature(polygon(square(*corner, 400)))))
    whole = read_annotations(annotated[1] / "s0.xml")
    found = []
    for annotations, bounds in ((whole, None), (cropped, (160, 96, 1000, 1000))):
        with open_slide(annotated[0] / "s0.tif") as slide:
            slide.bounds = bounds
            rng = np.random.default_rng(0)
            found.append(candidates("s0", slide, annotations, spacing=96, limit=9, rng=rng))
    np.testing.assert_array_equal(found[0].tumour, found[1].tumour)
    assert len(found[0].tumour) > 0


def test_annotations_of_another_slide_are_refused(annotated, tmp_path):
    for i in range(6):
        asap(tmp_path / f"s{i}.xml", square(90_000, 0, 100))
    with pytest.raises(AnnotationError, match="outside the slide"):
        cut([annotated[0]], tmp_path, tmp_path / "data", absent_is_normal=True)


def test_a_slide_too_coarse_is_refused(annotated, tmp_path):
    with pytest.raises(SlideError, match="too coarse"):
        cut([annotated[0]], annotated[1], tmp_path / "data", mpp=7.8)


def test_a_folder_with_other_files_is_left_alone(annotated, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="holds other files"):
        cut([annotated[0]], annotated[1], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("wrong", [{"per_slide": 0}, {"spacing": 0}, {"hard_share": 1.5}])
def test_arguments_that_make_no_sense_are_refused(annotated, tmp_path, wrong):
    with pytest.raises(DataError, match="these options give no data"):
        cut([annotated[0]], annotated[1], tmp_path / "data", **wrong)


def test_how_it_was_made_is_written_down(extracted):
    out, counts = extracted
    about = json.loads((out / EXTRACTED).read_text())
    assert about["counts"] == counts
    assert {name: of["split"] for name, of in about["slides"].items()} == SPLITS


@pytest.mark.parametrize(
    "geometry",
    [
        PatchGeometry(64, 0.972, 64),  # the label covers the whole patch
        PatchGeometry(160, 0.972, 32),  # made of five whole squares
        PatchGeometry(120, 0.972, 48),  # not made of whole squares
        PatchGeometry(101, 1.2, 40),  # half a pixel on each side, and resampled
    ],
    ids=str,
)
def test_patches_of_any_geometry_are_cut_and_read_back(annotated, tmp_path, geometry):
    out = tmp_path / "data"
    cut([annotated[0]], annotated[1], out, per_slide=6, geometry=geometry, splits=SPLITS)
    data = open_data(out, show=False)
    assert data.geometry == geometry
    assert not any("taken" in warning for warning in data.warnings)
    patches = data["train"]
    assert patches.images.shape[1:] == geometry.shape
    red = patches.images[:][..., 0].astype(int)
    tumour = (red > 105) & (red < 135)
    inner = slice(int(np.ceil(geometry.margin)) + 2, int(geometry.size - geometry.margin) - 2)
    share = tumour[:, inner, inner].mean((1, 2))
    # The label may rest on a pixel at the border of its region; what is well inside decides here.
    assert (share[patches.labels == 0] < 0.02).all()
    assert (share[patches.labels == 1] > 0.02).mean() > 0.8
    for row, told in enumerate(meta(out, "train")):
        if tumour[row, 2:-2, 2:-2].mean() > 0.02:
            assert told["tumor_patch"] == "True"
        if not tumour[row].any():
            assert told["tumor_patch"] == "False"


def test_patches_lie_wholly_on_the_slide_and_apart(annotated, tmp_path):
    geometry = PatchGeometry(128, 0.972, 48)
    cut([annotated[0]], annotated[1], tmp_path / "data", per_slide=8, geometry=geometry, splits=SPLITS)
    with open_slide(annotated[0] / "s0.tif") as slide:
        side = geometry.size * geometry.mpp / slide.mpp
        corners = [(int(row["coord_x"]), int(row["coord_y"])) for row in meta(tmp_path / "data", "train")]
        assert all(-1 <= x <= slide.width - side + 1 and -1 <= y <= slide.height - side + 1 for x, y in corners)
    of_slide = [c for c, row in zip(corners, meta(tmp_path / "data", "train"), strict=True) if row["wsi"] == "s0"]
    for i, (x, y) in enumerate(of_slide):
        assert all(max(abs(x - u), abs(y - v)) >= side - 2 for u, v in of_slide[:i])


@pytest.mark.parametrize(
    ("geometry", "says"),
    [
        (PatchGeometry(96, None, 32), "unknown microns per pixel"),
        (PatchGeometry(96, 0.972, 4), "is too small"),
    ],
)
def test_a_geometry_that_cannot_be_cut_is_refused(annotated, tmp_path, geometry, says):
    with pytest.raises(DataError, match=says):
        cut([annotated[0]], annotated[1], tmp_path / "data", geometry=geometry)
    assert not (tmp_path / "data").exists()


def test_hard_patches_are_mined_by_a_bundle_of_the_same_geometry_alone(annotated, tmp_path):
    with pytest.raises(DataError, match="are 64 x 64 pixels, not 96 x 96"):
        cut(
            [annotated[0]],
            annotated[1],
            tmp_path / "data",
            geometry=PatchGeometry(64, 0.972, 64),
            engine=Greenness(),
        )


def test_what_was_mined_joins_a_training_as_it_is(annotated, generated, tmp_path):
    splits = dict.fromkeys(SPLITS, "train")
    cut([annotated[0]], annotated[1], tmp_path / "hard", per_slide=6, splits=splits, engine=Greenness())
    alone, mixed = (open_data(generated, also=also, show=False) for also in ((), (tmp_path / "hard",)))
    mined = mixed["train"].subset(range(len(alone["train"]), len(mixed["train"])))
    assert (mined.labels == 0).sum() == (mined.labels == 1).sum() > 0
    assert set(mined.slides) <= set(SPLITS)


def test_mined_patches_of_another_geometry_do_not_join(annotated, generated, tmp_path):
    geometry = PatchGeometry(64, 0.972, 64)
    cut([annotated[0]], annotated[1], tmp_path / "other", per_slide=6, splits=SPLITS, geometry=geometry)
    with pytest.raises(DataError, match="64 x 64 pixels, not 96 x 96"):
        open_data(generated, also=[tmp_path / "other"], show=False)
