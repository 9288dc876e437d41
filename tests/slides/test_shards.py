"""A batch divided among the tasks of a job array: every slide has one shard, which knows it when it starts."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slide_files import tissue_picture, write_tiff
from stand_in import StandInBundle, StandInEngine

from sentinode.errors import OutputError, SlideError
from sentinode.slides import batch
from sentinode.slides.results.outputs import write_outputs
from sentinode.slides.results.summary import PAGE
from sentinode.slides.scanning.manifest import MANIFEST, SlideState, read_states
from sentinode.slides.shards import FOLDER, Shard, deal, join

ROOT = Path(__file__).parents[2]
NONE_DONE: frozenset[str] = frozenset()


def slides_of(folder: Path, sizes: dict[str, int]) -> dict[str, Path]:
    """Files of so many bytes, as the slides of a batch by their names."""
    folder.mkdir(exist_ok=True)
    for name, size in sizes.items():
        (folder / f"{name}.svs").write_bytes(b" " * size)
    return {name: folder / f"{name}.svs" for name in sizes}


# Who scans what


def test_shards_have_all_slides_and_none_twice_and_about_as_many_bytes_each(tmp_path: Path) -> None:
    names = slides_of(tmp_path / "slides", {f"slide{i}": 1000 * (i + 1) for i in range(20)})
    parts = [join(tmp_path, Shard(i, 4), names, NONE_DONE).names for i in range(4)]
    assert sorted(name for part in parts for name in part) == sorted(names)
    sizes = [sum(names[name].stat().st_size for name in part) for part in parts]
    assert max(sizes) < 1.06 * min(sizes)


def test_a_shard_keeps_its_slides_however_often_it_is_started(tmp_path: Path) -> None:
    names = slides_of(tmp_path / "slides", {f"slide{i}": i for i in range(9)})
    first = [join(tmp_path, Shard(i, 3), names, NONE_DONE).names for i in (0, 1, 2)]
    fewer = {name: path for name, path in names.items() if name != "slide4"}
    again = [join(tmp_path, Shard(i, 3), fewer, NONE_DONE).names for i in (2, 1, 0)]
    assert again[::-1] == [names - {"slide4"} for names in first]


def test_slides_that_are_done_weigh_nothing_in_another_division(tmp_path: Path) -> None:
    names = slides_of(tmp_path / "slides", {"a": 900, "b": 800, "c": 10, "d": 10})
    parts = [join(tmp_path, Shard(i, 2), names, frozenset({"a", "b"})).names for i in range(2)]
    assert sorted(len(part & {"c", "d"}) for part in parts) == [1, 1]


def test_slides_of_one_stem_have_one_shard_for_their_names_depend_on_one_another(tmp_path: Path) -> None:
    names = slides_of(tmp_path / "slides", {f"slide{i}": 5 for i in range(6)})
    shutil.copy(names["slide3"], tmp_path / "slides" / "SLIDE3.tif")
    both = {f"{path.stem}-{path.suffix[1:]}": path for path in (tmp_path / "slides").iterdir()}
    parts = [join(tmp_path, Shard(i, 3), both, NONE_DONE).names for i in range(3)]
    assert any({"slide3-svs", "SLIDE3-tif"} <= part for part in parts)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6)), max_size=6),
    st.permutations(range(4)),
)
def test_however_the_listing_changes_no_slide_has_two_shards_and_none_is_left_out_of_an_array(
    count: int, before: list[tuple[int, int]], order: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        out, owner = Path(place), dict[str, int]()

        def start(index: int, listed: int) -> frozenset[str]:
            shard = Shard(index, count)
            names = join(out, shard, {name: out / name for name in "abcdefghijkl"[:listed]}, NONE_DONE).names
            assert all(owner.setdefault(name, index) == index for name in names)
            return names

        for index, listed in before:
            start(index % count, listed)
        patch.setenv("SLURM_ARRAY_JOB_ID", "1")
        shards = [index for index in order if index < count]
        scanned = [start(index, 7 + place) for place, index in enumerate(shards)]
        assert sum(map(len, scanned)) == 6 + count == len(frozenset().union(*scanned))
        # A task that Slurm starts again while slides come takes these itself.
        assert scanned[0] < start(shards[0], 12)


def test_dealing_is_the_same_in_any_order() -> None:
    sizes = {"a": 3, "b": 3, "c": 2, "d": 0, "e": 0}
    assert deal(sizes, [0, 1]) == deal(dict(reversed(sizes.items())), [0, 1])
    assert deal({}, [0]) == {}


def test_a_damaged_record_is_refused_and_named(tmp_path: Path) -> None:
    names = slides_of(tmp_path / "slides", {"a": 1})
    file = tmp_path / FOLDER / "2.json"
    zeros = '"begun": [], "started": [0, 0], "finished": [0, 0]'
    for content in ("", "[]", "{}", '{"format": 1, "slides": {}}', f'{{"format": 1, {zeros}, "slides": {{"a": 7}}}}'):
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
        with pytest.raises(OutputError, match="record of this batch's shards") as caught:
            join(tmp_path, Shard(0, 2), names, NONE_DONE)
        assert caught.value.where == file


# Which shard this is


def test_a_shard_is_written_as_its_number_and_how_many_there_are() -> None:
    assert Shard.asked("2/8") == Shard(2, 8) and str(Shard(2, 8)) == "2/8"
    assert Shard.asked("none") is None


@pytest.mark.parametrize("text", ["", "8", "8/8", "-1/8", "1/0", "0/0", "1/2/3", "a/b", "٣/٤", "1/99999999999"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(SlideError, match="is no shard"):
        Shard.asked(text)


@pytest.mark.parametrize(
    ("variables", "shard"),
    [
        ({"ID": "3", "COUNT": "8", "MIN": "0", "MAX": "7", "STEP": "1"}, Shard(3, 8)),
        ({"ID": "3", "COUNT": "4", "MIN": "1"}, Shard(2, 4)),
        ({"ID": "20", "COUNT": "4", "MIN": "0", "STEP": "10"}, Shard(2, 4)),
        ({"ID": "0", "COUNT": "1"}, Shard(0, 1)),
        ({"ID": "3"}, None),
        ({}, None),
    ],
)
def test_a_task_of_a_slurm_array_knows_its_shard(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    shard: Shard | None,
) -> None:
    set_slurm(monkeypatch, variables)
    assert Shard.asked("auto") == shard
    assert Shard.asked("none") is None
    assert Shard.asked("0/2") == Shard(0, 2)
    printed = capsys.readouterr().err
    assert printed.count("\n") == (shard is not None) and (f"shard {shard}" in printed or shard is None)


@pytest.mark.parametrize(
    "variables",
    [
        {"ID": "7", "COUNT": "2", "MIN": "3"},  # --array=3,7
        {"ID": "5", "COUNT": "4", "MIN": "0", "STEP": "2"},
        {"ID": "5", "COUNT": "8", "MIN": "0", "STEP": "0"},
        {"ID": "five", "COUNT": "8", "MIN": "0"},
    ],
)
def test_a_slurm_array_that_is_not_in_equal_steps_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    set_slurm(monkeypatch, variables)
    with pytest.raises(SlideError, match="equal steps") as caught:
        Shard.asked("auto")
    assert "--shard $SLURM_ARRAY_TASK_ID" in str(caught.value.hint)


def set_slurm(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in ("ID", "COUNT", "MIN", "MAX", "STEP"):
        monkeypatch.delenv(f"SLURM_ARRAY_TASK_{name}", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)


# A batch in shards


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four slides."""
    folder = tmp_path_factory.mktemp("slides")
    for i in range(4):
        write_tiff(folder / f"slide{i}.tif", tissue_picture(200 + 40 * i, 150, seed=i))
    return folder


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> StandInEngine:
    engine = StandInEngine()
    monkeypatch.setattr(batch, "open_engine", lambda *_, **__: engine)
    return engine


def scan(slides: Path, out: Path, shard: str | None = None, **options: object) -> list[SlideState]:
    options = {"make": None, "show": False, **options}
    return batch.scan(StandInBundle(), [slides], out, shard=shard, **options)  # type: ignore[arg-type]


def contents(out: Path) -> dict[str, bytes]:
    """Every file but the manifests, which alone hold times, and the record of the shards."""
    files = (path for path in out.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files if FOLDER not in path.parts}


def test_shards_together_leave_what_one_scan_leaves_and_the_last_writes_the_pages(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan(slides, tmp_path / "alone", make=write_outputs)
    out = tmp_path / "shards"
    scanned = []
    for i in (2, 0, 1):
        assert not (out / PAGE).exists()
        scanned += [state.name for state in scan(slides, out, f"{i}/3", make=write_outputs)]
    printed = " ".join(capsys.readouterr().err.split())
    assert "Of 3 shards, 2 have not finished: 0, 1." in printed and f"'sentinode lesions {out}'" in printed
    assert sorted(scanned) == [f"slide{i}" for i in range(4)]
    assert contents(out) == contents(tmp_path / "alone")


def test_a_shard_that_failed_is_not_finished_and_is_the_last_when_it_is_started_again(
    slides: Path, tmp_path: Path
) -> None:
    def full(folder: Path, *_: object) -> None:
        raise OutputError("the disk is full; nothing half-written was left behind.", where=folder)

    with pytest.raises(OutputError):
        scan(slides, tmp_path, "0/2", make=full)
    scan(slides, tmp_path, "1/2")
    assert not (tmp_path / PAGE).exists()
    scan(slides, tmp_path, "0/2")
    assert all(f"slide{i}" in (tmp_path / PAGE).read_text() for i in range(4))


def test_a_slide_that_came_while_shards_ran_is_scanned_by_one_that_had_not_started(
    slides: Path, tmp_path: Path, engine: StandInEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "slides", tmp_path / "out"
    shutil.copytree(slides, folder)
    scan(folder, out, "0/2")
    shutil.copy(folder / "slide0.tif", folder / "new.tif")
    assert "new" in {state.name for state in scan(folder, out, "1/2")}
    assert {state.state for state in read_states(out)} == {"done"} and len(read_states(out)) == 5
    # One that comes when a single shard is started again waits for the others, which is said.
    for i in range(3):
        shutil.copy(folder / "slide0.tif", folder / f"newer{i}.tif")
    scan(folder, out, "0/2")
    assert "slides came while the shards ran, and are not scanned" in " ".join(capsys.readouterr().err.split())
    scan(folder, out, "1/2")
    assert len(read_states(out)) == 8


def test_more_shards_than_slides_leave_some_with_nothing_to_do(slides: Path, tmp_path: Path) -> None:
    scanned = [scan(slides, tmp_path, f"{i}/6") for i in range(6)]
    assert sorted(map(len, scanned)) == [0, 0, 1, 1, 1, 1]


def test_the_slides_of_one_shard_are_not_called_renamed_by_another(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(2):
        scan(slides, tmp_path, f"{i}/2")
    assert "now called" not in capsys.readouterr().err


# What the page of the documentation says


SBATCH = """#!{python}
'''A stand-in for Slurm's sbatch: runs the tasks of an array one after another, with the variables that it sets.'''
import os, pathlib, re, subprocess, sys
script = pathlib.Path(sys.argv[1])
directives = dict(re.findall(r"^#SBATCH --([\\w-]+)=(\\S+)", script.read_text(), re.MULTILINE))
first, last = map(int, directives["array"].split("-"))
for task in range(first, last + 1):
    variables = dict(ID=task, COUNT=last - first + 1, MIN=first, MAX=last, STEP=1)
    environment = os.environ | {{f"SLURM_ARRAY_TASK_{{name}}": str(value) for name, value in variables.items()}}
    environment |= {{"SLURM_ARRAY_JOB_ID": "1", "SLURM_CPUS_PER_TASK": directives["cpus-per-task"]}}
    output = directives["output"].replace("%A", "1").replace("%a", str(task))
    with open(output, "wb") as log:
        subprocess.run(["bash", str(script)], env=environment, stdout=log, stderr=subprocess.STDOUT, check=True)
print("Submitted batch job 1")
"""


SENTINODE = """#!{python}
'''The command with an engine that needs no start.'''
import sys
sys.path.insert(0, {tests!r})
from stand_in import StandInEngine
from sentinode.cli import main
from sentinode.slides import batch
batch.open_engine = lambda *_, **__: StandInEngine()
batch.scan.__kwdefaults__["make"] = None  # the maps alone
main()
"""


def executable(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_the_sbatch_file_of_the_documentation_works_as_it_is(slides: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "cluster.md").read_text("utf-8")
    script = page.partition('```bash title="scan.sbatch"\n')[2].partition("```")[0]
    assert script.startswith("#!/bin/bash")
    (tmp_path / "scan.sbatch").write_text(script)
    shutil.copytree(slides, tmp_path / "slides")
    programs = tmp_path / "bin"
    programs.mkdir()
    executable(programs / "sbatch", SBATCH.format(python=sys.executable))
    executable(programs / "sentinode", SENTINODE.format(python=sys.executable, tests=str(Path(__file__).parent)))
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    submitted = subprocess.run(
        ["sbatch", "scan.sbatch"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    logs = {log.name: log.read_text() for log in sorted(tmp_path.glob("*.out"))}
    assert submitted.returncode == 0, logs
    assert submitted.stdout == "Submitted batch job 1\n"
    assert len(logs) == 4 and all(f"this is shard {i}/4" in text for i, text in enumerate(logs.values())), logs
    assert {state.state for state in read_states(tmp_path / "maps")} == {"done"}
    assert all(f"slide{i}" in (tmp_path / "maps" / PAGE).read_text() for i in range(4))
