"""The sheet of examples shows what the recipe does, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sentinode.augmentation.preview import preview, singles
from sentinode.augmentation.transforms import Augment
from sentinode.errors import DataError, OutputError
from sentinode.patches import PatchSet

EVERYTHING = Augment(
    symmetries=True,
    scale=0.1,
    shift=4,
    blur=0.2,
    stain=0.1,
    brightness=0.1,
    contrast=0.1,
    saturation=0.1,
    hue=0.02,
    noise=4.0,
    jpeg=0.2,
    mixup=0.2,
)
COLUMN, ROW, LEFT, TOP = 204, 204, 36, 88
"""Where the sheet puts the patches, in its pixels; each patch is 192 wide."""


def patch_set(labels: list[int]) -> PatchSet:
    """Patches of one grey each, by their number: 10, 20, 30 ..."""
    greys = 10 * np.arange(1, len(labels) + 1, dtype=np.uint8)
    return PatchSet(
        images=np.broadcast_to(greys[:, None, None, None], (len(labels), 96, 96, 3)),
        labels=np.array(labels, np.uint8),
        ids=np.arange(len(labels)).astype(str),
        split="train",
        source=Path("patches"),
        kind="folder",
    )


def sheet(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def greys(path: Path, column: int = 0) -> list[int]:
    """The grey of each row's patch, near its upper left corner."""
    pixels = sheet(path)
    return [int(pixels[y, LEFT + column * COLUMN + 10, 0]) for y in range(TOP + 10, len(pixels), ROW)]


def test_each_transform_that_is_on_stands_alone_at_its_strength() -> None:
    alone = singles(Augment(symmetries=True, stain=0.1, stain_space="macenko", noise=4.0))
    assert alone == {
        "symmetries": Augment(symmetries=True, stain_space="macenko"),
        "stain": Augment(stain=0.1, stain_space="macenko"),
        "noise": Augment(noise=4.0, stain_space="macenko"),
    }


def test_what_only_some_patches_get_is_shown_on_every_patch() -> None:
    assert singles(Augment(blur=0.2, blur_sigma=2.0)) == {"blur": Augment(blur=1.0, blur_sigma=2.0)}


def test_every_transform_has_a_column(tmp_path: Path) -> None:
    out = preview(patch_set([0, 1]), EVERYTHING, tmp_path / "sheet.png", count=2)
    columns = 1 + 12 + 3
    assert sheet(out).shape == (TOP + 2 * ROW, LEFT + columns * COLUMN, 3)


def test_tumour_and_normal_patches_share_the_rows(tmp_path: Path) -> None:
    out = preview(patch_set([0] * 6 + [1] * 6), Augment(), tmp_path / "sheet.png", count=4)
    shown = greys(out)
    assert [grey > 60 for grey in shown] == [True, True, False, False]
    assert len(set(shown)) == 4


@pytest.mark.parametrize("labels", [[0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
def test_a_class_that_runs_short_leaves_its_rows_to_the_other(labels: list[int], tmp_path: Path) -> None:
    out = preview(patch_set(labels), Augment(), tmp_path / "sheet.png", count=4)
    assert sorted(greys(out)) == [10, 20, 30, 40]


def test_fewer_patches_than_asked_for_make_a_shorter_sheet(tmp_path: Path) -> None:
    assert len(greys(preview(patch_set([0, 1]), Augment(), tmp_path / "sheet.png", count=6))) == 2


def test_the_centre_square_is_drawn_on_the_original_alone(tmp_path: Path) -> None:
    pixels = sheet(preview(patch_set([1]), Augment(), tmp_path / "sheet.png", count=1)).astype(int)
    yellow = (pixels[..., 0] > 200) & (pixels[..., 2] < 100)
    rows, columns = np.nonzero(yellow)
    assert (rows.min(), rows.max()) == pytest.approx((TOP + 64, TOP + 128), abs=3)
    assert (columns.min(), columns.max()) == pytest.approx((LEFT + 64, LEFT + 128), abs=3)


def test_the_same_seed_draws_the_same_sheet(tmp_path: Path) -> None:
    patches = patch_set([0, 1] * 4)
    first, again, other = (
        sheet(preview(patches, Augment(noise=20.0), tmp_path / f"{name}.png", count=4, seed=seed))
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_no_patches_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no patches"):
        preview(patch_set([]), Augment(), tmp_path / "sheet.png")


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        preview(patch_set([0]), Augment(), tmp_path / "file" / "sheet.png")
