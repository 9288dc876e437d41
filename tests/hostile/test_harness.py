"""The frame itself: each thing that it promises to see is shown to it once. A check that cannot fail is a defect."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Case, Hostile, Outcome, Pool, by_name, check, faults_of


def program(text: str) -> Callable[[Path], list[str]]:
    """A case's ``make`` for a program of Python in place of a command."""

    def make(folder: Path) -> list[str]:
        (folder / "program.py").write_text(text)
        return ["--python", "program.py"]

    return make


REFUSES = "import sys; print('x: is odd.', file=sys.stderr); "

SEEN = [
    (Case("a hang", program("import time; time.sleep(60)"), ""), r"hung for \d+ s at:.*program.py"),
    (Case("a hang that cannot be interrupted", program("while True: pass"), ""), r"hung for \d+ s at:"),
    (Case("a traceback", program("raise ValueError('x')"), "x", code=1), "a traceback"),
    (Case("another exit code", program("raise SystemExit(3)"), ""), "exit code 3, not 2"),
    (Case("a crash", program("import os; os.abort()"), ""), "exit code -6, not 2"),
    (Case("another sentence", program(REFUSES + "sys.exit(2)"), "was odd"), "does not say /was odd/"),
    (Case("a long story", program(REFUSES + "print('x\\n' * 50, file=sys.stderr); sys.exit(2)"), ""), "51 lines"),
    (Case("a bomb", program("x = b'x' * 2 ** 36"), "MemoryError", code=1), "a traceback"),
    (Case("a file left behind", program("open('a.part', 'w').close()"), "", code=0), "left behind: a.part"),
    (Case("a changed input", program("open('program.py', 'a').write('#')"), "", code=0), "left behind: program.py"),
    (Case("a file outside", program("open('/etc/hostname')"), "", code=0), "open outside: /etc/hostname"),
    (
        Case("a file outside through the system", program("import os; os.open('/etc/hostname', 0)"), "", code=0),
        "open outside: /etc/hostname",
    ),
    (Case("climbing out", program("open('../../../etc/hostname')"), "", code=0), "open outside: /etc/hostname"),
    (
        Case("writing outside", program("import os; os.mkdir('/tmp/odd'); os.rmdir('/tmp/odd')"), "", code=0),
        "write outside: os.mkdir /tmp/odd",
    ),
    (Case("a program", program("import subprocess; subprocess.run(['true'])"), "", 1), "program: subprocess.Popen"),
    (Case("a shell", program("import os; os.system('true')"), "", code=1), "program: os.system"),
    (
        Case("a connection", program("import socket; socket.create_connection(('127.0.0.1', 9))"), "", code=1),
        "connection: socket.",
    ),
    (
        Case("a secret that is printed", program("print('blue')"), "", code=0, secret=b"blue"),
        "the secret is in what it printed or wrote",
    ),
    (
        Case("a secret that is written", program("open('out', 'w').write('blue')"), "", 0, ("out",), secret=b"blue"),
        "the secret is in what it printed or wrote",
    ),
]


@pytest.mark.parametrize(("wrong", "fault"), SEEN, ids=[by_name(case) for case, _ in SEEN])
def test_it_is_seen(wrong: Case, fault: str, pool: Pool) -> None:
    with pytest.raises(AssertionError) as failure:
        check(wrong, pool.outcome(wrong, processor=1.0, idle=1.0))
    assert re.search(fault, str(failure.value), re.DOTALL), failure.value


FINE = [
    Case("a refusal in one sentence", program(REFUSES + "sys.exit(2)"), r"x: is odd\."),
    Case("a file that the case allows", program("open('out.csv', 'w').close()"), "", 0, ("out.csv",)),
    Case("a library of Python", program("import wave, xml.dom.minidom"), "", 0),
    Case("the temporary folder", program("import tempfile; tempfile.TemporaryFile()"), "", 0),
    Case("a cache", program("import os, pathlib; os.makedirs(pathlib.Path.home() / 'x')"), "", 0),
    Case("a program that the case allows", program("import os; os.system('true')"), "", 0, may=("start",)),
    Case("a user who is not root", program("import os, sys; sys.exit(os.geteuid() == 0)"), "", 0, nobody=True),
    Case(
        "ASCII",
        program("import sys; sys.exit(sys.stdout.encoding == 'ascii')"),
        "",
        code=1,
        env={"PYTHONIOENCODING": "ascii"},
    ),
    Case(
        "a limit on files",
        program("open('f', 'wb', 0).write(bytes(9999)) == 5000 or exit(1)"),
        "",
        code=0,
        leaves=("f",),
        file_size=5000,
    ),
    Case("our own command", lambda folder: ["--version"], "", 0, says_out=r"\d+\.\d+"),
]


@pytest.mark.parametrize("case", FINE, ids=by_name)
def test_it_passes(case: Case, hostile: Hostile) -> None:
    hostile(case)


def test_a_full_device_in_place_of_standard_output(hostile: Hostile) -> None:
    """Python cannot write what is left at its end, and says so; a command must notice before."""
    hostile(Case("full", program("print('x')"), "Exception ignored", code=120, stdout="/dev/full"))


def test_all_that_is_wrong_is_named_at_once() -> None:
    outcome = Outcome(1, "", "Traceback\n", 11.0, 11.0, 2 << 30, False, ("connection: x",), ("a",), True, "")
    assert len(faults_of(Case("x", lambda folder: [], "odd", says_out="y"), outcome)) == 9


def test_memory_is_measured_beyond_that_of_the_warm_parent(hostile: Hostile) -> None:
    outcome = hostile(Case("300 MB", program("x = b'x' * 300_000_000"), "", code=0))
    assert 300_000_000 <= outcome.peak < 360_000_000
