"""The manifests of a batch and of its slides: what is no manifest is told from one, and leads nowhere else."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from sentinode.errors import OutputError
from sentinode.slides.scanning.manifest import (
    DONE,
    MANIFEST,
    SlideState,
    read_batch,
    read_class_names,
    read_points,
    read_state,
    settle_coordinates,
)

OTHER = ["7", "[]", "null", '"a"', "", "[" * 100_000, '{"format": ' + "1" * 5000 + "}"]


def written(folder: Path, **values: object) -> Path:
    folder.mkdir(exist_ok=True)
    state = asdict(SlideState("a", "/slides/a.tif", DONE, windows=4, tissue_mm2=1.5)) | values
    (folder / MANIFEST).write_text(json.dumps(state), encoding="utf-8")
    return folder / MANIFEST


def test_the_state_of_a_slide_reads_back(tmp_path: Path) -> None:
    state = read_state(written(tmp_path / "a"))
    assert state is not None
    assert (state.name, state.slide, state.windows) == ("a", "/slides/a.tif", 4)


def test_a_slide_is_called_by_its_folder_so_that_no_manifest_leads_out_of_the_batch(tmp_path: Path) -> None:
    state = read_state(written(tmp_path / "a", name="../b"))
    assert state is not None and state.name == "a"


@pytest.mark.parametrize(
    "values", [{"slide": 7}, {"state": []}, {"windows": "4"}, {"reason": {}}, {"slide": "a\0b"}, {"x": 1}]
)
def test_a_state_of_other_types_is_none(tmp_path: Path, values: dict[str, object]) -> None:
    assert read_state(written(tmp_path / "a", **values)) is None


@pytest.mark.parametrize("text", OTHER, ids=range(len(OTHER)))
def test_what_is_no_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text, encoding="utf-8")
    assert read_state(tmp_path / MANIFEST) is None
    assert read_points(tmp_path) is None
    assert settle_coordinates(tmp_path, None) is False
    assert read_class_names(tmp_path)
    with pytest.raises(OutputError, match="cannot be read"):
        read_batch(tmp_path / MANIFEST)
