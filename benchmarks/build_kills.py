"""A build killed at random moments and begun again gives the bytes of one that was left in peace.

    python benchmarks/build_kills.py [--kills 50] [--n 1500] [--seed 0]

Builds a simulated dataset of several shards in a process of its own, which gets SIGKILL at a moment drawn evenly from
the time that an undisturbed build takes, and then runs the same command to its end. Of every five builds one has two
workers, and only the process that leads them is killed. After each kill nothing may stand under the final name, or
all of it. Writes benchmarks/results/build_kills.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from gzoo import files
from gzoo.simulator import simulate

BUILD = """
import sys
from gzoo.dataset import build, finalize
finalize.SHARD_BYTES = 1_500_000
if __name__ == "__main__":
    votes, images, out, workers = sys.argv[1:]
    build.build("gz2", votes=votes, images=images, out=out, workers=int(workers))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--n", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "build.py").write_text(BUILD)
        made = simulate("gz2", n_galaxies=options.n, export=False, workers=os.cpu_count() or 1, out=folder / "sky")
        command = [sys.executable, str(folder / "build.py"), str(made.votes), str(made.images)]
        seconds: dict[int, float] = {}
        for workers in (1, 2):
            begun = time.perf_counter()
            subprocess.run([*command, str(folder / f"peace{workers}"), str(workers)], check=True)
            seconds[workers] = time.perf_counter() - begun
        expected = digests(folder / "peace1")
        outcomes = {"same bytes": 0, "other bytes": 0, "half under the final name": 0, "refused to go on": 0}
        n_killed = n_there = 0
        if digests(folder / "peace2") != expected:
            outcomes["other bytes"] += 1
        for i in range(options.kills):
            workers = 2 if i % 5 == 4 else 1
            out = folder / "killed"
            process = subprocess.Popen([*command, str(out), str(workers)], stderr=subprocess.DEVNULL)
            time.sleep(chance.uniform(0.05, 1) * seconds[workers])
            if process.poll() is None:
                n_killed += 1
            process.send_signal(signal.SIGKILL)
            process.wait()
            if out.exists():
                n_there += 1
                if {one for one in digests(out).items() if one[0] != files.BEGUN} != set(expected.items()):
                    outcomes["half under the final name"] += 1
            again = subprocess.run([*command, str(out), str(workers)], capture_output=True, text=True, check=False)
            if again.returncode and "contains a finished dataset" not in again.stderr:
                outcomes["refused to go on"] += 1
                print(again.stderr)
            elif digests(out) == expected:
                outcomes["same bytes"] += 1
            else:
                outcomes["other bytes"] += 1
            shutil.rmtree(out)
        left = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    result = {
        "builds begun": options.kills,
        "killed before their end": n_killed,
        "ended before the kill, or so far that all stood there": n_there,
        **outcomes,
        "left lying about": left,
        "shards": len([name for name in expected if name.startswith("data/")]),
        "seconds undisturbed": {f"{workers} workers": round(one, 1) for workers, one in seconds.items()},
        "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
        "versions": {
            **{name: version(name) for name in ("gzoo", "pyarrow", "polars", "distributed")},
            "python": platform.python_version(),
        },
    }
    path = Path(__file__).parent / "results" / "build_kills.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


if __name__ == "__main__":
    main()
