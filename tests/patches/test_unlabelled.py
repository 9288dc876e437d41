import io
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from sentinode.errors import DataError
from sentinode.patches.unlabelled import read_patches, short_name

RNG = np.random.default_rng(0)


def noise(*shape: int) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, pixels: NDArray[np.uint8] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(96, 96, 3) if pixels is None else pixels).save(path)
    return path


def only(path: Path, mpp: float | None = None) -> NDArray[np.uint8] | DataError:
    (patch,) = read_patches([path], mpp=mpp)
    return patch.pixels


def refusal(path: Path, mpp: float | None = None) -> str:
    pixels = only(path, mpp)
    assert isinstance(pixels, DataError)
    return pixels.what


@pytest.mark.parametrize("ending", ["png", "tif", "bmp", "webp"])
def test_an_image_is_read_to_its_pixels(tmp_path: Path, ending: str) -> None:
    pixels = noise(96, 96, 3)
    path = tmp_path / f"patch.{ending}"
    Image.fromarray(pixels).save(path, lossless=True)
    np.testing.assert_array_equal(only(path), pixels)


def test_a_folder_is_searched_to_the_bottom_in_order_of_name(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "in/d.tif", "in/deeper/e.png", ".hidden/f.png", ".g.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    ids = [patch.id for patch in read_patches([tmp_path])]
    inner = ["a.png", "b.png", "in/d.tif", "in/deeper/e.png"]
    assert ids == [f"{tmp_path.as_posix()}/{name}" for name in inner]


def test_more_images_than_a_batch_all_come_in_order(tmp_path: Path) -> None:
    pixels = noise(96, 96, 3)
    names = [f"{number:04d}.png" for number in range(300)]
    first = save(tmp_path / names[0], pixels)
    for name in names[1:]:
        (tmp_path / name).write_bytes(first.read_bytes())
    assert [Path(patch.id).name for patch in read_patches([tmp_path])] == names


def test_hdf5_is_read_row_by_row_whatever_the_dataset_is_called(tmp_path: Path) -> None:
    pixels = noise(5, 96, 96, 3)
    with h5py.File(tmp_path / "patches.h5", "w") as file:
        file["labels"] = np.zeros(5)
        file.create_dataset("images", data=pixels, compression="gzip", chunks=(2, 96, 96, 3))
    patches = list(read_patches([tmp_path / "patches.h5"]))
    assert [patch.id for patch in patches][:2] == [f"{(tmp_path / 'patches.h5').as_posix()}#{n}" for n in (0, 1)]
    np.testing.assert_array_equal(np.stack([patch.pixels for patch in patches]), pixels)  # type: ignore[misc]


def test_a_folder_of_the_official_files_gives_its_images_and_passes_over_its_labels(generated: Path) -> None:
    ids = [Path(patch.id.partition("#")[0]).name for patch in read_patches([generated])]
    assert len(ids) == 256 + 128 + 128
    assert all(name.endswith("_x.h5") for name in ids)


def test_parquet_with_an_image_struct_is_read(tmp_path: Path) -> None:
    save(tmp_path / "one.png")
    rows = [{"bytes": (tmp_path / "one.png").read_bytes(), "path": None}, {"bytes": b"no image", "path": None}]
    pq.write_table(pa.table({"image": rows}), tmp_path / "images.parquet")
    good, bad = read_patches([tmp_path / "images.parquet"])
    np.testing.assert_array_equal(good.pixels, only(tmp_path / "one.png"))
    assert isinstance(bad.pixels, DataError)


def parquet(path: Path, names: list[str | None]) -> Path:
    """A file of one patch over and over, under these names."""
    held = io.BytesIO()
    Image.fromarray(noise(96, 96, 3)).save(held, "PNG")
    pq.write_table(pa.table({"image": [{"bytes": held.getvalue(), "path": name} for name in names]}), path)
    return path


def ids(*paths: Path) -> list[str]:
    return [patch.id for patch in read_patches(paths)]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["0a1b.tif", "ff02.tif"], ["0a1b", "ff02"]),
        (["in/0a1b.webp", "in/deep/ff02.JPG"], ["0a1b", "ff02"]),
        (["in\\0a1b.png", "in\\ff02.png"], ["0a1b", "ff02"]),
        (["0a1b", "ff02"], ["0a1b", "ff02"]),
        (["x_0.5", "x_0.7"], ["x_0.5", "x_0.7"]),  # what follows the dot is no image's ending
        (["12.png", "7.png"], ["12", "7"]),
    ],
)
def test_a_parquet_patch_is_called_what_its_image_is_called(
    tmp_path: Path, names: list[str | None], expected: list[str]
) -> None:
    assert ids(parquet(tmp_path / "images.parquet", names)) == expected


@pytest.mark.parametrize(
    "names",
    [[None, None], ["a.png", None], ["a.png", ""], ["a.png", "a.png"], ["0/a.png", "1/a.png"], ["a.png", "a.jpg"]],
)
def test_where_not_each_has_a_name_of_its_own_all_are_called_by_their_row(
    tmp_path: Path, names: list[str | None]
) -> None:
    path = parquet(tmp_path / "images.parquet", names)
    assert ids(path) == [f"{path.as_posix()}#0", f"{path.as_posix()}#1"]


def test_names_that_a_file_before_has_used_are_not_used_again(tmp_path: Path) -> None:
    first, second = (parquet(tmp_path / f"{name}.parquet", ["0.png", f"{name}.png"]) for name in "ab")
    assert ids(first, second) == ["0", "a", f"{second.as_posix()}#0", f"{second.as_posix()}#1"]


def test_a_parquet_file_without_paths_is_read(tmp_path: Path) -> None:
    save(tmp_path / "one.png")
    pq.write_table(pa.table({"image": [{"bytes": (tmp_path / "one.png").read_bytes()}]}), tmp_path / "x.parquet")
    assert ids(tmp_path / "x.parquet") == [f"{(tmp_path / 'x.parquet').as_posix()}#0"]


def test_another_size_is_refused_and_never_squeezed(tmp_path: Path) -> None:
    path = save(tmp_path / "large.png", noise(200, 300, 3))
    assert "300 x 200 pixels; 96 x 96 are needed" in refusal(path)
    assert "--mpp" in refusal(path)


def test_at_the_models_resolution_the_centre_is_taken_as_it_is(tmp_path: Path) -> None:
    pixels = noise(200, 300, 3)
    path = save(tmp_path / "large.png", pixels)
    np.testing.assert_array_equal(only(path, mpp=0.972), pixels[52:148, 102:198])


@pytest.mark.parametrize(("width", "height"), [(400, 400), (401, 400), (400, 403), (431, 517)])
@pytest.mark.parametrize("mpp", [0.243, 0.25, 0.486, 1.2])
def test_the_centre_of_a_patch_is_the_centre_of_its_image(tmp_path: Path, width: int, height: int, mpp: float) -> None:
    # Ramps: each pixel's grey is how far its centre lies from the image's, red along x and green along y.
    middle = [127.5 if side % 2 == 0 else 127.0 for side in (width, height)]
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.clip(np.arange(width) - (width - 1) / 2 + middle[0], 0, 255)
    picture[..., 1] = np.clip(np.arange(height) - (height - 1) / 2 + middle[1], 0, 255)[:, None]
    pixels = only(save(tmp_path / "ramps.png", picture), mpp=mpp)
    assert isinstance(pixels, np.ndarray)
    places = (np.arange(96) - 47.5) * 0.972 / mpp
    near = abs(places) < 110
    np.testing.assert_allclose(pixels[48, near, 0], middle[0] + places[near], atol=0.51)
    np.testing.assert_allclose(pixels[near, 48, 1], middle[1] + places[near], atol=0.51)


@pytest.mark.parametrize("mpp", [0.972, 0.9745, 0.968])
def test_pixels_of_the_models_resolution_to_half_a_percent_are_copied(tmp_path: Path, mpp: float) -> None:
    pixels = noise(201, 303, 3)
    np.testing.assert_array_equal(only(save(tmp_path / "large.png", pixels), mpp=mpp), pixels[52:148, 103:199])
    whole = noise(96, 96, 3)
    np.testing.assert_array_equal(only(save(tmp_path / "whole.png", whole), mpp=mpp), whole)


def test_an_image_that_is_short_of_a_patch_by_less_than_half_a_pixel_is_taken_whole(tmp_path: Path) -> None:
    pixels = only(save(tmp_path / "short.png", np.full((384, 384, 3), 90, np.uint8)), mpp=0.2425)
    assert isinstance(pixels, np.ndarray) and (pixels == 90).all()


def test_a_finer_image_is_averaged_and_not_thinned_out(tmp_path: Path) -> None:
    # Columns of black and white: taking every fourth would leave stripes or one colour, averaging leaves grey.
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = only(save(tmp_path / "fine.png", stripes), mpp=0.243)
    assert isinstance(pixels, np.ndarray)
    assert pixels.shape == (96, 96, 3)
    assert np.abs(pixels.astype(int) - 127).max() <= 6


def test_a_resampled_image_keeps_its_proportions(tmp_path: Path) -> None:
    # A disc stays a disc in an image that is not square.
    y, x = np.mgrid[:400, :800]
    disc = np.where((x - 400) ** 2 + (y - 200) ** 2 < 100**2, 0, 255).astype(np.uint8)
    pixels = only(save(tmp_path / "disc.png", np.repeat(disc[..., None], 3, 2)), mpp=0.486)
    assert isinstance(pixels, np.ndarray)
    dark = pixels[..., 0] < 128
    assert dark.any(0).sum() == pytest.approx(96, abs=1)
    assert dark.any(1).sum() == pytest.approx(96, abs=1)


def test_an_image_that_covers_less_than_a_patch_is_refused(tmp_path: Path) -> None:
    assert "at least 96 x 96" in refusal(save(tmp_path / "small.png", noise(200, 200, 3)), mpp=0.25)


@pytest.mark.parametrize("mpp", [0.0, -1.0, float("nan"), float("inf")])
def test_a_resolution_that_is_none_is_refused(tmp_path: Path, mpp: float) -> None:
    with pytest.raises(DataError, match="is outside the range of microscopes"):
        list(read_patches([tmp_path], mpp=mpp))


def test_what_cannot_be_read_says_why_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a_text.tif").write_text("this is text")
    (tmp_path / "b_cut.png").write_bytes(save(tmp_path / "c_good.png").read_bytes()[:500])
    (tmp_path / "d_cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with h5py.File(tmp_path / "e_numbers.h5", "w") as file:
        file["x"] = np.zeros((3, 3))
    (tmp_path / "f_text.parquet").write_text("this is text")
    save(tmp_path / "g_grey.png", noise(96, 96))
    told = {Path(patch.id).name: patch.pixels for patch in read_patches([tmp_path])}
    reasons = {name: error.what for name, error in told.items() if isinstance(error, DataError)}
    assert isinstance(told["c_good.png"], np.ndarray)
    assert "not an image" in reasons["a_text.tif"]
    assert "cannot be decoded" in reasons["b_cut.png"]
    assert "HDF5" in reasons["d_cut.h5"]
    assert "no dataset of images" in reasons["e_numbers.h5"]
    assert "not a Parquet file" in reasons["f_text.parquet"]
    assert "RGB" in reasons["g_grey.png"]


def test_a_damaged_piece_of_hdf5_costs_its_own_rows_only(tmp_path: Path) -> None:
    path = tmp_path / "patches.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("x", data=noise(6, 96, 96, 3), chunks=(2, 96, 96, 3), fletcher32=True)
        offset = data.id.get_chunk_info(1).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 100] ^= 0xFF
    path.write_bytes(content)
    assert [isinstance(patch.pixels, DataError) for patch in read_patches([path])] == [
        False, False, True, True, False, False,
    ]  # fmt: skip


def test_nothing_there_is_said(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "gone.png")
    assert "no images in this folder" in refusal(tmp_path)
    (tmp_path / "x.h5.gz").write_bytes(b"\x1f\x8b")
    assert "unpack it first" in refusal(tmp_path / "x.h5.gz")


@pytest.mark.parametrize(
    ("id", "name"),
    [
        ("in/0a1b.tif", "0a1b"),
        ("in/0a1b.TIFF", "0a1b"),
        ("in/x.h5#12", "x#12"),
        ("in/x.parquet#12", "x#12"),
        ("in/a#1.png", "a#1"),
        ("plain", "plain"),
        ("in/x_0.5.png", "x_0.5"),
        ("x_0.5", "x_0.5"),
    ],
)
def test_the_short_name_is_kaggles_id(id: str, name: str) -> None:
    assert short_name(id) == name
