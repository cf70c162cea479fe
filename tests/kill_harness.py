"""A verb killed at any moment: before each single use of the file system in turn, or each so many."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from gzoo.errors import OutputExistsError

folder, stride, arguments = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
USES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir", "shutil.rmtree"}

{make}

def run(out, kill_at):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    n = 0
    def hook(event, given):
        nonlocal n
        if event in USES and str(folder) in str(given[0]) + str(given[1:2]):
            n += 1
            if n == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
    if kill_at:
        sys.addaudithook(hook)
    code = 0
    try:
        make(out, *arguments)
    except OutputExistsError:
        code = 3
    os._exit(code)

run(folder / "undisturbed", 0)
for kill_at in range(1, 10_000, stride):
    out = folder / f"killed{kill_at}"
    first = run(out, kill_at)
    was_there = out.exists() and any(out.iterdir())
    print(json.dumps([kill_at, first, was_there, run(out, 0)]), flush=True)
    if first != -9:
        break
"""


def kill_everywhere(make: str, folder: Path, stride: int, arguments: Sequence[str | Path]) -> Path:
    """Run a verb to its end once, then kill it at its 1st, 1 + stride-th, ... use of `folder`, and run it again.

    Args:
        make: Python code that defines `make(out, *arguments)`.
        folder: Where to put the results.
        stride: 1 for every moment.
        arguments: Handed to `make` as strings.

    Returns:
        The result of the undisturbed run, which every other result was compared with.
    """
    words = [sys.executable, "-c", SCRIPT.replace("{make}", make), folder, str(stride), *arguments]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True, timeout=1700)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [first for _, first, _, _ in rows] == [-9] * (len(rows) - 1) + [0]
    assert len(rows) > 1
    expected = contents(folder / "undisturbed")
    for kill_at, _, was_there, second in rows:
        assert contents(folder / f"killed{kill_at}") == expected, f"killed at {kill_at}"
        assert second == (3 if was_there else 0), f"killed at {kill_at}"
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]
    return folder / "undisturbed"


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file in a folder, by name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
