"""The picture of copies with both labels: which are drawn, and what is refused."""

from __future__ import annotations

import pytest
from PIL import Image
from typer.testing import CliRunner

from sentinode.cli import app
from sentinode.errors import DataError
from sentinode.patches.audit import audit
from sentinode.patches.disagreements import ACROSS, _both, draw_disagreements


def disagreeing(disk, copies=2):
    """Two splits, in which one patch of train lies again in train and in valid under the other label."""
    train, valid = disk.patches(16, 0), disk.patches(16, 1)
    for row in range(1, copies):
        train[row] = train[0]
    valid[1] = train[0]
    for split, images in (("train", train), ("valid", valid)):
        disk.official(split, images, [0, 1] * 8, [f"{split}_{row}" for row in range(16)])
    return audit(disk.folder, show=False)


def test_the_copies_of_both_labels_are_drawn_side_by_side(disk, tmp_path):
    found = disagreeing(disk)
    assert draw_disagreements(found, tmp_path / "copies.png") == 1
    assert Image.open(tmp_path / "copies.png").width > 300


def test_where_all_labels_agree_nothing_is_written(disk, tmp_path):
    disk.official("train", disk.patches(16, 0), [0, 1] * 8, [f"s{row}" for row in range(16)])
    assert draw_disagreements(audit(disk.folder, show=False), tmp_path / "copies.png") == 0
    assert not (tmp_path / "copies.png").exists()


def test_the_command_lists_them_by_class_and_draws_them(disk, tmp_path):
    disagreeing(disk)
    picture = tmp_path / "copies.png"
    answer = CliRunner().invoke(app, ["data", "audit", str(disk.folder), "--picture", str(picture)])
    assert answer.exit_code == 0, answer.output
    assert "copies with both labels" in answer.output and picture.exists()
    row = next(line for line in answer.output.splitlines() if line.strip().startswith("│ exact"))
    _, _, normal, tumour, _ = row.split("│")
    assert "train/000000" in normal and "train/000001" in tumour


@pytest.mark.parametrize(("labels", "zeros", "ones"), [([0, 1], 1, 1), ([0] * 9 + [1], 5, 1), ([0, 1] * 9, 3, 3)])
def test_members_of_both_labels_are_drawn(labels, zeros, ones):
    shown = [labels[at] for at in _both(labels)]
    assert (shown.count(0), shown.count(1)) == (zeros, ones) and len(shown) <= ACROSS


def test_data_that_has_changed_since_the_audit_is_refused(disk, tmp_path):
    found = disagreeing(disk)
    found.copies[0].ids[0] = "train/999999"
    with pytest.raises(DataError, match="can no longer be read"):
        draw_disagreements(found, tmp_path / "copies.png")
