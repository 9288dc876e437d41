"""A checkpoint brings a run back, or says that it cannot."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from sentinode.errors import DataError, OutputError
from sentinode.training import checkpoint as module
from sentinode.training.checkpoint import CHECKPOINT, Checkpoint, Progress, load_checkpoint, save_checkpoint


def state(step: int = 3) -> Checkpoint:
    progress = Progress(stage=1, step=step, best=0.9, history=[{"epoch": 1, "valid_auc": 0.9}])
    return Checkpoint(
        progress, {"recipe": "{}"}, "nothing", {"w": torch.ones(2)}, {"state": {}, "param_groups": []}, None
    )


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state())
    back = load_checkpoint(tmp_path)
    assert back is not None
    assert back.progress == state().progress
    assert torch.equal(back.network["w"], torch.ones(2))


def test_a_run_without_a_checkpoint_has_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None


def test_a_cut_checkpoint_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state())
    content = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="damaged"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "failure",
    [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file")],
)
def test_a_full_disk_leaves_the_checkpoint_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    save_checkpoint(tmp_path, state(step=3))

    def full(content: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise failure

    monkeypatch.setattr(module.torch, "save", full)
    with pytest.raises(OutputError, match="disk"):
        save_checkpoint(tmp_path, state(step=4))
    monkeypatch.undo()
    back = load_checkpoint(tmp_path)
    assert back is not None
    assert back.progress.step == 3
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
