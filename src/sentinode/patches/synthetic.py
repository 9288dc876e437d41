"""Generated patches that look like H&E-stained lymph node, in the official format: for demos and tests.

Normal tissue is a dense field of lymphocytes (small, dark, round nuclei) with a few pale, smooth, oval
histiocytes, strands of stroma and drops of fat. Tumour is a nest of larger, paler, irregular nuclei with
nucleoli in abundant cytoplasm. As in PatchCamelyon, the label covers only the centre 32 x 32 pixels: many
normal patches contain tumour near their edge. Each "slide" has its own stain, and no slide is in two
splits. A model trained on these patches is a toy.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from sentinode.atomic import make_folder, whole_file, write_text
from sentinode.errors import DataError, OutputError
from sentinode.geometry import PCAM
from sentinode.patches.official import STEM, SYNTHETIC
from sentinode.patches.patch_set import SPLITS
from sentinode.progress import bar

BATCH = 128
REACH = PCAM.label_region / 2
MARGIN = 20
"""Pixels drawn beyond each edge, so that nuclei are cut by it."""
SIZE = PCAM.size
SIDE = SIZE + 2 * MARGIN

# Optical density of haematoxylin and eosin in red, green and blue (the reference of Macenko et al. 2009).
HAEMATOXYLIN = (0.5626, 0.7201, 0.4062)
EOSIN = (0.2159, 0.8012, 0.5581)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """Generated patches.

    Attributes:
        images: uint8 (N, 96, 96, 3) RGB.
        labels: uint8 (N,), 1 where there is tumour in the centre 32 x 32.
        slides: int64 (N,), the number of the slide.
        anywhere: bool (N,), whether there is tumour anywhere in the patch.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    slides: NDArray[np.int64]
    anywhere: NDArray[np.bool_]


@dataclass(frozen=True)
class Tissue:
    """What the patches of a split are made of.

    Attributes:
        stains: (slides, 2, 3), optical density of haematoxylin and eosin in red, green and blue.
        light: (slides, 3), the colour of empty glass, up to 255.
        density: (slides,), how many of the places for a lymphocyte are taken.
        size: (slides,), which of the sizes of tumour nuclei the slide has.
        lymphocytes: (K, side, side), density of haematoxylin; likewise ``histiocytes``, ``tumour_nuclei``.
        cells: (K, side, side), how much cytoplasm surrounds a tumour nucleus.
        background: (8, 256, 256), fields of mean 0.
    """

    stains: Floats
    light: Floats
    density: Floats
    size: NDArray[np.int64]
    lymphocytes: Floats
    histiocytes: Floats
    tumour_nuclei: tuple[Floats, ...]
    cells: Floats
    background: Floats


def synthesise(
    out: Path,
    *,
    train: int = 2048,
    valid: int = 512,
    test: int = 512,
    slides: int = 16,
    seed: int = 0,
    show: bool = True,
) -> None:
    """Write generated patches in the official format, with meta CSVs and a file that marks them as a toy.

    Args:
        out: a folder that is new, is empty, or contains generated patches (which are replaced).
        train: number of patches in train; half of each split is tumour.
        valid: number of patches in valid.
        test: number of patches in test.
        slides: number of made-up slides in train; valid and test have a quarter of it each, but at least two.
        seed: the same seed writes the same patches.
        show: whether to draw a progress bar.

    Raises:
        DataError: a split would be empty.
        OutputError: ``out`` contains other files, or cannot be written.
    """
    counts = dict(zip(SPLITS, (train, valid, test), strict=True))
    for split, count in counts.items():
        if count < 1 or slides < 1:
            raise DataError(f"{split} needs at least one patch and one slide.", where=out)
    if out.is_dir() and any(out.iterdir()) and not (out / SYNTHETIC).is_file():
        raise OutputError(
            "this folder holds other files.", where=out, hint="Name a new folder for the generated patches."
        )
    make_folder(out)
    note = "These patches are generated: a model trained on them has never seen tissue."
    about = {"toy": True, "note": note, "seed": seed, "slides": slides, **counts}
    write_text(out / SYNTHETIC, json.dumps(about, indent=1) + "\n")
    with bar("generating", sum(counts.values()), show=show) as shown:
        for number, (split, count) in enumerate(counts.items()):
            here = slides if split == "train" else max(2, slides // 4)
            name = "camelyon16_test_{:03d}" if split == "test" else "camelyon16_train_tumor_{:03d}"
            # Valid's slides are numbered on from train's: no slide is in two splits.
            first = 1 + (slides if split == "valid" else 0)
            tissue = draw_tissue(here, np.random.default_rng([seed, number]))
            with (
                whole_file(out / f"{STEM}{split}_x.h5") as x_path,
                whole_file(out / f"{STEM}{split}_y.h5") as y_path,
                whole_file(out / f"{STEM}{split}_meta.csv") as meta_path,
                h5py.File(x_path, "w") as x_file,
                h5py.File(y_path, "w") as y_file,
                meta_path.open("w", newline="", encoding="utf-8") as meta_file,
            ):
                x = x_file.create_dataset("x", (count, SIZE, SIZE, 3), "uint8")
                y = y_file.create_dataset("y", (count, 1, 1, 1), "uint8")
                meta = csv.writer(meta_file, lineterminator="\n")
                meta.writerow(["coord_y", "coord_x", "tumor_patch", "center_tumor_patch", "wsi"])
                for start in range(0, count, BATCH):
                    size = min(BATCH, count - start)
                    batch = generate(size, tissue, np.random.default_rng([seed, number, start]))
                    x[start : start + size] = batch.images
                    y[start : start + size] = batch.labels.reshape(-1, 1, 1, 1)
                    for i in range(size):
                        row, column = divmod(start + i, 256)
                        wsi = name.format(first + batch.slides[i])
                        place = [row * SIZE, column * SIZE]
                        meta.writerow([*place, bool(batch.anywhere[i]), bool(batch.labels[i]), wsi])
                    shown.advance(size)


def draw_tissue(slides: int, rng: np.random.Generator) -> Tissue:
    """Draw how ``slides`` slides are stained, and the nuclei and textures that all of them share."""
    stains = np.array([HAEMATOXYLIN, EOSIN]) * rng.normal(1, 0.05, (slides, 2, 3))
    strength = rng.uniform([0.9, 0.6], [1.4, 1.2], (slides, 2))[..., None]
    return Tissue(
        stains=(stains * strength / np.linalg.norm(stains, axis=2, keepdims=True)).astype(np.float32),
        light=rng.uniform([232, 228, 232], [250, 247, 250], (slides, 3)).astype(np.float32),
        density=rng.uniform(0.65, 0.95, slides).astype(np.float32),
        size=rng.integers(3, size=slides),
        lymphocytes=_lymphocytes(rng),
        histiocytes=_histiocytes(rng),
        tumour_nuclei=tuple(_tumour_nuclei(radius, rng) for radius in (4.6, 5.2, 5.8)),
        cells=_cells(rng),
        background=_background(rng),
    )


def generate(count: int, tissue: Tissue, rng: np.random.Generator) -> Batch:
    """Generate ``count`` patches, half of them tumour, each on a slide drawn at random."""
    labels = rng.permutation(np.arange(count) % 2).astype(np.uint8)
    slides = rng.integers(len(tissue.density), size=count)
    nest, radius, anywhere = _nests(labels, rng)
    haematoxylin = np.zeros((count, SIDE, SIDE), dtype=np.float32)
    cytoplasm = np.zeros((count, SIDE, SIDE), dtype=np.float32)

    places = _grid(count, 7.0, 1.5, rng)
    kept = rng.random(places.shape[:2]) < tissue.density[slides][:, None]
    kept &= _from(nest, places) > radius[:, None] + rng.normal(0, 3, kept.shape)
    _stamp(haematoxylin, tissue.lymphocytes, places, kept, rng)

    places = rng.uniform(0, SIDE, (count, 14, 2)).astype(np.float32)
    kept = (rng.random((count, 14)) < rng.uniform(0, 1, (count, 1))) & (_from(nest, places) > radius[:, None])
    _stamp(haematoxylin, tissue.histiocytes, places, kept, rng)

    places = _grid(count, 12.5, 2.6, rng)
    kept = (_from(nest, places) < radius[:, None]) & anywhere[:, None]
    # The nest of a normal patch stays out of the centre square, nuclei and all; a tumour patch has one there.
    near_centre = np.abs(places - SIDE / 2).max(axis=2) < REACH + 7
    kept &= ~(near_centre & (labels == 0)[:, None])
    places = np.concatenate([nest[:, None], places], axis=1)
    kept = np.concatenate([(labels == 1)[:, None], kept], axis=1)
    for size, nuclei in enumerate(tissue.tumour_nuclei):
        ours = kept & (tissue.size[slides] == size)[:, None]
        _stamp(haematoxylin, nuclei, places, ours, rng)
        _stamp(cytoplasm, tissue.cells, places, ours, rng)

    cut = slice(MARGIN, MARGIN + SIZE)
    images = _stain(haematoxylin[:, cut, cut], cytoplasm[:, cut, cut], tissue, slides, rng)
    return Batch(images, labels, slides, anywhere)


def _nests(labels: NDArray[np.uint8], rng: np.random.Generator) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Where the tumour of each patch lies: its centre (N, 2), its radius (N,), and whether there is any (N,).

    A third of the tumour patches hold a few cells only; half of the normal ones a nest beside the centre.
    """
    count = len(labels)
    tumour = labels == 1
    angle = rng.uniform(0, 2 * np.pi, count)
    away = np.where(tumour, rng.uniform(0, REACH - 2, count), rng.uniform(38, 60, count))
    nest = SIDE / 2 + away[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    radius = np.where(rng.random(count) < 0.35, rng.uniform(6, 14, count), rng.uniform(16, 60, count))
    radius = np.where(tumour, radius, away - REACH + 6)
    anywhere = tumour | (rng.random(count) < 0.5)
    return nest.astype(np.float32), np.where(anywhere, radius, 0).astype(np.float32), anywhere


def _from(nest: Floats, places: Floats) -> Floats:
    """Distance of each place (N, K, 2) from the nest (N, 2) of its patch."""
    return np.asarray(np.linalg.norm(places - nest[:, None], axis=2))


def _grid(count: int, spacing: float, jitter: float, rng: np.random.Generator) -> Floats:
    """Places (N, K, 2) on a shaken hexagonal grid, another shift of it for each patch."""
    steps = np.arange(-spacing, SIDE + spacing, spacing)
    rows, columns = np.meshgrid(steps * 0.87, steps, indexing="ij")
    columns = columns + spacing / 2 * (np.arange(len(steps)) % 2)[:, None]
    grid = np.stack([rows.ravel(), columns.ravel()], axis=1)
    grid = grid[(grid[:, 0] < SIDE + spacing)]
    shift = rng.uniform(-spacing / 2, spacing / 2, (count, 1, 2))
    return (grid + shift + rng.normal(0, jitter, (count, len(grid), 2))).astype(np.float32)


def _outlines(
    count: int, half: int, radius: float, spread: float, oval: float, rough: float, rng: np.random.Generator
) -> Floats:
    """How far inside ``count`` outlines each pixel is, (count, 2 half + 1, 2 half + 1); negative outside."""
    axis = np.arange(-half, half + 1, dtype=np.float32)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    turn = rng.uniform(0, np.pi, (count, 1, 1))
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    stretch = rng.uniform(1, 1 + oval, (count, 1, 1))
    distance = np.hypot(along / stretch, across * stretch)
    angle = np.arctan2(across, along)
    size = rng.normal(radius, spread, (count, 1, 1)).clip(0.6 * radius, 1.5 * radius)
    waves = sum(
        rng.normal(0, rough / k, (count, 1, 1)) * np.cos(k * angle + rng.uniform(0, 6.3, (count, 1, 1)))
        for k in (2, 3, 4, 5)
    )
    return np.asarray(size * (1 + waves) - distance, dtype=np.float32)


def _edge(distance: Floats, soft: float) -> Floats:
    return np.asarray((distance / soft + 0.5).clip(0, 1))


def _chromatin(shape: tuple[int, ...], grain: float, rng: np.random.Generator) -> Floats:
    """Texture of mean 0 and spread 1."""
    field = gaussian_filter(rng.normal(size=shape).astype(np.float32), (0, grain, grain))
    return np.asarray(field / field.std())


def _lymphocytes(rng: np.random.Generator) -> Floats:
    inside = _outlines(64, 6, 2.9, 0.35, 0.12, 0.05, rng)
    dark = rng.uniform(0.95, 1.5, (64, 1, 1)).astype(np.float32)
    return _edge(inside, 1.6) * (dark + 0.16 * _chromatin(inside.shape, 0.8, rng))


def _histiocytes(rng: np.random.Generator) -> Floats:
    inside = _outlines(48, 10, 4.3, 0.8, 0.4, 0.04, rng)
    pale = rng.uniform(0.45, 0.85, (48, 1, 1)).astype(np.float32)
    return _edge(inside, 1.6) * (pale + 0.08 * _chromatin(inside.shape, 1.0, rng))


def _tumour_nuclei(radius: float, rng: np.random.Generator) -> Floats:
    half = 13
    inside = _outlines(48, half, radius, 1.0, 0.25, 0.13, rng)
    pale = rng.uniform(0.5, 1.05, (48, 1, 1)).astype(np.float32)
    rim = 0.22 * np.exp(-(((inside - 1) / 1.2) ** 2))
    nucleoli = np.zeros_like(inside)
    for nucleus in nucleoli:
        for _ in range(rng.integers(0, 3)):
            y, x = half + rng.integers(-2, 3, 2)
            nucleus[y - 1 : y + 1, x - 1 : x + 1] = rng.uniform(0.3, 0.8)
    nucleoli = gaussian_filter(nucleoli, (0, 0.5, 0.5))
    return np.asarray(_edge(inside, 1.8) * (pale + rim + nucleoli + 0.13 * _chromatin(inside.shape, 1.1, rng)))


def _cells(rng: np.random.Generator) -> Floats:
    """The cytoplasm around tumour nuclei."""
    return _edge(_outlines(48, 16, 10, 1.3, 0.2, 0.08, rng), 5.0)


def _stamp(canvases: Floats, stamps: Floats, places: Floats, kept: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Put a random stamp at each kept place (N, K, 2) of each canvas (N, S, S); the darker one shows."""
    side = stamps.shape[1]
    half = side // 2
    corner = np.round(places).astype(np.int64) - half
    seen = ((places > MARGIN - half) & (places < MARGIN + SIZE + half)).all(axis=2) & kept
    seen &= ((corner >= 0) & (corner <= SIDE - side)).all(axis=2)
    which, k = np.nonzero(seen)
    sampled = rng.integers(len(stamps), size=len(which))
    # As Python's own integers, which index faster than NumPy's.
    for i, (y, x), stamp in zip(which.tolist(), corner[which, k].tolist(), sampled.tolist(), strict=True):
        under = canvases[i, y : y + side, x : x + side]
        np.maximum(under, stamps[stamp], out=under)


def _background(rng: np.random.Generator) -> Floats:
    """Fields (8, 256, 256), coarse, fibrous and fine at once, from which patches cut their stroma."""
    white = rng.normal(size=(8, 256, 256)).astype(np.float32)
    mixed = np.zeros_like(white)
    for weight, blur in ((0.6, (0, 9, 9)), (0.6, (0, 1.2, 7)), (0.4, (0, 1, 1))):
        field = gaussian_filter(white, blur, mode="wrap")
        mixed += weight * field / field.std()
    return mixed


def _cut(fields: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Random pieces (count, 96, 96) of the fields, every other one turned."""
    pieces = np.empty((count, SIZE, SIZE), dtype=np.float32)
    for i, (which, y, x) in enumerate(rng.integers([len(fields), *[256 - SIZE] * 2], size=(count, 3))):
        piece = fields[which, y : y + SIZE, x : x + SIZE]
        pieces[i] = piece.T if i % 2 else piece
    return pieces


def _fat(count: int, rng: np.random.Generator) -> Floats:
    """How much tissue is left (N, 96, 96), from 0 to 1, by drops of fat away from the centre of some."""
    axis = np.arange(SIZE, dtype=np.float32) - SIZE / 2
    left = np.ones((count, SIZE, SIZE), dtype=np.float32)
    for i in np.flatnonzero(rng.random(count) < 0.25):
        angle, size = rng.uniform(0, 2 * np.pi), rng.uniform(10, 24)
        away = REACH * 1.4 + 3 + size + rng.uniform(0, 12)
        distance = np.hypot(axis[:, None] - away * np.sin(angle), axis - away * np.cos(angle))
        left[i] = ((distance - size) / 2).clip(0, 1)
    return left


def _stain(
    nuclei: Floats, cytoplasm: Floats, tissue: Tissue, slides: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Light through the stained tissue (Beer and Lambert), as uint8 RGB (N, 96, 96, 3)."""
    count = len(nuclei)
    left = _fat(count, rng)
    haze = (0.12 + 0.05 * _cut(tissue.background, count, rng)).clip(0)
    haematoxylin = (np.maximum(nuclei, haze) + 0.10 * cytoplasm) * left
    pink = rng.uniform(0.15, 0.55, (count, 1, 1)).astype(np.float32)
    eosin = (pink + 0.16 * _cut(tissue.background, count, rng)).clip(0.02) + 0.12 * cytoplasm
    eosin *= (1 - 0.5 * nuclei.clip(0, 1)) * left
    images = np.empty((count, SIZE, SIZE, 3), dtype=np.uint8)
    grain = rng.normal(0, 2.5, (SIZE * 2, SIZE * 2, 3)).astype(np.float32)
    for i, (slide, (y, x)) in enumerate(zip(slides, rng.integers(SIZE, size=(count, 2)), strict=True)):
        density = np.stack([haematoxylin[i], eosin[i]], axis=-1) @ tissue.stains[slide]
        light = tissue.light[slide] * np.exp(-density) + grain[y : y + SIZE, x : x + SIZE]
        images[i] = light.clip(0, 255)
    return images
